"""At which sizes a target's kernels are at their best: products timed at one size after the other.

A kernel works in vectors and tiles. Beside a multiple of them it computes what nobody asked for, or gives way to a
slower one. Which multiple that is differs by target, CPU, operator and side, so it is measured (P203, The Case for
Co-Designing Model Architectures with Hardware, arXiv:2401.14489 §5, who read it from sweeps of a GPU's products).

The time of a product at size n is taken for

    t(n) = a + b n + c s⌈n / s⌉ + d [s does not divide n],    a, b, c, d ≥ 0:

a call, work that grows, work in tiles, and another kernel's extra. The step s is the one that explains most.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray
from scipy.optimize import nnls

from sartor.errors import InputError
from sartor.measure.lint.products import Axis, Product
from sartor.measure.targets.target import Target

Floats = NDArray[np.float64]

LARGEST = 64
"""The largest step that is looked for: that of a GPU's tensor cores, half of the largest systolic arrays'."""
SIZES = range(LARGEST, 3 * LARGEST)
"""Two whole periods of the largest step, from where no size is so small that a call is all it costs."""
TOGETHER = 16
RUNS, MIN_TIME_S, BUDGET_S = 20, 0.004, 0.04

MATTERS = 0.03
"""Of a product's time, lost beside a step on average: less is not told from noise."""
DISTURBED = 0.08
"""Of the sizes: as many may have been timed while the machine did something else."""
EXPLAINS = 0.2
"""Of what a straight line leaves: a step that takes away less is an accident of many that were tried."""


@dataclass(frozen=True)
class Step:
    """Channels on one side of products of a ``kind`` should be multiples of ``size``; beside them a product takes a
    share ``lost`` longer, on average. 1 and 0.0 where no multiple is better than others."""

    kind: str
    axis: Axis
    size: int
    lost: float
    sizes: tuple[int, ...]
    times_ms: tuple[float, ...]


def sweep(product: Product, axis: Axis, target: Target, sizes: Sequence[int] = SIZES) -> Step:
    """Times ``product`` with each of ``sizes`` channels on the side ``axis``, the other side at a multiple of every
    step, and finds the step. Raises InputError where the target cannot run it."""
    if len(sizes) < 8 or min(sizes) < 1:
        raise InputError("a sweep needs at least 8 sizes, each at least 1")
    start = product.swept(LARGEST)
    times: list[float] = []
    with tempfile.TemporaryDirectory() as folder:
        for first in range(0, len(sizes), TOGETHER):
            files = []
            for size in sizes[first : first + TOGETHER]:
                files.append(Path(folder) / f"{size}.onnx")
                onnx.save(start.sized(axis, size).to_onnx(), files[-1])
            together = target.latencies(files, runs=RUNS, min_time_s=MIN_TIME_S, budget_s=BUDGET_S)
            times += [latency.median_ms for latency in together]
    size, lost = step_of(sizes, times)
    return Step(product.kind, axis, size, lost, tuple(sizes), tuple(times))


def step_of(sizes: Sequence[int], times: Sequence[float]) -> tuple[int, float]:
    """The step in ``times`` at ``sizes``, and the share of time that is lost beside it on average; (1, 0.0) for none.

    Sizes must span two periods of a step for it to be found.
    """
    n, t = np.asarray(sizes, dtype=np.float64), np.asarray(times, dtype=np.float64)
    if len(n) != len(t) or not np.isfinite(t).all() or (t <= 0).any():
        raise InputError("a step needs as many times as sizes, each a number above 0")
    plain = _left(n, t, 1)[0]
    if plain <= 1e-9 * len(n):  # a line to the last digit, as of simulated targets
        return 1, 0.0
    found = {s: _left(n, t, s) for s in range(2, int(n.max() - n.min() + 1) // 2 + 1)}
    size = min(found, key=lambda s: (round(found[s][0] / plain, 6), s))
    left, lost = found[size]
    return (size, lost) if lost >= MATTERS and left <= (1 - EXPLAINS) * plain else (1, 0.0)


def _left(n: Floats, t: Floats, step: int) -> tuple[float, float]:
    """The sum of what the formula leaves of relative times, without those times that are longest beside it: what was
    disturbed; and the mean share lost at sizes beside the step."""
    beside = (n % step != 0).astype(np.float64)
    padded = np.ceil(n / step) * step
    design = np.stack([np.ones_like(n), n, padded, beside][: 2 if step == 1 else 4], axis=1) / t[:, None]
    weights = np.ones(len(n))
    for _ in range(4):  # sums of absolute values, by weights: one disturbed size must not decide
        root = np.sqrt(weights)
        factors, _ = nnls(design * root[:, None], root)
        late = 1 - design @ factors
        weights = 1 / np.maximum(np.abs(late), 1e-3)
    left = float(np.abs(np.sort(late)[: len(n) - int(DISTURBED * len(n))]).sum())
    if step == 1:
        return left, 0.0
    lost = (factors[2] * (padded - n) + factors[3] * beside) / t
    return left, float(lost[beside > 0].mean())
