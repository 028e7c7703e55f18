"""Searching the search space: the E-T error of what a space becomes with an option says whether to keep it.

Chen et al., S3, P254 (arXiv:2111.14725). Of one space, here; :mod:`sartor.search.s3` moves ranges, as the paper does.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import numpy as np
from numpy.typing import NDArray

from sartor.records import Option
from sartor.search.objective import Objective, measured
from sartor.search.shrinking.dropping import Criterion, Losses, without_worst
from sartor.search.strategy import History
from sartor.space.space import Space


def et_error(errors: NDArray[np.float64] | Sequence[float], top: int = 5) -> float:
    """The mean of two means: of all errors, and of the ``top`` lowest."""
    values = np.sort(np.asarray(errors, dtype=np.float64))
    return float((values.mean() + values[:top].mean()) / 2)


def searched_space(share: float = 0.15, top: int = 5, fewest: int = 5) -> Criterion:
    """A criterion: the ``share`` of options goes whose space, the archs that have them, has the highest E-T error by
    the first objective. Options with fewer than ``fewest`` records stay.

    Of options that are numbers only the ends of the range go, and by the line fitted to the errors of all of them: what
    the paper moves is a range. Deviation: it also moves ranges beyond where they began, which a space does not have.
    """
    return partial(_searched, share=share, top=top, fewest=fewest)


def _searched(
    space: Space, history: History, objectives: Sequence[Objective], *, share: float, top: int, fewest: int
) -> Space:
    return without_worst(space, option_losses(space, history, objectives[0], top, fewest), share)


def option_losses(space: Space, history: History, objective: Objective, top: int = 5, fewest: int = 5) -> Losses:
    """By how much each option's E-T error is above the lowest of its choice. Of numbers: the difference of the fitted
    line between the two ends for the worse end, and nothing for the others."""
    usable = [record for record in history if measured(record.metrics, [objective])]
    cost = np.array([objective.cost(record.metrics[objective.metric]) for record in usable])
    found: dict[str, dict[Option, float]] = {}
    for choice in space.choices:
        errors: dict[Option, float] = {}
        for option in choice.options:
            mine = np.array([record.arch.get(choice.name) == option for record in usable], dtype=bool)
            if mine.sum() >= fewest:
                errors[option] = et_error(cost[mine], top)
        numbers = all(isinstance(o, (int, float)) and not isinstance(o, bool) for o in choice.options)
        if numbers and len(choice.options) > 2 and len(errors) == len(choice.options):
            slope = float(np.polyfit(range(len(errors)), list(errors.values()), 1)[0])
            worse = choice.options[-1 if slope > 0 else 0]
            found[choice.name] = {worse: abs(slope) * (len(errors) - 1)}
        else:
            found[choice.name] = {option: error - min(errors.values()) for option, error in errors.items()}
    return found
