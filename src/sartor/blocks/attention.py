"""Transformer blocks for multi-stage vision transformers: attention, the block around it, and what halves the grid."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn


class Attention(nn.Module):
    """Multi-head self-attention (arXiv:1706.03762 §3.2). [b, n, width] → [b, n, width].

    Queries, keys and values are three layers whose rows are ordered by head, so that a prefix of the rows is a prefix
    of the heads: a subnet with fewer heads is a slice. ``heads`` of ``per_head`` channels each, whatever the width.
    """

    def __init__(self, width: int, heads: int, per_head: int):
        super().__init__()
        self.heads = heads
        self.query = nn.Linear(width, heads * per_head)
        self.key = nn.Linear(width, heads * per_head)
        self.value = nn.Linear(width, heads * per_head)
        self.out = nn.Linear(heads * per_head, width)

    def forward(self, x: Tensor) -> Tensor:
        queries, keys, values = (
            layer(x).unflatten(-1, (self.heads, -1)).transpose(1, 2) for layer in (self.query, self.key, self.value)
        )
        return self.out(F.scaled_dot_product_attention(queries, keys, values).transpose(1, 2).flatten(2))


class TransformerBlock(nn.Module):
    """ViT's pre-norm block (arXiv:2010.11929 §3.1): attention, then a two-layer perceptron, each added to its input.
    [b, n, width] → [b, n, width]."""

    def __init__(self, width: int, *, heads: int, per_head: int, hidden: int):
        super().__init__()
        self.first_norm = nn.LayerNorm(width)
        self.attention = Attention(width, heads, per_head)
        self.second_norm = nn.LayerNorm(width)
        self.expand = nn.Linear(width, hidden)
        self.project = nn.Linear(hidden, width)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attention(self.first_norm(x))
        return x + self.project(F.gelu(self.expand(self.second_norm(x))))


class SpatialReduction(nn.Module):
    """Residual spatial reduction (ViT-ResNAS, arXiv:2109.00642): a quarter of the tokens, more channels.
    [b, c_in, h, w] → [b, c_out, ceil(h/2), ceil(w/2)].

    The branch normalises and convolves with stride 2; the skip connection averages 2x2 tokens and keeps its channels,
    the first ``c_out`` of them or all with zeros behind, so that it has no weights and is a slice at every width.
    The paper only widens.
    """

    def __init__(self, c_in: int, c_out: int):
        super().__init__()
        self.norm = nn.LayerNorm(c_in)
        self.conv = nn.Conv2d(c_in, c_out, 3, 2, 1)
        self.more = max(0, c_out - c_in)

    def forward(self, x: Tensor) -> Tensor:
        branch = self.conv(self.norm(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2))
        skipped = F.avg_pool2d(x, 2, ceil_mode=True)[:, : branch.shape[1]]
        return branch + F.pad(skipped, (0, 0, 0, 0, 0, self.more))
