"""Whether one strategy beats another over a handful of seeds: exact tests, an effect, and what so few seeds can tell.

Seeds are pairs: with one seed, two strategies see the same randomness for as long as they draw at random. Rejected:
t-tests, because five regrets that end at zero are nothing like normal; and asymptotic Wilcoxon tests, whose p-values at
five seeds are wrong by half.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sartor.errors import InputError

LEVEL = 0.05
"""Of a family of comparisons: the chance that one difference is declared where there is none."""


def paired(ours: ArrayLike, theirs: ArrayLike, *, level: float = LEVEL) -> dict[str, Any]:
    """Are ``ours`` ``[n]`` higher than ``theirs`` ``[n]``, pair by pair? Exact two-sided Wilcoxon signed-rank test.

    ``p``; ``mean_difference``; ``shift``, the Hodges-Lehmann estimate of the difference, with the ``low`` and ``high``
    that the same test gives at ``level`` (None where so few pairs have none); ``effect``, the matched-pairs
    rank-biserial correlation from -1 to 1 (Kerby 2014, 10.2466/11.IT.3.1); ``least_p``, the lowest p that n pairs can
    have; ``n``. Equal pairs count as Pratt has it (1959): ranked, then left out. The distribution is that of the ranks
    at hand, so ties are exact, too. Raises InputError for lists that do not match, are empty, or hold NaN.
    """
    a, b = np.asarray(ours, dtype=np.float64), np.asarray(theirs, dtype=np.float64)
    if a.shape != b.shape or a.ndim != 1 or not len(a) or not (np.isfinite(a).all() and np.isfinite(b).all()):
        raise InputError("a paired test needs two lists of as many finite numbers, one at least")
    difference = a - b
    scale = max(float(np.abs(a).max()), float(np.abs(b).max()))
    difference[np.abs(difference) <= 1e-12 * scale] = 0.0  # what rounding left of equal numbers
    ranks = _ranks(np.abs(difference), 1e-12 * scale)
    up, down = int(ranks[difference > 0].sum()), int(ranks[difference < 0].sum())
    chances = _chances(ranks[difference != 0])
    p = min(1.0, 2 * min(float(chances[: up + 1].sum()), float(chances[up:].sum())))
    low, high = _interval(difference, level)
    return {
        "n": len(a),
        "p": p,
        "least_p": 2.0 ** (1 - len(a)),
        "effect": (up - down) / (up + down) if up + down else 0.0,
        "mean_difference": float(difference.mean()),
        "shift": float(np.median(_averages(difference))),
        "low": low,
        "high": high,
    }


def holm(p: Sequence[float]) -> list[float]:
    """p-values adjusted for their number (Holm 1979): below a level, the chance that any is false is below it."""
    adjusted, highest = [0.0] * len(p), 0.0
    for place, index in enumerate(sorted(range(len(p)), key=p.__getitem__)):
        highest = max(highest, min(1.0, (len(p) - place) * p[index]))
        adjusted[index] = highest
    return adjusted


def seeds_needed(comparisons: int, level: float = LEVEL) -> int:
    """The fewest pairs with which any of so many comparisons could be significant: all pairs pointing one way."""
    return math.ceil(1 + math.log2(max(1, comparisons) / level))


def declared(tests: Mapping[str, Mapping[str, Any]], *, level: float = LEVEL) -> dict[str, dict[str, Any]]:
    """The ``tests`` of one family (:func:`paired`, by name) with ``p_holm`` and ``verdict``: ``better``, ``worse``,
    ``not shown`` or ``too few seeds``, which is when no outcome whatever could have been significant."""
    adjusted = holm([test["p"] for test in tests.values()])
    found = {}
    for (name, test), p in zip(tests.items(), adjusted, strict=True):
        if test["n"] < seeds_needed(len(tests), level):
            verdict = "too few seeds"
        elif p > level:
            verdict = "not shown"
        else:
            verdict = "better" if test["effect"] > 0 else "worse"
        found[name] = {**test, "p_holm": p, "verdict": verdict}
    return found


def student(values: Sequence[float], *, level: float = 0.95) -> tuple[float, float] | None:
    """Student's interval of a mean over seeds; None of fewer than two. For description: the tests are exact."""
    from scipy.stats import t

    if len(values) < 2:
        return None
    half = float(t.ppf((1 + level) / 2, len(values) - 1)) * float(np.std(values, ddof=1)) / math.sqrt(len(values))
    mean = float(np.mean(values))
    return mean - half, mean + half


def _ranks(sizes: NDArray[np.float64], near: float) -> NDArray[np.int64]:
    """Twice the mean ranks, which are whole; sizes no further than ``near`` from the one before are ties."""
    order = np.argsort(sizes, kind="stable")
    group = np.concatenate([[0], np.cumsum(np.diff(sizes[order]) > near)])
    last = np.cumsum(np.bincount(group))
    first = np.concatenate([[1], last[:-1] + 1])
    ranks = np.empty(len(sizes), dtype=np.int64)
    ranks[order] = (first + last)[group]
    return ranks


def _chances(ranks: NDArray[np.int64]) -> NDArray[np.float64]:
    """The distribution of the sum of ranks when each is counted by the toss of a coin: P(sum = s) at place s."""
    chances = np.zeros(int(ranks.sum()) + 1)
    chances[0] = 1.0
    for rank in ranks.tolist():
        chances[rank:] = 0.5 * (chances[rank:] + chances[: len(chances) - rank])
        chances[:rank] *= 0.5
    return chances


def _averages(difference: NDArray[np.float64]) -> NDArray[np.float64]:
    """Walsh's: the means of every pair of differences, each with itself too, ascending."""
    i, j = np.triu_indices(len(difference))
    return np.sort((difference[i] + difference[j]) / 2)


def _interval(difference: NDArray[np.float64], level: float) -> tuple[float | None, float | None]:
    """The shifts that the test at ``level`` does not reject, ties apart (Hollander & Wolfe 1999, section 3.3)."""
    n = len(difference)
    below = np.cumsum(_chances(np.arange(1, n + 1)))
    cut = int(np.searchsorted(below, level / 2, side="right"))  # how many sums are that unlikely
    if not cut:
        return None, None
    averages = _averages(difference)
    return float(averages[cut - 1]), float(averages[-cut])
