"""A process sees archs in one of two ways; what computes the same is one to it."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sartor.predict.gaussian import fit_as_seen
from sartor.predict.light import fit_gaussian_process


@given(st.integers(0, 2**32), st.floats(0.1, 3))
def test_every_value_can_be_warped_of_which_means_were_fitted(seed: int, spread: float):
    """The best of archs that are seen alike lies beyond their mean, and may lie beyond any warp of the means."""
    rng = np.random.default_rng(seed)
    features = np.repeat(rng.standard_normal((12, 3)), 2, axis=0)
    values = np.repeat(np.exp(spread * rng.standard_normal(12)), 2) + spread * np.tile([-1.0, 1.0], 12)
    process, by_features = fit_as_seen(features, rng.standard_normal((24, 3)), values)
    assert np.isfinite(process.warped(values)).all()
    assert len(process.x) == (12 if by_features else 24)


def test_what_is_alike_is_merged_and_what_tells_more_is_seen():
    rng = np.random.default_rng(0)
    features = np.repeat(rng.standard_normal((30, 2)), 2, axis=0)
    values = features.sum(axis=1)
    process, by_features = fit_as_seen(features, rng.standard_normal((60, 5)), values)
    assert by_features
    assert len(process.x) == 30
    process, by_features = fit_as_seen(rng.standard_normal((60, 5)), features, values)
    assert not by_features


def test_values_that_are_equal_but_for_rounding_can_be_fitted():
    rng = np.random.default_rng(0)
    x = rng.standard_normal((20, 4))
    for values in (np.array([0.3, 0.1 + 0.2] * 10), np.array([5.0, *[0.1 + 0.2, 0.3] * 9, 0.3])):
        process, _ = fit_as_seen(x, x, values)
        exact, _ = fit_as_seen(x, x, np.where(values > 1, values, 0.3))
        np.testing.assert_allclose(process.predict(x)[0], exact.predict(x)[0], rtol=1e-6)


def test_of_one_arch_evaluated_often_the_spread_is_known():
    row = np.full((7, 5), 0.1)
    values = np.array([10, 11, 9, 10.5, 9.5, 10, 10.2])
    process = fit_gaussian_process(row, values)
    mean, deviation = process.predict(row[:1])
    assert mean[0] == pytest.approx(values.mean())
    assert deviation[0] == pytest.approx(values.std(), rel=1e-3)
