"""MobileNet-V1 (arXiv:1704.04861), with group convolutions of any kind where it has depthwise ones (P452)."""

from __future__ import annotations

from torch import nn

from sartor.blocks.conv import ConvNormAct
from sartor.blocks.e2gc import Grouped, groups_of
from sartor.errors import InputError
from sartor.models.mobile import MobileNet, divisible

WIDTHS = (64, 128, 128, 256, 256, 512, 512, 512, 512, 512, 512, 1024, 1024)
STRIDES = (1, 2, 1, 2, 1, 2, 1, 1, 1, 1, 1, 2, 1)
STEM = 32


def build_mobilenet_v1(
    *,
    group_size: int | None = None,
    groups: int | None = None,
    width: float = 1.0,
    channels: int = 3,
    classes: int = 1000,
    stem_stride: int = 2,
) -> MobileNet:
    """MobileNet-V1 with fresh weights. ``group_size``: channels of a group, the same in every layer (E2GC,
    arXiv:2006.15100 §IV); ``groups``: the number of them, the same in every layer, its rival. Neither: depthwise, which
    is a group size of 1. ``width`` multiplies all channels.

    Raises InputError for both, and where channels are no whole groups.
    """
    if group_size is not None and groups is not None:
        raise InputError("layers have the same size of groups, or the same number: give group_size or groups")
    c = divisible(STEM * width)
    stem, blocks = ConvNormAct(channels, c, 3, stem_stride), list[nn.Module]()
    for c_out, stride in zip((divisible(w * width) for w in WIDTHS), STRIDES, strict=True):
        try:
            size = c // groups if groups else 1 if group_size is None else group_size
            count = groups_of(c, size)
        except (ValueError, ZeroDivisionError) as error:
            raise InputError(f"a layer's {error}: take a size that divides every width") from error
        if groups is not None and count != groups:
            raise InputError(f"a layer's {c} channels are not {groups} groups: take a number that divides every width")
        blocks.append(nn.Sequential(ConvNormAct(c, c, 3, stride, groups=count), ConvNormAct(c, c_out, 1)))
        c = c_out
    return MobileNet(stem, blocks, nn.Identity(), nn.Linear(c, classes))


def grouped_layers(resolution: int = 224, *, width: float = 1.0, stem_stride: int = 2) -> tuple[Grouped, ...]:
    """What its group convolutions are, for the choice of a group's size."""
    found, c, side = [], divisible(STEM * width), -(-resolution // stem_stride)
    for c_out, stride in zip((divisible(w * width) for w in WIDTHS), STRIDES, strict=True):
        side = -(-side // stride)
        found.append(Grouped(c, side * side, 3, stride))
        c = c_out
    return tuple(found)
