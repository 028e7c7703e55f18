"""How good a predictor is: of ranks, of deviations, and with how many archs. Everything returned is JSON-able."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from sartor.errors import InputError
from sartor.predict.light import FEWEST, kendall
from sartor.predict.predictor import ArchPredictor, Floats, as_numbers
from sartor.records import Arch
from sartor.space.space import Space

SHARES = (0.5, 0.8, 0.95)
"""Central intervals of which the share of true values within is told."""
LEVELS = np.linspace(0.05, 0.95, 19)
"""Intervals that the calibration error is the mean of."""


def spearman(a: ArrayLike, b: ArrayLike) -> float:
    """Spearman's rank correlation of two value lists ``[n]``; NaN where either is constant or has under two entries."""
    from scipy.stats import spearmanr

    x, y = np.asarray(a, dtype=np.float64), np.asarray(b, dtype=np.float64)
    if x.shape != y.shape or x.ndim != 1:
        raise InputError(f"Spearman's correlation needs two lists of one length, not {x.shape} and {y.shape}")
    if len(x) < 2:
        return math.nan
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return float(spearmanr(x, y).statistic)


def within(mean: Floats, deviation: Floats, true: Floats, share: float) -> float:
    """The part of ``true`` ``[n]`` within the central interval that a normal distribution has ``share`` of."""
    from scipy.special import ndtri

    return float((np.abs(true - mean) <= ndtri((1 + share) / 2) * deviation).mean())


def calibration_error(mean: Floats, deviation: Floats, true: Floats) -> float:
    """The mean distance between the share an interval should hold and the share it holds, over LEVELS.

    Kuleshov, Fenner & Ermon, arXiv:1807.00263 §3.5. Deviation: central intervals, not quantiles, and the distance, not
    its square: 0 is perfect, and 0.5 is never right or always far too careful.
    """
    return float(np.mean([abs(within(mean, deviation, true, p) - p) for p in LEVELS]))


def judge(predictor: ArchPredictor, archs: Sequence[Arch], true: ArrayLike) -> dict[str, float | int | None]:
    """A fitted predictor on ``archs`` that it was not fitted to: ``tau`` (Kendall's b), ``spearman``, ``rmse`` in the
    metric's unit, ``within_50``, ``within_80`` and ``within_95``, ``calibration_error``, and their number ``n``. None
    where there is too little to tell. Raises InputError where lengths differ or a true value is not finite."""
    y = as_numbers(true, "a judge")
    if y.shape != (len(archs),) or not len(y) or not np.isfinite(y).all():
        raise InputError(f"to judge a predictor takes one finite value an arch, not {y.shape} for {len(archs)} archs")
    mean, deviation = predictor.predict(archs)
    found: dict[str, float] = {"tau": kendall(mean, y), "spearman": spearman(mean, y)}
    found["rmse"] = float(np.sqrt(((mean - y) ** 2).mean()))
    found |= {f"within_{100 * share:.0f}": within(mean, deviation, y, share) for share in SHARES}
    found["calibration_error"] = calibration_error(mean, deviation, y)
    return {**{k: v if math.isfinite(v) else None for k, v in found.items()}, "n": len(y)}


def learning_curve(
    make: Callable[[Space, int], ArchPredictor],
    space: Space,
    archs: Sequence[Arch],
    values: ArrayLike,
    *,
    sizes: Sequence[int] = (50, 100, 200),
    seeds: Sequence[int] = (0, 1, 2),
    held_out: int = 500,
) -> dict[str, Any]:
    """:func:`judge` after ``sizes`` training archs: ``{"sizes", "median": {size: {...}}, "runs": [...]}``.

    A seed draws the held-out archs and the training archs, of which a smaller size has the first: so sizes, and
    predictors given the same seeds, are compared on the same archs. Raises InputError where there are too few.
    """
    y = as_numbers(values, "a learning curve")
    if y.shape != (len(archs),):
        raise InputError(f"a learning curve needs one value an arch, not {y.shape} for {len(archs)} archs")
    if not len(sizes) or not len(seeds) or min(sizes) < FEWEST or max(sizes) + 2 > len(y):
        raise InputError(f"sizes must be from {FEWEST} to {len(y) - 2}, two under the number of archs, not {sizes}")
    runs: list[dict[str, Any]] = []
    for seed in seeds:
        order = np.random.default_rng(seed).permutation(len(y))
        tested, trained = np.split(order, [min(held_out, len(y) - max(sizes))])
        for size in sizes:
            rows = trained[:size]
            predictor = make(space, seed).fit([archs[i] for i in rows], y[rows])
            runs.append({"seed": seed, "size": size, **judge(predictor, [archs[i] for i in tested], y[tested])})
    return {"sizes": list(sizes), "median": {str(size): _median(runs, size) for size in sizes}, "runs": runs}


def _median(runs: Sequence[dict[str, Any]], size: int) -> dict[str, float | None]:
    mine = [run for run in runs if run["size"] == size]
    found: dict[str, float | None] = {}
    for name in mine[0].keys() - {"seed", "size", "n"}:
        there = [run[name] for run in mine if run[name] is not None]
        found[name] = float(np.median(there)) if there else None
    return dict(sorted(found.items()))
