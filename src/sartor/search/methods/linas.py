"""LINAS: measure a few, learn, evolve thousands on what was learnt, measure the best of those, learn again.

Cummings, Sarah et al., P310 (arXiv:2202.12954) and P246 (arXiv:2205.10358, algorithm 1): predictors of each objective
are fitted to all archs evaluated so far; an inner NSGA-II runs on the predictions alone; the best archs that were not
evaluated yet are evaluated, and the loop repeats. Two deviations: the archs to evaluate are chosen by the hypervolume
they are predicted to add, greedily, so that a batch spreads along the front (the papers take the inner run's best
ranks); and the inner run starts from the evaluated front, not from random archs.

Tried and lost while this was written, in a trial that no command repeats: optimism, that is predictions better by part
of their deviation, so that what is uncertain gets looked at. Across thousands of archs of NAS-Bench-201, the most
uncertain were merely the strangest.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from sartor.predict.light import FEWEST, Predictor, fit_gaussian_process
from sartor.records import Arch, Budget
from sartor.search import pareto
from sartor.search.methods.nsga2 import excesses, offspring, survivors
from sartor.search.objective import ACCURACY_LATENCY, Objective, costs, measured
from sartor.search.pareto import Costs
from sartor.search.strategy import History, fresh
from sartor.space.space import Space

Known = Mapping[str, Callable[[Sequence[Arch]], NDArray[np.float64]]]
"""Metrics that need no predicting: metric → function from archs to values ``[n]`` (MACs, size, a latency table)."""


def linas(
    space: Space,
    history: History,
    rng: random.Random,
    n: int,
    *,
    objectives: Sequence[Objective] = ACCURACY_LATENCY,
    budget: Budget | None = None,
    known: Known | None = None,
    first: int = 16,
    population: int = 100,
    generations: int = 20,
    fit: Callable[[NDArray[np.float64], NDArray[np.float64]], Predictor] = fit_gaussian_process,
    on_ranked: Callable[[int], None] | None = None,
) -> list[Arch]:
    """The n archs predicted to extend the evaluated front the most. See ``strategy.Strategy``.

    The first ``first`` archs are random. Then ``population * generations`` archs are ranked by predictions for each
    proposal, and ``on_ranked`` is told how many. Archs predicted to be over ``budget`` lose to all predicted within it.

    ``fit`` makes a predictor of encodings ``[n, d]`` and costs ``[n]``. ``predictor.fit_predictor``, which tries
    boosted trees as well, found the same fronts on both tables at twice the time.
    """
    seen = {record.arch for record in history}
    usable = [record for record in history if measured(record.metrics, objectives)]
    if len(usable) < max(first, FEWEST):
        return fresh(space, lambda: space.sample(rng), rng, n, seen)
    surrogate = _fit(space, usable, objectives, budget, known or {}, fit)
    order = survivors(costs(usable, objectives), excesses(usable, budget), population)
    pool = _evolve(space, surrogate, [usable[i].arch for i in order], rng, population, generations)
    if on_ranked is not None:
        on_ranked(len(pool.archs))
    new = np.array([arch not in seen for arch in pool.archs], dtype=bool)
    candidates = [arch for arch, is_new in zip(pool.archs, new, strict=True) if is_new]
    chosen = _choose(pool.cost[new], pool.excess[new], usable, objectives, budget, n)
    archs = [candidates[i] for i in chosen]
    return archs + fresh(space, lambda: space.sample(rng), rng, n - len(archs), seen | set(archs))


@dataclass(frozen=True)
class _Pool:
    """Archs with their predicted costs ``[n, m]`` and excess over the budget ``[n]``."""

    archs: list[Arch]
    cost: Costs
    excess: NDArray[np.float64]

    def take(self, index: NDArray[np.intp]) -> _Pool:
        return _Pool([self.archs[i] for i in index], self.cost[index], self.excess[index])

    def __add__(self, other: _Pool) -> _Pool:
        return _Pool(
            self.archs + other.archs,
            np.vstack([self.cost, other.cost]),
            np.concatenate([self.excess, other.excess]),
        )


def _fit(
    space: Space,
    usable: History,
    objectives: Sequence[Objective],
    budget: Budget | None,
    known: Known,
    fit: Callable[[NDArray[np.float64], NDArray[np.float64]], Predictor],
) -> Callable[[list[Arch]], _Pool]:
    """One predictor a metric that matters; limits of the budget are predicted on a log scale, for they hold ratios."""
    limits = [] if budget is None else [m for m in _limited(budget) if m not in {o.metric for o in objectives}]
    columns = [*objectives, *(Objective(m, log=True) for m in limits if all(m in r.metrics for r in usable))]
    x = np.stack([space.encode(record.arch) for record in usable])
    predictors = {c.metric: fit(x, costs(usable, [c])[:, 0]) for c in columns if c.metric not in known}

    def predict(archs: list[Arch]) -> _Pool:
        encoded = np.stack([space.encode(arch) for arch in archs])
        cost = np.empty((len(archs), len(columns)))
        for j, column in enumerate(columns):
            if column.metric in known:
                cost[:, j] = [column.cost(float(v)) for v in known[column.metric](archs)]
            else:
                cost[:, j] = predictors[column.metric].predict(encoded)[0]
        excess = np.zeros(len(archs))
        if budget is not None:
            for i, row in enumerate(cost):
                excess[i] = budget.excess({c.metric: c.value(v) for c, v in zip(columns, row, strict=True)})
        return _Pool(archs, cost[:, : len(objectives)], excess)

    return predict


def _limited(budget: Budget) -> list[str]:
    """The metrics that ``budget`` limits."""
    limits = {
        "latency_ms": budget.max_latency_ms,
        "size_bytes": budget.max_size_bytes,
        "macs": budget.max_macs,
        "peak_memory_bytes": budget.max_memory_bytes,
    }
    return [metric for metric, limit in limits.items() if limit is not None]


def _evolve(
    space: Space,
    predict: Callable[[list[Arch]], _Pool],
    start: list[Arch],
    rng: random.Random,
    population: int,
    generations: int,
) -> _Pool:
    """NSGA-II on predictions, from the best evaluated archs filled up with random ones; every arch it ever saw.

    A space with no more archs than it would see is ranked whole.
    """
    if space.count() <= population * (generations + 1):
        return predict(list(space.every()))
    archs = start + fresh(space, lambda: space.sample(rng), rng, population - len(start), set(start))
    everything = alive = predict(archs)
    visited = set(archs)
    for _ in range(generations):
        parents = alive.take(survivors(alive.cost, alive.excess, population))
        children = fresh(space, partial(offspring, space, parents.archs, rng), rng, population, visited, patience=3)
        if not children:
            break
        visited.update(children)
        born = predict(children)
        everything, alive = everything + born, parents + born
    return everything


def _choose(
    cost: Costs,
    excess: NDArray[np.float64],
    usable: History,
    objectives: Sequence[Objective],
    budget: Budget | None,
    n: int,
) -> list[int]:
    """Up to n indices: first what adds hypervolume to the evaluated front, then by rank and crowding."""
    chosen: list[int] = []
    within = np.flatnonzero(excess <= 0)
    if len(objectives) in (2, 3) and len(within):
        base = costs([r for r in usable if budget is None or budget.excess(r.metrics) <= 0], objectives)
        reference = _reference(base if len(base) else cost[within], cost[within])
        chosen = [int(within[i]) for i in pareto.spread(cost[within], reference, base, n)]
    taken = set(chosen)
    if len(chosen) < n and len(cost):
        chosen += [int(i) for i in survivors(cost, excess, n + len(taken)) if i not in taken][: n - len(chosen)]
    return chosen


def _reference(base: Costs, candidates: Costs) -> NDArray[np.float64]:
    """The corner that hypervolume is counted from: the evaluated front's worst costs and a tenth of its extent beyond.

    The front's, not the history's: a history holds archs far worse than any front needs, and counting from there would
    pay for ever for archs at the front's ends. Where the front is a single point, the candidates' worst costs.
    """
    front = base[pareto.nondominated(base)]
    extent = np.ptp(front, axis=0)
    if (extent <= 0).any():
        front = np.vstack([front, candidates])
        extent = np.ptp(front, axis=0)
    return np.asarray(front.max(axis=0) + 0.1 * np.where(extent > 0, extent, 1))
