"""The comparison with the baselines: identities of the arithmetic, and honesty of the sentences."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from scipy import stats

from sartor.report.story import Point, against, compare, interval, is_noise, itself

points = st.lists(
    st.builds(Point, st.uuids().map(str), st.floats(0.1, 0.99), st.floats(0.01, 10.0)), min_size=1, max_size=12
)


@given(st.integers(0, 400), st.integers(1, 400))
def test_interval_is_wilsons(right: int, n: int) -> None:
    assume(right <= n)
    expected = stats.binomtest(right, n).proportion_ci(method="wilson")
    assert interval(right / n, n) == pytest.approx((expected.low, expected.high), abs=1e-6)


def test_noise_is_what_sampling_produces() -> None:
    """Two networks of equal accuracy on separate samples differ by 'noise' about 95 times in 100."""
    rng, n, accuracy, draws = np.random.default_rng(0), 1_000, 0.9, 4_000
    pairs = rng.binomial(n, accuracy, (draws, 2)) / n
    share = np.mean([is_noise(a, b, n) for a, b in pairs])
    spread = np.sqrt(0.95 * 0.05 / draws)
    assert share == pytest.approx(0.95, abs=5 * spread)


def test_noise_needs_to_know_how_many_images() -> None:
    assert not is_noise(0.9, 0.9001, None)


@given(points, points)
def test_against_finds_the_best_member_on_either_side(front: list[Point], baselines: list[Point]) -> None:
    for row in against(front, baselines):
        gains = [p.accuracy - row.baseline.accuracy for p in front if p.latency_ms <= row.baseline.latency_ms]
        ratios = [row.baseline.latency_ms / p.latency_ms for p in front if p.accuracy >= row.baseline.accuracy]
        assert row.gain == max(gains, default=None)
        assert row.speedup == max(ratios, default=None)


@given(points, points)
def test_a_front_against_itself_never_loses(front: list[Point], more: list[Point]) -> None:
    for row in against([*front, *more], front):
        assert row.gain is not None
        assert row.speedup is not None
        assert row.gain >= 0
        assert row.speedup >= 1


PICKED = Point("m", 0.9, 0.4)


def test_a_picked_baseline_says_what_the_others_are_for() -> None:
    said = " ".join(itself(PICKED, [PICKED, Point("near", 0.895, 0.1), Point("far", 0.7, 0.01)]))
    assert "near, within a point of it, takes 0.25 times as long" in said
    assert "far" not in said
    assert len(itself(PICKED, [PICKED])) == 1


def test_a_win_names_the_best_baseline_no_slower() -> None:
    said = " ".join(compare(PICKED, [Point("a", 0.8, 0.2), Point("b", 0.85, 0.4), Point("c", 0.89, 1.0)]))
    assert "5.0 points more accurate than the best baseline that is no slower, b (85.0% in 0.400 ms)" in said
    assert "No baseline reaches its accuracy" in said


def test_a_slower_match_is_told_as_a_ratio() -> None:
    said = " ".join(compare(PICKED, [Point("a", 0.8, 0.2), Point("c", 0.91, 1.0)]))
    assert "matches its accuracy, c, takes 2.5 times as long" in said


def test_a_loss_is_said_plainly() -> None:
    said = compare(PICKED, [Point("a", 0.93, 0.3), Point("b", 0.5, 0.1)])
    assert said == [
        "A baseline does as well or better: a is 3.0 points more accurate and no slower (93.0% in 0.300 ms)."
    ]


def test_a_tie_is_no_win() -> None:
    assert "just as accurate and no slower" in compare(PICKED, [Point("a", 0.9, 0.4)])[0]


def test_only_slower_baselines() -> None:
    said = " ".join(compare(PICKED, [Point("a", 0.92, 0.8), Point("b", 0.95, 4.0)]))
    assert "Every baseline is slower: the fastest of them, a, takes 2.0 times as long" in said
    assert "2.0 points less accurate" in said


def test_a_small_difference_is_called_noise() -> None:
    near = [Point("a", 0.899, 0.4)]
    assert "within the noise of 500 images" in compare(PICKED, near, 500)[0]
    assert "noise" not in compare(PICKED, [Point("a", 0.7, 0.4)], 500)[0]


def test_no_baselines_no_claims() -> None:
    assert compare(PICKED, []) == []
