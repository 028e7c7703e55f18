"""Two histories of one space side by side: a search, and random archs at equal cost.

Li & Talwalkar (arXiv:1902.07638) and Yu et al. (P209, arXiv:1902.08142): random search at equal cost. Yang et al.
(P131, arXiv:1912.12522): improvement over the average random arch of the same space under the same protocol. Everything
returned is JSON-able.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from sartor.errors import InputError
from sartor.records import Arch, Record
from sartor.search import pareto
from sartor.search.loop import Records, search
from sartor.search.methods.random import random_search
from sartor.search.objective import ACCURACY_LATENCY, Objective, costs, measured
from sartor.space.space import Space


def random_at_equal_cost(
    space: Space,
    evaluate: Callable[[Arch], Mapping[str, float]],
    history: Sequence[Record],
    *,
    seed: int,
    store: Records | None = None,
    should_stop: Callable[[], bool] | None = None,
) -> list[Record]:
    """As many random archs as ``history`` has, evaluated the same way. Give a store of its own to make it resumable."""
    return search(
        space,
        evaluate,
        random_search,
        evaluations=len(history),
        seed=seed,
        store=store,
        provenance={"kind": "random"},
        should_stop=should_stop,
    )


def relative_improvement(found: float, random: Sequence[float]) -> float:
    """How much better ``found`` is than the mean of ``random``, in per cent of that mean. P131, section 3."""
    if not random or not (average := float(np.mean(random))):
        raise InputError("a relative improvement needs random archs with a mean other than zero")
    return 100 * (found - average) / average


def compare(
    found: Sequence[Record], random: Sequence[Record], objectives: Sequence[Objective] = ACCURACY_LATENCY
) -> dict[str, Any]:
    """Two histories of one space, side by side.

    ``hypervolume``: of each, in the objectives' cost units, from a common reference (the worst costs of the two fronts,
    a tenth of their extent further out), and their ratio (None when random reached nothing). ``dominated_share``: of
    the random archs, how many the search dominates. ``gain_at_equal_cost``: over the random archs, the mean by which
    the best found arch that costs no more exceeds each in the first objective (random archs cheaper than anything
    found are left out, and counted in ``cheaper_than_found``). ``relative_improvement_percent``: of the best found over
    the random average (None where that is zero). Raises InputError when either history is empty.
    """
    a = [r for r in found if measured(r.metrics, objectives)]
    b = [r for r in random if measured(r.metrics, objectives)]
    if not a or not b:
        raise InputError("comparing a search needs evaluated archs on both sides")
    ours, theirs = costs(a, objectives), costs(b, objectives)
    fronts = np.vstack([ours[pareto.nondominated(ours)], theirs[pareto.nondominated(theirs)]])
    reference = fronts.max(axis=0) + 0.1 * np.where(np.ptp(fronts, axis=0) > 0, np.ptp(fronts, axis=0), 1)
    volume = [pareto.hypervolume_2d(points, reference) for points in (ours, theirs)]
    target = objectives[0]
    gains = []
    for record, point in zip(b, theirs, strict=True):
        affordable = [r.metrics[target.metric] for r, c in zip(a, ours, strict=True) if c[1] <= point[1]]
        if affordable:
            beside = max(affordable) if target.maximise else min(affordable)
            gains.append((beside - record.metrics[target.metric]) * (1 if target.maximise else -1))
    values, sampled = ([r.metrics[target.metric] for r in records] for records in (a, b))
    best = max(values) if target.maximise else min(values)
    return {
        "objectives": [o.metric for o in objectives],
        "evaluations": {"search": len(found), "random": len(random)},
        "hypervolume": {
            "search": volume[0],
            "random": volume[1],
            "ratio": volume[0] / volume[1] if volume[1] > 0 else None,
            "reference": [o.value(float(c)) for o, c in zip(objectives, reference, strict=True)],
        },
        "dominated_share": float(np.mean([any(pareto.dominates(x, y) for x in ours) for y in theirs])),
        "gain_at_equal_cost": float(np.mean(gains)) if gains else None,
        "cheaper_than_found": len(b) - len(gains),
        "relative_improvement_percent": relative_improvement(best, sampled) if np.mean(sampled) else None,
    }


def search_evidence(
    strategy: str,
    found: Sequence[Record],
    random: Sequence[Record] = (),
    *,
    predicted: int = 0,
    objectives: Sequence[Objective] = ACCURACY_LATENCY,
) -> dict[str, Any]:
    """The ``search`` entry of a run's evidence: counts, every evaluated arch, and the comparison where there is one.

    ``predicted`` is how many archs were ranked without being evaluated.
    """
    history = [
        {o.metric: record.metrics[o.metric] for o in objectives} | {"name": record.name, "kind": kind}
        for kind, records in (("search", found), ("random", random))
        for record in records
        if measured(record.metrics, objectives)
    ]
    both = [sum(measured(r.metrics, objectives) for r in records) for records in (found, random)]
    return {
        "strategy": strategy,
        "evaluated": len(found) + len(random),
        "measured": sum(both),
        "predicted": predicted,
        "history": history,
        "beside_random": compare(found, random, objectives) if all(both) else None,
    }
