"""What every strategy must keep. Give yours the suite by subclassing it in a test file:

    class TestMine(StrategySuite):
        strategy = staticmethod(my_strategy)

The suite needs metrics ``accuracy_val`` (more is better) and ``latency_ms`` (less is better), the default objectives.
"""

from __future__ import annotations

import random
from collections.abc import Mapping
from typing import Any

import pytest

from sartor.records import Arch, Record
from sartor.search.loop import search
from sartor.search.strategy import Strategy
from sartor.space.choice import Choice
from sartor.space.space import Space

CONDITIONAL = Space(
    (
        Choice("op", ("residual", "mbconv")),
        Choice("kernel", (3, 5, 7), when=("op", ("mbconv",))),
        Choice("width", (16, 32, 48, 64)),
        Choice("depth", (1, 2, 3)),
        Choice("se", (False, True)),
    )
)
FLAT = Space(tuple(Choice(f"layer{i}", (0, 1, 2, 3)) for i in range(10)))
TINY = Space((Choice("width", (8, 16)), Choice("depth", (1, 2, 3))))
SINGLE = Space((Choice("width", (8,)),))
SPACES = {"conditional": CONDITIONAL, "flat": FLAT}


def evaluate(arch: Arch) -> Mapping[str, float]:
    """A made-up trade-off: whatever is larger is better and slower, with diminishing returns."""
    size = sum(float(v) if not isinstance(v, str) else len(v) for v in arch.values())
    return {"accuracy_val": size / (20 + size), "latency_ms": 0.1 + 0.01 * size + 0.05 * arch.get("se", 0)}


def history_of(space: Space, n: int, seed: int = 0) -> list[Record]:
    rng = random.Random(seed)
    archs: dict[Arch, None] = {}
    while len(archs) < n:
        archs[space.sample(rng)] = None
    return [Record(f"a{i}", arch, metrics=evaluate(arch)) for i, arch in enumerate(archs)]


class StrategySuite:
    """Subclass with ``strategy = staticmethod(...)``."""

    strategy: Any = None

    @pytest.fixture
    def propose(self) -> Strategy:
        assert self.strategy is not None, "set `strategy = staticmethod(...)` in the class"
        return type(self).strategy

    @pytest.mark.parametrize("name", SPACES)
    @pytest.mark.parametrize("evaluated", [0, 1, 7, 30])
    @pytest.mark.parametrize("n", [1, 9])
    def test_proposes_distinct_new_archs_of_the_space(self, propose: Strategy, name: str, evaluated: int, n: int):
        space = SPACES[name]
        history = history_of(space, evaluated)
        archs = propose(space, history, random.Random(1), n)
        assert len(archs) == len(set(archs)) == n
        assert all(space.contains(arch) for arch in archs)
        assert not set(archs) & {record.arch for record in history}

    @pytest.mark.parametrize("evaluated", [0, 30])
    def test_same_history_and_seed_give_the_same_archs(self, propose: Strategy, evaluated: int):
        first, second = (
            propose(CONDITIONAL, history_of(CONDITIONAL, evaluated), random.Random(5), 6) for _ in range(2)
        )
        assert first == second

    def test_does_not_change_the_history(self, propose: Strategy):
        history = history_of(FLAT, 30)
        before = list(history)
        propose(FLAT, history, random.Random(0), 4)
        assert history == before

    def test_exhausts_a_tiny_space_and_then_proposes_nothing(self, propose: Strategy):
        found = search(TINY, evaluate, propose, evaluations=100, seed=0, batch=4)
        assert {record.arch for record in found} == set(TINY.every())
        assert len(found) == TINY.count()
        assert propose(TINY, found, random.Random(0), 3) == []

    def test_a_space_of_one_arch(self, propose: Strategy):
        found = search(SINGLE, evaluate, propose, evaluations=5, seed=0)
        assert [record.arch for record in found] == [Arch({"width": 8})]

    def test_proposes_what_is_left_of_a_small_space(self, propose: Strategy):
        everything = list(CONDITIONAL.every())
        left = everything[7]
        history = [Record(f"a{i}", a, metrics=evaluate(a)) for i, a in enumerate(everything) if a != left]
        assert propose(CONDITIONAL, history, random.Random(0), 8) == [left]

    def test_survives_archs_that_could_not_be_measured(self, propose: Strategy):
        history = [
            Record(r.name, r.arch, metrics={"latency_ms": r.metrics["latency_ms"]}) for r in history_of(FLAT, 12)
        ]
        assert len(propose(FLAT, history, random.Random(0), 5)) == 5
        mixed = history + history_of(FLAT, 30, seed=1)
        assert len(propose(FLAT, mixed, random.Random(0), 5)) == 5

    def test_survives_a_history_without_any_difference(self, propose: Strategy):
        flat = [Record(r.name, r.arch, metrics={"accuracy_val": 0.5, "latency_ms": 1.0}) for r in history_of(FLAT, 30)]
        assert len(propose(FLAT, flat, random.Random(0), 5)) == 5

    @pytest.mark.parametrize("stopped_after", [1, 10, 16, 27])
    def test_a_resumed_search_equals_an_uninterrupted_one(self, propose: Strategy, stopped_after: int):
        whole = search(CONDITIONAL, evaluate, propose, evaluations=32, seed=3, batch=8)
        store = InMemory()
        search(
            CONDITIONAL,
            evaluate,
            propose,
            evaluations=32,
            seed=3,
            batch=8,
            store=store,
            should_stop=lambda: len(store.records()) >= stopped_after,
        )
        assert len(store.records()) == stopped_after
        resumed = search(CONDITIONAL, evaluate, propose, evaluations=32, seed=3, batch=8, store=store)
        assert [(r.name, r.arch, r.metrics) for r in resumed] == [(r.name, r.arch, r.metrics) for r in whole]


class InMemory:
    """Records in a list."""

    def __init__(self) -> None:
        self._records: list[Record] = []

    def records(self) -> list[Record]:
        return list(self._records)

    def append(self, record: Record) -> None:
        self._records.append(record)
