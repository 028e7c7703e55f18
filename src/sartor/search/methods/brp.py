"""BRP-NAS: a predictor, its best picks and random ones among those that it thinks good, and again.

Dudziak, Chau et al., arXiv:2007.08668 (iterative data selection).
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence

import numpy as np

from sartor.predict.gaussian import Gaussian
from sartor.predict.light import FEWEST
from sartor.predict.predictor import ArchPredictor
from sartor.records import Arch
from sartor.search.objective import ACCURACY_LATENCY, Objective
from sartor.search.reward import Reward, rewarded
from sartor.search.strategy import History, fresh
from sartor.space.space import Space


def brp(
    space: Space,
    history: History,
    rng: random.Random,
    n: int,
    *,
    objectives: Sequence[Objective] = ACCURACY_LATENCY,
    reward: Reward | None = None,
    predictor: Callable[[Space], ArchPredictor] = Gaussian,
    first: int = 10,
    alpha: float = 0.5,
    share: float = 0.1,
    pool: int = 500,
) -> list[Arch]:
    """n archs, of which ``alpha`` are those predicted best, and the others random among the best ``share`` of the pool.

    The first ``first`` are random. Where an evaluation stands in the history says which of both it is, so that it does
    not matter how many are proposed at a time. ``predictor(space)`` makes what is fitted to the first objective's
    cost, or to minus the ``reward``.

    Deviations: the paper's predictor is a network of graphs that compares pairs; and it ranks the whole space, where
    here one of more than ``pool`` archs has that many ranked, half drawn and half mutants of the ten best so far.
    """
    seen = {record.arch for record in history}
    usable, rewards = rewarded(history, objectives, reward)
    if len(usable) < max(first, FEWEST):
        return fresh(space, lambda: space.sample(rng), rng, n, seen)
    candidates = candidates_of(space, [usable[i].arch for i in np.argsort(-rewards)[:10]], seen, rng, max(pool, 4 * n))
    if len(candidates) <= n:
        return candidates
    fitted = predictor(space)
    fitted.fit([record.arch for record in usable], -rewards)
    cost, _ = fitted.predict(candidates)
    left = [candidates[i] for i in np.argsort(cost, kind="stable")]
    good = max(n, round(share * len(left)))
    chosen: list[Arch] = []
    for place in range(len(history), len(history) + n):
        top = int((place + 1) * alpha) > int(place * alpha)
        chosen.append(left.pop(0 if top else rng.randrange(good - len(chosen))))
    return chosen


def candidates_of(space: Space, best: Sequence[Arch], seen: set[Arch], rng: random.Random, n: int) -> list[Arch]:
    """Up to n archs that are not in ``seen``: all that are left of a space of that many, else half of them drawn and
    half mutants of the ``best``."""
    if space.count() <= n:
        return [arch for arch in space.every() if arch not in seen]
    drawn = fresh(space, lambda: space.sample(rng), rng, n // 2, seen, patience=2)
    near = fresh(space, lambda: space.mutate(rng.choice(best), rng), rng, n - n // 2, seen | set(drawn), patience=2)
    return drawn + near
