"""A latency that gradients go through, on cells measured on real devices."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from contracts.predictor import drawn
from contracts.strategy import FLAT
from sartor.errors import InputError
from sartor.predict.relaxed import RelaxedLatency
from sartor.search.tables.latencies import open_latencies
from sartor.space.space import Space


def descended(predictor: RelaxedLatency, space: Space):
    """The arch that a relaxed one becomes which only wants to be fast."""
    logits = {c.name: torch.zeros(len(c.options), requires_grad=True) for c in space.choices}
    optimiser = torch.optim.Adam(logits.values(), lr=0.1)
    for _ in range(60):
        optimiser.zero_grad()
        predictor({name: row.softmax(0) for name, row in logits.items()}).log().backward()
        optimiser.step()
    return space.canonical({c.name: c.options[int(logits[c.name].argmax())] for c in space.choices})


def test_measured_cells_are_known_to_a_tenth_and_descending_finds_fast_ones(data_dir):
    table = open_latencies("nb201", data_dir)
    archs = list(table.devices["titan_rtx_256"])
    ms = np.array(list(table.devices["titan_rtx_256"].values()))
    order = np.random.default_rng(0).permutation(len(ms))[:1500]
    learnt, tested = order[:1000], order[1000:]
    predictor = RelaxedLatency(table.space).fit([archs[i] for i in learnt], ms[learnt])
    said = predictor.predict([archs[i] for i in tested])
    assert np.abs(said / ms[tested] - 1).mean() < 0.1
    found = descended(predictor, table.space)
    assert table.devices["titan_rtx_256"][found] < np.quantile(ms, 0.02)


def test_a_mixture_that_is_sure_is_its_arch_and_what_cannot_be_asked_is_one_clear_line():
    archs = drawn(FLAT, 40)
    with pytest.raises(InputError, match="not been fitted"):
        RelaxedLatency(FLAT).predict(archs)
    with pytest.raises(InputError, match="not been fitted"):
        RelaxedLatency(FLAT)({})
    with pytest.raises(InputError, match="positive"):
        RelaxedLatency(FLAT).fit(archs, np.zeros(40))
    predictor = RelaxedLatency(FLAT).fit(archs, 1 + FLAT.encode_many(archs)[:, :3].sum(axis=1))
    sure = {c.name: torch.tensor([[float(a[c.name] == o) for o in c.options] for a in archs]) for c in FLAT.choices}
    np.testing.assert_allclose(predictor(sure).numpy(), predictor.predict(archs), rtol=1e-5)
    with pytest.raises(InputError, match="probabilities, one of each option"):
        predictor({})
