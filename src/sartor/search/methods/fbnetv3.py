"""FBNetV3: first what a predictor likes of random candidates, then what it likes of those that it evolves.

Dai et al., P043 (arXiv:2006.02049), algorithm 1. For architectures together with their training recipes
(``space.joint.join``), and any other space.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from functools import partial

import numpy as np

from sartor.predict.gaussian import Gaussian
from sartor.predict.predictor import ArchPredictor
from sartor.records import Arch
from sartor.search.methods.nsga2 import offspring
from sartor.search.objective import ACCURACY_LATENCY, Objective
from sartor.search.reward import Reward, rewarded
from sartor.search.strategy import History, fresh
from sartor.space.space import Space


def fbnetv3(
    space: Space,
    history: History,
    rng: random.Random,
    n: int,
    *,
    objectives: Sequence[Objective] = ACCURACY_LATENCY,
    reward: Reward | None = None,
    predictor: Callable[[Space], ArchPredictor] = Gaussian,
    allowed: Callable[[Arch], bool] | None = None,
    first: int = 16,
    coarse: int = 48,
    candidates: int = 300,
    generations: int = 8,
    population: int = 50,
) -> list[Arch]:
    """The n archs predicted best by the first objective (or the ``reward``): of ``candidates`` random ones until
    ``coarse`` archs are evaluated, and from then on of those that evolve on predictions from the best evaluated.

    The first ``first`` are random. ``predictor(space)`` makes what is fitted; the paper's is
    ``search.pretrained.Pretrained``. ``allowed`` tells which archs keep the budget, without evaluating them; others
    are proposed only where too few are found.

    Deviations: the paper's first archs are quasi-random; and it evaluates once what evolves, in the end, where here the
    predictor learns from it and evolution goes on.
    """
    seen = {record.arch for record in history}
    keeps = allowed or (lambda arch: True)
    usable, rewards = rewarded(history, objectives, reward)

    def some(propose: Callable[[], Arch], count: int, but: set[Arch]) -> list[Arch]:
        """Up to ``count`` new archs that keep the budget."""
        found: dict[Arch, None] = {}
        for _ in range(20 * count):
            if len(found) == count:
                break
            arch = propose()
            if arch not in but and keeps(arch):
                found[arch] = None
        return list(found)

    if len(usable) < max(first, 5):
        found = some(lambda: space.sample(rng), n, seen)
        return found + fresh(space, lambda: space.sample(rng), rng, n - len(found), seen | set(found))
    fitted = predictor(space)
    fitted.fit([record.arch for record in usable], -rewards)
    pool = some(lambda: space.sample(rng), max(candidates, n), seen)
    cost = _cost(fitted, pool)
    if len(usable) >= coarse:
        best = [usable[i].arch for i in np.argsort(-rewards, kind="stable")[:population]]
        alive, value = best, _cost(fitted, best)
        visited = seen | set(pool)
        for _ in range(generations):
            order = np.argsort(value, kind="stable")[:population]
            alive, value = [alive[i] for i in order], value[order]
            born = some(partial(offspring, space, alive, rng), population, visited)
            if not born:
                break
            visited.update(born)
            predicted = _cost(fitted, born)
            pool, cost = pool + born, np.concatenate([cost, predicted])
            alive, value = alive + born, np.concatenate([value, predicted])
    found = [pool[i] for i in np.argsort(cost, kind="stable")[:n]]
    return found + fresh(space, lambda: space.sample(rng), rng, n - len(found), seen | set(found))


def _cost(fitted: ArchPredictor, archs: Sequence[Arch]) -> np.ndarray:
    return np.asarray(fitted.predict(archs)[0]) if archs else np.zeros(0)
