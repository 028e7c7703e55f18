"""Self-attention over a grid of tokens that knows how far apart they are."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class GridPositions(nn.Module):
    """A learnt vector for each pair of tokens, the sum of one of their distance in rows and one in columns.
    → [n, n, channels] with n = 1 + side²: a class token comes first, whose distances are one more entry.

    Shaw et al., arXiv:1803.02155, in two dimensions as in AutoFormer's code; distances are cut off at ``furthest``.
    """

    places: Tensor

    def __init__(self, side: int, channels: int, furthest: int = 14):
        super().__init__()
        self.rows = nn.Parameter(nn.init.trunc_normal_(torch.empty(2 * furthest + 2, channels), std=0.02))
        self.columns = nn.Parameter(nn.init.trunc_normal_(torch.empty(2 * furthest + 2, channels), std=0.02))
        grid = torch.stack(torch.meshgrid(torch.arange(side), torch.arange(side), indexing="ij")).flatten(1)
        apart = (grid[:, None, :] - grid[:, :, None]).clamp(-furthest, furthest) + furthest + 1
        self.register_buffer("places", nn.functional.pad(apart, (1, 0, 1, 0)), persistent=False)

    def forward(self) -> Tensor:
        return self.rows[self.places[0]] + self.columns[self.places[1]]


class RelativeAttention(nn.Module):
    """Multi-head self-attention with relative positions in keys and values. [b, n, width] → [b, n, width].

    ``heads`` of ``per_head`` channels each, whatever the width (AutoFormer, arXiv:2107.00651 §3.3). The rows of ``mix``
    are a head's queries, keys and values, then the next head's: fewer heads are a prefix, so that a supernet's slices
    of them mean the same. (All queries first would make some heads' queries others' keys.)
    """

    def __init__(self, width: int, *, heads: int, per_head: int, side: int):
        super().__init__()
        self.heads = heads
        self.scale = per_head**-0.5
        self.mix = nn.Linear(width, 3 * heads * per_head)
        self.keys = GridPositions(side, per_head)
        self.values = GridPositions(side, per_head)
        self.out = nn.Linear(heads * per_head, width)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.mix(x).unflatten(-1, (self.heads, 3, -1)).permute(3, 0, 2, 1, 4).unbind(0)
        scores = q @ k.transpose(-2, -1) + torch.einsum("bhnc,nmc->bhnm", q, self.keys())
        weights = (self.scale * scores).softmax(-1)
        seen = weights @ v + torch.einsum("bhnm,nmc->bhnc", weights, self.values())
        return self.out(seen.transpose(1, 2).flatten(2))
