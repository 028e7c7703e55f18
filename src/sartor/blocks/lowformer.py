"""LowFormer's block: attention on fewer pixels and channels, between convolutions (P289, arXiv:2409.03460 §4)."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from sartor.blocks.conv import ConvNormAct
from sartor.blocks.mobile import FusedInvertedResidual, InvertedResidual

PER_HEAD = 30
"""Channels a head, at least, of those that attention sees."""


class LowAttention(nn.Module):
    """Multi-head self-attention at a ``stride``-th of the resolution, with half of the channels.
    [b, width, h, w] → [b, width, h, w].

    A strided depthwise kernel lowers the resolution and a pointwise layer makes queries, keys and values of
    ``reduction`` times the channels; what attention gives is brought back, in pixels and channels, by one transposed
    convolution in place of the output's projection. LowFormer §4.2; sizes of kernels, which the paper has in a figure,
    are its code's: 5x5 down and twice the stride up, or 3x3 both where the resolution stays. An odd side is one
    pixel too long on its way back and is cut.
    """

    def __init__(self, width: int, *, stride: int = 1, reduction: float = 0.5):
        super().__init__()
        seen = int(width * reduction)
        self.heads = max(1, seen // PER_HEAD)
        inner = self.heads * (seen // self.heads)
        self.lower = ConvNormAct(width, width, 5 if stride > 1 else 3, stride, groups=width, act=False)
        self.qkv = nn.Conv2d(width, 3 * inner, 1, bias=False)
        kernel = 2 * stride if stride > 1 else 3
        self.lift = nn.ConvTranspose2d(inner, width, kernel, stride, (kernel - stride + 1) // 2)

    def forward(self, x: Tensor) -> Tensor:
        low = self.qkv(self.lower(x))
        # [b, 3 * inner, h, w] to three of [b, heads, h * w, per head]
        queries, keys, values = low.flatten(2).unflatten(1, (3, self.heads, -1)).transpose(-1, -2).unbind(1)
        seen = F.scaled_dot_product_attention(queries, keys, values)
        seen = seen.transpose(-1, -2).flatten(1, 2).unflatten(-1, low.shape[-2:])
        return self.lift(seen)[..., : x.shape[-2], : x.shape[-1]]


class LowFormerBlock(nn.Module):
    """Low-resolution attention, a pointwise perceptron, a mobile block, each added to its input.
    [b, width, h, w] → [b, width, h, w].

    Attention and perceptron stand behind a normalisation over channels and pixels (a group norm of one group).
    ``fused``: the mobile block has one dense kernel (LowFormer §4.1 fuses it below 256 channels, where that is faster),
    else it is depthwise.
    """

    def __init__(self, width: int, *, stride: int = 1, fused: bool = True, expansion: int = 4):
        super().__init__()
        hidden = expansion * width
        self.first_norm = nn.GroupNorm(1, width)
        self.attention = LowAttention(width, stride=stride)
        self.second_norm = nn.GroupNorm(1, width)
        self.expand = nn.Conv2d(width, hidden, 1)
        self.project = nn.Conv2d(hidden, width, 1)
        local = FusedInvertedResidual if fused else InvertedResidual
        self.local = local(width, width, hidden=hidden, act="hswish")

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attention(self.first_norm(x))
        x = x + self.project(F.gelu(self.expand(self.second_norm(x))))
        return self.local(x)
