"""The tests of differences over seeds: against enumeration, against SciPy, and against random search itself."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from sartor.errors import InputError
from sartor.search.audit.significance import declared, holm, paired, seeds_needed, student

few = st.lists(st.integers(-4, 4), min_size=1, max_size=9)


def enumerated(differences: list[int]) -> float:
    """The test by its definition: every assignment of signs to the ranks, Pratt's way with zeros."""
    ranks = stats.rankdata(np.abs(differences))
    ranks = [r for r, d in zip(ranks, differences, strict=True) if d]
    held = sum(r for r, d in zip(ranks, [d for d in differences if d], strict=True) if d > 0)
    sums = [
        sum(r for r, s in zip(ranks, signs, strict=True) if s) for signs in itertools.product((0, 1), repeat=len(ranks))
    ]
    return min(1.0, 2 * min(np.mean([s <= held for s in sums]), np.mean([s >= held for s in sums])))


@given(few)
def test_the_test_is_its_enumeration_ties_and_zeros_included(differences):
    assert paired(differences, [0] * len(differences))["p"] == pytest.approx(enumerated(differences))


@pytest.mark.parametrize("n", [3, 6, 15, 40])
def test_the_test_is_scipys_where_nothing_ties(n: int):
    a, b = np.random.default_rng(n).normal([[0.4], [0.0]], 1, (2, n))
    ours = paired(a, b)
    assert ours["p"] == pytest.approx(stats.wilcoxon(a, b, method="exact").pvalue)
    assert -1 <= ours["effect"] <= 1
    assert ours["effect"] == pytest.approx(-paired(b, a)["effect"])


@given(few, st.integers(1, 5))
def test_neither_units_nor_direction_change_p(differences, factor):
    p = paired(differences, [0] * len(differences))["p"]
    assert paired([factor * d for d in differences], [0] * len(differences))["p"] == p
    assert paired([0] * len(differences), differences)["p"] == pytest.approx(p)


def test_the_lowest_p_is_that_of_all_pairs_pointing_one_way():
    for n in range(1, 12):
        test = paired(np.arange(1, n + 1), np.zeros(n))
        assert test["p"] == pytest.approx(min(1, test["least_p"]))
        assert test["effect"] == 1
        assert (test["low"] is None) == (test["least_p"] > 0.05), "there is an interval where there could be a verdict"


def test_equal_histories_differ_in_nothing():
    test = paired([1.0, 2.0], [1.0, 2.0])
    assert (test["p"], test["effect"], test["shift"]) == (1, 0, 0)
    assert paired([0.1 + 0.2], [0.3])["mean_difference"] == 0


def test_the_interval_holds_the_shift_as_often_as_it_says():
    """Of 200 samples of eight from a heavy-tailed distribution, 95 %: within three standard errors."""
    rng, held = np.random.default_rng(0), 0
    for _ in range(200):
        test = paired(rng.standard_t(2, 8) + 0.7, np.zeros(8))
        held += test["low"] <= 0.7 <= test["high"]
    assert held / 200 >= 0.95 - 3 * math.sqrt(0.95 * 0.05 / 200)


@given(st.lists(st.floats(0, 1), min_size=1, max_size=8))
def test_holm_is_its_definition(p):
    """Step down: a hypothesis falls where those before it fell and p times the number left is low enough."""
    adjusted = holm(p)
    for level in (0.01, 0.05, 0.3):
        fell = set()
        for place, index in enumerate(sorted(range(len(p)), key=p.__getitem__)):
            if (len(p) - place) * p[index] > level:
                break
            fell.add(index)
        assert {i for i, value in enumerate(adjusted) if value <= level} == fell


def test_seeds_needed_is_the_first_number_that_suffices():
    for comparisons in (1, 2, 3, 9):
        n = seeds_needed(comparisons)
        assert comparisons * 2.0 ** (1 - n) <= 0.05 < comparisons * 2.0 ** (2 - n)


def test_what_is_declared():
    rise = np.arange(1.0, 9.0)
    tests = {"up": paired(rise, 0 * rise), "down": paired(-rise, 0 * rise), "level": paired(0 * rise, 0 * rise)}
    assert [t["verdict"] for t in declared(tests).values()] == ["better", "worse", "not shown"]
    short = {name: paired(sign * rise[:5], 0 * rise[:5]) for name, sign in (("up", 1), ("down", -1))}
    assert {t["verdict"] for t in declared(short).values()} == {"too few seeds"}


def test_noise_is_declared_a_difference_as_seldom_as_promised():
    """Families of three comparisons of noise with noise: at the 5 % level, in no more than 5 % of 200 families."""
    rng, wrong = np.random.default_rng(1), 0
    for _ in range(200):
        base = rng.normal(size=9)
        tests = {str(i): paired(rng.normal(size=9), base) for i in range(3)}
        wrong += any(t["verdict"] in ("better", "worse") for t in declared(tests).values())
    assert wrong / 200 <= 0.05 + 3 * math.sqrt(0.05 * 0.95 / 200)


def test_students_interval_is_scipys():
    values = [1.0, 2.0, 4.0]
    expected = stats.t.interval(0.95, 2, np.mean(values), stats.sem(values))
    assert student(values) == pytest.approx(expected)
    assert student([1.0]) is None


@pytest.mark.parametrize(("a", "b"), [([], []), ([1], [1, 2]), ([math.nan], [1]), ([[1]], [[1]])])
def test_lists_that_are_no_pairs(a, b):
    with pytest.raises(InputError, match="paired test"):
        paired(a, b)
