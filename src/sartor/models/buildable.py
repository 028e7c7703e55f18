"""Spaces whose archs can be built: a space, what makes a network of an arch, and inputs that it takes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from sartor.models.convnet import build
from sartor.models.einspace import build_einspace
from sartor.models.language import (
    affine,
    compile_network,
    concat,
    conv,
    either,
    max_pool,
    norm,
    optional,
    relu,
    repeat,
    residual,
)
from sartor.models.motifs import build_motifs
from sartor.models.typed import build_typed
from sartor.models.vit import build_vit
from sartor.records import Arch
from sartor.space.einspace import einspace
from sartor.space.motifs import motifs
from sartor.space.presets import conv_space
from sartor.space.space import Space
from sartor.space.symbolic import oneof, space_of
from sartor.space.typed import Beside, Chain, Conv, Flatten, Linear, Pointwise, Pool, substituted, substitutions
from sartor.space.vit import vit_space


@dataclass(frozen=True)
class Buildable:
    """``build(arch)`` is a network of ``space`` with fresh weights, drawn from torch's generator; ``inputs(arch, n)``
    are the tensors that its ``forward`` takes, of a batch of ``n``: images drawn from a normal distribution, or tokens.
    It returns one tensor of floats, whose first dimension is the batch's."""

    space: Space
    build: Callable[[Arch], nn.Module]
    inputs: Callable[[Arch, int], tuple[Tensor, ...]]


def conv_problem(resolution: int = 32) -> Buildable:
    """:func:`sartor.space.presets.conv_space`, ten classes."""
    return Buildable(
        conv_space(resolution),
        lambda arch: build(arch, channels=3, classes=10, full_resolution=resolution),
        lambda arch, n: (torch.randn(n, 3, int(arch["resolution"]), int(arch["resolution"])),),
    )


def vit_problem(resolution: int = 32) -> Buildable:
    """:func:`sartor.space.vit.vit_space`, ten classes, tokens of four pixels a side."""
    return Buildable(
        vit_space(resolution),
        lambda arch: build_vit(arch, channels=3, classes=10, patch=4),
        lambda arch, n: (torch.randn(n, 3, resolution, resolution),),
    )


def einspace_problem() -> Buildable:
    """:func:`sartor.space.einspace.einspace` in short derivations, ten classes, images of 16 pixels a side."""
    space = einspace((3, 16, 16), height=8, widths=(16, 32), branches=(2, 4))
    return Buildable(
        space, lambda arch: build_einspace(space, arch, classes=10), lambda arch, n: (torch.randn(n, 3, 16, 16),)
    )


def motifs_problem() -> Buildable:
    """:func:`sartor.space.motifs.motifs`: two motifs of three nodes, a cell of three, ten classes. The paper's, which
    is ``motifs()``, has graphs too large to export in a test."""
    space = motifs(((2, 3), (1, 3)))
    return Buildable(
        space, lambda arch: build_motifs(space, arch, cells=1), lambda arch, n: (torch.randn(n, 3, 16, 16),)
    )


def language_problem() -> Buildable:
    """A program of ten lines in the words of :mod:`sartor.models.language`, ten classes."""
    block = concat(conv(oneof([8, 16]), oneof([3, 5])), optional(norm()), relu())
    program = concat(
        block,
        repeat(residual(block), [1, 2, 4]),
        either(max_pool(2), conv(16, 3, 2)),
        optional(concat(conv(oneof([16, 32]), 3), norm(), relu())),
        affine(oneof([32, 64])),
        relu(),
        affine(10),
    )
    return Buildable(
        space_of(program),
        lambda arch: compile_network(program, arch, (3, 16, 16)),
        lambda arch, n: (torch.randn(n, 3, 16, 16),),
    )


def typed_problem() -> Buildable:
    """A small residual network of which every operation may give way to others of its type, ten classes."""
    shape, norm, relu = (3, 16, 16), Pointwise("norm"), Pointwise("relu")
    block = Beside((Chain((Conv(16, 3, 1, 1), norm, relu, Conv(16, 3, 1, 1))), Pointwise("identity")))
    program = Chain((Conv(16, 3, 2, 1), relu, block, Pool("max", 2, 2), Flatten(), Linear(10)))
    others = (Pointwise("gelu"), Pool("avg", 2, 2), Pool("max", 3, 1, 1))
    return Buildable(
        substitutions(program, shape, others),
        lambda arch: build_typed(substituted(program, shape, arch, others), shape),
        lambda arch, n: (torch.randn(n, *shape),),
    )


spaces: dict[str, Callable[[], Buildable]] = {
    "conv": conv_problem,
    "vit": vit_problem,
    "einspace": einspace_problem,
    "motifs": motifs_problem,
    "language": language_problem,
    "typed": typed_problem,
}
"""Every space whose archs can be built, by name. A test gives each the suite in ``tests/contracts/buildable.py``."""
