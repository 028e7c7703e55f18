"""A process sees archs in one of two ways; what computes the same is one to it."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from sartor.predict.gaussian import fit_as_seen


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
