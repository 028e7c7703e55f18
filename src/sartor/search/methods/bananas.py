"""BANANAS: Bayesian optimisation with an ensemble of perceptrons on path encodings. White et al., arXiv:1910.11858."""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Sequence

import numpy as np

from sartor.predict.bananas import Bananas
from sartor.predict.light import FEWEST
from sartor.records import Arch
from sartor.search.objective import ACCURACY_LATENCY, Objective, measured
from sartor.search.strategy import History, fresh
from sartor.space.space import Space


def bananas(
    space: Space,
    history: History,
    rng: random.Random,
    n: int,
    *,
    objectives: Sequence[Objective] = ACCURACY_LATENCY,
    first: int = 10,
    every: int = 10,
    parents: int = 10,
    candidates: int = 100,
) -> list[Arch]:
    """n archs by algorithm 1 and §5.3: of ``candidates`` mutants of the best ``parents``, those whose independent
    Thompson samples are best by the first objective; the first ``first`` are random. See ``strategy.Strategy``.

    The ensemble (:class:`sartor.predict.bananas.Bananas`) is fitted anew whenever ``every`` more archs have been
    measured, as in the paper, whatever the size of a proposal. Deviation: where mutation finds too few that are new,
    random archs are candidates, too.
    """
    seen = {record.arch for record in history}
    usable = [record for record in history if measured(record.metrics, objectives[:1])]
    if len(usable) < max(first, FEWEST):
        return fresh(space, lambda: space.sample(rng), rng, n, seen)
    wanted = objectives[0]
    costs = [wanted.cost(record.metrics[wanted.metric]) for record in usable]
    known = max(first, FEWEST) + (len(usable) - max(first, FEWEST)) // every * every
    fitted = _fitted(space, tuple(record.arch for record in usable[:known]), tuple(costs[:known]))
    best = [usable[i].arch for i in np.argsort(costs, kind="stable")[:parents]]
    pool = fresh(space, lambda: space.mutate(rng.choice(best), rng), rng, max(n, candidates), seen)
    if not pool:
        return []
    mean, deviation = fitted.predict(pool)
    drawn = np.random.default_rng(rng.randrange(2**31)).normal(mean, deviation)
    return [pool[i] for i in np.argsort(drawn, kind="stable")[:n]]


def _fitted(space: Space, archs: tuple[Arch, ...], costs: tuple[float, ...]) -> Bananas:
    """A fit is a function of its arguments, and takes seconds: ten proposals one after the other share one. Not
    ``lru_cache``, for a grammar has no hash."""
    for held, *known, fitted in _FITS:
        if held is space and known == [archs, costs]:
            return fitted
    made = Bananas(space, 0, best="low").fit(archs, costs)
    _FITS.append((space, archs, costs, made))
    return made


_FITS: deque[tuple[Space, tuple[Arch, ...], tuple[float, ...], Bananas]] = deque(maxlen=2)
"""The last fits."""
