"""Profiled blocks: what each option adds, by regression of end-to-end measurements; options that others beat go.

Mills et al., Profiling Neural Blocks and Design Spaces, P134 (arXiv:2109.12426).
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import numpy as np
from numpy.typing import NDArray

from sartor.records import Option
from sartor.search.objective import ACCURACY_LATENCY, Objective, costs, measured
from sartor.search.policy import Policy
from sartor.search.shrinking.dropping import Criterion, Losses, without_worst
from sartor.search.strategy import History
from sartor.space.space import Space


def profiled(share: float = 0.15, ridge: float = 1.0) -> Criterion:
    """A criterion: the ``share`` of options goes that another option of the same choice beats by most in every
    objective. With two objectives, what is worse in one and better in the other stays.

    In what is left, random search found better fronts of accuracy and MACs, on NAS-Bench-Macro and NAS-Bench-201.
    NSGA-II, which learns the same by itself, found worse ones.

    Deviation: the paper reads its scores and drops blocks by hand; here the margin decides, in deviations of each
    objective.
    """
    return partial(_profiled, share=share, ridge=ridge)


def _profiled(space: Space, history: History, objectives: Sequence[Objective], *, share: float, ridge: float) -> Space:
    return without_worst(space, beaten(space, history, objectives, ridge), share)


def effects(
    space: Space,
    history: History,
    objectives: Sequence[Objective] = ACCURACY_LATENCY,
    ridge: float = 1.0,
) -> dict[str, dict[Option, NDArray[np.float64]]]:
    """Choice → option → what it adds to each objective's cost ``[m]``, others being what they are on average. Options
    that were never evaluated are absent.

    Least squares on indicators of each option at each place, with a penalty of ``ridge`` on squared effects: indicators
    of a choice sum to one, and without it their effects would not be determined.
    """
    usable = [record for record in history if measured(record.metrics, objectives)]
    if not usable:
        return {choice.name: {} for choice in space.choices}
    policy = Policy(space)
    x = policy.taken([record.arch for record in usable])
    y = costs(usable, objectives)
    centred = x - x.mean(axis=0)
    found = np.linalg.solve(centred.T @ centred + ridge * np.eye(x.shape[1]), centred.T @ (y - y.mean(axis=0)))
    return {
        choice.name: {o: found[start + i] for i, o in enumerate(choice.options) if x[:, start + i].any()}
        for start, choice in zip(policy.starts, space.choices, strict=True)
    }


def beaten(space: Space, history: History, objectives: Sequence[Objective], ridge: float = 1.0) -> Losses:
    """By how much the best rival of each option beats it in every objective, in that objective's deviations."""
    usable = [record for record in history if measured(record.metrics, objectives)]
    if not usable:
        return {}
    scale = np.maximum(costs(usable, objectives).std(axis=0), 1e-12)
    return {
        name: {
            option: max([0.0, *(float(((mine - other) / scale).min()) for other in held.values())])
            for option, mine in held.items()
        }
        for name, held in effects(space, usable, objectives, ridge).items()
    }
