"""Hypervolume of three objectives against three other ways to get it, and what builds on it."""

from __future__ import annotations

import itertools
import math
import random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sartor.errors import InputError
from sartor.search import pareto
from sartor.search.contest import contest, summary
from sartor.search.hypervolume import front_of, gains_2d, hypervolume, reference_of, shares
from sartor.search.methods.linas import linas
from sartor.search.named import run
from sartor.search.objective import Objective, costs
from sartor.search.tables.table import table_of
from sartor.space import Choice, Space

SIDE = 5  # small integers, so that ties and duplicates are common
coordinate = st.integers(0, SIDE)
point = st.tuples(coordinate, coordinate, coordinate)
points = st.lists(point, max_size=7)


def array(rows: list[tuple[int, ...]]) -> np.ndarray:
    return np.array(rows, dtype=float).reshape(-1, 3)


pair = st.tuples(coordinate, coordinate)


@given(st.lists(pair, min_size=1, max_size=8), st.lists(pair, max_size=8))
def test_what_a_point_adds_is_the_difference_it_makes(news: list[tuple[int, int]], olds: list[tuple[int, int]]):
    new, old = (np.array(rows, dtype=float).reshape(-1, 2) for rows in (news, olds))
    corner = np.array([SIDE - 1.0, SIDE - 0.5])
    before = hypervolume(old, corner)
    added = [hypervolume(np.vstack([old, one]), corner) - before for one in new]
    np.testing.assert_allclose(gains_2d(new, old, corner), added, atol=1e-12)


def by_inclusion_and_exclusion(rows: np.ndarray, corner: np.ndarray) -> float:
    """The union of boxes from their intersections: exact, exponential, and of another idea than a sweep."""
    total = 0.0
    for size in range(1, len(rows) + 1):
        for chosen in itertools.combinations(rows, size):
            total -= (-1) ** size * np.prod(np.clip(corner - np.max(chosen, axis=0), 0, None))
    return total


@given(points, point)
def test_three_objectives_by_inclusion_and_exclusion(rows, corner):
    expected = by_inclusion_and_exclusion(array(rows), np.array(corner, dtype=float))
    assert hypervolume(array(rows), corner) == expected, "small integers: every sum is exact"


@given(points, point)
def test_three_objectives_by_counting_cells(rows, corner):
    cells = itertools.product(*(range(c) for c in corner))
    assert hypervolume(array(rows), corner) == sum(any(all(np.less_equal(p, c)) for p in rows) for c in cells)


@pytest.mark.parametrize("n", [1, 40, 300])
def test_three_objectives_by_monte_carlo(n: int):
    """Of real numbers: the share of 50,000 drawn points that are dominated, within five of its standard errors."""
    rng = np.random.default_rng(n)
    rows = np.sqrt(rng.random((n, 3)))
    drawn = rng.random((50_000, 3))
    hit = np.zeros(len(drawn), dtype=bool)
    for row in rows:
        hit |= (row <= drawn).all(axis=1)
    share = hit.mean()
    assert hypervolume(rows, [1, 1, 1]) == pytest.approx(share, abs=5 * math.sqrt(share * (1 - share) / len(drawn)))


@given(points, point)
def test_a_constant_third_objective_is_two_objectives(rows, corner):
    flat = array(rows)
    flat[:, 2] = 0
    area = pareto.hypervolume_2d(flat[:, :2], corner[:2])
    assert hypervolume(flat, corner) == area * corner[2]
    assert hypervolume(flat[:, :2], corner[:2]) == area


def test_one_objective_is_a_length():
    assert hypervolume([[3.0], [1.0], [9.0]], [4.0]) == 3
    assert hypervolume([], [4.0]) == 0


@given(points, st.permutations([0, 1, 2]), point)
def test_the_order_of_objectives_and_points_does_not_matter(rows, order, corner):
    mixed = array(rows)[::-1][:, order]
    assert hypervolume(mixed, np.array(corner)[list(order)]) == hypervolume(array(rows), corner)


@given(points, points)
def test_gains_are_differences_of_volume(base, extra):
    corner = (SIDE, SIDE, SIDE)
    found = pareto.gains(array(extra), corner, array(base))
    before = hypervolume(array(base), corner)
    assert found.tolist() == [hypervolume(array([*base, e]), corner) - before for e in extra]


