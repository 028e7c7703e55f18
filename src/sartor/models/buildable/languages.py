"""Spaces that are languages: grammars, motifs, programs."""

from __future__ import annotations

from sartor.models.buildable.buildable import Buildable, images
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
from sartor.space.einspace import einspace
from sartor.space.motifs import motifs
from sartor.space.symbolic import oneof, space_of
from sartor.space.typed import Beside, Chain, Conv, Flatten, Linear, Pointwise, Pool, substituted, substitutions


def einspace_problem() -> Buildable:
    """:func:`sartor.space.einspace.einspace` in short derivations, ten classes, images of 16 pixels a side."""
    space = einspace((3, 16, 16), height=8, widths=(16, 32), branches=(2, 4))
    return Buildable(space, lambda arch: build_einspace(space, arch, classes=10), lambda arch, n: images(n, 16))


def motifs_problem() -> Buildable:
    """:func:`sartor.space.motifs.motifs`: two motifs of three nodes, a cell of three, ten classes. The paper's, which
    is ``motifs()``, has graphs too large to export in a test."""
    space = motifs(((2, 3), (1, 3)))
    return Buildable(space, lambda arch: build_motifs(space, arch, cells=1), lambda arch, n: images(n, 16))


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
        lambda arch, n: images(n, 16),
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
        lambda arch, n: images(n, 16),
    )
