"""Sequential model-based optimisation: of many random archs, those that a surrogate thinks best.

Negrinho & Gordon, DeepArchitect, arXiv:1704.08792.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from sartor.predict.light import FEWEST, Predictor, fit_gaussian_process
from sartor.records import Arch
from sartor.search.objective import ACCURACY_LATENCY, Objective
from sartor.search.reward import Reward, rewarded
from sartor.search.strategy import History, fresh
from sartor.space.space import Space


def smbo(
    space: Space,
    history: History,
    rng: random.Random,
    n: int,
    *,
    objectives: Sequence[Objective] = ACCURACY_LATENCY,
    reward: Reward | None = None,
    first: int = 10,
    samples: int = 512,
    epsilon: float = 0.1,
    fit: Callable[[NDArray[np.float64], NDArray[np.float64]], Predictor] = fit_gaussian_process,
) -> list[Arch]:
    """The n archs predicted to be best of ``samples`` random ones; each is random instead with chance ``epsilon``.

    The first ``first`` are random. Deviation: the surrogate is a Gaussian process on the space's features, not ridge
    regression on n-grams of modules.
    """
    seen = {record.arch for record in history}
    usable, rewards = rewarded(history, objectives, reward)
    if len(usable) < max(first, FEWEST):
        return fresh(space, lambda: space.sample(rng), rng, n, seen)
    pool = fresh(space, lambda: space.sample(rng), rng, max(samples, n), seen, patience=2)
    if len(pool) <= n:
        return pool
    surrogate = fit(space.features_many([record.arch for record in usable]), -rewards)
    order = np.argsort(surrogate.predict(space.features_many(pool))[0], kind="stable")
    best = iter([pool[i] for i in order])
    return fresh(space, lambda: space.sample(rng) if rng.random() < epsilon else next(best), rng, n, seen)
