"""ResNeXt (arXiv:1611.05431), with group convolutions of any kind (P452)."""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn

from sartor.blocks.e2gc import groups_of
from sartor.errors import InputError
from sartor.models.torchvision_ops import define_missing_ops

LAYERS = (3, 4, 6, 3)
GROUPS = 32
GROUP_WIDTH = 4
"""Channels of a group in the first stage; each stage has twice as many."""


def build_resnext(
    layers: Sequence[int] = LAYERS,
    *,
    group_size: int | None = None,
    groups: int | None = None,
    channels: int = 3,
    classes: int = 1000,
) -> nn.Module:
    """A ResNeXt with fresh weights, of 32x4d's widths, as timm has it: ResNeXt-50, unless ``layers`` says otherwise.

    ``group_size``: channels of a group, the same in every layer (E2GC, arXiv:2006.15100 §IV); ``groups``: the number of
    them, the same in every layer, its rival, of which the published network has 32. Raises InputError for both, and
    where channels are no whole groups.
    """
    if group_size is not None and groups is not None:
        raise InputError("layers have the same size of groups, or the same number: give group_size or groups")
    define_missing_ops()
    from timm.models.resnet import Bottleneck, ResNet

    network = ResNet(
        Bottleneck,  # type: ignore[arg-type]  # timm means its class
        tuple(layers),
        num_classes=classes,
        in_chans=channels,
        cardinality=GROUPS,
        base_width=GROUP_WIDTH,
    )
    assert isinstance(network, nn.Module)
    for block in [module for module in network.modules() if isinstance(module, Bottleneck)]:
        block.conv2 = _regrouped(block.conv2, group_size, GROUPS if groups is None else groups)
    return network


def _regrouped(conv: nn.Conv2d, size: int | None, groups: int) -> nn.Conv2d:
    """As wide a convolution as ``conv``, with other groups."""
    width = conv.in_channels
    try:
        if size is not None:
            groups = groups_of(width, size)
        made = nn.Conv2d(width, width, conv.kernel_size, conv.stride, conv.padding, groups=groups, bias=False)  # type: ignore[arg-type]
    except ValueError as error:
        raise InputError(f"a layer's {width} channels: {error}; take a number that divides every width") from error
    nn.init.kaiming_normal_(made.weight, mode="fan_out", nonlinearity="relu")
    return made
