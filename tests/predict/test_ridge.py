"""Ridge regression against scikit-learn's, and against leaving each row out."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.linear_model import Ridge as Reference

from contracts.predictor import drawn
from contracts.strategy import CONDITIONAL, FLAT
from sartor.predict.ridge import PENALTIES, Ridge, fit_line


def rows(n: int, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    x = CONDITIONAL.encode_many(drawn(CONDITIONAL, n, seed))
    weights = np.random.default_rng(7).normal(size=x.shape[1])
    return x, x @ weights + 0.3 * np.random.default_rng(seed).normal(size=n)


def test_the_penalty_is_the_best_of_those_left_out_by_brute_force():
    x, y = rows(25)
    power = np.linalg.svd(x - x.mean(axis=0), compute_uv=False) ** 2
    unit = power.sum() / (power > 1e-12 * power.max()).sum()
    errors = []
    for penalty in PENALTIES * unit:
        left_out = []
        for i in range(len(y)):
            kept = np.arange(len(y)) != i
            # Left out of a regression whose centre is that of all rows, which is what the closed form has.
            centred, centre = x - x.mean(axis=0), np.ones((len(y), 1))
            design = np.hstack([centred, centre])
            gram = design[kept].T @ design[kept] + np.diag([*[penalty] * x.shape[1], 0])
            left_out.append(design[i] @ np.linalg.solve(gram, design[kept].T @ y[kept]))
        errors.append(((y - left_out) ** 2).mean())
    reference = Reference(alpha=float((PENALTIES * unit)[int(np.argmin(errors))])).fit(x, y)
    fresh, _ = rows(20, seed=1)
    assert fit_line(x, y)(fresh)[0] == pytest.approx(reference.predict(fresh))


def test_deviations_hold_the_noise_that_was_added():
    archs, others = drawn(FLAT, 150), drawn(FLAT, 2000, seed=1)
    x, fresh = FLAT.encode_many(archs), FLAT.encode_many(others)
    weights = np.random.default_rng(7).normal(size=x.shape[1])
    rng = np.random.default_rng(1)
    mean, deviation = Ridge(FLAT).fit(archs, x @ weights + 2 * rng.normal(size=150)).predict(others)
    error = (fresh @ weights + 2 * rng.normal(size=2000) - mean) / deviation
    assert error.std() == pytest.approx(1, abs=0.1)


def test_a_sum_is_known_after_a_few_dozen():
    archs, others = drawn(FLAT, 60), drawn(FLAT, 100, seed=1)
    weights = np.random.default_rng(7).normal(size=FLAT.encode_many(archs).shape[1])
    mean, _ = Ridge(FLAT).fit(archs, FLAT.encode_many(archs) @ weights).predict(others)
    assert mean == pytest.approx(FLAT.encode_many(others) @ weights, abs=0.05)
