"""Spaces whose archs can be built: a space, what makes a network of an arch, and inputs that it takes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from sartor.models.cells import build_nb201, build_two_input
from sartor.models.convnet import build
from sartor.models.recurrent import build_recurrent
from sartor.models.vit import build_vit
from sartor.records import Arch
from sartor.space.cell import nas_bench_201
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


def nb201_problem(resolution: int = 32, *, channels: int = 16, cells: int = 5, classes: int = 10) -> Buildable:
    """:func:`sartor.space.cell.nas_bench_201`; the benchmark's own size, unless others are given."""
    return Buildable(
        nas_bench_201(),
        lambda arch: build_nb201(arch, channels=channels, cells=cells, classes=classes),
        lambda arch, n: (torch.randn(n, 3, resolution, resolution),),
    )


def darts_problem(resolution: int = 32, *, channels: int = 8, cells: int = 5, classes: int = 10) -> Buildable:
    """:func:`sartor.space.two_input.darts_space`, small: DARTS searched at 16 channels and 8 cells and trained what it
    found at 36 and 20."""
    return Buildable(
        darts_space(),
        lambda arch: build_two_input(arch, channels=channels, cells=cells, classes=classes),
        lambda arch, n: (torch.randn(n, 3, resolution, resolution),),
    )


def nasnet_problem(resolution: int = 32, *, channels: int = 8, cells: int = 5, classes: int = 10) -> Buildable:
    """:func:`sartor.space.two_input.nasnet_space`, small: one normal cell a stage."""
    return Buildable(
        nasnet_space(),
        lambda arch: build_two_input(arch, channels=channels, cells=cells, classes=classes, relu=True),
        lambda arch, n: (torch.randn(n, 3, resolution, resolution),),
    )


def recurrent_problem(words: int = 65, *, nodes: int = 8, width: int = 64, steps: int = 16) -> Buildable:
    """:func:`sartor.space.recurrent.recurrent_space`: texts of ``steps`` of ``words`` tokens, the next one of each."""
    return Buildable(
        recurrent_space(nodes=nodes),
        lambda arch: build_recurrent(arch, words=words, width=width),
        lambda arch, n: (torch.randint(words, (n, steps)),),
    )


spaces: dict[str, Callable[[], Buildable]] = {
    "conv": conv_problem,
    "vit": vit_problem,
    "nb201": nb201_problem,
    "darts": darts_problem,
    "nasnet": nasnet_problem,
    "recurrent": recurrent_problem,
}
"""Every space whose archs can be built, by name. A test gives each the suite in ``tests/contracts/buildable.py``."""
