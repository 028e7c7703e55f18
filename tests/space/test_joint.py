"""Joined spaces are spaces, and come apart again."""

from __future__ import annotations

import random

import numpy as np
import pytest

from contracts.space import SpaceSuite
from sartor.errors import InputError
from sartor.records import Arch
from sartor.space.choice import Choice
from sartor.space.constrained import Constrained, Constraint
from sartor.space.fidelity import with_fidelities
from sartor.space.grammar import Production, grammar
from sartor.space.joint import join, part, with_bits
from sartor.space.listed import Listed
from sartor.space.space import Space

NET = Space((Choice("op", ("a", "b")), Choice("kernel", (3, 5), when=("op", ("b",))), Choice("width", (8, 16))))
RECIPE = Space((Choice("lr", (0.1, 0.01)), Choice("width", ("wide", "narrow"))))


class TestJoined(SpaceSuite):
    space = join({"arch": NET, "recipe": RECIPE})


class TestJoinedWithBits(SpaceSuite):
    space = with_bits(NET, ("first", "last"), (2, 4, 8))


def test_a_joined_space_is_the_product():
    joint = join({"arch": NET, "recipe": RECIPE})
    assert joint.count() == NET.count() * RECIPE.count()
    pairs = {(part(arch, "arch"), part(arch, "recipe")) for arch in joint.every()}
    assert pairs == {(a, b) for a in NET.every() for b in RECIPE.every()}


def test_parts_of_mutants_are_archs():
    joint, rng = join({"a": NET, "b": NET}), random.Random(0)
    arch = joint.sample(rng)
    for _ in range(50):
        arch = joint.mutate(arch, rng)
        assert NET.contains(part(arch, "a"))
        assert NET.contains(part(arch, "b"))


@pytest.mark.parametrize(
    "wrong",
    [
        lambda: join({}),
        lambda: join({"a.b": NET}),
        lambda: join({"": NET}),
        lambda: join({"a": Listed(NET.choices, tuple(NET.every())[:2])}),
        lambda: part(Arch({"arch.x": 1}), "recipe"),
    ],
)
def test_what_cannot_be_joined_is_refused(wrong):
    with pytest.raises(InputError):
        wrong()


def test_constraints_go_along_and_what_cannot_is_refused():
    tied = Constrained(
        (Choice("width", (1, 2, 3)), Choice("depth", (1, 2, 3))),
        (Constraint("narrow where deep", ("width", "depth"), lambda width, depth: width * depth <= 4),),
    )
    recipe = Space((Choice("lr", (0.1, 0.2)),))
    joint = join({"net": tied, "recipe": recipe})
    assert joint.count() == tied.count() * recipe.count()
    assert all(tied.contains(part(arch, "net")) for arch in joint.every())
    several = with_fidelities(recipe, {1: 1.0, 2: 2.0})
    derived = grammar({"m": [Production("a"), Production("s", ("m", "m"))]}, start="m", height=3)
    for refused in (several, derived):
        with pytest.raises(InputError, match="cannot be joined"):
            join({"net": refused})
    with pytest.raises(InputError, match="a grammar's space"):
        with_fidelities(derived, {1: 1.0, 2: 2.0})


def test_options_are_what_their_json_is_read_as():
    rates = Space((Choice("rate", tuple(np.linspace(0.1, 0.4, 4))),))
    arch = rates.largest()
    assert Arch.from_json(arch.to_json()) == arch
    assert rates.contains(Arch.from_json(arch.to_json()))
    for wrong in (float("nan"), float("inf"), [1], None):
        with pytest.raises(InputError, match="no text, finite number or boolean"):
            Choice("x", (1, wrong))
