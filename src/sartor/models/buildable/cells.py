"""Cells, stacked."""

from __future__ import annotations

import torch

from sartor.models.buildable.buildable import Buildable, images
from sartor.models.cells import build_nb201, build_two_input
from sartor.models.recurrent import build_recurrent
from sartor.space.cell import nas_bench_201
from sartor.space.recurrent import recurrent_space
from sartor.space.two_input import darts_space, nasnet_space


def nb201_problem(resolution: int = 32, *, channels: int = 16, cells: int = 5, classes: int = 10) -> Buildable:
    """:func:`sartor.space.cell.nas_bench_201`; the benchmark's own size, unless others are given."""
    return Buildable(
        nas_bench_201(),
        lambda arch: build_nb201(arch, channels=channels, cells=cells, classes=classes),
        lambda arch, n: images(n, resolution),
    )


def darts_problem(resolution: int = 32, *, channels: int = 8, cells: int = 5, classes: int = 10) -> Buildable:
    """:func:`sartor.space.two_input.darts_space`, small: DARTS searched at 16 channels and 8 cells and trained what it
    found at 36 and 20."""
    return Buildable(
        darts_space(),
        lambda arch: build_two_input(arch, channels=channels, cells=cells, classes=classes),
        lambda arch, n: images(n, resolution),
    )


def nasnet_problem(resolution: int = 32, *, channels: int = 8, cells: int = 5, classes: int = 10) -> Buildable:
    """:func:`sartor.space.two_input.nasnet_space`, small: one normal cell a stage."""
    return Buildable(
        nasnet_space(),
        lambda arch: build_two_input(arch, channels=channels, cells=cells, classes=classes, relu=True),
        lambda arch, n: images(n, resolution),
    )


def recurrent_problem(words: int = 65, *, nodes: int = 8, width: int = 64, steps: int = 16) -> Buildable:
    """:func:`sartor.space.recurrent.recurrent_space`: texts of ``steps`` of ``words`` tokens, the next one of each."""
    return Buildable(
        recurrent_space(nodes=nodes),
        lambda arch: build_recurrent(arch, words=words, width=width),
        lambda arch, n: (torch.randint(words, (n, steps)),),
    )
