"""NEAS: options that are neither good nor different from the others go. Chen et al., P034 (arXiv:2104.00597)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import numpy as np

from sartor.records import Option
from sartor.search.objective import Objective, measured
from sartor.search.shrinking.dropping import Criterion, Losses, without_worst
from sartor.search.strategy import History
from sartor.space.space import Space

Distance = Callable[[str, Option, Option], float]
"""Of two options of a choice: how differently networks with one and with the other behave."""


def neas(distance: Distance, share: float = 0.15, weight: float = 0.5) -> Criterion:
    """A criterion for ensembles: the ``share`` of options goes with the least potential plus ``weight`` diversity.

    Potential: minus the mean cost, by the first objective, of the archs that have an option; diversity: its mean
    ``distance`` to the choice's other options, for which the paper takes the divergence of the outputs of a supernet's
    paths. Both in deviations over the options of all choices.
    """
    return partial(_neas, distance=distance, share=share, weight=weight)


def _neas(
    space: Space,
    history: History,
    objectives: Sequence[Objective],
    *,
    distance: Distance,
    share: float,
    weight: float,
) -> Space:
    return without_worst(space, _losses(space, history, objectives[0], distance, weight), share)


def _losses(space: Space, history: History, objective: Objective, distance: Distance, weight: float) -> Losses:
    usable = [record for record in history if measured(record.metrics, [objective])]
    rows: list[tuple[str, Option, float, float]] = []
    for choice in space.choices:
        for option in choice.options:
            mine = [objective.cost(r.metrics[objective.metric]) for r in usable if r.arch.get(choice.name) == option]
            others = [distance(choice.name, option, other) for other in choice.options if other != option]
            if mine and others:
                rows.append((choice.name, option, -float(np.mean(mine)), float(np.mean(others))))
    if not rows:
        return {}
    potential, diversity = _in_deviations([row[2] for row in rows]), _in_deviations([row[3] for row in rows])
    scores: dict[str, dict[Option, float]] = {}
    for (name, option, _, _), good, other in zip(rows, potential, diversity, strict=True):
        scores.setdefault(name, {})[option] = float(good + weight * other)
    return {name: {o: max(held.values()) - score for o, score in held.items()} for name, held in scores.items()}


def _in_deviations(values: Sequence[float]) -> list[float]:
    array = np.array(values)
    return list((array - array.mean()) / (array.std() or 1.0))
