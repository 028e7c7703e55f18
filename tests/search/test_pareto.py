"""Pareto tools against their definitions, written out naively."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sartor.errors import InputError
from sartor.records import Arch, Record, front
from sartor.search import pareto
from sartor.search.objective import ACCURACY_LATENCY, Objective, costs

SIDE = 7  # small integers, so that ties and duplicates are common
coordinate = st.integers(0, SIDE)
points_2d = st.lists(st.tuples(coordinate, coordinate), max_size=20)
points_3d = st.lists(st.tuples(coordinate, coordinate, coordinate), max_size=15)


def naive_ranks(points):
    """Peel fronts by comparing every pair."""
    left, result, rank = set(range(len(points))), [0] * len(points), 0
    while left:
        now = {i for i in left if not any(pareto.dominates(points[j], points[i]) for j in left)}
        for i in now:
            result[i] = rank
        left, rank = left - now, rank + 1
    return result


def cells(points, corner):
    """Hypervolume of integer points by counting unit cells."""
    return sum(
        any(x <= i and y <= j for x, y in points) for i, j in itertools.product(range(corner[0]), range(corner[1]))
    )


@given(st.tuples(coordinate, coordinate), st.tuples(coordinate, coordinate))
def test_dominates_is_its_definition(a, b):
    assert pareto.dominates(a, b) == (a[0] <= b[0] and a[1] <= b[1] and a != b)


@given(points_2d)
def test_ranks_in_two_dimensions(points):
    assert pareto.ranks(points).tolist() == naive_ranks(points)


@given(points_3d)
def test_ranks_in_three_dimensions(points):
    assert pareto.ranks(np.array(points, dtype=float).reshape(-1, 3)).tolist() == naive_ranks(points)


@given(points_2d)
def test_nondominated_agrees_with_the_front_of_records(points):
    records = [
        Record(str(i), Arch({"i": i}), metrics={"accuracy_val": -float(y), "latency_ms": 1.0 + x})
        for i, (x, y) in enumerate(points)
    ]
    kept = pareto.nondominated(costs(records)) if records else []
    ours = {(r.metrics["latency_ms"], r.metrics["accuracy_val"]) for r, k in zip(records, kept, strict=True) if k}
    assert ours == {(r.metrics["latency_ms"], r.metrics["accuracy_val"]) for r in front(records)}


@given(points_2d, st.tuples(coordinate, coordinate))
def test_hypervolume_counts_cells(points, corner):
    assert pareto.hypervolume_2d(points, corner) == cells(points, corner)


@given(points_2d, points_2d)
def test_gains_are_differences_of_hypervolume(base, extra):
    corner = (SIDE, SIDE)
    base_costs = np.array(base, dtype=float).reshape(-1, 2)
    gains = pareto.gains(np.array(extra, dtype=float).reshape(-1, 2), corner, base_costs)
    before = pareto.hypervolume_2d(base, corner)
    assert gains.tolist() == [pareto.hypervolume_2d([*base, e], corner) - before for e in extra]


@given(points_2d, points_2d, st.integers(1, 4))
def test_spread_is_greedy_and_stops_when_nothing_is_gained(base, pool, n):
    corner = (SIDE, SIDE)
    pool_costs = np.array(pool, dtype=float).reshape(-1, 2)
    chosen = pareto.spread(pool_costs, corner, np.array(base, dtype=float).reshape(-1, 2), n)
    held = list(base)
    for index in chosen:
        volumes = [pareto.hypervolume_2d([*held, p], corner) for p in pool]
        assert volumes[index] == max(volumes) > pareto.hypervolume_2d(held, corner)
        held.append(pool[index])
    if len(chosen) < min(n, len(pool)):
        assert all(pareto.hypervolume_2d([*held, p], corner) == pareto.hypervolume_2d(held, corner) for p in pool)


def test_crowding_is_the_gap_between_neighbours():
    """Three points on a line of extent 10 in both objectives: the middle one's neighbours are the ends."""
    assert pareto.crowding([[0, 10], [3, 7], [10, 0]]).tolist() == [math.inf, 2.0, math.inf]
    distance = pareto.crowding([[0, 10], [1, 9], [2, 8], [9, 1], [10, 0]])
    assert distance[1] < distance[2]
    assert distance[1] == pytest.approx((2 + 2) / 10)
    assert pareto.crowding([]).tolist() == []
    assert pareto.crowding([[1, 1]]).tolist() == [math.inf]


def test_knee_is_where_the_front_bends_most():
    bend = [[0, 10], [1, 2], [2, 1.5], [10, 0], [9, 9]]
    assert pareto.knee(bend) == 1
    assert pareto.knee([[5, 5]]) == 0
    assert pareto.knee([[0, 1], [1, 0]]) in (0, 1)
    with pytest.raises(InputError, match="at least one point"):
        pareto.knee([])


@given(points_2d.filter(bool), st.integers(1, 5), st.integers(1, 5))
def test_knee_is_on_the_front_and_does_not_depend_on_units(points, a, b):
    index = pareto.knee(points)
    assert pareto.nondominated(points)[index]
    scaled = np.array(points, dtype=float) * [2.0**a, 2.0**b]
    assert tuple(points[pareto.knee(scaled)]) == tuple(points[index])


def test_bad_points_are_refused_in_one_line():
    with pytest.raises(InputError, match="NaN"):
        pareto.ranks([[0, math.nan]])
    with pytest.raises(InputError, match="shape"):
        pareto.hypervolume_2d([[1, 2, 3]], [4, 4])
    with pytest.raises(InputError, match="shape"):
        pareto.ranks([1, 2, 3])


@given(st.floats(1e-6, 1e6), st.booleans(), st.booleans())
def test_an_objective_and_its_inverse(value, maximise, log):
    objective = Objective("latency_ms", maximise, log)
    assert objective.value(objective.cost(value)) == pytest.approx(value)
    better = value * 2 if maximise else value / 2
    assert objective.cost(better) < objective.cost(value)


def test_a_log_objective_needs_positive_values():
    record = Record("a", Arch({"i": 0}), metrics={"accuracy_val": 0.5, "latency_ms": 0.0})
    with pytest.raises(InputError, match="latency_ms must be positive"):
        costs([record], ACCURACY_LATENCY)
