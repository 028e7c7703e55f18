"""Spaces with fidelities: spaces like any other, whose archs have a cost."""

from __future__ import annotations

import random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from contracts.space import SpaceSuite
from contracts.strategy import CONDITIONAL
from sartor.errors import InputError
from sartor.records import Arch
from sartor.space import Choice, Space
from sartor.space.fidelity import FIDELITY, Fidelities, with_fidelities
from sartor.space.listed import Listed

EPOCHS = {3: 3, 10: 10, 50: 50}
SOME = Listed(CONDITIONAL.choices, tuple(arch for i, arch in enumerate(CONDITIONAL.every()) if i % 3))


class TestConditional(SpaceSuite):
    space = with_fidelities(CONDITIONAL, EPOCHS)


class TestOneFidelity(SpaceSuite):
    space = with_fidelities(CONDITIONAL, EPOCHS).only_full()


class TestOneArch(SpaceSuite):
    space = with_fidelities(Space((Choice("width", (8,)),)), EPOCHS)


def test_of_a_list_only_what_exists() -> None:
    """The suite wants crossovers to keep their parents' options, which a list cannot."""
    space, rng = with_fidelities(SOME, EPOCHS), random.Random(0)
    arch = space.sample(rng)
    for _ in range(200):
        arch = space.mutate(space.cross(arch, space.sample(rng), rng), rng)
        assert space.contains(arch)
    assert space.count() == 3 * len(SOME.archs) == len(set(space.every()))
    hole = next(a for a in CONDITIONAL.every() if a not in set(SOME.archs))
    assert not space.contains(space.at(hole, 3))


def test_every_is_each_arch_at_each_fidelity() -> None:
    space = with_fidelities(CONDITIONAL, EPOCHS)
    every = list(space.every())
    assert len(every) == len(set(every)) == space.count() == 3 * CONDITIONAL.count()
    assert {space.plain_of(arch) for arch in every} == set(CONDITIONAL.every())
    assert all(space.contains(arch) for arch in every)
    assert len({space.encode(arch).tobytes() for arch in every}) == len(every)


def test_costs_are_shares_of_the_full_and_ascend() -> None:
    space = with_fidelities(CONDITIONAL, {"all": 50, "few": 3, "some": 10})
    assert space.fidelities == ("few", "some", "all")
    assert space.costs == (0.06, 0.2, 1.0)
    arch = CONDITIONAL.sample(random.Random(0))
    assert [space.cost(space.at(arch, f)) for f in ("few", "some", "all")] == [0.06, 0.2, 1.0]
    assert space.plain_of(space.at(arch, "few")) == arch


def test_a_smaller_space_costs_what_it_did() -> None:
    space = with_fidelities(CONDITIONAL, EPOCHS)
    smaller = space.restrict({FIDELITY: (3, 10), "op": ("mbconv",)})
    assert isinstance(smaller, Fidelities)
    assert smaller.fidelities == (3, 10)
    assert smaller.costs == space.costs[:2]
    assert {arch["op"] for arch in smaller.every()} == {"mbconv"}
    assert space.only_full().count() == CONDITIONAL.count()


def test_neighbours_differ_in_one_choice_or_the_fidelity() -> None:
    space = with_fidelities(CONDITIONAL, EPOCHS)
    arch = space.sample(random.Random(3))
    found = list(space.neighbours(arch))
    assert len(found) == len(set(found)) == len(list(CONDITIONAL.neighbours(space.plain_of(arch)))) + 2
    assert all(space.contains(other) and other != arch for other in found)


@given(st.integers(0, 10_000))
def test_a_mutation_of_one_choice_is_of_the_fidelity_as_often_as_of_any(seed: int) -> None:
    space = with_fidelities(Space(tuple(Choice(f"c{i}", (0, 1)) for i in range(3))), {1: 1, 2: 2})
    arch = space.smallest()
    mutant = space.mutate(arch, random.Random(seed), rate=0.0)
    assert sum(mutant[name] != arch[name] for name in arch) == 1


@pytest.mark.parametrize(
    ("costs", "said"),
    [
        ({}, "positive costs"),
        ({3: 0}, "positive costs"),
        ({3: float("nan")}, "positive costs"),
        ({3: "3"}, "positive costs"),
        ({3: 1, 4: 1}, "cost the same"),
    ],
)
def test_fidelities_that_are_none(costs: dict[Any, Any], said: str) -> None:
    with pytest.raises(InputError, match=said):
        with_fidelities(CONDITIONAL, costs)


def test_fidelities_of_fidelities() -> None:
    with pytest.raises(InputError, match="already"):
        with_fidelities(with_fidelities(CONDITIONAL, EPOCHS), EPOCHS)


def test_an_arch_without_its_fidelity_is_of_another_space() -> None:
    space = with_fidelities(CONDITIONAL, EPOCHS)
    arch = CONDITIONAL.sample(random.Random(0))
    assert not space.contains(arch)
    assert not space.contains(Arch({**arch, FIDELITY: 4}))
    assert not space.contains(Arch({**arch, FIDELITY: 3.0}))
