"""Post-norm transformer layers of an encoder and of a decoder (arXiv:1706.03762 §3.1), with widths of their own."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class CrossAttention(nn.Module):
    """Multi-head attention of queries [b, n, width] to a memory [b, m, memory] → [b, n, width].

    Queries, keys and values have ``inner`` channels together, however many ``heads`` share them: HAT (arXiv:2005.14187
    §3.1) keeps them when it changes the heads. ``mask``: [b or 1, 1, n or 1, m], True where there is something to see.
    """

    def __init__(self, width: int, memory: int, *, inner: int, heads: int):
        super().__init__()
        if inner % heads:
            raise ValueError(f"{heads} heads cannot share {inner} channels evenly")
        self.heads = heads
        self.query = nn.Linear(width, inner)
        self.key = nn.Linear(memory, inner)
        self.value = nn.Linear(memory, inner)
        self.out = nn.Linear(inner, width)

    def forward(self, x: Tensor, memory: Tensor, mask: Tensor | None = None) -> Tensor:
        queries, keys, values = (
            tensor.unflatten(-1, (self.heads, -1)).transpose(1, 2)
            for tensor in (self.query(x), self.key(memory), self.value(memory))
        )
        seen = F.scaled_dot_product_attention(queries, keys, values, attn_mask=mask)
        return self.out(seen.transpose(1, 2).flatten(2))


class Perceptron(nn.Sequential):
    """Two linear layers with a ReLU between them. [b, n, width] → [b, n, width]."""

    def __init__(self, width: int, hidden: int):
        super().__init__(nn.Linear(width, hidden), nn.ReLU(), nn.Linear(hidden, width))


class EncoderLayer(nn.Module):
    """Self-attention, then a perceptron, each added to its input and normalised. [b, n, width] → [b, n, width]."""

    def __init__(self, width: int, *, inner: int, heads: int, hidden: int):
        super().__init__()
        self.attention = CrossAttention(width, width, inner=inner, heads=heads)
        self.perceptron = Perceptron(width, hidden)
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(2))

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:
        x = self.norms[0](x + self.attention(x, x, mask))
        return self.norms[1](x + self.perceptron(x))


class DecoderLayer(nn.Module):
    """Self-attention to what came before, attention to the memory, a perceptron, each added to its input and
    normalised. [b, n, width], memory [b, m, memory] → [b, n, width]."""

    def __init__(self, width: int, memory: int, *, inner: int, heads: int, cross_heads: int, hidden: int):
        super().__init__()
        self.attention = CrossAttention(width, width, inner=inner, heads=heads)
        self.cross = CrossAttention(width, memory, inner=inner, heads=cross_heads)
        self.perceptron = Perceptron(width, hidden)
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(3))

    def forward(self, x: Tensor, memory: Tensor, mask: Tensor | None = None) -> Tensor:
        before = torch.ones(x.shape[1], x.shape[1], dtype=torch.bool, device=x.device).tril()[None, None]
        x = self.norms[0](x + self.attention(x, x, before))
        x = self.norms[1](x + self.cross(x, memory, mask))
        return self.norms[2](x + self.perceptron(x))
