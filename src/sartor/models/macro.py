"""The networks of :mod:`sartor.space.macro`: FBNet's and NAS-Bench-Macro's."""

from __future__ import annotations

from collections.abc import Mapping

from torch import nn

from sartor.blocks.conv import ConvNormAct
from sartor.blocks.mobile import InvertedResidual, activated
from sartor.models.mobile import MobileNet, divisible
from sartor.records import Option
from sartor.space.macro import FBNET_LAYERS, MACRO_LAYERS, MACRO_OPERATORS

FBNET_STEM, FBNET_LAST = 16, 1984
FBNET_WIDTHS = (16, 24, 32, 64, 112, 184, 352)
FBNET_STRIDES = (1, 2, 2, 2, 1, 2, 1)


def build_fbnet(
    arch: Mapping[str, Option], *, channels: int = 3, classes: int = 1000, width: float = 1.0, last: int = FBNET_LAST
) -> MobileNet:
    """The network of an arch of :func:`sartor.space.macro.fbnet_space` with fresh weights (arXiv:1812.03443, Table 1).

    ``last``: channels of the last convolution. A skip that must halve or change channels is a 1x1 convolution with norm
    and ReLU, which is what the published code makes of it; the paper does not say.
    """
    c = divisible(FBNET_STEM * width)
    stem, blocks = activated(channels, c, 3, 2), list[nn.Module]()
    for stage, layers in enumerate(FBNET_LAYERS):
        c_out = divisible(FBNET_WIDTHS[stage] * width)
        for index in range(layers):
            stride = FBNET_STRIDES[stage] if index == 0 else 1
            blocks.append(_fbnet_block(str(arch[f"layer{len(blocks)}"]), c, c_out, stride))
            c = c_out
    features = divisible(last * width)
    return MobileNet(stem, blocks, activated(c, features, 1), nn.Linear(features, classes))


def _fbnet_block(operator: str, c_in: int, c_out: int, stride: int) -> nn.Module:
    if operator == "skip":
        return nn.Identity() if stride == 1 and c_in == c_out else activated(c_in, c_out, 1, stride)
    size = {part[0]: int(part[1:]) for part in operator.split("_")}
    hidden, groups = c_in * size["e"], size.get("g", 1)
    return InvertedResidual(c_in, c_out, hidden=hidden, kernel=size["k"], stride=stride, groups=groups)


def build_macro(
    arch: Mapping[str, Option], *, channels: int = 3, classes: int = 10, stem: int = 32, last: int = 1280
) -> MobileNet:
    """The network of an arch of :func:`sartor.space.macro.nas_bench_macro` with fresh weights (arXiv:2103.11922 §4.2).

    Each of the three stages halves and doubles the channels in its first layer, from ``stem``. An identity there is a
    1x1 convolution with norm.
    """
    c, blocks = stem, list[nn.Module]()
    for layers in MACRO_LAYERS:
        for index in range(layers):
            stride, c_out = (2, 2 * c) if index == 0 else (1, c)
            operator = MACRO_OPERATORS[int(arch[f"layer{len(blocks)}"])]
            if operator == "identity":
                blocks.append(nn.Identity() if stride == 1 else ConvNormAct(c, c_out, 1, stride, act=False))
            else:
                expand, kernel = (3, 3) if operator == "mb3_k3" else (6, 5)
                blocks.append(InvertedResidual(c, c_out, hidden=expand * c, kernel=kernel, stride=stride))
            c = c_out
    return MobileNet(activated(channels, stem, 3), blocks, activated(c, last, 1), nn.Linear(last, classes))
