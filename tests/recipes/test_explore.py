"""Which of the evaluated archs go on to be trained."""

from __future__ import annotations

import itertools
import math
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from recipes.shop import workshop
from sartor.recipes.explore import APART, choose, members
from sartor.records import Arch, Budget, Record
from sartor.search import pareto
from sartor.search.objective import costs
from sartor.space import conv_space

points = st.tuples(st.floats(0.1, 1.0), st.floats(0.01, 10.0))


def records(drawn: list[tuple[float, float]]) -> list[Record]:
    return [
        Record(f"a{i}", Arch({"i": i}), metrics={"accuracy_val": right, "latency_ms": ms})
        for i, (right, ms) in enumerate(drawn)
    ]


@given(st.lists(points, min_size=1, max_size=20), st.integers(1, 6), st.none() | st.floats(0.01, 10.0), st.data())
def test_the_largest_is_trained_anyway(drawn, n, limit, data):
    """It is a member wherever it is within the budget, whatever it covers, and none is as slow as it."""
    found, budget = records(drawn), Budget(limit)
    largest = data.draw(st.sampled_from(found))
    chosen = choose(found, budget, n, largest.arch)
    latencies = [r.metrics["latency_ms"] for r in chosen]
    if budget.excess(largest.metrics) == 0:
        assert largest in chosen
        assert all(math.log(b / a) > APART - 1e-9 for a, b in itertools.pairwise(latencies))
    else:
        assert chosen == choose(found, budget, n)


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


def test_members_are_chosen_by_latencies_timed_side_by_side(tmp_path: Path) -> None:
    """What a disturbed machine said of single networks is forgotten; a resumed run reads what was said instead."""
    shop = workshop(tmp_path, Budget(), ("fp32",))
    space = conv_space(8, width=128, depth=1, operators=("residual",))
    archs = [space.smallest().replace(**{f"s{i}.width": width for i in (0, 1)}) for width in (16, 64, 128)]
    disturbed = [
        Record(f"a{i}", arch, metrics={"accuracy_val": 0.6 + 0.1 * i, "latency_ms": 3.0 - i})
        for i, arch in enumerate(archs)
    ]
    chosen = members(shop, disturbed, 3, archs[-1], 20.0)
    assert [r.arch for r in chosen] == archs
    assert [r.metrics["latency_ms"] for r in chosen] == sorted(r.metrics["latency_ms"] for r in chosen)
    resumed = workshop(tmp_path, Budget(), ("fp32",))
    assert [r.metrics for r in members(resumed, disturbed, 3, archs[-1], 20.0)] == [r.metrics for r in chosen]
