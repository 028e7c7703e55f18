"""What every predictor of archs must keep. Give yours the suite by subclassing it in a test file:

class TestMine(PredictorSuite):
    make = staticmethod(MyPredictor)  # called with a space and a seed
"""

from __future__ import annotations

import math
import random
from typing import Any

import numpy as np
import pytest

from contracts.strategy import CONDITIONAL, FLAT, SINGLE, TINY, evaluate
from sartor.errors import InputError
from sartor.predict.light import FEWEST, kendall
from sartor.predict.predictor import ArchPredictor
from sartor.records import Arch
from sartor.space.cell import nas_bench_201
from sartor.space.listed import Listed
from sartor.space.space import Space

CELL = nas_bench_201()
SPACES = {
    "conditional": CONDITIONAL,
    "flat": FLAT,
    "cell": CELL,
    "listed": Listed(FLAT.choices, tuple(FLAT.sample(random.Random(i)) for i in range(60))),
}


def drawn(space: Space, n: int, seed: int = 0) -> list[Arch]:
    rng = random.Random(seed)
    return [space.sample(rng) for _ in range(n)]


def values_of(archs: list[Arch]) -> np.ndarray:
    """A sum over options, in percents: of a cell, how many convolutions it has."""
    if all(isinstance(option, str) for option in archs[0].values()):
        return np.array([50 + 7.0 * sum("conv" in str(o) for o in arch.values()) for arch in archs])
    return np.array([100 * evaluate(arch)["accuracy_val"] for arch in archs])


class PredictorSuite:
    """Subclass with ``make = staticmethod(...)``."""

    make: Any = None

    def fitted(self, space: Space, archs: list[Arch], values: Any, seed: int = 0) -> ArchPredictor:
        assert self.make is not None, "set `make = staticmethod(...)` in the class"
        return type(self).make(space, seed).fit(archs, values)

    @pytest.mark.parametrize("name", SPACES)
    def test_ranks_archs_it_has_not_seen_in_the_metrics_unit(self, name: str):
        space = SPACES[name]
        archs, others = drawn(space, 40), drawn(space, 60, seed=1)
        values, true = values_of(archs), values_of(others)
        mean, deviation = self.fitted(space, archs, values).predict(others)
        assert mean.shape == deviation.shape == true.shape
        assert mean.dtype == deviation.dtype == np.float64
        assert kendall(mean, true) > 0.4
        assert np.abs(mean - true).mean() < np.abs(true - true.mean()).mean()
        assert np.isfinite(deviation).all()
        assert (deviation >= 0).all()

    def test_the_unit_does_not_matter(self):
        archs, others = drawn(FLAT, 30), drawn(FLAT, 20, seed=1)
        values = values_of(archs)
        mean, deviation = self.fitted(FLAT, archs, values).predict(others)
        scaled = self.fitted(FLAT, archs, 1024 * values).predict(others)  # a power of two: no value is rounded
        assert scaled[0] == pytest.approx(1024 * mean, rel=1e-3)
        assert scaled[1] == pytest.approx(1024 * deviation, rel=1e-2, abs=1024 * 1e-3 * float(np.ptp(values)))

    def test_same_seed_same_predictions_and_torch_is_left_alone(self):
        import torch

        archs = drawn(CELL, 12)
        values = values_of(archs)
        torch.manual_seed(11)
        before, threads = torch.get_rng_state(), torch.get_num_threads()
        one = self.fitted(CELL, archs, values, seed=3).predict(archs)
        assert torch.equal(torch.get_rng_state(), before)
        assert torch.get_num_threads() == threads
        torch.manual_seed(12)
        two = self.fitted(CELL, archs, values, seed=3).predict(archs)
        for a, b in zip(one, two, strict=True):
            assert np.array_equal(a, b)

    def test_an_arch_is_predicted_by_itself_as_among_others(self):
        archs, others = drawn(CONDITIONAL, 15), drawn(CONDITIONAL, 7, seed=1)
        predictor = self.fitted(CONDITIONAL, archs, values_of(archs))
        together = predictor.predict(others)
        for i, arch in enumerate(others):
            for whole, alone in zip(together, predictor.predict([arch]), strict=True):
                assert alone[0] == pytest.approx(whole[i], rel=1e-4, abs=1e-4)
        assert [len(part) for part in predictor.predict([])] == [0, 0]

    def test_what_was_fitted_before_is_forgotten(self):
        archs = drawn(FLAT, 20)
        values = values_of(archs)
        fresh = self.fitted(FLAT, archs, values)
        refitted = self.fitted(FLAT, archs[::-1], -values).fit(archs, values)
        assert np.array_equal(fresh.predict(archs)[0], refitted.predict(archs)[0])

    @pytest.mark.parametrize("space", [TINY, SINGLE], ids=["tiny", "single"])
    def test_a_constant_metric_and_repeated_archs(self, space: Space):
        archs = drawn(space, FEWEST)
        mean, deviation = self.fitted(space, archs, [3.0] * FEWEST).predict(archs)
        assert mean == pytest.approx(np.full(FEWEST, 3.0), abs=1e-6)
        assert np.isfinite(deviation).all()

    def test_what_cannot_be_fitted_or_predicted_is_one_clear_line(self):
        archs = drawn(FLAT, 10)
        values = values_of(archs)
        foreign = drawn(CONDITIONAL, 10)
        for bad, their, words in (
            (archs[: FEWEST - 1], values[: FEWEST - 1], f"at least {FEWEST}"),
            ([], [], f"at least {FEWEST}"),
            (archs, values[:-1], "one value an arch"),
            (archs, [*values[:-1], math.nan], "finite"),
            (archs, [*values[:-1], math.inf], "finite"),
            (archs, ["fast"] * 10, "numbers"),
            ([*archs[:-1], foreign[0]], values, "not an arch of this space"),
            ([dict(arch) for arch in archs], values, "archs of this space"),
        ):
            with pytest.raises(InputError, match=words) as told:
                self.fitted(FLAT, bad, their)
            assert "\n" not in str(told.value)
        with pytest.raises(InputError, match="not been fitted"):
            type(self).make(FLAT, 0).predict(archs)
        with pytest.raises(InputError, match="not an arch of this space"):
            self.fitted(FLAT, archs, values).predict(foreign)
