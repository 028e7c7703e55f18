"""``build_autoformer(arch)``: the transformer of an arch of :func:`sartor.space.autoformer.autoformer_space`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sartor.blocks.relative import RelativeAttention
from sartor.records import Option

PER_HEAD = 64


class Layer(nn.Module):
    """Relative self-attention, then a perceptron, each on its normalised input and added to it.
    [b, n, width] → [b, n, width]."""

    def __init__(self, width: int, *, heads: int, hidden: int, per_head: int, side: int):
        super().__init__()
        self.first_norm = nn.LayerNorm(width)
        self.attention = RelativeAttention(width, heads=heads, per_head=per_head, side=side)
        self.second_norm = nn.LayerNorm(width)
        self.expand = nn.Linear(width, hidden)
        self.project = nn.Linear(hidden, width)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attention(self.first_norm(x))
        return x + self.project(F.gelu(self.expand(self.second_norm(x))))


class AutoFormer(nn.Module):
    """Patches, a class token, positions, layers, norm, mean over the patches, linear classifier.
    [b, channels, h, w] → logits [b, classes]."""

    def __init__(self, patches: nn.Conv2d, side: int, layers: Sequence[Layer], classes: int):
        super().__init__()
        width = patches.out_channels
        self.patches = patches
        self.token = nn.Parameter(nn.init.trunc_normal_(torch.empty(1, 1, width), std=0.02))
        self.positions = nn.Parameter(nn.init.trunc_normal_(torch.empty(1, 1 + side * side, width), std=0.02))
        self.layers = nn.Sequential(*layers)
        self.norm = nn.LayerNorm(width)
        self.classifier = nn.Linear(width, classes)

    def forward(self, x: Tensor) -> Tensor:
        x = self.patches(x).flatten(2).transpose(1, 2)
        x = torch.cat([self.token.expand(x.shape[0], -1, -1), x], 1) + self.positions
        return self.classifier(self.norm(self.layers(x))[:, 1:].mean(1))


def build_autoformer(
    arch: Mapping[str, Option],
    *,
    channels: int = 3,
    classes: int = 1000,
    resolution: int = 224,
    patch: int = 16,
    per_head: int = PER_HEAD,
) -> AutoFormer:
    """The subnet of ``arch`` with fresh weights (arXiv:2107.00651 §3.3), as the paper's networks are trained: absolute
    and relative positions, and the mean over the patches is classified. No dropout and no stochastic depth."""
    width, side = int(arch["width"]), resolution // patch
    layers = [
        Layer(
            width,
            heads=int(arch[f"heads{i}"]),
            hidden=int(width * float(arch[f"ratio{i}"])),
            per_head=per_head,
            side=side,
        )
        for i in range(int(arch["depth"]))
    ]
    network = AutoFormer(nn.Conv2d(channels, width, patch, patch), side, layers, classes)
    for layer in network.modules():
        if isinstance(layer, nn.Linear):
            nn.init.trunc_normal_(layer.weight, std=0.02)
            nn.init.zeros_(layer.bias)
    return network
