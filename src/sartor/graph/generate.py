"""Random valid networks: branches, shuffles, heads, gates, views. What drives the test of every exact operation.

After NeuRI (P417, arXiv:2302.02261): operators are inserted where the shapes of the tensors at hand allow them, so that
what comes out runs. Deviation: their rules are inferred from recorded calls, for thousands of operators and to crash
compilers; ours are written down, for the operators that cuts must follow.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

Shape = tuple[int, ...]


class Function(nn.Module):
    """A step without parameters; ``settings`` are the numbers it was made with."""

    def __init__(self, run: Callable[..., Tensor | tuple[Tensor, ...]], name: str):
        super().__init__()
        self.run = run
        self.name = name

    def forward(self, *x: Tensor) -> Tensor | tuple[Tensor, ...]:
        return self.run(*x)

    def extra_repr(self) -> str:
        return self.name


class Heads(nn.Module):
    """Attention with its sizes in attributes."""

    def __init__(self, dim: int, heads: int, *, fused: bool):
        super().__init__()
        self.num_heads, self.head_dim, self.attn_dim = heads, dim // heads, dim
        self.scale = self.head_dim**-0.5
        self.fused = fused
        self.qkv = nn.Linear(dim, 3 * dim)
        self.proj = nn.Linear(dim, dim)

    def forward(self, x: Tensor) -> Tensor:
        b, n, _ = x.shape
        q, k, v = self.qkv(x).reshape(b, n, 3, self.num_heads, self.head_dim).permute(2, 0, 3, 1, 4).unbind(0)
        if self.fused:
            x = F.scaled_dot_product_attention(q, k, v, scale=self.scale)
        else:
            x = (q @ k.transpose(-2, -1) * self.scale).softmax(-1) @ v
        return self.proj(x.transpose(1, 2).reshape(b, n, self.attn_dim))


class Excite(nn.Module):
    """Squeeze-excite."""

    def __init__(self, channels: int, inside: int):
        super().__init__()
        self.down, self.up = nn.Conv2d(channels, inside, 1), nn.Conv2d(inside, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        return x * self.up(F.relu(self.down(x.mean((2, 3), keepdim=True)))).sigmoid()


class Scale(nn.Module):
    """A gain for each channel along ``dim``."""

    def __init__(self, channels: int, rank: int, dim: int):
        super().__init__()
        self.gain = nn.Parameter(torch.rand([channels if i == dim else 1 for i in range(1, rank)]) + 0.5)

    def forward(self, x: Tensor) -> Tensor:
        return x * self.gain


class Recurrent(nn.Module):
    def __init__(self, channels: int, hidden: int, *, both_ways: bool):
        super().__init__()
        self.rnn = nn.GRU(channels, hidden, batch_first=True, bidirectional=both_ways)

    def forward(self, x: Tensor) -> Tensor:
        return self.rnn(x)[0]


def shuffle(x: Tensor, groups: int) -> Tensor:
    b, c, h, w = x.shape
    return x.view(b, groups, c // groups, h, w).transpose(1, 2).reshape(b, c, h, w)


@dataclass(frozen=True)
class Step:
    """A module and the tensors (by number) that it takes."""

    module: nn.Module
    takes: tuple[int, ...]


class RandomNetwork(nn.Module):
    """Steps one after the other; each adds one or more tensors. The last tensor, pooled, is classified."""

    def __init__(self, steps: Sequence[Step], head: nn.Module):
        super().__init__()
        self.steps = nn.ModuleList(step.module for step in steps)
        self.takes = [step.takes for step in steps]
        self.head = head

    def forward(self, x: Tensor) -> Tensor:
        held = [x]
        for module, takes in zip(self.steps, self.takes, strict=True):
            out = module(*(held[i] for i in takes))
            held += out if isinstance(out, (tuple, list)) else [out]
        last = held[-1]
        return self.head(last.mean((2, 3)) if last.dim() == 4 else last.mean(1))


class _Grower:
    """Tensors so far, as (number, shape); each method adds one step that fits, or nothing."""

    def __init__(self, rng: random.Random):
        self.rng = rng
        self.steps: list[Step] = []
        self.shapes: list[Shape] = [(2, 3, 8, 8)]

    def add(self, module: nn.Module, takes: Sequence[int], *shapes: Shape) -> None:
        self.steps.append(Step(module, tuple(takes)))
        self.shapes += shapes

    def pick(self, fits: Callable[[Shape], bool]) -> int | None:
        """A tensor that fits, later ones more often."""
        good = [i for i, shape in enumerate(self.shapes) if fits(shape)]
        return self.rng.choice(good[-4:]) if good else None

    def image(self) -> int | None:
        return self.pick(lambda s: len(s) == 4)

    def divisor(self, n: int) -> int:
        return self.rng.choice([d for d in range(1, n + 1) if n % d == 0])

    def width(self) -> int:
        return self.rng.choice((4, 6, 8, 12, 16, 24))

    def convolution(self) -> None:
        if (i := self.image()) is None:
            return
        b, c, h, w = self.shapes[i]
        k, o = self.rng.choice((1, 3)), self.width()
        stride = self.rng.choice((1, 1, 2)) if h >= 4 else 1
        groups = self.divisor(c)
        o = groups * max(1, o // groups)
        conv = nn.Conv2d(c, o, k, stride, k // 2, groups=groups, bias=self.rng.random() < 0.7)
        self.add(conv, [i], (b, o, (h - 1) // stride + 1, (w - 1) // stride + 1))

    def transposed(self) -> None:
        if (i := self.pick(lambda s: len(s) == 4 and s[2] <= 8)) is None:
            return
        b, c, h, w = self.shapes[i]
        groups = self.divisor(c)
        o = groups * self.rng.choice((1, 2, 4))
        self.add(nn.ConvTranspose2d(c, o, 2, 2, groups=groups), [i], (b, o, 2 * h, 2 * w))

    def norm(self) -> None:
        if (i := self.image()) is None:
            return
        c = self.shapes[i][1]
        kind = self.rng.choice(("batch", "group", "instance"))
        layer = {
            "batch": lambda: nn.BatchNorm2d(c),
            "group": lambda: nn.GroupNorm(self.divisor(c), c),
            "instance": lambda: nn.InstanceNorm2d(c, affine=True),
        }[kind]()
        if kind != "batch" and self.shapes[i][2] == 1:
            return
        self.add(layer, [i], self.shapes[i])

    def activation(self) -> None:
        i = self.rng.randrange(len(self.shapes))
        layer = self.rng.choice((nn.ReLU, nn.GELU, nn.Hardswish, nn.Sigmoid, nn.Tanh))()
        self.add(layer, [i], self.shapes[i])

    def joined(self) -> None:
        """Two tensors of the same shape added, multiplied, or one after the other."""
        i = self.rng.randrange(len(self.shapes))
        same = [j for j, shape in enumerate(self.shapes) if shape == self.shapes[i] and j != i]
        if same:
            j = self.rng.choice(same)
            run = self.rng.choice((torch.add, torch.mul, torch.maximum))
            self.add(Function(run, run.__name__), [i, j], self.shapes[i])

    def concatenated(self) -> None:
        if (i := self.image()) is None:
            return
        b, c, h, w = self.shapes[i]
        others = [j for j, s in enumerate(self.shapes) if len(s) == 4 and s[2:] == (h, w)]
        j = self.rng.choice(others)
        if c + self.shapes[j][1] <= 64:
            self.add(Function(lambda x, y: torch.cat([x, y], 1), "cat"), [i, j], (b, c + self.shapes[j][1], h, w))

    def halves(self) -> None:
        if (i := self.pick(lambda s: len(s) == 4 and s[1] % 2 == 0)) is None:
            return
        b, c, h, w = self.shapes[i]
        half = (b, c // 2, h, w)
        self.add(Function(lambda x: x.chunk(2, 1), "chunk"), [i], half, half)

    def gate(self) -> None:
        if (i := self.pick(lambda s: s[1 if len(s) == 4 else 2] % 2 == 0)) is None:
            return
        shape = list(self.shapes[i])
        dim = 1 if len(shape) == 4 else 2
        shape[dim] //= 2
        self.add(nn.GLU(dim), [i], tuple(shape))

    def shuffled(self) -> None:
        if (i := self.image()) is None:
            return
        groups = self.divisor(self.shapes[i][1])
        self.add(Function(lambda x: shuffle(x, groups), f"shuffle {groups}"), [i], self.shapes[i])

    def pixels(self) -> None:
        if (i := self.pick(lambda s: len(s) == 4 and s[1] % 4 == 0 and s[2] <= 8)) is None:
            return
        b, c, h, w = self.shapes[i]
        self.add(nn.PixelShuffle(2), [i], (b, c // 4, 2 * h, 2 * w))

    def pooled(self) -> None:
        if (i := self.pick(lambda s: len(s) == 4 and s[2] >= 4)) is None:
            return
        b, c, h, w = self.shapes[i]
        self.add(self.rng.choice((nn.MaxPool2d, nn.AvgPool2d))(2), [i], (b, c, h // 2, w // 2))

    def excited(self) -> None:
        if (i := self.image()) is not None:
            self.add(Excite(self.shapes[i][1], self.rng.choice((2, 4))), [i], self.shapes[i])

    def scaled(self) -> None:
        i = self.rng.randrange(len(self.shapes))
        shape = self.shapes[i]
        dim = 1 if len(shape) == 4 else 2
        self.add(Scale(shape[dim], len(shape), dim), [i], shape)

    def softened(self) -> None:
        if (i := self.image()) is not None:
            self.add(nn.Softmax(1), [i], self.shapes[i])

    def centred(self) -> None:
        if (i := self.image()) is not None:
            self.add(Function(lambda x: x - x.mean(1, keepdim=True), "centre"), [i], self.shapes[i])

    def padded(self) -> None:
        if (i := self.image()) is None:
            return
        b, c, h, w = self.shapes[i]
        before, after = self.rng.randrange(3), self.rng.randrange(3)
        self.add(Function(lambda x: F.pad(x, (0, 0, 0, 0, before, after)), "pad"), [i], (b, c + before + after, h, w))

    def part(self) -> None:
        if (i := self.pick(lambda s: len(s) == 4 and s[1] >= 4)) is None:
            return
        b, c, h, w = self.shapes[i]
        start = self.rng.randrange(c // 2)
        self.add(Function(lambda x: x[:, start : start + c // 2], "part"), [i], (b, c // 2, h, w))

    def tokens(self) -> None:
        if (i := self.pick(lambda s: len(s) == 4 and s[2] * s[3] <= 64)) is None:
            return
        b, c, h, w = self.shapes[i]
        self.add(Function(lambda x: x.flatten(2).transpose(1, 2), "tokens"), [i], (b, h * w, c))

    def token_layer(self) -> None:
        if (i := self.pick(lambda s: len(s) == 3)) is None:
            return
        b, n, c = self.shapes[i]
        kind = self.rng.choice(("linear", "norm", "attention", "mlp", "recurrent", "image"))
        if kind == "linear":
            o = self.width()
            self.add(nn.Linear(c, o), [i], (b, n, o))
        elif kind == "norm":
            self.add(nn.LayerNorm(c), [i], (b, n, c))
        elif kind == "attention":
            self.add(Heads(c, self.divisor(c), fused=self.rng.random() < 0.5), [i], (b, n, c))
        elif kind == "mlp":
            hidden = self.width()
            self.add(nn.Sequential(nn.Linear(c, hidden), nn.GELU(), nn.Linear(hidden, c)), [i], (b, n, c))
        elif kind == "recurrent":
            both = self.rng.random() < 0.5
            hidden = self.rng.choice((4, 6))
            self.add(Recurrent(c, hidden, both_ways=both), [i], (b, n, hidden * (2 if both else 1)))
        elif int(n**0.5) ** 2 == n:
            side = int(n**0.5)
            self.add(Function(lambda x: x.transpose(1, 2).unflatten(2, (side, side)), "image"), [i], (b, c, side, side))

    def again(self) -> None:
        """A layer that is already there, on another tensor of the same shape."""
        known = [s for s in self.steps if not isinstance(s.module, Function) and len(s.takes) == 1]
        if not known:
            return
        step = self.rng.choice(known)
        at = self.steps.index(step)
        out = [shape for _, shape in self._outputs(at)]
        wanted = self.shapes[step.takes[0]]
        same = [j for j, shape in enumerate(self.shapes) if shape == wanted and j != step.takes[0]]
        if same and len(out) == 1:
            self.add(step.module, [self.rng.choice(same)], out[0])

    def _outputs(self, at: int) -> list[tuple[int, Shape]]:
        number = 1
        for step in self.steps[:at]:
            number += self._count(step)
        return [(number + k, self.shapes[number + k]) for k in range(self._count(self.steps[at]))]

    @staticmethod
    def _count(step: Step) -> int:
        return 2 if isinstance(step.module, Function) and step.module.name == "chunk" else 1


def random_network(seed: int, *, steps: int = 12) -> tuple[nn.Module, tuple[Tensor, ...]]:
    """A random network of about ``steps`` steps on images [2, 3, 8, 8], in eval mode, and its example inputs."""
    rng = random.Random(seed)
    torch.manual_seed(seed)
    grower = _Grower(rng)
    grower.convolution()
    moves = [
        *[grower.convolution] * 4, *[grower.norm] * 2, *[grower.activation] * 2, *[grower.joined] * 4,
        *[grower.concatenated] * 2, *[grower.token_layer] * 6, *[grower.tokens] * 2, grower.transposed, grower.halves,
        grower.gate, grower.shuffled, grower.pixels, grower.pooled, grower.excited, grower.scaled, grower.softened,
        grower.centred, grower.padded, grower.part, grower.again,
    ]  # fmt: skip
    while len(grower.steps) < steps:
        rng.choice(moves)()
    shape = grower.shapes[-1]
    net = RandomNetwork(grower.steps, nn.Linear(shape[1] if len(shape) == 4 else shape[2], 3))
    for name, tensor in [*net.named_parameters(), *net.named_buffers()]:  # nothing is constant: zeros cut too easily
        if tensor.is_floating_point() and tensor.dim() == 1:
            tensor.data.uniform_(0.5, 1.5) if name.endswith(("weight", "var")) else tensor.data.uniform_(-0.5, 0.5)
    return net.eval(), (torch.randn(2, 3, 8, 8),)
