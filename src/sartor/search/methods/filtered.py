"""Any strategy with a filter: of what it proposes, only what a surrogate thinks best is evaluated. Qin et al., P201
(arXiv:2504.12971): surrogates that were fitted to another task's trained networks save evolution trainings."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import ArrayLike

from sartor.errors import InputError
from sartor.records import Arch
from sartor.search.methods.evolution import evolution
from sartor.search.objective import ACCURACY_LATENCY, Objective
from sartor.search.strategy import History
from sartor.space.space import Space


def filtered(
    space: Space,
    history: History,
    rng: random.Random,
    n: int,
    *,
    score: Callable[[Sequence[Arch]], ArrayLike],
    objectives: Sequence[Objective] = ACCURACY_LATENCY,
    strategy: Callable[..., list[Arch]] = evolution,
    among: int = 8,
) -> list[Arch]:
    """The n archs of highest ``score`` of ``n * among`` that ``strategy`` proposes. See ``strategy.Strategy``.

    ``score(archs)`` is one number an arch, more is better: a predictor's, say, that was fitted elsewhere, turned round
    where it predicts a cost. What is NaN comes last. Raises InputError where there are not as many.
    """
    if among < 1:
        raise InputError(f"a filter chooses among 1 or more times as many archs, not {among}")
    found = strategy(space, history, rng, n * among, objectives=objectives)
    scores = np.asarray(score(found), dtype=np.float64) if found else np.zeros(0)
    if scores.shape != (len(found),):
        raise InputError(f"score must return a number for each of {len(found)} archs, not {scores.shape}")
    order = np.argsort(-np.where(np.isnan(scores), -np.inf, scores), kind="stable")
    return [found[i] for i in order[:n]]