@given(points, points, st.integers(1, 3))
def test_spread_is_greedy_in_three_objectives(base, pool, n):
    corner = (SIDE, SIDE, SIDE)
    held = list(base)
    for index in pareto.spread(array(pool), corner, array(base), n):
        volumes = [hypervolume(array([*held, p]), corner) for p in pool]
        assert volumes[index] == max(volumes) > hypervolume(array(held), corner)
        held.append(pool[index])


@given(points.filter(bool))
def test_shares_end_at_the_whole_and_never_fall(rows):
    everything = array(rows)
    reference = reference_of(front_of(everything))
    found = shares(everything, reference, hypervolume(everything, reference))
    assert found == sorted(found)
    assert found[-1] == 1


@given(points, st.tuples(*[st.one_of(coordinate, st.just(math.inf))] * 3))
def test_within_is_its_definition(rows, limits):
    assert pareto.within(array(rows), limits).tolist() == [
        all(c <= e for c, e in zip(row, limits, strict=True)) for row in rows
    ]


def test_bad_volumes_and_limits_are_refused_in_one_line():
    for reference in ([], [1, 2, 3, 4], [1, math.inf], 3):
        with pytest.raises(InputError, match="reference"):
            hypervolume([[0, 0]], reference)
    with pytest.raises(InputError, match="shape"):
        hypervolume([[0, 0]], [1, 1, 1])
    with pytest.raises(InputError, match="minus infinity"):
        hypervolume([[0, -math.inf]], [1, 1])
    for limits in ([1], [1, 2, 3], [1, math.nan], 3):
        with pytest.raises(InputError):
            pareto.within([[0, 0]], limits)


def test_a_contest_of_three_objectives_knows_its_share_of_the_volume():
    """All of a table is all of its volume, and what each evaluation added is what a volume of its own says."""
    space = Space(tuple(Choice(f"x{i}", (0, 1, 2)) for i in range(3)))
    rows = [
        (dict(a), {"a": float(a["x0"]), "b": 2.0 - a["x0"] + a["x1"], "c": a["x2"] - a["x1"] + 3.0})
        for a in space.every()
    ]
    objectives = [Objective("a", maximise=True), Objective("b"), Objective("c")]
    table = table_of("three", space, rows, objectives, objectives[0])
    (entry,) = contest(table, ["random"], 27, 1)
    found = entry["hypervolume"]
    assert found == sorted(found)
    assert found[-1] == pytest.approx(1)
    history = run(table.space, table.evaluate, "random", 27, 0, objectives=objectives)
    everything = costs(history, objectives)
    reference = reference_of(front_of(everything))
    reference[0] = np.median(everything[:, 0])
    whole = hypervolume(everything, reference)
    assert found == pytest.approx([hypervolume(everything[: i + 1], reference) / whole for i in range(27)])
    (line,) = summary(table, [entry])
    assert line["hypervolume"][27] == pytest.approx(1)


def test_linas_covers_more_of_three_objectives_than_random_search():
    """A planted trade-off of three: what is good for one choice's sum is bad for another's."""
    space = Space(tuple(Choice(f"x{i}", tuple(range(6))) for i in range(6)))
    objectives = tuple(Objective(name) for name in "abc")

    def evaluate(arch):
        x = [float(arch[f"x{i}"]) / 5 for i in range(6)]
        waste = sum((v - 0.4) ** 2 for v in x[2:])
        return {"a": x[0] + waste, "b": x[1] + waste, "c": 2 - x[0] - x[1] + waste}

    everything = costs(run(space, evaluate, "random", 2000, objectives=objectives, batch=500), objectives)
    corner = reference_of(front_of(everything))
    wins = 0
    for seed in range(2):
        volume = {
            s: hypervolume(costs(run(space, evaluate, s, 24, seed, objectives=objectives, batch=8), objectives), corner)
            for s in ("random", "linas")
        }
        wins += volume["linas"] > volume["random"]
    assert wins == 2
    assert len(linas(space, [], random.Random(0), 3, objectives=objectives)) == 3
