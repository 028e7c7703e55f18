"""DeepMAD's program: solved exactly, within budgets that the built network is held to."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch

from sartor.errors import InputError
from sartor.models.convnet import build
from sartor.records import Arch, Option
from sartor.search.proxies.deepmad import Layer, effectiveness, entropy
from sartor.search.proxies.design import Design, design
from sartor.search.proxies.size import macs, params


def layers_of(widths: tuple[int, ...], depths: tuple[int, ...], resolution: int, channels: int) -> list[Layer]:
    """A residual network's convolutions without its shortcuts, one by one, by the strides of ``build``."""
    side = math.ceil(resolution / 2) if resolution >= 24 else resolution
    layers, before = [Layer(channels, 9, 1, widths[0], side)], widths[0]
    for stage, (width, depth) in enumerate(zip(widths, depths, strict=True)):
        side = math.ceil(side / 2) if stage or resolution >= 64 else side
        for _ in range(depth):
            layers += [Layer(before, 9, 1, width, side), Layer(width, 9, 1, width, side)]
            before = width
    return layers


def chosen(found: Design, stages: int) -> tuple[tuple[int, ...], tuple[int, ...]]:
    return (
        tuple(int(found.arch[f"s{stage}.width"]) for stage in range(stages)),
        tuple(int(found.arch[f"s{stage}.depth"]) for stage in range(stages)),
    )


def arch_of(widths: tuple[int, ...], depths: tuple[int, ...], resolution: int) -> Arch:
    options: dict[str, Option] = {"resolution": resolution, "stem.width": widths[0]}
    for stage, (width, depth) in enumerate(zip(widths, depths, strict=True)):
        options |= {f"s{stage}.op": "residual", f"s{stage}.width": width}
        options |= {f"s{stage}.depth": depth, f"s{stage}.se": False}
    return Arch(options)


def counted(arch: Arch, resolution: int, channels: int) -> tuple[float, float]:
    network = build(arch, channels=channels, classes=10, full_resolution=resolution)
    x = torch.zeros(1, channels, resolution, resolution)
    return macs(network, x, x), params(network, x, x)


@pytest.mark.parametrize(("resolution", "channels"), [(8, 1), (32, 3), (64, 3)])
def test_a_design_is_the_best_of_those_that_fit(resolution: int, channels: int):
    """Against every design: its score from its layers one by one, its cost counted of the built network."""
    widths, depths, rho = (4, 8, 12), (1, 2), 0.25
    every = {}
    for wide in itertools.combinations_with_replacement(widths, 2):
        for deep in itertools.product(depths, repeat=2):
            layers = layers_of(wide, deep, resolution, channels)
            cost = counted(arch_of(wide, deep, resolution), resolution, channels)
            every[wide, deep] = (entropy(layers) - 10 * math.exp(np.var(deep)), effectiveness(layers), *cost)
    limit = sorted(cost for _, _, cost, _ in every.values())[16]
    best = max(score for score, deep, cost, _ in every.values() if deep <= rho and cost <= limit)
    found = design(
        resolution=resolution,
        channels=channels,
        widths=widths,
        depths=depths,
        stages=2,
        max_macs=limit,
        max_rho=rho,
    )
    assert found.score == pytest.approx(best)
    wide, deep = chosen(found, 2)
    assert found.arch == arch_of(wide, deep, resolution)
    score, ratio, cost, size = every[wide, deep]
    assert (found.score, found.rho) == (pytest.approx(score), pytest.approx(ratio))
    assert (found.macs, found.params) == (cost, size)


def test_a_design_of_three_stages_is_held_to_parameters_too():
    free = design(resolution=32, max_macs=2e7)
    held = design(resolution=32, max_macs=2e7, max_params=free.params / 2)
    assert held.params <= free.params / 2
    assert (held.macs, held.params) == counted(held.arch, 32, 3)
    assert held.score < free.score


def test_what_cannot_be_designed_is_refused():
    for wrong in (
        lambda: design(resolution=32, max_macs=10),
        lambda: design(resolution=32, max_macs=math.nan),
        lambda: design(resolution=0, max_macs=1e7),
        lambda: design(resolution=32, max_macs=1e7, widths=()),
        lambda: design(resolution=32, max_macs=1e7, stages=5),
    ):
        with pytest.raises(InputError):
            wrong()
