"""Which of the evaluated archs go on to be trained."""

from __future__ import annotations

import itertools
import math

from hypothesis import given
from hypothesis import strategies as st

from sartor.recipes.explore import APART, choose
from sartor.records import Arch, Budget, Record
from sartor.search import pareto
from sartor.search.objective import costs

points = st.tuples(st.floats(0.1, 1.0), st.floats(0.01, 10.0))


def records(drawn: list[tuple[float, float]]) -> list[Record]:
    return [
        Record(f"a{i}", Arch({"i": i}), metrics={"accuracy_val": right, "latency_ms": ms})
        for i, (right, ms) in enumerate(drawn)
    ]


@given(st.lists(points, min_size=1, max_size=20), st.integers(1, 6), st.none() | st.floats(0.01, 10.0))
def test_members_are_apart_on_the_front_and_within_the_budget(drawn, n, limit):
    found, budget = records(drawn), Budget(limit)
    chosen = choose(found, budget, n)
    latencies = [r.metrics["latency_ms"] for r in chosen]
    assert 1 <= len(chosen) <= n
    assert latencies == sorted(latencies)
    within = [r for r in found if budget.excess(r.metrics) == 0]
    if not within:
        assert budget.excess(chosen[0].metrics) == min(budget.excess(r.metrics) for r in found)
        return
    assert all(r in within for r in chosen)
    assert all(math.log(b / a) > APART - 1e-9 for a, b in itertools.pairwise(latencies))
    best = max(range(len(within)), key=lambda i: pareto.gains(costs(within), *_corner(within))[i])
    assert within[best] in chosen  # the first taken is the one that covers most


def _corner(within: list[Record]) -> tuple:
    cost = costs(within)
    return cost.max(axis=0) + 0.1 * (cost.max(axis=0) - cost.min(axis=0)) + 1e-6, cost[:0]


def test_of_two_twins_one_is_trained():
    """Two networks of one latency end at the same place of the front: the room goes to a third."""
    found = records([(0.70, 0.100), (0.71, 0.110), (0.60, 0.03), (0.80, 0.5)])
    assert [r.name for r in choose(found, Budget(), 3)] == ["a2", "a1", "a3"]
