"""The networks of :mod:`sartor.space.layers`: convolutions in a row, average pooling, a linear classifier."""

from __future__ import annotations

from collections.abc import Mapping

from torch import nn

from sartor.blocks.conv import ConvNormAct
from sartor.records import Option
from sartor.space.layers import DEPTH


def build_layers(arch: Mapping[str, Option], *, channels: int = 3, classes: int = 10) -> nn.Sequential:
    """The network of an arch of :func:`sartor.space.layers.layers_space` with fresh weights.
    [b, channels, h, w] → logits [b, classes].

    ``op`` is ``conv``, or ``separable``: a depthwise convolution and one of 1x1 that makes the width.
    """
    found, c = list[nn.Module](), channels
    for i in range(int(arch[DEPTH])):
        kernel, width, stride = (int(arch[f"layer{i}.{name}"]) for name in ("kernel", "width", "stride"))
        if arch[f"layer{i}.op"] == "separable":
            found.append(nn.Sequential(ConvNormAct(c, c, kernel, stride, groups=c), ConvNormAct(c, width, 1)))
        else:
            found.append(ConvNormAct(c, width, kernel, stride))
        c = width
    return nn.Sequential(*found, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(c, classes))
