"""Spaces against an independent enumeration, and the contract every space keeps."""

from __future__ import annotations

import itertools
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from contracts.space import SpaceSuite
from sartor.errors import InputError
from sartor.records import Arch
from sartor.space import Choice, Space, conv_space
from space.spaces import enumerated, spaces

seeds = st.integers(0, 2**32)


class TestConvSpace(SpaceSuite):
    space = conv_space(32)


class TestSmallestConvSpace(SpaceSuite):
    space = conv_space(8, width=16, depth=1, operators=("mbconv",))


class TestNestedConditions(SpaceSuite):
    space = Space(
        (
            Choice("op", ("none", "conv", "attention")),
            Choice("heads", (1, 2, 4), when=("op", ("attention",))),
            Choice("rank", (8, 16), when=("heads", (2, 4))),
            Choice("kernel", (3, 5), when=("op", ("conv",))),
        )
    )


class TestOneArch(SpaceSuite):
    space = Space((Choice("width", (8,)),))


def test_the_contract_collects_something():
    assert sum(name.startswith("test_") for name in dir(SpaceSuite)) >= 9


@given(spaces())
def test_count_is_that_of_the_enumeration(space: Space):
    assert space.count() == len(space) == len(enumerated(space))


@given(spaces())
def test_contains_exactly_the_enumeration(space: Space):
    archs = enumerated(space)
    assert all(space.contains(arch) for arch in archs)
    everything = {name: choice.options for choice in space.choices for name in [choice.name]}
    for options in itertools.product(*everything.values()):
        arch = Arch(dict(zip(everything, options, strict=True)))
        assert space.contains(arch) == (arch in archs)
        assert space.canonical(arch) in archs


@given(spaces())
def test_encode_tells_all_archs_apart(space: Space):
    archs = enumerated(space)
    codes = {space.encode(arch).tobytes() for arch in archs}
    assert len(codes) == len(archs)
    assert len({len(code) for code in codes}) == 1


@given(spaces(), seeds)
def test_samples_mutants_and_children_are_of_the_space(space: Space, seed: int):
    archs, rng = enumerated(space), random.Random(seed)
    a, b = space.sample(rng), space.sample(rng)
    assert {a, b, space.cross(a, b, rng), space.smallest(), space.largest()} <= archs
    mutant = space.mutate(a, rng, rng.random())
    assert mutant in archs
    assert (mutant == a) == (len(archs) == 1)


@given(spaces(), seeds)
def test_mutation_at_rate_zero_changes_one_choice_and_what_depends_on_it(space: Space, seed: int):
    rng = random.Random(seed)
    arch = space.sample(rng)
    mutant = space.mutate(arch, rng, 0.0)
    changed = [name for name in arch if name in mutant and mutant[name] != arch[name]]
    assert len(changed) == (len(enumerated(space)) > 1)


@given(spaces(), seeds)
def test_mutation_at_rate_one_changes_all_it_can(space: Space, seed: int):
    rng = random.Random(seed)
    arch = space.sample(rng)
    mutant = space.mutate(arch, rng, 1.0)
    options = {choice.name: choice.options for choice in space.choices}
    for name in arch:
        assert name not in mutant or mutant[name] != arch[name] or len(options[name]) == 1


@given(spaces(), st.data())
def test_restrict_keeps_exactly_the_archs_with_the_kept_options(space: Space, data: st.DataObject):
    choice = data.draw(st.sampled_from(space.choices))
    kept = data.draw(st.lists(st.sampled_from(choice.options), min_size=1, unique=True))
    expected = {arch for arch in enumerated(space) if choice.name not in arch or arch[choice.name] in kept}
    assert enumerated(space.restrict({choice.name: kept})) == expected


@given(spaces())
def test_smallest_and_largest_hold_first_and_last_options(space: Space):
    for arch, index in ((space.smallest(), 0), (space.largest(), -1)):
        options = {choice.name: choice.options for choice in space.choices}
        assert all(options[name][index] == option for name, option in arch.items())


def test_every_arch_of_a_small_space_is_drawn():
    space = TestNestedConditions.space
    rng = random.Random(0)
    assert {space.sample(rng) for _ in range(500)} == enumerated(space)


def test_an_option_of_another_type_is_another_option():
    """Python has 1 == True == 1.0; an arch written as JSON does not."""
    space = Space((Choice("depth", (1, 2)),))
    assert space.contains(Arch({"depth": 1}))
    for other in (True, 1.0):
        assert Arch({"depth": other}) != Arch({"depth": 1})
        assert not space.contains(Arch({"depth": other}))


def test_canonical_drops_what_is_inactive_and_names_what_is_wrong():
    space = TestNestedConditions.space
    assert space.canonical({"op": "none", "heads": 4, "kernel": 3}) == Arch({"op": "none"})
    for options, name in (({}, "op"), ({"op": "conv"}, "kernel"), ({"op": "conv", "kernel": 4}, "kernel")):
        with pytest.raises(InputError, match=f"^{name} must be one of"):
            space.canonical(options)


def test_a_space_larger_than_an_index_is_counted():
    space = Space(tuple(Choice(f"c{i}", tuple(range(10))) for i in range(40)))
    assert space.count() == 10**40


def test_senseless_declarations_are_refused():
    width = Choice("width", (8, 16))
    with pytest.raises(InputError, match="no options"):
        Choice("width", ())
    with pytest.raises(InputError, match="twice"):
        Choice("width", (8, 8))
    with pytest.raises(InputError, match="twice"):
        Space((width, width))
    for when in (("depth", (1,)), ("width", (7,))):
        with pytest.raises(InputError, match="not declared before"):
            Space((width, Choice("kernel", (3,), when=when)))
    with pytest.raises(InputError, match="not declared before"):
        Space((Choice("kernel", (3,), when=("width", (8,))), width))
