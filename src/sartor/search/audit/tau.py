"""How well a cheap evaluation ranks: Kendall's tau with an interval, among all archs and among the best."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from sartor.errors import InputError
from sartor.predict.light import kendall

FEWEST_AT_THE_TOP = 10
"""Archs below which a tau among the best is not worth writing down."""


def kendall_tau(
    cheap: ArrayLike, true: ArrayLike, *, seed: int = 0, resamples: int = 2000, level: float = 0.95, note: str = ""
) -> dict[str, Any]:
    """Kendall's tau-b of a cheap evaluation ``[n]`` with the true one ``[n]``, and its bootstrap interval.

    ``{"value", "n", "low", "high", "note"}``; value and bounds are None where there is too little to tell (fewer than
    three archs, or a constant list). The interval is the percentile bootstrap over archs.
    """
    a, b = np.asarray(cheap, dtype=np.float64), np.asarray(true, dtype=np.float64)
    value = kendall(a, b)
    n = len(a)
    if n < 3 or math.isnan(value):
        return {"value": None, "n": n, "low": None, "high": None, "note": note or "too few different archs to tell"}
    rng = np.random.default_rng(seed)
    rows = [index for index in (rng.integers(0, n, n) for _ in range(resamples)) if len(set(index.tolist())) > 1]
    taus = np.array([kendall(a[index], b[index]) for index in rows])
    low, high = np.nanquantile(taus, [(1 - level) / 2, (1 + level) / 2])
    return {"value": value, "n": n, "low": float(low), "high": float(high), "note": note}


def top_tau(cheap: ArrayLike, true: ArrayLike, *, share: float = 0.1, seed: int = 0) -> dict[str, Any]:
    """:func:`kendall_tau` among the ``share`` of archs ``[n]`` with the highest true value, where it counts.

    By the true value and not by the cheap one, which would leave in what it is asked about. An interval of fewer than
    FEWEST_AT_THE_TOP archs is not given.
    """
    if not 0 < share <= 1:
        raise InputError(f"the best {share!r} of the archs is no share: give one above 0 and up to 1")
    a, b = np.asarray(cheap, dtype=np.float64), np.asarray(true, dtype=np.float64)
    k = math.ceil(share * len(b))
    if k < FEWEST_AT_THE_TOP:
        note = f"{k} archs are too few: {math.ceil(FEWEST_AT_THE_TOP / share)} make {FEWEST_AT_THE_TOP} of them"
        return {"value": None, "n": k, "low": None, "high": None, "note": note}
    best = np.argsort(-b, kind="stable")[:k]
    return kendall_tau(a[best], b[best], seed=seed, resamples=500)
