"""Networks of :func:`sartor.space.einspace.einspace`, and published blocks spelled in it. Ericsson et al.,
arXiv:2405.20838 §3."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from sartor.records import Arch, Option
from sartor.space.derivation import Derivations
from sartor.space.einspace import UNFOLDINGS, Shape
from sartor.space.node import Node


def build_einspace(space: Derivations, arch: Arch, *, classes: int) -> nn.Module:
    """The network of ``arch``: images → logits ``[b, classes]``. What it comes to is averaged over pixels or positions,
    and a linear layer reads that. Raises InputError where ``arch`` is not of ``space``."""
    root = space.derivation(arch)
    return nn.Sequential(_module(root), Averaged(), nn.Linear(_features(root.result), classes))


class Averaged(nn.Module):
    """The mean over pixels ``[b, c, h, w] → [b, c]`` or positions ``[b, s, d] → [b, d]``."""

    def forward(self, x: Tensor) -> Tensor:
        return x.mean((2, 3)) if x.dim() == 4 else x.mean(1)


class Unfold(nn.Module):
    """Patches as columns: ``[b, c, h, w] → [b, positions, c·kernel²]``."""

    def __init__(self, kernel: int, stride: int, padding: int):
        super().__init__()
        self.unfold = nn.Unfold(kernel, stride=stride, padding=padding)

    def forward(self, x: Tensor) -> Tensor:
        return self.unfold(x).transpose(1, 2)


class Fold(nn.Module):
    """Columns as an image, one pixel a position: ``[b, side², d] → [b, d, side, side]``."""

    def __init__(self, side: int):
        super().__init__()
        self.side = side

    def forward(self, x: Tensor) -> Tensor:
        return x.transpose(1, 2).unflatten(2, (self.side, self.side))


class Transpose(nn.Module):
    """``[b, s, d] → [b, d, s]``."""

    def forward(self, x: Tensor) -> Tensor:
        return x.transpose(1, 2)


class Position(nn.Module):
    """A learnt tensor is added, of the shape of one input."""

    def __init__(self, shape: Shape):
        super().__init__()
        self.position = nn.Parameter(torch.randn(1, *shape))

    def forward(self, x: Tensor) -> Tensor:
        return x + self.position


class Branching(nn.Module):
    """Copies of the input, or equal groups along ``axis`` (the batch not counted), each through a branch of its own;
    then aggregated: added, concatenated along ``cat``, or multiplied as matrices and by ``scale``."""

    def __init__(self, branches: Sequence[nn.Module], axis: int | None, merge: str, scale: float):
        super().__init__()
        self.branches = nn.ModuleList(branches)
        self.axis = axis
        self.merge = merge
        self.scale = scale

    def forward(self, x: Tensor) -> Tensor:
        n = len(self.branches)
        parts = [x] * n if self.axis is None else list(x.chunk(n, self.axis + 1))
        made = [branch(part) for branch, part in zip(self.branches, parts, strict=True)]
        if self.merge == "add":
            return torch.stack(made).sum(0)
        if self.merge.startswith("cat."):
            return torch.cat(made, int(self.merge[4:]) + 1)
        return made[0] @ made[1] * self.scale


def _module(node: Node) -> nn.Module:
    if node.option == "compute":
        return _computation(node.part("op"))
    if node.option == "sequence":
        return nn.Sequential(*(_module(part) for part in node.parts))
    if node.option == "route":
        before, inner, after = node.parts
        side = before.result[1]
        return nn.Sequential(_routing(before, 0), _module(inner), _routing(after, side))
    split, merge = node.parts[:2]
    modules = node.parts[2:]
    n: int = split.result[0]
    branches = [_module(part) for part in (modules if len(modules) == n else modules * n)]
    axis = None if str(split.option).startswith("clone") else int(str(split.option).rpartition(".")[2])
    first: Shape = modules[0].result
    scale = 1 / math.sqrt(first[-1]) if merge.option == "scaled_dot" else 1.0
    return Branching(branches, axis, str(merge.option), scale)


def _computation(node: Node) -> nn.Module:
    shape: Shape = node.sort[1]
    name = str(node.option)
    if name.startswith("linear"):
        return nn.Linear(shape[-1], int(name[6:]))
    if name == "norm":
        return nn.BatchNorm2d(shape[0]) if len(shape) == 3 else nn.LayerNorm(shape[-1])
    if name == "position":
        return Position(shape)
    return {"identity": nn.Identity(), "leaky_relu": nn.LeakyReLU(), "softmax": nn.Softmax(-1)}[name]


def _routing(node: Node, side: int) -> nn.Module:
    name = str(node.option)
    if name in UNFOLDINGS:
        return Unfold(*UNFOLDINGS[name])
    return {"identity": nn.Identity(), "transpose": Transpose(), "fold": Fold(side)}[name]


def _features(shape: object) -> int:
    assert isinstance(shape, tuple)
    return int(shape[0] if len(shape) == 3 else shape[-1])


# -- published blocks, as sequences of choices for ``Derivations.spelled``

Words = tuple[Option, ...]


def compute(op: str) -> Words:
    return ("compute", op)


def sequence(*modules: Words) -> Words:
    """Two or more modules, one after the other."""
    first, *rest = modules
    return ("sequence", *first, *sequence(*rest)) if rest else first


def route(before: str, inner: Words, after: str) -> Words:
    return ("route", before, *inner, after)


def branch(split: str, merge: str, *inner: Words) -> Words:
    """Of a split in two, both modules; of one in more, the one that each branch has."""
    return ("branch", split, merge, *(word for module in inner for word in module))


def residual(inner: Words) -> Words:
    return branch("clone2", "add", inner, compute("identity"))


def convolution(width: int, unfold: str = "unfold3") -> Words:
    """A convolution: a linear map of unfolded patches, folded to an image again."""
    return route(unfold, compute(f"linear{width}"), "fold")


def resnet_block(width: int) -> Words:
    """Two normalised 3x3 convolutions around which the input goes. He et al., arXiv:1512.03385 figure 2."""
    norm, relu = compute("norm"), compute("leaky_relu")
    inner = sequence(convolution(width), norm, relu, convolution(width), norm)
    return sequence(residual(inner), relu)


def attention(width: int) -> Words:
    """One head of scaled dot-product attention of columns. Vaswani et al., arXiv:1706.03762 §3.2.1."""
    linear = compute(f"linear{width}")
    scores = branch("clone2", "scaled_dot", linear, route("identity", linear, "transpose"))
    return branch("clone2", "dot", sequence(scores, compute("softmax")), linear)


def vit_block(width: int, *, heads: int, hidden: int) -> Words:
    """Pre-norm attention and a feed-forward part, each a residual. Dosovitskiy et al., arXiv:2010.11929 §3.1."""
    norm = compute("norm")
    head = attention(width // heads)
    many = sequence(
        branch(f"clone{heads}", "cat.1", *([head, head] if heads == 2 else [head])), compute(f"linear{width}")
    )
    forward = sequence(compute(f"linear{hidden}"), compute("leaky_relu"), compute(f"linear{width}"))
    return sequence(residual(sequence(norm, many)), residual(sequence(norm, forward)))


def mixer_block(width: int, positions: int, *, hidden: int) -> Words:
    """Feed-forward parts over positions, then over features, each a residual. Tolstikhin et al.,
    arXiv:2105.01601 §2."""
    norm, relu = compute("norm"), compute("leaky_relu")
    forward = lambda out: sequence(compute(f"linear{hidden}"), relu, compute(f"linear{out}"))
    tokens = residual(sequence(norm, route("transpose", forward(positions), "transpose")))
    return sequence(tokens, residual(sequence(norm, forward(width))))
