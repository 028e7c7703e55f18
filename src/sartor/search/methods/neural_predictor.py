"""Neural Predictor: evaluate a few at random, learn, evaluate what is predicted best. Wen et al., arXiv:1912.00848
§2."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence

import numpy as np

from sartor.predict.gcn import GraphNetwork
from sartor.predict.light import FEWEST
from sartor.predict.predictor import ArchPredictor
from sartor.records import Arch
from sartor.search.objective import ACCURACY_LATENCY, Objective, measured
from sartor.search.strategy import History, fresh
from sartor.space.space import Space


def neural_predictor(
    space: Space,
    history: History,
    rng: random.Random,
    n: int,
    *,
    objectives: Sequence[Objective] = ACCURACY_LATENCY,
    first: int = 100,
    pool: int = 2000,
    predictor: Callable[[Space, int], ArchPredictor] = GraphNetwork,
) -> list[Arch]:
    """The n archs of ``pool`` random ones that are predicted best by the first objective, from the ``first`` evaluated,
    which are random. See ``strategy.Strategy``.

    As in the paper, what is predicted is not learnt of: the predictor is that of the first archs throughout, and the
    rest of the budget goes down one ranking. A batch costs one fit, seconds: propose what is left of the budget at
    once."""
    seen = {record.arch for record in history}
    usable = [record for record in history if measured(record.metrics, objectives[:1])][: max(first, FEWEST)]
    if len(usable) < max(first, FEWEST):
        return fresh(space, lambda: space.sample(rng), rng, n, seen)
    wanted = objectives[0]
    values = [wanted.cost(record.metrics[wanted.metric]) for record in usable]
    fitted = predictor(space, 0).fit([record.arch for record in usable], values)
    candidates = fresh(space, lambda: space.sample(rng), rng, max(n, pool), seen)
    if not candidates:
        return []
    order = np.argsort(fitted.predict(candidates)[0], kind="stable")
    return [candidates[i] for i in order[:n]]
