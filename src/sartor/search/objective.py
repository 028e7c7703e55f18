"""What a search optimises: metrics of records with their directions, as costs to minimise."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from sartor.errors import InputError
from sartor.records import Record
from sartor.search.pareto import Costs


@dataclass(frozen=True)
class Objective:
    """One metric of a record: minimised unless ``maximise``; on a log scale where ratios matter (time, size)."""

    metric: str
    maximise: bool = False
    log: bool = False

    def cost(self, value: float) -> float:
        """The value as a cost. Raises InputError for a value that a log scale cannot hold."""
        if self.log:
            if not value > 0:
                raise InputError(f"{self.metric} must be positive to be searched on a log scale, not {value!r}")
            value = math.log(value)
        return -value if self.maximise else value

    def value(self, cost: float) -> float:
        """The inverse of :meth:`cost`."""
        value = -cost if self.maximise else cost
        return math.exp(value) if self.log else value


ACCURACY_LATENCY = (Objective("accuracy_val", maximise=True), Objective("latency_ms", log=True))
"""The default pair. Latency is on a log scale: going from 2 to 1 ms is worth as much as from 1 to 0.5 ms."""


def measured(metrics: Mapping[str, float], objectives: Sequence[Objective]) -> bool:
    """Whether every objective has a finite value, and a positive one on a log scale. An arch whose accuracy came out
    NaN has none, and teaches nothing."""
    values = ((o, metrics.get(o.metric, math.nan)) for o in objectives)
    return all(math.isfinite(value) and (value > 0 or not o.log) for o, value in values)


def costs(records: Iterable[Record], objectives: Sequence[Objective] = ACCURACY_LATENCY) -> Costs:
    """Costs ``[n, m]`` of records that hold every objective, for the functions of ``sartor.search.pareto``."""
    rows = [[o.cost(record.metrics[o.metric]) for o in objectives] for record in records]
    return np.array(rows, dtype=np.float64).reshape(len(rows), len(objectives))
