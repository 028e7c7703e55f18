"""Strategies side by side on one table, seed by seed, and what is to be said about each."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from sartor.errors import InputError
from sartor.records import Record
from sartor.search.audit.judge import beside_random
from sartor.search.hypervolume import front_of, hypervolume, reference_of, shares
from sartor.search.named import run, strategy_of
from sartor.search.objective import costs
from sartor.search.tables.table import Table
from sartor.search.trace import RANDOM, Trace
from sartor.space.fidelity import Fidelities


def contest(
    table: Table, strategies: Sequence[str], budget: int, seeds: int, *, batch: int = 1, first_seed: int = 0
) -> Iterator[dict[str, Any]]:
    """One object for each strategy and seed: ``strategy``, ``seed``, ``evaluations``, ``best_so_far`` (the verdict on
    the best by what the search may see, after each evaluation), ``hypervolume`` (of two objectives or three: the share
    of the whole table's, after each evaluation) and ``seconds``, which are the strategy's own: a table answers for
    nothing. For ``sartor audit``: the ``problem``, and the ``values`` of every evaluation, the verdict among them.

    Of a table with fidelities ``budget`` is in full evaluations, ``best_so_far`` is after each that has been paid for,
    and there is nothing for an audit, nor a hypervolume.

    Strategies take turns, seed by seed. Raises InputError for unknown strategies and fewer than one seed or evaluation.
    """
    if budget < 1 or seeds < 1:
        raise InputError(f"a contest needs an evaluation and a seed, at least, not {budget} and {seeds}")
    for name in strategies:
        strategy_of(name)
    its = range(first_seed, first_seed + seeds)
    return (_one(table, name, budget, seed, batch) for seed in its for name in strategies)


def _one(table: Table, strategy: str, budget: int, seed: int, batch: int) -> dict[str, Any]:
    start = time.perf_counter()
    several = isinstance(table.space, Fidelities)
    history = run(
        table.space,
        table.evaluate,
        strategy,
        budget,
        seed,
        objectives=table.objectives,
        batch=batch,
        cost=table.cost if several else None,
    )
    seconds = time.perf_counter() - start
    best = table.best_so_far(history)
    entry: dict[str, Any] = {
        "strategy": strategy,
        "seed": seed,
        "evaluations": len(history),
        "best_so_far": _by_cost(table, history, best) if several else best,
        "seconds": seconds,
    }
    if several:
        return entry
    problem = table.problem
    entry["problem"] = problem.to_dict()
    entry["values"] = {m: [table.rows[record.arch][m] for record in history] for m in problem.metrics}
    if len(table.objectives) in (2, 3) and (volumes := _volumes(table, costs(history, table.objectives))):
        entry["hypervolume"] = volumes
    return entry


def _by_cost(table: Table, history: Sequence[Record], best: Sequence[float]) -> list[float]:
    """``best`` when the first full evaluation has been paid for, the second, and so on. What began within a payment and
    ended beyond it counts from the next."""
    paid = np.cumsum([table.cost(record.arch) for record in history])
    whole = max(1, math.floor(paid[-1] + 1e-9)) if len(paid) else 0
    places = np.searchsorted(paid, np.arange(1, whole + 1) + 1e-9, side="right") - 1
    return [best[max(0, place)] for place in places]


def summary(table: Table, runs: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Of each strategy: ``near``, the evaluations until the verdict is, and stays, as near to the best as the table
    asks (median over seeds, quartiles, ``reached`` in how many), ``mean_of_reached``, ``regret`` (mean distance from
    the best) after a quarter, half and all of the evaluations, ``ms_an_evaluation``, and ``beside_random``, where that
    is among them and there are no fidelities (``search.audit.judge.beside_random``)."""
    sign = 1 if table.verdict.maximise else -1
    found = []
    for name in dict.fromkeys(entry["strategy"] for entry in runs):
        mine = [entry for entry in runs if entry["strategy"] == name]
        away = [[sign * (table.best - value) for value in entry["best_so_far"]] for entry in mine]
        needed = [_until(row, table.near + 1e-9) for row in away]
        there = [n for n in needed if math.isfinite(n)]
        longest = max(len(row) for row in away)
        places = sorted({max(1, longest // 4), max(1, longest // 2), longest})
        n = len(needed)  # of an even number the upper middle: a seed that never got there counts
        low, middle, high = (sorted(needed)[i] for i in (math.ceil(n / 4) - 1, n // 2, math.ceil(3 * n / 4) - 1))
        evaluations = sum(entry["evaluations"] for entry in mine)
        line = {
            "strategy": name,
            "near": {"median": _known(middle), "low": _known(low), "high": _known(high), "reached": len(there)},
            "mean_of_reached": float(np.mean(there)) if there else None,
            "seeds": len(mine),
            "regret": {place: float(np.mean([row[min(place, len(row)) - 1] for row in away])) for place in places},
            "ms_an_evaluation": 1000 * sum(entry["seconds"] for entry in mine) / max(1, evaluations),
        }
        if "hypervolume" in mine[0]:
            line["hypervolume"] = {
                p: float(np.mean([e["hypervolume"][min(p, len(e["hypervolume"])) - 1] for e in mine])) for p in places
            }
        found.append(line)
    beside = _beside_random(table, runs)
    return [{**line, "beside_random": beside.get(line["strategy"])} for line in found]


def _beside_random(table: Table, runs: Sequence[dict[str, Any]]) -> dict[str, dict[str, Any]]:
    if RANDOM not in {entry["strategy"] for entry in runs} or isinstance(table.space, Fidelities):
        return {}
    groups: dict[str, list[Trace]] = {}
    for entry in runs:
        trace = Trace(entry["strategy"], entry["seed"], entry["values"])
        groups.setdefault(trace.strategy, []).append(trace)
    random = groups.pop(RANDOM)
    return beside_random(table.problem, groups, random)


def _until(away: Sequence[float], near: float) -> float:
    """From which evaluation on the verdict stays ``near``: who does not see it cannot stop where it was before."""
    far = [i for i, d in enumerate(away) if d > near]
    return 1 if not far else far[-1] + 2 if far[-1] + 1 < len(away) else math.inf


def _known(value: float) -> int | None:
    return int(value) if math.isfinite(value) else None


def _volumes(table: Table, points: np.ndarray) -> list[float]:
    """The share of the table's hypervolume after each evaluation: from its median in the first objective, and from a
    tenth of the front's extent beyond its dearest, which else would count for nothing. Empty where there is none."""
    everything = np.array([[o.cost(row[o.metric]) for o in table.objectives] for row in table.rows.values()])
    front = front_of(everything)
    reference = reference_of(front)
    reference[0] = np.median(everything[:, 0])
    whole = hypervolume(front, reference)
    return shares(points, reference, whole) if whole > 0 else []
