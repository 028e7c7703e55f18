"""``build(arch)``: the plain convolutional network an arch of :func:`sartor.space.conv_space` describes."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping

import torch.nn.functional as F
from torch import Tensor, nn

from sartor.blocks import BLOCKS, ConvNormAct, PooledResidual, Residual
from sartor.records import Option


class ConvNet(nn.Module):
    """Stem, stages, global average pool, linear classifier. [b, channels, h, w] → logits [b, classes].

    Submodules of a stage are keyed ``OPERATOR.INDEX``, the names a supernet has for them, so weights move between the
    two by name alone.
    """

    def __init__(self, stem: nn.Module, stages: nn.ModuleList, classifier: nn.Linear):
        super().__init__()
        self.stem = stem
        self.stages = stages
        self.classifier = classifier

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        for stage in self.stages:
            for blocks in stage.children():
                x = blocks(x)
        return self.classifier(F.adaptive_avg_pool2d(x, 1).flatten(1))


def build(arch: Mapping[str, Option], *, channels: int, classes: int, full_resolution: int) -> ConvNet:
    """The network of ``arch`` with fresh weights, for images of ``channels`` channels and ``classes`` classes.

    ``full_resolution`` (the space's largest) fixes the strides, so that every resolution has the same structure: the
    stem halves from 24 pixels on, each later stage halves, and the first does from 64 on.
    """
    width = int(arch["stem.width"])
    stem = ConvNormAct(channels, width, 3, 2 if full_resolution >= 24 else 1)
    stages = nn.ModuleList()
    while f"s{len(stages)}.op" in arch:
        index = len(stages)
        stride = 2 if index > 0 or full_resolution >= 64 else 1
        stage, width = _stage(arch, f"s{index}", width, stride)
        stages.append(stage)
    return ConvNet(stem, stages, nn.Linear(width, classes))


def _stage(arch: Mapping[str, Option], name: str, c_in: int, stride: int) -> tuple[nn.ModuleDict, int]:
    op, width, se = str(arch[f"{name}.op"]), int(arch[f"{name}.width"]), bool(arch[f"{name}.se"])
    blocks: OrderedDict[str, nn.Module] = OrderedDict()
    for index in range(int(arch[f"{name}.depth"])):
        first = index == 0
        if op in ("residual", "pooled"):
            kind = Residual if op == "residual" else PooledResidual
            block: nn.Module = kind(c_in, width, stride=stride if first else 1, se=se, project=first)
        else:
            block = BLOCKS[op](
                c_in,
                width,
                hidden=int(arch[f"{name}.expand"]) * c_in,
                kernel=int(arch[f"{name}.kernel"]),
                stride=stride if first else 1,
                se=se,
                skip=not first,
            )
        blocks[str(index)] = block
        c_in = width
    # One key, the operator: the supernet's stage has one key an operator.
    return nn.ModuleDict({op: nn.Sequential(blocks)}), width


def input_shape(arch: Mapping[str, Option], channels: int) -> tuple[int, int, int]:
    """(C, H, W) of the images the arch's network takes."""
    side = int(arch["resolution"])
    return channels, side, side
