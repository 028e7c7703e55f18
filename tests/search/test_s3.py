"""Ranges that move, on landscapes whose best place is known."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sartor.errors import InputError
from sartor.records import Arch
from sartor.search.s3 import Dimension, Options, Round, s3, slope
from sartor.search.shrinking import et_error
from sartor.space.choice import Choice
from sartor.space.space import Space


def make(options: Options) -> Space:
    return Space(tuple(Choice(name, tuple(held)) for name, held in options.items()))


BOWL = {"width": 80, "depth": 2, "ratio": 2.5}
DIMENSIONS = {
    "width": Dimension((16, 24, 32), 8, 128),
    "depth": Dimension((4, 5, 6), 1, 12),
    "ratio": Dimension((2.0, 2.5, 3.0), 0.5, 4.0),
}


def bowl(arch: Arch) -> float:
    """0 at BOWL, and a hundredth for each step away from it, squared."""
    return sum(0.01 * ((arch[name] - best) / DIMENSIONS[name].step) ** 2 for name, best in BOWL.items())


def searched(errors: Callable[[Arch], float] = bowl, **options) -> list[Round]:
    settings = {"rounds": 12, "tau": 0.02, "samples": 60, "top": 10, "furthest": 2}
    return s3(make, DIMENSIONS, lambda space, number: errors, **{**settings, **options})


def test_ranges_move_out_of_where_they_began_to_the_best_and_stop_there():
    rounds = searched()
    for name, best in BOWL.items():
        held = rounds[-1].options[name]
        assert held[0] <= best <= held[-1], name
    assert min(rounds[-1].options["width"]) > max(DIMENSIONS["width"].options), "beyond where it began"
    assert rounds[-1].options["depth"][0] < DIMENSIONS["depth"].options[0]
    assert all(r.options["ratio"] == DIMENSIONS["ratio"].options for r in rounds), "what is right stays"
    assert len(rounds) < 12
    errors = [r.error for r in rounds]
    assert all(later < earlier for earlier, later in itertools.pairwise(errors))
    assert rounds[-1].best[1] < rounds[0].best[1]


def test_every_round_is_what_it_says():
    trained = []
    rounds = s3(
        make,
        DIMENSIONS,
        lambda space, number: trained.append((number, space)) or bowl,
        rounds=3,
        tau=0.02,
        samples=40,
        top=8,
        on_round=lambda r: None,
    )
    assert trained == [(i, r.space) for i, r in enumerate(rounds)]
    for r in rounds:
        assert r.space == make(r.options)
        assert all(r.space.contains(arch) and error == bowl(arch) for arch, error in r.drawn)
        assert r.error == et_error([error for _, error in r.drawn], 8)
        assert r.slopes == {name: pytest.approx(np.polyfit(range(3), v, 1)[0]) for name, v in r.subspaces.items()}
    for before, after in itertools.pairwise(rounds):
        for name, dimension in DIMENSIONS.items():
            steps = round((after.options[name][0] - before.options[name][0]) / dimension.step)
            assert steps == max(-2, min(2, -math.trunc(before.slopes[name] / 0.02)))


def test_what_does_not_fit_is_neither_drawn_nor_moved_to():
    small = lambda arch: arch["width"] * arch["depth"] <= 128
    rounds = searched(lambda arch: -0.1 * arch["width"] * arch["depth"] / 16, fits=small)
    assert all(small(arch) for r in rounds for arch, _ in r.drawn)
    with pytest.raises(InputError, match="no arch of the space fits"):
        searched(fits=lambda arch: False)


def test_a_part_in_which_nothing_fits_says_nothing():
    assert slope([0.3, math.nan, 0.1]) == pytest.approx(-0.1)
    assert slope([math.nan, 0.1]) == 0
    rounds = searched(fits=lambda arch: arch["width"] < 24, rounds=1)
    assert math.isnan(rounds[0].subspaces["width"][1])
    assert rounds[0].slopes["width"] == 0


@given(st.integers(-9, 9), st.integers(-9, 9))
def test_ranges_stay_where_they_may_be(one, other):
    dimension = Dimension((1.0, 1.5, 2.0), 0.5, 4.0)
    for steps in (one, other):
        moved = dimension.moved(dimension.options, steps)
        assert moved[0] >= 0.5
        assert moved[-1] <= 4.0
        assert [b - a for a, b in itertools.pairwise(moved)] == [0.5, 0.5]
        assert dimension.moved(moved, -steps) == dimension.options or abs(steps) > 1
    assert dimension.moved(dimension.options, 2) == (2.0, 2.5, 3.0)
    assert dimension.moved(dimension.options, -1) == (0.5, 1.0, 1.5)


@pytest.mark.parametrize("wrong", [{"rounds": 0}, {"tau": 0}, {"samples": 0}, {"tau": math.nan}, {"furthest": 0}])
def test_settings_that_make_no_sense_are_refused(wrong):
    with pytest.raises(InputError):
        searched(**wrong)


@pytest.mark.parametrize("options", [(1,), (2, 1), (1, 2, 4), (), (0, 1)])
def test_what_is_no_range_is_refused(options):
    with pytest.raises(InputError):
        Dimension(options, 1, 9)
