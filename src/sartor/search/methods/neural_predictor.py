"""Neural Predictor: evaluate a few at random, learn, evaluate what is predicted best. Wen et al., arXiv:1912.00848
§2."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from sartor.predict.gcn import GraphNetwork
from sartor.predict.light import FEWEST
from sartor.predict.predictor import ArchPredictor, Floats
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
    kept: float = 0.7,
    predictor: Callable[[Space, int], ArchPredictor] = GraphNetwork,
) -> list[Arch]:
    """The n archs of ``pool`` random ones that are predicted best by the first objective, from the ``first`` evaluated,
    which are random. See ``strategy.Strategy``.

    In two stages (§3.2): one predictor tells the better ``kept`` of the first archs from the rest; another, which was
    fitted to those alone, ranks what the one says is of them, so that none of it is spent on how bad the bad are. Where
    too few are left to fit to, or ``kept`` is 1, one predictor does all. Deviations: the one is fitted to 0 and 1 by
    the same loss as the other, so that any predictor will do; and the paper's bound, 91 % accuracy, is the data's.

    As in the paper, what is predicted is not learnt of: the predictor is that of the first archs throughout, and the
    rest of the budget goes down one ranking. A batch costs one fit, seconds: propose what is left of the budget at
    once."""
    seen = {record.arch for record in history}
    usable = [record for record in history if measured(record.metrics, objectives[:1])][: max(first, FEWEST)]
    if len(usable) < max(first, FEWEST):
        return fresh(space, lambda: space.sample(rng), rng, n, seen)
    wanted = objectives[0]
    values = [wanted.cost(record.metrics[wanted.metric]) for record in usable]
    candidates = fresh(space, lambda: space.sample(rng), rng, max(n, pool), seen)
    if not candidates:
        return []
    taught = [record.arch for record in usable]
    order = _ranked(lambda: predictor(space, 0), taught, np.array(values), candidates, kept)
    return [candidates[i] for i in order[:n]]


def _ranked(
    make: Callable[[], ArchPredictor], taught: Sequence[Arch], values: Floats, candidates: Sequence[Arch], kept: float
) -> NDArray[np.intp]:
    """The places of the ``candidates``, lowest predicted value first."""
    good = values <= np.quantile(values, kept)
    if good.sum() < FEWEST or good.all():
        return np.argsort(make().fit(taught, values).predict(candidates)[0], kind="stable")
    refused = make().fit(taught, np.where(good, 0.0, 1.0)).predict(candidates)[0]
    of_the_good = [arch for arch, is_good in zip(taught, good, strict=True) if is_good]
    predicted = make().fit(of_the_good, values[good]).predict(candidates)[0]
    return np.lexsort((predicted, np.where(refused < 0.5, 0.0, refused)))
