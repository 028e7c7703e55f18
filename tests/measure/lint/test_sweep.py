"""Steps of kernels: of made-up machines and of simulated ones, whose arrays are known."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sartor.errors import InputError
from sartor.measure.lint.products import Product
from sartor.measure.lint.sweep import SIZES, step_of, sweep
from sartor.measure.targets.named import open_target


@settings(max_examples=25)
@given(
    step=st.integers(2, 64),
    call=st.floats(0, 50),
    grows=st.floats(0.1, 1),
    tiles=st.floats(0, 2),
    other=st.floats(0, 40),
    seed=st.integers(0, 99),
)
def test_the_step_of_a_machine_in_tiles_is_found(step, call, grows, tiles, other, seed):
    """Times as the module says, with a little noise, and one size in twenty disturbed."""
    rng = np.random.default_rng(seed)
    n = np.array(SIZES, dtype=float)
    beside = n % step != 0
    lost = tiles * (np.ceil(n / step) * step - n) + other * beside
    times = call + (grows + tiles) * n + lost
    share = float((lost / times)[beside].mean())
    times *= 1 + 0.003 * rng.standard_normal(len(n))
    times[rng.random(len(n)) < 0.05] *= 1.5
    found, told = step_of(list(SIZES), times.tolist())
    if share > 0.1:
        assert found == step
        assert told == pytest.approx(share, rel=0.35)


@settings(max_examples=15)
@given(seed=st.integers(0, 200), noise=st.sampled_from([0.0, 0.003, 0.02]))
def test_a_machine_without_steps_has_none(seed, noise):
    n = np.array(SIZES, dtype=float)
    times = (10 + n) * (1 + noise * np.random.default_rng(seed).standard_normal(len(n)))
    assert step_of(list(SIZES), times.tolist()) == (1, 0.0)


@pytest.mark.parametrize(("axis", "step"), [("in", 12), ("out", 20)])
@pytest.mark.parametrize("product", [Product(1, 14, 64, 64), Product(1, 196, 64, 64, linear=True)])
def test_the_steps_of_an_array_are_its_sides(product, axis, step):
    """Weights stay in place: what a product reads lies along the rows, what it makes along the columns."""
    found = sweep(product, axis, open_target("systolic:12x20,bandwidth=1000GB"))
    assert found.size == step
    assert found.kind == product.kind
    cycles = [math.ceil(n / step) for n in found.sizes]
    assert np.allclose(np.array(found.times_ms) / found.times_ms[0], np.array(cycles) / cycles[0])


def test_memory_has_no_steps():
    assert sweep(Product(1, 14, 64, 64), "out", open_target("systolic:12x20,bandwidth=1GB")).size == 1


@pytest.mark.parametrize("times", [[1.0] * 9, [1.0, float("nan")] * 5, [0.0] * 10])
def test_nonsense_is_refused(times):
    with pytest.raises(InputError):
        step_of(range(10), times)


def test_too_few_sizes_are_refused():
    with pytest.raises(InputError, match="at least 8 sizes"):
        sweep(Product(1, 8, 8, 8), "in", open_target("systolic:8x8"), range(1, 5))
