"""The judge on predictions whose quality is known."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import rankdata

from contracts.predictor import CELL, drawn, values_of
from contracts.strategy import FLAT
from sartor.errors import InputError
from sartor.predict.judge import calibration_error, judge, learning_curve, spearman, within
from sartor.predict.ridge import Ridge


class Oracle:
    """Says what it is told to."""

    def __init__(self, mean: np.ndarray, deviation: np.ndarray):
        self.said = np.asarray(mean), np.asarray(deviation)

    def fit(self, archs, values):
        return self

    def predict(self, archs):
        return self.said


def test_true_deviations_are_calibrated_and_others_are_off_by_what_they_are():
    rng = np.random.default_rng(0)
    deviation = rng.uniform(0.5, 2, 20_000)
    mean = rng.normal(size=20_000)
    true = mean + deviation * rng.normal(size=20_000)
    for share in (0.5, 0.8, 0.95):
        assert within(mean, deviation, true, share) == pytest.approx(share, abs=0.01)
    assert calibration_error(mean, deviation, true) < 0.01
    assert calibration_error(mean, deviation * 1e9, true) == pytest.approx(0.5)  # the mean of 1 - p
    assert calibration_error(mean, deviation * 1e-9, true) == pytest.approx(0.5, abs=1e-3)
    assert within(mean, 2 * deviation, true, 0.6827) == pytest.approx(0.9545, abs=0.01)  # two deviations


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9)), min_size=2, max_size=20))
def test_spearman_is_the_correlation_of_ranks(pairs):
    a, b = (np.array(v) for v in zip(*pairs, strict=True))
    ranks = rankdata(a), rankdata(b)
    if np.ptp(a) == 0 or np.ptp(b) == 0:
        assert np.isnan(spearman(a, b))
    else:
        assert spearman(a, b) == pytest.approx(np.corrcoef(*ranks)[0, 1])


def test_judge_is_json_and_none_where_there_is_nothing_to_tell():
    archs = drawn(FLAT, 4)
    found = judge(Oracle(np.ones(4), np.ones(4)), archs, [1.0, 2.0, 3.0, 4.0])
    assert found["tau"] is None
    assert found["spearman"] is None
    assert found["rmse"] == pytest.approx(np.sqrt(14 / 4))
    assert json.loads(json.dumps(found, allow_nan=False)) == found
    with pytest.raises(InputError, match="one finite value"):
        judge(Oracle(np.ones(4), np.ones(4)), archs, [1.0, 2.0])


def test_a_learning_curve_learns_and_repeats():
    archs = list(dict.fromkeys(drawn(CELL, 260)))
    values = values_of(archs) + np.random.default_rng(0).normal(size=len(archs))
    curve = learning_curve(Ridge, CELL, archs, values, sizes=(8, 100), seeds=(0, 1, 2))
    assert curve["median"]["100"]["tau"] > curve["median"]["8"]["tau"]
    assert len(curve["runs"]) == 6
    assert json.loads(json.dumps(curve, allow_nan=False)) == curve
    again = learning_curve(Ridge, CELL, archs, values, sizes=(100,), seeds=(1,))
    assert again["runs"][0] == next(r for r in curve["runs"] if r["seed"] == 1 and r["size"] == 100)


@pytest.mark.parametrize("sizes", [(), (2,), (1000,)])
def test_sizes_that_cannot_be_are_told(sizes):
    archs = drawn(FLAT, 20)
    with pytest.raises(InputError, match="sizes must be"):
        learning_curve(Ridge, FLAT, archs, values_of(archs), sizes=sizes)
