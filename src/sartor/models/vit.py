"""``build_vit(arch)``: the multi-stage vision transformer an arch of :func:`sartor.space.vit.vit_space` describes."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from sartor.blocks.attention import SpatialReduction, TransformerBlock
from sartor.records import Option
from sartor.space.vit import PER_HEAD


class Stage(nn.Module):
    """Halve the grid (all stages but the first), add positions, attend. [b, c, h, w] → [b, width, h', w']."""

    def __init__(self, arch: Mapping[str, Option], name: str, c_in: int, side: int, *, reduce: bool):
        super().__init__()
        width = int(arch[f"{name}.width"])
        self.reduce = SpatialReduction(c_in, width) if reduce else nn.Identity()
        self.position = nn.Parameter(nn.init.trunc_normal_(torch.empty(1, width, side, side), std=0.02))
        self.blocks = nn.Sequential(
            *(
                TransformerBlock(
                    width,
                    heads=int(arch[f"{name}.heads"]),
                    per_head=PER_HEAD,
                    hidden=int(arch[f"{name}.expand"]) * width,
                )
                for _ in range(int(arch[f"{name}.depth"]))
            )
        )

    def forward(self, x: Tensor) -> Tensor:
        x = self.reduce(x) + self.position
        return self.blocks(x.flatten(2).transpose(1, 2)).transpose(1, 2).unflatten(2, x.shape[2:])


class VisionTransformer(nn.Module):
    """Patches, stages, norm, mean over the tokens, linear classifier. [b, channels, h, w] → logits [b, classes]."""

    def __init__(self, stem: nn.Module, stages: nn.ModuleList, classifier: nn.Linear):
        super().__init__()
        self.stem = stem
        self.stages = stages
        self.norm = nn.LayerNorm(classifier.in_features)
        self.classifier = classifier

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        for stage in self.stages:
            x = stage(x)
        return self.classifier(self.norm(x.flatten(2).transpose(1, 2)).mean(1))


def build_vit(arch: Mapping[str, Option], *, channels: int, classes: int, patch: int) -> VisionTransformer:
    """The network of ``arch`` with fresh weights. After ViT-ResNAS (P067, arXiv:2109.00642).

    ``patch``: pixels a side of a token, which a convolution as wide makes (ViT's stem; the paper's has three
    more before it). The arch's resolution is to be a multiple of it. Positions are learnt, a parameter a stage.
    Deviation: the mean over the tokens is classified, where the paper has a class token.
    """
    width, side = int(arch["s0.width"]), int(arch["resolution"]) // patch
    stem = nn.Conv2d(channels, width, patch, patch)
    stages = nn.ModuleList()
    while f"s{len(stages)}.width" in arch:
        name, reduce = f"s{len(stages)}", bool(stages)
        side = -(-side // 2) if reduce else side
        stages.append(Stage(arch, name, width, side, reduce=reduce))
        width = int(arch[f"{name}.width"])
    network = VisionTransformer(stem, stages, nn.Linear(width, classes))
    for layer in network.modules():  # DeiT's start (arXiv:2012.12877 §6)
        if isinstance(layer, nn.Linear):
            nn.init.trunc_normal_(layer.weight, std=0.02)
            nn.init.zeros_(layer.bias)
    return network
