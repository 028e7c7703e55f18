"""The loop: resuming is replaying, and nothing that a strategy or an evaluator does wrong gets into the history."""

from __future__ import annotations

import math
import random

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from contracts.strategy import CONDITIONAL, FLAT, InMemory, evaluate
from sartor.errors import InputError
from sartor.records import Arch
from sartor.search import run
from sartor.search.loop import NotMeasured, search
from sartor.search.methods.nsga2 import nsga2
from sartor.search.methods.random import random_search


def archs(records):
    return [record.arch for record in records]


@settings(max_examples=25)
@given(st.lists(st.integers(0, 12), max_size=5), st.integers(1, 9), st.integers(0, 20))
def test_any_pattern_of_interruptions_gives_the_same_search(lengths, batch, first):
    """Stopped after any numbers of evaluations, with any batch and any number of initial archs."""
    rng = random.Random(first)
    initial = list(dict.fromkeys(FLAT.sample(rng) for _ in range(first)))
    whole = search(FLAT, evaluate, nsga2, evaluations=40, seed=1, batch=batch, initial=initial)
    store = InMemory()
    for length in [*lengths, 40]:
        target = min(40, len(store.records()) + length)
        search(FLAT, evaluate, nsga2, evaluations=target, seed=1, batch=batch, initial=initial, store=store)
    search(FLAT, evaluate, nsga2, evaluations=40, seed=1, batch=batch, initial=initial, store=store)
    assert archs(store.records()) == archs(whole)
    assert [r.name for r in whole] == [f"a{i}" for i in range(40)]


def test_initial_archs_come_first_and_count():
    first = [FLAT.smallest(), FLAT.largest(), FLAT.smallest()]
    found = search(FLAT, evaluate, random_search, evaluations=5, seed=0, batch=2, initial=first)
    assert archs(found)[:2] == first[:2]
    assert len(found) == len(set(archs(found))) == 5


def test_seeds_differ():
    one, two = (search(FLAT, evaluate, random_search, evaluations=9, seed=seed) for seed in (0, 1))
    assert archs(one) != archs(two)


def test_each_record_is_stored_before_it_is_reported():
    store, seen = InMemory(), []
    search(
        FLAT,
        evaluate,
        random_search,
        evaluations=6,
        seed=0,
        store=store,
        on_record=lambda record: seen.append((record, len(store.records()))),
    )
    assert [count for _, count in seen] == [1, 2, 3, 4, 5, 6]
    assert [record for record, _ in seen] == store.records()


def test_provenance_says_where_a_record_comes_from():
    found = search(FLAT, evaluate, random_search, evaluations=3, seed=7, batch=2, provenance={"device": "here"})
    assert [r.provenance["batch_start"] for r in found] == [0, 0, 2]
    assert [r.provenance["batch_size"] for r in found] == [2, 2, 2]
    assert all(r.provenance["seed"] == 7 and r.provenance["device"] == "here" for r in found)
    assert all(r.provenance["seconds"] >= 0 for r in found)


def test_metrics_that_are_not_finite_are_left_out_and_named():
    def broken(arch: Arch) -> dict[str, float]:
        return {"accuracy_val": math.nan, "latency_ms": 1.0, "loss": math.inf}

    record = search(FLAT, broken, random_search, evaluations=1, seed=0)[0]
    assert record.metrics == {"latency_ms": 1.0}
    assert record.provenance["not_finite"] == ["accuracy_val", "loss"]


def test_what_cannot_be_measured_is_a_record_with_the_reason():
    def cannot(arch: Arch) -> dict[str, float]:
        raise NotMeasured("the target\nis not there")

    found = search(FLAT, cannot, nsga2, evaluations=12, seed=0)
    assert [record.metrics for record in found] == [{}] * 12
    assert {record.provenance["failed"] for record in found} == {"the target is not there"}


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (None, "returns None: return names and numbers"),
        ([0.5, 1.0], r"returns \[0.5, 1.0\]: return names"),
        (0.5, "returns 0.5: return names"),
        ({1: 0.5}, r"returns \{1: 0.5\}: return names"),
        ({"accuracy_val": "0.5"}, "returns accuracy_val = '0.5', which is no number"),
        ({"accuracy_val": None}, "returns accuracy_val = None, which is no number"),
        ({"accuracy_val": [1.0] * 99}, r"returns accuracy_val = \[1.0, .*\.\.\., which is no number"),
        ({"accuracy_val": np.zeros(2)}, "which is no number"),
        ({"accuracy_val": torch.zeros(2)}, "which is no number"),
        ({"accuracy_val": 1j}, "which is no number"),
        ({"accuracy_val": 10**400}, "which is no number"),
    ],
)
def test_an_answer_that_is_not_names_and_numbers_is_one_line(answer, reason):
    for call in (search, lambda *a, **k: run(FLAT, lambda arch: answer, "random", 1)):
        with pytest.raises(InputError, match=reason) as caught:
            call(FLAT, lambda arch: answer, random_search, evaluations=1, seed=0)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize("number", [1, True, np.float32(0.5), np.int64(3), torch.tensor(0.25)])
def test_numbers_of_any_kind_are_numbers(number):
    record = search(FLAT, lambda arch: {"accuracy_val": number}, random_search, evaluations=1, seed=0)[0]
    assert record.metrics == {"accuracy_val": float(number)}
    assert type(record.metrics["accuracy_val"]) is float


def test_an_evaluator_that_raises_loses_nothing_finished():
    store, calls = InMemory(), []

    def fails_once(arch: Arch):
        calls.append(arch)
        if len(calls) == 4:
            raise RuntimeError("out of memory")
        return evaluate(arch)

    with pytest.raises(RuntimeError, match="out of memory"):
        search(FLAT, fails_once, random_search, evaluations=6, seed=0, store=store)
    assert len(store.records()) == 3
    found = search(FLAT, fails_once, random_search, evaluations=6, seed=0, store=store)
    assert archs(found) == archs(search(FLAT, evaluate, random_search, evaluations=6, seed=0))


def test_a_strategy_that_leaves_the_space_is_refused():
    with pytest.raises(InputError, match="not in the space"):
        search(FLAT, evaluate, lambda *_: [Arch({"nonsense": 1})], evaluations=1, seed=0)


def test_a_history_of_another_space_is_refused():
    store = InMemory()
    search(FLAT, evaluate, random_search, evaluations=1, seed=0, store=store)
    with pytest.raises(InputError, match="not of this space"):
        search(CONDITIONAL, evaluate, random_search, evaluations=2, seed=0, store=store)


def test_nonsense_arguments_are_refused():
    with pytest.raises(InputError, match="batch >= 1"):
        search(FLAT, evaluate, random_search, evaluations=1, seed=0, batch=0)


def test_a_strategy_that_proposes_nothing_ends_the_search():
    assert search(FLAT, evaluate, lambda *_: [], evaluations=5, seed=0) == []
