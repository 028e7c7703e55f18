"""``build_flexibert(arch)``: the encoder of an arch of :func:`sartor.space.flexibert.flexibert_space`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from sartor.blocks.sequence import DynamicConvolution, LinearTransform, WeightedAttention
from sartor.records import Option


class Stacked(nn.Module):
    """An operation, then perceptrons on top of each other, each added to its input and normalised. What is not as wide
    as the layer is projected first. [b, n, c_in] → [b, n, width]."""

    def __init__(self, c_in: int, width: int, operation: nn.Module, hidden: Sequence[int]):
        super().__init__()
        self.widen = nn.Identity() if c_in == width else nn.Linear(c_in, width)
        self.operation = operation
        self.perceptrons = nn.ModuleList(
            nn.Sequential(nn.Linear(width, n), nn.GELU(), nn.Linear(n, width)) for n in hidden
        )
        self.norms = nn.ModuleList(nn.LayerNorm(width, eps=1e-12) for _ in range(1 + len(hidden)))

    def forward(self, x: Tensor) -> Tensor:
        x = self.widen(x)
        for part, norm in zip([self.operation, *self.perceptrons], self.norms, strict=True):
            x = norm(x + part(x))
        return x


class FlexiBert(nn.Module):
    """Tokens [b, n] → logits [b, classes]: BERT's embeddings, layers, the first token's pooler, a linear classifier."""

    def __init__(self, embeddings: nn.ModuleDict, layers: Sequence[Stacked], width: int, classes: int):
        super().__init__()
        self.embeddings = embeddings
        self.layers = nn.Sequential(*layers)
        self.pooler = nn.Linear(width, width)
        self.classifier = nn.Linear(width, classes)

    def forward(self, tokens: Tensor) -> Tensor:
        parts = self.embeddings
        places = torch.arange(tokens.shape[1], device=tokens.device)
        x = parts["tokens"](tokens) + parts["positions"](places) + parts["types"](torch.zeros_like(tokens))
        x = self.layers(parts["norm"](x))
        return self.classifier(self.pooler(x[:, 0]).tanh())


def build_flexibert(
    arch: Mapping[str, Option], *, vocabulary: int = 30522, positions: int = 512, classes: int = 2
) -> FlexiBert:
    """The network of ``arch`` with fresh weights (P048, arXiv:2205.11656 §3.1), for one sequence of up to ``positions``
    tokens; the embeddings are as wide as the first layer, with BERT's vocabulary and its two types of tokens.

    Deviations: linear transforms have no output projection, as in FNet; no dropout; every token is there, so no mask.
    """
    c = int(arch["width0"])
    embeddings = nn.ModuleDict(
        {
            "tokens": nn.Embedding(vocabulary, c),
            "positions": nn.Embedding(positions, c),
            "types": nn.Embedding(2, c),
            "norm": nn.LayerNorm(c, eps=1e-12),
        }
    )
    layers = []
    for i in range(int(arch["layers"])):
        width = int(arch[f"width{i}"])
        hidden = [int(arch[f"hidden{i}.{j}"]) for j in range(int(arch[f"stack{i}"]))]
        layers.append(Stacked(c, width, _operation(arch, i, width), hidden))
        c = width
    network = FlexiBert(embeddings, layers, c, classes)
    for module in network.modules():
        if isinstance(module, (nn.Linear, nn.Embedding)):
            nn.init.normal_(module.weight, std=0.02)
        if isinstance(module, nn.Linear):
            nn.init.zeros_(module.bias)
    return network


def _operation(arch: Mapping[str, Option], layer: int, width: int) -> nn.Module:
    op, heads = str(arch[f"op{layer}"]), int(arch[f"heads{layer}"])
    if op == "attention":
        return WeightedAttention(width, heads, weighted=arch[f"similarity{layer}"] == "weighted")
    if op == "transform":
        return LinearTransform(width, heads, cosine=arch[f"transform{layer}"] == "dct")
    return DynamicConvolution(width, heads, kernel=int(arch[f"kernel{layer}"]))
