"""Profiled blocks: what each option adds, by regression of end-to-end measurements; options that others beat go.

Mills et al., Profiling Neural Blocks and Design Spaces, P134 (arXiv:2109.12426).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import partial

import numpy as np
from numpy.typing import NDArray

from sartor.errors import InputError
from sartor.records import Option
from sartor.search.objective import ACCURACY_LATENCY, Objective, costs, measured
from sartor.search.policy import Policy
from sartor.search.shrinking.dropping import Criterion, Losses, without_worst
from sartor.search.strategy import History
from sartor.space.space import Space

RATES = 101
"""Of exchange that are tried between the two ends."""


def profiled(share: float = 0.15, ridge: float = 1.0) -> Criterion:
    """A criterion: the ``share`` of options goes that another option of the same choice beats by most in every
    objective. With two objectives, what is worse in one and better in the other stays.

    In what is left, random search found better fronts of accuracy and MACs, on NAS-Bench-Macro and NAS-Bench-201.
    NSGA-II, which learns the same by itself, found worse ones.

    Deviation: the paper reads its scores and drops blocks by hand; here the margin decides, in deviations of each
    objective.
    """
    return partial(_profiled, share=share, ridge=ridge)


def traded(share: float = 0.25, ridge: float = 1.0, rate: float = 4.0) -> Criterion:
    """A criterion for one objective or two: the ``share`` of options goes that are never the best of their place,
    whatever a deviation of the one objective is worth of the other's, from 1 / ``rate`` to ``rate``; those first that
    are furthest from it. What is best at some rate stays.

    Where every option that costs more is also worth more, none beats another (:func:`profiled` drops nothing), and yet
    some give little for what they cost. The ends of the front, beyond ``rate``, are given up for it.
    """
    if not (rate >= 1 and math.isfinite(rate)):
        raise InputError(f"the rate between objectives is a number from 1, not {rate!r}")
    return partial(_traded, share=share, ridge=ridge, rate=rate)


def _traded(
    space: Space, history: History, objectives: Sequence[Objective], *, share: float, ridge: float, rate: float
) -> Space:
    return without_worst(space, outbid(space, history, objectives, ridge, rate), share)


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


def outbid(
    space: Space, history: History, objectives: Sequence[Objective], ridge: float = 1.0, rate: float = 4.0
) -> Losses:
    """By how much each option falls short of the best of its place, in deviations, at the rate of exchange between two
    objectives that suits it best of those from 1 / ``rate`` to ``rate``; of one objective, simply of that. Raises
    InputError for more than two."""
    if not 1 <= len(objectives) <= 2:
        raise InputError(f"options are traded between two objectives, not {len(objectives)}")
    usable = [record for record in history if measured(record.metrics, objectives)]
    if not usable:
        return {}
    scale = np.maximum(costs(usable, objectives).std(axis=0), 1e-12)
    first = np.linspace(1 / (1 + rate), rate / (1 + rate), RATES)
    weights = np.stack([first, 1 - first]) if len(objectives) == 2 else np.ones((1, 1))
    found: dict[str, dict[Option, float]] = {}
    for name, held in effects(space, usable, objectives, ridge).items():
        bids = np.array([cost / scale for cost in held.values()]).reshape(-1, len(objectives)) @ weights
        short = (bids - bids.min(axis=0, initial=np.inf)).min(axis=1)
        found[name] = dict(zip(held, short.tolist(), strict=True))
    return found
