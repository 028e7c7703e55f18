"""Operations that mix the tokens of a sequence, other than plain attention: FlexiBERT's (arXiv:2205.11656 §3.1)."""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class WeightedAttention(nn.Module):
    """Multi-head self-attention whose similarity is q W kᵀ, with a W a head (Luong et al., arXiv:1508.04025 §3.1,
    "general"), or with ``weighted=False`` the scaled dot product. [b, n, width] → [b, n, width]."""

    def __init__(self, width: int, heads: int, *, weighted: bool):
        super().__init__()
        _shared(width, heads)
        self.heads = heads
        self.query = nn.Linear(width, width)
        self.key = nn.Linear(width, width)
        self.value = nn.Linear(width, width)
        self.out = nn.Linear(width, width)
        self.between = None
        if weighted:
            each = width // heads
            self.between = nn.Parameter(torch.eye(each).repeat(heads, 1, 1) / math.sqrt(each))

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = (
            layer(x).unflatten(-1, (self.heads, -1)).transpose(1, 2) for layer in (self.query, self.key, self.value)
        )
        if self.between is None:
            seen = F.scaled_dot_product_attention(q, k, v)
        else:
            seen = (q @ self.between @ k.transpose(-2, -1)).softmax(-1) @ v
        return self.out(seen.transpose(1, 2).flatten(2))


class LinearTransform(nn.Module):
    """The real part of the discrete Fourier transform, or the cosine transform of type II, over tokens and over the
    channels of each head. [b, n, width] → [b, n, width], without weights.

    FNet (arXiv:2105.03824 §3.2), not scaled. Written as products with matrices, which every runtime has.
    """

    def __init__(self, width: int, heads: int, *, cosine: bool):
        super().__init__()
        _shared(width, heads)
        self.heads = heads
        self.each = width // heads
        self.cosine = cosine

    def forward(self, x: Tensor) -> Tensor:
        x = x.unflatten(-1, (self.heads, self.each)).transpose(1, 2)
        if self.cosine:
            y = _cosine(x.shape[2], x) @ x @ _cosine(self.each, x).T
        else:
            (real, imaginary), (real_out, imaginary_out) = _fourier(x.shape[2], x), _fourier(self.each, x)
            y = real @ x @ real_out - imaginary @ x @ imaginary_out
        return y.transpose(1, 2).flatten(2)


class DynamicConvolution(nn.Module):
    """Span-based dynamic convolution (ConvBERT, arXiv:2008.02496 §3.2): each token makes a kernel of each head from its
    query and the span of tokens around it. [b, n, width] → [b, n, width]; outside the sequence are zeros."""

    def __init__(self, width: int, heads: int, *, kernel: int):
        super().__init__()
        _shared(width, heads)
        if kernel % 2 == 0:
            raise ValueError(f"a kernel of {kernel} tokens has no middle: take an odd one")
        self.heads = heads
        self.kernel = kernel
        self.query = nn.Linear(width, width)
        self.value = nn.Linear(width, width)
        self.span = nn.Sequential(
            nn.Conv1d(width, width, kernel, padding=kernel // 2, groups=width, bias=False), nn.Conv1d(width, width, 1)
        )
        self.kernels = nn.Linear(width, heads * kernel)
        self.out = nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        span = self.span(x.transpose(1, 2)).transpose(1, 2)
        kernels = self.kernels(self.query(x) * span).unflatten(-1, (self.heads, self.kernel)).softmax(-1)
        padded = F.pad(self.value(x), (0, 0, self.kernel // 2, self.kernel // 2))
        around = torch.stack([padded[:, k : k + x.shape[1]] for k in range(self.kernel)], -1)
        around = around.unflatten(2, (self.heads, -1))  # [b, n, heads, channels, kernel]
        return self.out((around * kernels.unsqueeze(-2)).sum(-1).flatten(2))


def _shared(width: int, heads: int) -> None:
    if width % heads:
        raise ValueError(f"{heads} heads cannot share {width} channels evenly")


def _fourier(n: int, like: Tensor) -> tuple[Tensor, Tensor]:
    """Real and imaginary part of the transform's matrix [n, n], which is symmetric."""
    places = torch.arange(n, device=like.device, dtype=like.dtype)
    angles = -2 * math.pi / n * (places[:, None] * places % n)
    return angles.cos(), angles.sin()


def _cosine(n: int, like: Tensor) -> Tensor:
    """The matrix of the cosine transform of type II [frequencies, places]: 2 cos(π f (2 p + 1) / 2n)."""
    places = torch.arange(n, device=like.device, dtype=like.dtype)
    return 2 * torch.cos(math.pi / n * places[:, None] * (places + 0.5))
