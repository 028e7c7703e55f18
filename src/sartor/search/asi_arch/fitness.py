"""What a network is worth beside the one that the search began with."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from itertools import accumulate

EDGE = 0.1
"""Of the first network's loss or accuracy: what is gained beyond it counts no more."""
STEEPNESS = 5.0
"""Of the sigmoid at that edge, where it is 0.99. A choice: the paper does not say."""
ANCHOR = 5.0
"""What the judge, who gives 1 to 10, gives the network that the search began with."""


def fitness(metrics: Mapping[str, float], first: Mapping[str, float], judged: float | None = None) -> float:
    """The mean of three numbers from 0 to 1: how much lower ``loss`` and how much higher ``accuracy`` is than that of
    the ``first`` network, each relative and through a sigmoid, and what a judge gave it, of 10. Without a judge, of the
    first two; then the first network itself has a half, and so it has where the judge keeps to ANCHOR.

    arXiv:2507.18074 §3.1: (σ(Δ loss) + σ(Δ benchmark) + judge) / 3, on differences of up to a tenth. The paper's
    benchmark are tasks; here it is the accuracy of the next token, or whatever a metric of that name is.
    """
    parts = [
        _squashed((first["loss"] - metrics["loss"]) / max(abs(first["loss"]), 1e-12)),
        _squashed((metrics["accuracy"] - first["accuracy"]) / max(abs(first["accuracy"]), 1e-12)),
    ]
    if judged is not None:
        parts.append(judged / 10)
    return sum(parts) / len(parts)


def leaks(metrics: Mapping[str, float], first: Mapping[str, float], leak: float | None = EDGE) -> bool:
    """Whether the loss is so much lower than the first network's that it must have seen what it predicts; never where
    ``leak`` is None. (The paper discards what is better by a tenth.)"""
    return leak is not None and metrics["loss"] < (1 - leak) * first["loss"]


def best_so_far(values: Iterable[float | None]) -> list[float | None]:
    """The highest of the values up to each; None as long as there is none."""
    return list(accumulate(values, lambda best, value: value if best is None else max(best, value or best)))


def _squashed(change: float) -> float:
    return 1 / (1 + math.exp(-STEEPNESS * max(-1.0, min(1.0, change / EDGE))))
