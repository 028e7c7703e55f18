"""What an audit reads: a problem, and of each search on it what every evaluation gave, in order."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from sartor.errors import InputError
from sartor.search import pareto
from sartor.search.objective import Objective
from sartor.search.pareto import Costs

RANDOM = "random"
"""The strategy that every other one is held against."""


@dataclass(frozen=True)
class Problem:
    """What was searched. ``verdict`` is what judges and no search sees, None where there is no such thing; ``archs``
    how many there are, ``best`` the best verdict there is, where known, and ``near`` how far from it is good enough;
    ``limits`` the highest values allowed."""

    name: str
    objectives: tuple[Objective, ...]
    verdict: Objective | None = None
    archs: int | None = None
    best: float | None = None
    near: float = 0.0
    limits: Mapping[str, float] = field(default_factory=dict)

    @property
    def judge(self) -> Objective:
        """The metric that a search's result is told in: the verdict, or the first objective where there is none."""
        return self.verdict or self.objectives[0]

    @property
    def metrics(self) -> list[str]:
        """Every metric that an evaluation has to have."""
        return list(dict.fromkeys([*(o.metric for o in self.objectives), self.judge.metric]))

    def to_dict(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "objectives": [[o.metric, o.maximise, o.log] for o in self.objectives],
            "verdict": [self.verdict.metric, self.verdict.maximise] if self.verdict else None,
            "archs": self.archs,
            "best": self.best,
            "near": self.near,
            "limits": dict(self.limits),
        }

    @classmethod
    def from_dict(cls, value: Mapping[str, Any]) -> Problem:
        """The inverse of :meth:`to_dict`. Raises InputError where it is none."""
        try:
            objectives = tuple(Objective(str(m), bool(up), bool(log)) for m, up, log in value["objectives"])
            given = value["verdict"]
            verdict = Objective(str(given[0]), bool(given[1])) if given else None
            archs, best = value["archs"], value["best"]
            problem = cls(
                str(value["name"]),
                objectives,
                verdict,
                None if archs is None else int(archs),
                None if best is None else float(best),
                float(value["near"]),
                {str(m): float(limit) for m, limit in value["limits"].items()},
            )
        except (KeyError, TypeError, ValueError, IndexError, AttributeError, OverflowError) as error:
            raise InputError(f"not a problem that was searched: {error!r}") from error
        if not objectives:
            raise InputError("not a problem that was searched: it has no objective")
        return problem


@dataclass(frozen=True)
class Trace:
    """One search. ``values``: metric → what each evaluation gave, NaN where it could not be measured. ``seconds`` are
    the strategy's own, ``evaluation_seconds`` those of what it evaluated; ``told`` is the verdict on the best after
    each evaluation as it was reported at the time. None where nobody wrote it down."""

    strategy: str
    seed: int
    values: Mapping[str, Sequence[float]]
    seconds: float | None = None
    evaluation_seconds: float | None = None
    told: Sequence[float] | None = None

    def __len__(self) -> int:
        return max((len(column) for column in self.values.values()), default=0)

    def costs(self, problem: Problem) -> Costs:
        """Costs ``[n, m]`` of the evaluations, all NaN where one of the objectives could not be measured, and where a
        limit is broken: what is over its limit is no result."""
        columns = []
        for objective in problem.objectives:
            values = np.array(self.values[objective.metric], dtype=np.float64)
            good = np.isfinite(values) & ((values > 0) | (not objective.log))
            values = np.where(good, values, math.nan)
            columns.append((-1 if objective.maximise else 1) * (np.log(values) if objective.log else values))
        found = np.stack(columns, axis=1)
        if problem.limits:
            measured = np.array([self.values[m] for m in problem.limits], dtype=np.float64).T
            inside = np.isfinite(measured).all(axis=1)
            inside[inside] = pareto.within(measured[inside], list(problem.limits.values()))
            found[~inside] = math.nan
        found[np.isnan(found).any(axis=1)] = math.nan
        return found

    def winners(self, problem: Problem) -> list[int | None]:
        """After each evaluation, the place of the best by the first objective: what the search itself would pick."""
        places: list[int | None] = []
        best, place = math.inf, None
        for i, cost in enumerate(self.costs(problem)[:, 0].tolist()):
            if cost < best:
                best, place = cost, i
            places.append(place)
        return places

    def results(self, problem: Problem) -> list[float]:
        """The verdict on the winner after each evaluation; NaN until there is one."""
        judged = self.values[problem.judge.metric]
        return [math.nan if place is None else float(judged[place]) for place in self.winners(problem)]
