"""Latency predictors on sums that they must know, and on published tables of devices."""

from __future__ import annotations

import numpy as np
import pytest

from contracts.predictor import drawn
from contracts.strategy import FLAT
from sartor.errors import InputError
from sartor.predict.latency import Latency, TransferredLatency, shares_near
from sartor.search.tables.latencies import open_latencies

TABLES = {
    "nb201": ("titan_rtx_256", ("1080ti_256", "2080ti_256"), 15_625),
    "fbnet": ("titan_rtx_1", ("1080ti_1", "2080ti_1"), 5_000),
}
"""A GPU of each table, two others, and how many archs were timed there."""


def test_shares_are_counted():
    assert shares_near([100, 104, 109, 120], [100, 100, 100, 100]) == {"within_5": 0.5, "within_10": 0.75}
    with pytest.raises(InputError, match="positive"):
        shares_near([1.0], [0.0])


def sums(archs, seed: int) -> np.ndarray:
    """A device on which every option costs its own time."""
    x = FLAT.encode_many(archs)[:, :40]
    return 1 + x @ np.random.default_rng(seed).uniform(0.1, 1, x.shape[1])


def test_a_sum_and_a_product_are_both_known():
    archs, others = drawn(FLAT, 100), drawn(FLAT, 200, seed=1)
    for ms in (sums, lambda archs, seed: np.exp(sums(archs, seed) / 2)):
        mean, deviation = Latency(FLAT).fit(archs, ms(archs, 0)).predict(others)
        assert shares_near(mean, ms(others, 0))["within_5"] > 0.95
        assert (deviation > 0).all()


def test_a_mixture_of_known_devices_takes_ten_measurements():
    archs, others = drawn(FLAT, 120), drawn(FLAT, 200, seed=1)
    known = {str(seed): Latency(FLAT).fit(archs, sums(archs, seed)) for seed in range(3)}

    def new(archs):
        return 5 * sums(archs, 0) ** 0.6 * sums(archs, 1) ** 0.4

    made = TransferredLatency(FLAT, known).fit(archs[:10], new(archs[:10]))
    alone = Latency(FLAT).fit(archs[:10], new(archs[:10]))
    transferred = shares_near(made.predict(others)[0], new(others))["within_5"]
    assert transferred > 0.95
    assert transferred > shares_near(alone.predict(others)[0], new(others))["within_5"] + 0.3


def test_what_cannot_be_fitted_is_one_clear_line():
    archs = drawn(FLAT, 10)
    with pytest.raises(InputError, match="positive"):
        Latency(FLAT).fit(archs, np.arange(10.0))
    with pytest.raises(InputError, match="needs numbers"):
        shares_near(["fast"], ["slow"])
    with pytest.raises(InputError, match="known device"):
        TransferredLatency(FLAT, {})
    with pytest.raises(InputError, match="not been fitted"):
        Latency(FLAT).predict(archs)
    known = {"gpu": Latency(FLAT).fit(archs, sums(archs, 0))}
    with pytest.raises(InputError, match="at least"):
        TransferredLatency(FLAT, known).fit(archs[:2], [1.0, 2.0])
    with pytest.raises(InputError, match="unknown latencies"):
        open_latencies("abacus")


@pytest.mark.parametrize("name", TABLES)
def test_ten_archs_on_a_new_gpu_are_worth_more_with_other_gpus_known(data_dir, name):
    device, known, count = TABLES[name]
    table = open_latencies(name, data_dir)
    assert len(table.devices[device]) == count
    archs = list(table.devices[device])
    ms = {d: np.array([table.devices[d][arch] for arch in archs]) for d in (device, *known)}
    order = np.random.default_rng(0).permutation(count)
    learnt, tested = order[:100], order[100:400]
    others = [archs[i] for i in tested]
    own = Latency(table.space).fit([archs[i] for i in learnt], ms[device][learnt])
    assert shares_near(own.predict(others)[0], ms[device][tested])["within_10"] > 0.95
    elsewhere = {d: Latency(table.space).fit([archs[i] for i in learnt], ms[d][learnt]) for d in known}
    few = [archs[i] for i in learnt[:10]], ms[device][learnt[:10]]
    moved = TransferredLatency(table.space, elsewhere).fit(*few).predict(others)[0]
    alone = Latency(table.space).fit(*few).predict(others)[0]
    shares = [shares_near(said, ms[device][tested])["within_10"] for said in (moved, alone)]
    assert shares[0] > 0.9
    if name == "fbnet":  # on NAS-Bench-201 ten archs are enough: GPUs at a batch of 256 add up
        assert shares[0] > shares[1] + 0.05
