"""Spaces whose archs can be built: a space, what makes a network of an arch, and inputs that it takes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from sartor.models.autoformer import PER_HEAD, build_autoformer
from sartor.models.cells import build_nb201, build_two_input
from sartor.models.convnet import build
from sartor.models.flexibert import build_flexibert
from sartor.models.hat import build_hat
from sartor.models.macro import FBNET_LAST, build_fbnet, build_macro
from sartor.models.mnasnet import build_mnasnet
from sartor.models.ofa import build_ofa
from sartor.models.recurrent import build_recurrent
from sartor.models.vit import build_vit
from sartor.records import Arch
from sartor.space.autoformer import TINY, Ranges, autoformer_space
from sartor.space.cell import nas_bench_201
from sartor.space.flexibert import flexibert_space
from sartor.space.hat import hat_space
from sartor.space.macro import fbnet_space, nas_bench_macro
from sartor.space.mnasnet import mnasnet_space
from sartor.space.ofa import RESOLUTIONS, ofa_space
from sartor.space.presets import conv_space
from sartor.space.recurrent import recurrent_space
from sartor.space.space import Space
from sartor.space.two_input import darts_space, nasnet_space
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


def ofa_problem(*, resolutions: Sequence[int] = RESOLUTIONS, width: float = 1.0, classes: int = 1000) -> Buildable:
    """:func:`sartor.space.ofa.ofa_space`."""
    return Buildable(
        ofa_space(resolutions=resolutions),
        lambda arch: build_ofa(arch, classes=classes, width=width),
        lambda arch, n: _images(n, int(arch["resolution"])),
    )


def fbnet_problem(
    *, resolution: int = 224, width: float = 1.0, last: int = FBNET_LAST, classes: int = 1000
) -> Buildable:
    """:func:`sartor.space.macro.fbnet_space`."""
    return Buildable(
        fbnet_space(),
        lambda arch: build_fbnet(arch, classes=classes, width=width, last=last),
        lambda arch, n: _images(n, resolution),
    )


def mnasnet_problem(*, resolution: int = 224, width: float = 1.0, classes: int = 1000) -> Buildable:
    """:func:`sartor.space.mnasnet.mnasnet_space`."""
    return Buildable(
        mnasnet_space(),
        lambda arch: build_mnasnet(arch, classes=classes, width=width),
        lambda arch, n: _images(n, resolution),
    )


def macro_problem(*, resolution: int = 32, stem: int = 32, last: int = 1280, classes: int = 10) -> Buildable:
    """:func:`sartor.space.macro.nas_bench_macro`."""
    return Buildable(
        nas_bench_macro(),
        lambda arch: build_macro(arch, classes=classes, stem=stem, last=last),
        lambda arch, n: _images(n, resolution),
    )


def autoformer_problem(
    ranges: Ranges = TINY, *, resolution: int = 224, patch: int = 16, per_head: int = PER_HEAD, classes: int = 1000
) -> Buildable:
    """:func:`sartor.space.autoformer.autoformer_space`."""
    return Buildable(
        autoformer_space(ranges),
        lambda arch: build_autoformer(arch, classes=classes, resolution=resolution, patch=patch, per_head=per_head),
        lambda arch, n: _images(n, resolution),
    )


def hat_problem(
    *,
    widths: Sequence[int] = (512, 640),
    hidden: Sequence[int] = (1024, 2048, 3072),
    inner: int = 512,
    vocabulary: int = 32768,
    length: int = 30,
) -> Buildable:
    """:func:`sartor.space.hat.hat_space`, sources and targets of ``length`` tokens, none of which is padding."""
    return Buildable(
        hat_space(widths=widths, hidden=hidden),
        lambda arch: build_hat(arch, vocabulary=vocabulary, inner=inner),
        lambda arch, n: (_tokens(n, length, vocabulary), _tokens(n, length, vocabulary)),
    )


def flexibert_problem(
    *,
    widths: Sequence[int] = (128, 256),
    hidden: Sequence[int] = (512, 1024),
    vocabulary: int = 30522,
    length: int = 128,
    classes: int = 2,
) -> Buildable:
    """:func:`sartor.space.flexibert.flexibert_space`, sequences of ``length`` tokens."""
    return Buildable(
        flexibert_space(widths=widths, hidden=hidden),
        lambda arch: build_flexibert(arch, vocabulary=vocabulary, positions=max(length, 512), classes=classes),
        lambda arch, n: (_tokens(n, length, vocabulary),),
    )


def nb201_problem(resolution: int = 32, *, channels: int = 16, cells: int = 5, classes: int = 10) -> Buildable:
    """:func:`sartor.space.cell.nas_bench_201`; the benchmark's own size, unless others are given."""
    return Buildable(
        nas_bench_201(),
        lambda arch: build_nb201(arch, channels=channels, cells=cells, classes=classes),
        lambda arch, n: _images(n, resolution),
    )


def darts_problem(resolution: int = 32, *, channels: int = 8, cells: int = 5, classes: int = 10) -> Buildable:
    """:func:`sartor.space.two_input.darts_space`, small: DARTS searched at 16 channels and 8 cells and trained what it
    found at 36 and 20."""
    return Buildable(
        darts_space(),
        lambda arch: build_two_input(arch, channels=channels, cells=cells, classes=classes),
        lambda arch, n: _images(n, resolution),
    )


def nasnet_problem(resolution: int = 32, *, channels: int = 8, cells: int = 5, classes: int = 10) -> Buildable:
    """:func:`sartor.space.two_input.nasnet_space`, small: one normal cell a stage."""
    return Buildable(
        nasnet_space(),
        lambda arch: build_two_input(arch, channels=channels, cells=cells, classes=classes, relu=True),
        lambda arch, n: _images(n, resolution),
    )


def recurrent_problem(words: int = 65, *, nodes: int = 8, width: int = 64, steps: int = 16) -> Buildable:
    """:func:`sartor.space.recurrent.recurrent_space`: texts of ``steps`` of ``words`` tokens, the next one of each."""
    return Buildable(
        recurrent_space(nodes=nodes),
        lambda arch: build_recurrent(arch, words=words, width=width),
        lambda arch, n: (torch.randint(words, (n, steps)),),
    )


def _images(n: int, side: int) -> tuple[Tensor, ...]:
    return (torch.randn(n, 3, side, side),)


def _tokens(n: int, length: int, vocabulary: int) -> Tensor:
    """Any but the first four, which vocabularies keep for padding and the like."""
    return torch.randint(4, vocabulary, (n, length))


spaces: dict[str, Callable[[], Buildable]] = {
    "conv": conv_problem,
    "vit": vit_problem,
    "ofa": ofa_problem,
    "fbnet": fbnet_problem,
    "mnasnet": mnasnet_problem,
    "macro": macro_problem,
    "autoformer": autoformer_problem,
    "hat": hat_problem,
    "flexibert": flexibert_problem,
    "nb201": nb201_problem,
    "darts": darts_problem,
    "nasnet": nasnet_problem,
    "recurrent": recurrent_problem,
}
"""Every space whose archs can be built, by name. A test gives each the suite in ``tests/contracts/buildable.py``."""
