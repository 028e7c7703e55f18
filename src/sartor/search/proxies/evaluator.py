"""Proxies as an evaluator: so that any strategy searches by them, alone, several at once, or by their ranks."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from sartor.errors import InputError
from sartor.models.buildable import Buildable
from sartor.records import Arch
from sartor.search.proxies.named import proxy_of
from sartor.search.proxies.replica import Inputs

Batch = tuple[Inputs, Tensor]
"""What networks take, and the labels."""


def proxy_evaluator(
    buildable: Buildable, names: Sequence[str], batch: Batch | Callable[[Arch], Batch], *, seed: int = 0
) -> Callable[[Arch], dict[str, float]]:
    """An evaluator ``arch -> {name: score}``: builds the network, whose weights are drawn from ``seed``, and scores it
    on ``batch``. More is better: ``Objective("synflow", maximise=True)``.

    ``batch`` may be a function of the arch, where sizes of inputs differ. Torch's generator is left as it was.
    Raises InputError for names there are none of.
    """
    if not names:
        raise InputError("name at least one proxy")
    chosen = {name: proxy_of(name) for name in names}

    def evaluate(arch: Arch) -> dict[str, float]:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            network = buildable.build(arch)
        inputs, targets = batch(arch) if callable(batch) else batch
        return {name: proxy(network, inputs, targets) for name, proxy in chosen.items()}

    return evaluate


def rank_sum(scores: Sequence[Mapping[str, float]], names: Sequence[str]) -> NDArray[np.float64]:
    """The mean rank of each [n], in [0, 1], by the proxies ``names``: 1 is best by all of them. Equal scores share a
    rank; one that is missing or NaN is the worst."""
    from scipy.stats import rankdata

    if not len(scores):
        return np.zeros(0)
    columns = np.array([[row.get(name, np.nan) for name in names] for row in scores], dtype=np.float64)
    ranks = rankdata(np.where(np.isnan(columns), -np.inf, columns), axis=0) - 1
    return np.asarray(ranks.mean(axis=1) / max(1, len(scores) - 1))


def rank_sum_evaluator(
    evaluate: Callable[[Arch], Mapping[str, float]], names: Sequence[str], reference: Sequence[Mapping[str, float]]
) -> Callable[[Arch], dict[str, float]]:
    """``evaluate`` with one more metric, ``rank_sum``: the mean over ``names`` of the share of ``reference`` scores
    that the arch's are above (half where equal). A rank among archs that are fixed beforehand, for one among those seen
    so far would change as the search goes on.
    """
    if not reference:
        raise InputError("ranks need scores of other archs: evaluate some first")
    lost = [name for name in names if not any(name in row for row in reference)]
    if isinstance(names, str) or not names or lost:
        there = ", ".join(sorted({name for row in reference for name in row}))
        raise InputError(f"no reference score is called {lost or names!r}: give a list of names among {there}")
    held = {n: np.array([row.get(n, np.nan) for row in reference], dtype=np.float64) for n in names}
    held = {name: np.where(np.isnan(values), -np.inf, values) for name, values in held.items()}

    def ranked(arch: Arch) -> dict[str, float]:
        scores = dict(evaluate(arch))
        shares = []
        for name, others in held.items():
            mine = scores.get(name, np.nan)
            mine = -np.inf if np.isnan(mine) else mine
            shares.append(float(np.mean(others < mine) + 0.5 * np.mean(others == mine)))
        return {**scores, "rank_sum": sum(shares) / len(shares)}

    return ranked
