"""What a learner that needs one number is told of an arch: rewards as plain functions of its metrics."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from sartor.errors import InputError
from sartor.records import Record
from sartor.search.objective import Objective, measured
from sartor.search.strategy import History

Reward: TypeAlias = Callable[[Mapping[str, float]], float]
"""Metrics → what is to be made large."""

SOFT = (-0.07, -0.07)
"""MnasNet's (within, beyond): 5 % of accuracy is worth a factor of two in latency, on either side of the target."""
HARD = (0.0, -1.0)
"""MnasNet's: nothing is gained within the target, and what is beyond loses in proportion."""


def mnasnet(
    accuracy: str, latency: str, target: float, *, exponents: tuple[float, float] = SOFT, percent: bool = False
) -> Reward:
    """``ACC · (LAT / target)^w``, where w is the first exponent within the target and the second beyond it.

    ``accuracy`` and ``latency`` name metrics; ``percent`` where accuracies are in per cent. Raises InputError where
    the target is not positive, and the reward does for a latency that is not.

    Tan et al., arXiv:1807.11626 §3, equations 2 and 3.
    """
    if not (math.isfinite(target) and target > 0):
        raise InputError(f"the target of {latency} must be positive, not {target!r}")
    return partial(_mnasnet, accuracy=accuracy, latency=latency, target=target, exponents=exponents, percent=percent)


def _mnasnet(
    metrics: Mapping[str, float],
    *,
    accuracy: str,
    latency: str,
    target: float,
    exponents: tuple[float, float],
    percent: bool,
) -> float:
    ratio = metrics[latency] / target
    if not ratio > 0:
        raise InputError(f"{latency} must be positive, not {metrics[latency]!r}")
    return metrics[accuracy] / (100 if percent else 1) * ratio ** exponents[ratio > 1]


def penalised(accuracy: str, limits: Mapping[str, float], *, base: float = 0.1, at_least: Sequence[str] = ()) -> Reward:
    """``ACC · Π base^V``, where V is by what share a metric is over its limit (under it, for those in ``at_least``,
    such as FLOPs per byte), and 0 where it keeps it. Raises InputError where a limit is not positive or ``base`` not
    between 0 and 1.

    RENA's reward with penalties for violated constraints (Zhou et al., arXiv:1806.07912). Deviation: the base stays
    as it is, where the paper makes it smaller as the search goes on.
    """
    wrong = [name for name, limit in limits.items() if not (math.isfinite(limit) and limit > 0)]
    if wrong or not 0 < base < 1:
        raise InputError(f"limits must be positive ({', '.join(wrong) or 'they are'}) and base between 0 and 1")
    if stray := sorted(set(at_least) - set(limits)):
        raise InputError(f"{', '.join(stray)} has no limit that it could be under")
    return partial(_penalised, accuracy=accuracy, limits=dict(limits), base=base, at_least=tuple(at_least))


def _penalised(
    metrics: Mapping[str, float], *, accuracy: str, limits: Mapping[str, float], base: float, at_least: tuple[str, ...]
) -> float:
    violations = 0.0
    for name, limit in limits.items():
        share = metrics[name] / limit - 1
        violations += max(0.0, -share if name in at_least else share)
    return metrics[accuracy] * float(base**violations)


def rewarded(
    history: History, objectives: Sequence[Objective], reward: Reward | None
) -> tuple[list[Record], NDArray[np.float64]]:
    """The records that have a reward, and their rewards: by ``reward``, or minus the first objective's cost.

    A record without a metric that ``reward`` needs has none. Raises InputError where no record has that metric, so that
    its name must be wrong; not where it is known that it was not finite.
    """
    if reward is None:
        first = objectives[0]
        usable = [record for record in history if measured(record.metrics, [first])]
        return usable, np.array([-first.cost(record.metrics[first.metric]) for record in usable])
    usable = [record for record in history if measured(record.metrics, objectives)]
    kept: list[Record] = []
    values: list[float] = []
    for record in usable:
        try:
            value = float(reward(record.metrics))
        except KeyError as error:
            name = error.args[0]
            if name not in record.provenance.get("not_finite", ()) and not any(name in r.metrics for r in history):
                raise InputError(
                    f"the reward needs {name}, and the evaluator returns {', '.join(record.metrics)}: name one of those"
                ) from error
            continue
        if math.isfinite(value):
            kept.append(record)
            values.append(value)
    return kept, np.array(values, dtype=np.float64)


def shares(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """Each value's mid-rank in (0, 1): the share of the values that it beats, equals counting half."""
    order = np.sort(values)
    below, within = np.searchsorted(order, values, "left"), np.searchsorted(order, values, "right")
    return np.asarray((below + within) / (2 * max(1, len(values))))
