"""Small networks, each with one thing that cuts must follow. ``NETS``: name → (function, example inputs)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Net(nn.Module):
    """Layers by name and a forward pass given as a function of them."""

    def __init__(self, forward: Callable[..., Tensor], **layers: nn.Module | nn.Parameter):
        super().__init__()
        for name, layer in layers.items():
            setattr(self, name, layer)
        self._run = forward

    def forward(self, *x: Tensor) -> Tensor:
        return self._run(self, *x)


IMAGE = (2, 3, 8, 8)
TOKENS = (2, 5, 12)


def conv(i: int, o: int, k: int = 3, **more: Any) -> nn.Conv2d:
    return nn.Conv2d(i, o, k, padding=k // 2, **more)


def head(n: int, classes: int = 4) -> nn.Sequential:
    return nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(n, classes))


def images(body: Callable[[Any, Tensor], Tensor], out: int, **layers: Any) -> tuple[nn.Module, tuple[int, ...]]:
    return Net(lambda m, x: m.head(body(m, m.stem(x))), stem=conv(3, 12), head=head(out), **layers), IMAGE


def tokens(body: Callable[[Any, Tensor], Tensor], out: int, **layers: Any) -> tuple[nn.Module, tuple[int, ...]]:
    return Net(
        lambda m, x: m.fc(body(m, m.embed(x)).mean(1)), embed=nn.Linear(12, 16), fc=nn.Linear(out, 4), **layers
    ), TOKENS


class Attention(nn.Module):
    """As timm writes it: sizes in attributes."""

    def __init__(self, dim: int = 16, heads: int = 4, fused: bool = True, kv: int | None = None):
        super().__init__()
        self.num_heads, self.head_dim = heads, dim // heads
        self.attn_dim = dim
        self.scale = self.head_dim**-0.5
        self.fused = fused
        self.qkv = nn.Linear(dim, 3 * dim)
        self.proj = nn.Linear(dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        b, n, _ = x.shape
        q, k, v = self.qkv(x).reshape(b, n, 3, self.num_heads, self.head_dim).permute(2, 0, 3, 1, 4).unbind(0)
        if self.fused:
            x = F.scaled_dot_product_attention(q, k, v)
        else:
            x = ((q * self.scale) @ k.transpose(-2, -1)).softmax(-1) @ v
        return self.proj(x.transpose(1, 2).reshape(b, n, self.attn_dim))


def shuffled(x: Tensor, groups: int) -> Tensor:
    b, c, h, w = x.shape
    return x.view(b, groups, c // groups, h, w).transpose(1, 2).reshape(b, c, h, w)


def biased(m: Any, x: Tensor) -> Tensor:
    """Attention with a table of relative positions, as in Swin."""
    b, n, _ = x.shape
    q, k, v = m.qkv(x).reshape(b, n, 3, m.heads, -1).permute(2, 0, 3, 1, 4)
    bias = m.table[m.index.view(-1)].view(n, n, -1).permute(2, 0, 1)
    scores = q @ k.transpose(-2, -1) * 0.5 + bias.unsqueeze(0)
    return m.proj((scores.softmax(-1) @ v).transpose(1, 2).flatten(2))


def with_table() -> tuple[nn.Module, tuple[int, ...]]:
    net, shape = tokens(
        biased, 16, qkv=nn.Linear(16, 48), proj=nn.Linear(16, 16), table=nn.Parameter(torch.randn(9, 4))
    )
    net.heads = 4
    net.register_buffer("index", torch.arange(25).reshape(5, 5) % 9)
    return net, shape


def grouped_queries(m: Any, x: Tensor) -> Tensor:
    b, n, _ = x.shape
    q, k, v = (f(x).view(b, n, -1, 4).transpose(1, 2) for f in (m.q, m.k, m.v))
    x = F.scaled_dot_product_attention(q, k, v, is_causal=True, enable_gqa=True)
    return m.proj(x.transpose(1, 2).flatten(2))


def dense(m: Any, x: Tensor) -> Tensor:
    for layer in (m.a, m.b, m.c):
        x = torch.cat([x, layer(x).relu()], 1)
    return x


def embedded() -> tuple[nn.Module, Any]:
    net = Net(
        lambda m, x: F.linear(m.fc(m.words(x)).relu(), m.words.weight), words=nn.Embedding(10, 12), fc=nn.Linear(12, 12)
    )
    return net, torch.randint(0, 10, (2, 5))


def recurrent(kind: type[nn.RNNBase], **more: Any) -> tuple[nn.Module, Any]:
    width = 8 * (2 if more.get("bidirectional") else 1)
    rnn = kind(12, 8, num_layers=2, batch_first=True, **more)
    return Net(
        lambda m, x: m.fc(m.rnn(m.embed(x))[0][:, -1]), embed=nn.Linear(12, 12), rnn=rnn, fc=nn.Linear(width, 4)
    ), TOKENS


NETS: dict[str, Callable[[], tuple[nn.Module, Any]]] = {
    "chain": lambda: images(lambda m, x: m.b(m.a(x).relu()), 10, a=conv(12, 16), b=conv(16, 10)),
    "residual": lambda: images(
        lambda m, x: x + m.b(m.norm(m.a(x)).relu()), 12, a=conv(12, 20), norm=nn.BatchNorm2d(20), b=conv(20, 12)
    ),
    "two stages": lambda: images(
        lambda m, x: m.down(x + m.a(x)) + m.side(x),
        20,
        a=conv(12, 12),
        down=conv(12, 20, stride=2),
        side=conv(12, 20, 1, stride=2),
    ),
    "depthwise": lambda: images(
        lambda m, x: m.b(m.dw(m.a(x)).relu()), 10, a=conv(12, 16), dw=conv(16, 16, groups=16), b=conv(16, 10)
    ),
    "channel multiplier": lambda: images(lambda m, x: m.b(m.dw(x)), 10, dw=conv(12, 24, groups=12), b=conv(24, 10)),
    "sizes of another tensor": lambda: images(
        lambda m, x: m.c(m.b(x.flatten(2).reshape_as(x)) * m.g(x.mean((2, 3), keepdim=True)).expand_as(m.b(x))),
        10,
        b=conv(12, 16),
        g=conv(12, 16, 1),
        c=conv(16, 10),
    ),
    "grouped": lambda: images(
        lambda m, x: m.c(m.b(m.a(x)).relu()), 10, a=conv(12, 16), b=conv(16, 24, groups=4), c=conv(24, 10)
    ),
    "squeeze-excite": lambda: images(
        lambda m, x: m.b(x * m.up(m.down(x.mean((2, 3), keepdim=True)).relu()).sigmoid()),
        10,
        down=conv(12, 4, 1),
        up=conv(4, 12, 1),
        b=conv(12, 10),
    ),
    "transposed": lambda: images(
        lambda m, x: m.b(m.up(x)), 10, up=nn.ConvTranspose2d(12, 16, 2, stride=2), b=conv(16, 10)
    ),
    "transposed and grouped": lambda: images(
        lambda m, x: m.b(m.up(x)), 10, up=nn.ConvTranspose2d(12, 16, 2, stride=2, groups=4), b=conv(16, 10)
    ),
    "group norm": lambda: images(
        lambda m, x: m.b(m.norm(m.a(x))), 10, a=conv(12, 16), norm=nn.GroupNorm(4, 16), b=conv(16, 10)
    ),
    "instance norm": lambda: images(
        lambda m, x: m.b(m.norm(m.a(x))), 10, a=conv(12, 16), norm=nn.InstanceNorm2d(16, affine=True), b=conv(16, 10)
    ),
    "layer norm over channels": lambda: images(
        lambda m, x: m.b(m.norm(m.a(x).permute(0, 2, 3, 1)).permute(0, 3, 1, 2)),
        10,
        a=conv(12, 16),
        norm=nn.LayerNorm(16),
        b=conv(16, 10),
    ),
    "concatenation": lambda: images(dense, 36, a=conv(12, 8), b=conv(20, 8), c=conv(28, 8)),
    "split in halves": lambda: images(
        lambda m, x: m.b(torch.cat([h.relu() if i else h for i, h in enumerate(m.a(x).split(8, 1))], 1)),
        10,
        a=conv(12, 16),
        b=conv(16, 10),
    ),
    "gate": lambda: images(lambda m, x: m.b(F.glu(m.a(x), 1)), 10, a=conv(12, 32), b=conv(16, 10)),
    "gate by chunks": lambda: images(
        lambda m, x: m.b(torch.mul(*m.a(x).chunk(2, 1))), 10, a=conv(12, 32), b=conv(16, 10)
    ),
    "channel shuffle": lambda: images(
        lambda m, x: m.c(shuffled(m.b(shuffled(m.a(x), 4)), 2)),
        10,
        a=conv(12, 16),
        b=conv(16, 24, groups=4),
        c=conv(24, 10),
    ),
    "pixel shuffle": lambda: images(lambda m, x: m.b(F.pixel_shuffle(m.a(x), 2)), 10, a=conv(12, 32), b=conv(8, 10)),
    "pixel unshuffle": lambda: images(
        lambda m, x: m.b(F.pixel_unshuffle(m.a(x), 2)), 10, a=conv(12, 6), b=conv(24, 10)
    ),
    "flattened": lambda: (
        Net(lambda m, x: m.fc(m.a(x).relu().flatten(1)), a=conv(3, 6), fc=nn.Linear(6 * 64, 4)),
        IMAGE,
    ),
    "padded shortcut": lambda: images(lambda m, x: m.a(x) + F.pad(x, (0, 0, 0, 0, 2, 2)), 16, a=conv(12, 16)),
    "prelu": lambda: images(lambda m, x: m.b(m.act(m.a(x))), 10, a=conv(12, 16), act=nn.PReLU(16), b=conv(16, 10)),
    "layer scale": lambda: images(
        lambda m, x: x + m.gain * m.a(x), 12, a=conv(12, 12), gain=nn.Parameter(torch.randn(12, 1, 1))
    ),
    "softmax over channels": lambda: images(lambda m, x: m.b(m.a(x).softmax(1)), 10, a=conv(12, 16), b=conv(16, 10)),
    "variance over channels": lambda: images(
        lambda m, x: m.b((m.a(x) - m.a(x).mean(1, keepdim=True)) / m.a(x).var(1, keepdim=True).add(1).sqrt()),
        10,
        a=conv(12, 16),
        b=conv(16, 10),
    ),
    "maximum over channels": lambda: images(
        lambda m, x: m.b(torch.cat([m.a(x).amax(1, keepdim=True), m.a(x).mean(1, keepdim=True)], 1)),
        10,
        a=conv(12, 16),
        b=conv(2, 10),
    ),
    "normalised": lambda: images(lambda m, x: m.b(F.normalize(m.a(x), dim=1)), 10, a=conv(12, 16), b=conv(16, 10)),
    "interpolated": lambda: images(
        lambda m, x: m.b(F.interpolate(F.max_pool2d(m.a(x), 2), scale_factor=2, mode="bilinear")),
        10,
        a=conv(12, 16),
        b=conv(16, 10),
    ),
    "called twice": lambda: images(lambda m, x: m.a(m.a(x).relu()), 12, a=conv(12, 12)),
    "mlp": lambda: tokens(
        lambda m, x: x + m.b(F.gelu(m.a(m.norm(x)))),
        16,
        norm=nn.LayerNorm(16),
        a=nn.Linear(16, 40),
        b=nn.Linear(40, 16),
    ),
    "gated mlp": lambda: tokens(
        lambda m, x: x + m.c(F.silu(m.a(x)) * m.b(x)), 16, a=nn.Linear(16, 24), b=nn.Linear(16, 24), c=nn.Linear(24, 16)
    ),
    "rms norm": lambda: tokens(lambda m, x: m.norm(m.a(x)), 20, a=nn.Linear(16, 20), norm=nn.RMSNorm(20)),
    "attention": lambda: tokens(lambda m, x: x + m.attention(x), 16, attention=Attention()),
    "attention by products": lambda: tokens(lambda m, x: x + m.attention(x), 16, attention=Attention(fused=False)),
    "attention with a table": with_table,
    "grouped queries": lambda: tokens(
        grouped_queries, 16, q=nn.Linear(16, 24), k=nn.Linear(16, 12), v=nn.Linear(16, 12), proj=nn.Linear(24, 16)
    ),
    "torch's attention": lambda: tokens(
        lambda m, x: x + m.attention(x, x, x, need_weights=False)[0],
        16,
        attention=nn.MultiheadAttention(16, 4, batch_first=True),
    ),
    "einsum": lambda: tokens(
        lambda m, x: torch.einsum("bnhd,hde->bne", m.a(x).unflatten(-1, (4, 6)), m.weight),
        10,
        a=nn.Linear(16, 24),
        weight=nn.Parameter(torch.randn(4, 6, 10)),
    ),
    "mixer": lambda: tokens(
        lambda m, x: x + m.b(m.a(x.transpose(1, 2)).relu()).transpose(1, 2), 16, a=nn.Linear(5, 14), b=nn.Linear(14, 5)
    ),
    "class token": lambda: tokens(
        lambda m, x: m.a(torch.cat([m.token.expand(len(x), -1, -1), x], 1) + m.position),
        16,
        token=nn.Parameter(torch.randn(1, 1, 16)),
        position=nn.Parameter(torch.randn(1, 6, 16)),
        a=nn.Linear(16, 16),
    ),
    "tied embedding": embedded,
    "lstm": lambda: recurrent(nn.LSTM),
    "lstm both ways": lambda: recurrent(nn.LSTM, bidirectional=True),
    "gru": lambda: recurrent(nn.GRU),
    "plain recurrence": lambda: recurrent(nn.RNN),
    "transformer layer": lambda: tokens(
        lambda m, x: m.layer(x), 16, layer=nn.TransformerEncoderLayer(16, 4, 32, batch_first=True, norm_first=True)
    ),
    "one dimension": lambda: (
        Net(
            lambda m, x: m.b(m.norm(m.a(x)).relu()).mean(2),
            a=nn.Conv1d(12, 16, 3),
            norm=nn.BatchNorm1d(16),
            b=nn.Conv1d(16, 4, 1),
        ),
        (2, 12, 9),
    ),
    "three dimensions": lambda: (
        Net(
            lambda m, x: m.b(m.norm(m.a(x)).relu()).mean((2, 3, 4)),
            a=nn.Conv3d(3, 8, 3),
            norm=nn.BatchNorm3d(8),
            b=nn.Conv3d(8, 4, 1),
        ),
        (2, 3, 5, 5, 5),
    ),
}


def example(inputs: Any) -> tuple[Tensor, ...]:
    return (torch.randn(inputs),) if isinstance(inputs, tuple) else (inputs,)
