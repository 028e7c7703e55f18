"""DeepMAD's design: the widths and depths of largest entropy within a budget, by arithmetic alone.

Shen et al., P071 (arXiv:2303.02165 §3). Deviation: the paper has the program solved by an off-the-shelf
solver; here every design of the grid is looked at, which is exact and a matter of seconds for three stages.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations_with_replacement, product

import numpy as np
from numpy.typing import NDArray

from sartor.errors import InputError
from sartor.records import Arch
from sartor.search.proxies.deepmad import STAGE_WEIGHTS

MOST = 200_000_000
"""Designs that are looked at, at most: minutes."""


@dataclass(frozen=True)
class Design:
    """A residual network of ``sartor.models.convnet.build``: the stem is as wide as the first stage. ``score`` is the
    objective, ``rho`` layers over their mean width, ``macs`` and ``params`` those of the network, exactly."""

    arch: Arch
    score: float
    rho: float
    macs: int
    params: int


def design(
    *,
    resolution: int,
    max_macs: float,
    max_params: float = math.inf,
    max_rho: float = 0.1,
    stages: int = 3,
    widths: Sequence[int] = tuple(range(8, 257, 8)),
    depths: Sequence[int] = tuple(range(1, 11)),
    beta: float = 10.0,
    channels: int = 3,
    classes: int = 10,
) -> Design:
    """The stages of two-convolution residual blocks that maximise Σ α_m H_m − β exp(Var(depths)) with widths that never
    fall, ρ ≤ ``max_rho`` and no more than ``max_macs`` and ``max_params``.

    α is 1 and, of the last stage, 8; β 10, as in the paper. ``max_rho`` is to be tuned, says the paper; 0.1 is a
    choice. Shortcuts cost MACs and parameters and have no entropy. Raises InputError where no design fits, or there are
    more than a machine would look at.
    """
    _check(resolution, stages, widths, depths)
    rows = np.array(list(combinations_with_replacement(sorted(set(widths)), stages)), dtype=np.float64)
    sides = list(_sides(resolution, stages))
    best: tuple[float, NDArray[np.float64], tuple[int, ...]] | None = None
    for deep in product(sorted(set(depths)), repeat=stages):
        macs, params = _costs(rows, deep, sides, channels, classes)
        entropies, mean, layers = _entropies(rows, deep, sides, channels)
        fits = (macs <= max_macs) & (params <= max_params) & (layers / mean <= max_rho)
        if not fits.any():
            continue
        score = np.where(fits, entropies - beta * np.exp(np.var(deep)), -np.inf)
        at = int(score.argmax())
        if best is None or score[at] > best[0]:
            best = (float(score[at]), rows[at : at + 1], deep)
    if best is None:
        raise InputError("no design is within the budget: allow more MACs, parameters or rho, or smaller widths")
    score_, row, deep = best
    macs, params = _costs(row, deep, sides, channels, classes)
    _, mean, layers = _entropies(row, deep, sides, channels)
    return Design(_arch(row[0], deep, resolution), score_, float(layers / mean[0]), int(macs[0]), int(params[0]))


def _check(resolution: int, stages: int, widths: Sequence[int], depths: Sequence[int]) -> None:
    if min([resolution, stages, *widths, *depths, len(widths), len(depths)]) < 1:
        raise InputError("resolution, stages, widths and depths are 1 or more, and there is one of each")
    n = math.comb(len(set(widths)) + stages - 1, stages) * len(set(depths)) ** stages
    if n > MOST:
        raise InputError(f"there are {n:,} designs: give fewer widths, depths or stages")


def _sides(resolution: int, stages: int) -> Iterator[int]:
    """Pixels a side of the stem's output, then each stage's: the strides of ``build``."""
    side = -(-resolution // 2) if resolution >= 24 else resolution
    yield side
    for stage in range(stages):
        side = -(-side // 2) if stage > 0 or resolution >= 64 else side
        yield side


def _entropies(
    rows: NDArray[np.float64], deep: Sequence[int], sides: Sequence[int], channels: int
) -> tuple[NDArray[np.float64], NDArray[np.float64], int]:
    """Σ α_m H_m [n], the geometric mean of the fan-ins [n], and the number of layers. The stem is a layer, and a stage
    of its own where the first one halves its side."""
    early, last = STAGE_WEIGHTS
    passed = np.full(len(rows), math.log(9 * channels))
    total = np.zeros(len(rows))
    if sides[0] != sides[1]:
        total += early * np.log(sides[0] ** 2 * rows[:, 0]) * passed
    before = rows[:, 0]
    for stage, depth in enumerate(deep):
        width = rows[:, stage]
        passed = passed + np.log(9 * before) + (2 * depth - 1) * np.log(9 * width)
        total += (last if stage == len(deep) - 1 else early) * np.log(sides[stage + 1] ** 2 * width) * passed
        before = width
    layers = 1 + 2 * sum(deep)
    return total, np.exp(passed / layers), layers


def _costs(
    rows: NDArray[np.float64], deep: Sequence[int], sides: Sequence[int], channels: int, classes: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Multiply-accumulates and parameters [n]: convolutions, projections, norms, classifier."""
    first = 9 * channels * rows[:, 0]
    macs, params = first * sides[0] ** 2, first + 2 * rows[:, 0]
    before = rows[:, 0]
    for stage, depth in enumerate(deep):
        width = rows[:, stage]
        weights = 9 * before * width + (2 * depth - 1) * 9 * width**2 + before * width
        macs = macs + weights * sides[stage + 1] ** 2
        params = params + weights + 2 * width * (2 * depth + 1)
        before = width
    return macs + before * classes, params + before * classes + classes


def _arch(widths: NDArray[np.float64], deep: Sequence[int], resolution: int) -> Arch:
    options: dict[str, str | int | float | bool] = {"resolution": resolution, "stem.width": int(widths[0])}
    for stage, (width, depth) in enumerate(zip(widths, deep, strict=True)):
        options |= {f"s{stage}.op": "residual", f"s{stage}.width": int(width)}
        options |= {f"s{stage}.depth": int(depth), f"s{stage}.se": False}
    return Arch(options)
