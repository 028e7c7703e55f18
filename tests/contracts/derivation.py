"""What every space of derivation trees must keep. Give yours the suite by subclassing it in a test file:

    class TestMine(DerivationSuite):
        space = my_grammar()

Its choices are named by places in the tree, so what ``SpaceSuite`` says of declared choices is said here of places, and
what it says of the options that a child has from its parents, of parts.
"""

from __future__ import annotations

import math
import random
from typing import Any

import pytest

from contracts.space import SpaceSuite
from sartor.records import Arch
from sartor.space.node import Node


class DerivationSuite(SpaceSuite):
    """Subclass with ``space = ...``, a ``Derivations``."""

    def test_options_held_are_options_declared(self, mine: Any, archs: list[Arch]):
        for arch in archs:
            made = mine.made(arch)
            assert [choice.name for choice in made] == [node.name for node in mine.derivation(arch).walk()]
            assert {choice.name for choice in made} == set(arch)
            assert all(arch[choice.name] in choice.options for choice in made)

    def test_a_derivation_is_its_sequence_of_choices(self, mine: Any, archs: list[Arch]):
        for arch in archs:
            assert mine.spelled([node.option for node in mine.derivation(arch).walk()]) == arch
            assert mine.canonical(dict(arch)) == arch
            assert mine.canonical({**arch, "no such place": 1}) == arch

    def test_derivations_are_within_the_height_and_have_a_probability(self, mine: Any, archs: list[Arch]):
        for arch in archs:
            assert mine.derivation(arch).tallness <= mine.height
            assert 0 < math.exp(mine.log_probability(arch)) <= 1

    def test_children_are_archs_of_the_space_with_their_parents_options(self, mine: Any, archs: list[Arch]):
        """A child differs from the first parent in one part at most, which is one of the second's, of the same sort."""
        for seed, (a, b) in enumerate(zip(archs, reversed(archs), strict=True)):
            child = mine.cross(a, b, random.Random(seed))
            assert mine.contains(child)
            differ = [node for node in mine.derivation(child).walk() if a.get(node.name) != node.option]
            if differ:
                parts = {_part(node) for node in mine.derivation(b).walk()}
                above = [n for n in mine.derivation(child).walk() if all(_within(d, n) for d in differ)]
                assert any(_part(node) in parts for node in above)
            assert mine.cross(a, a, random.Random(seed)) == a

    def test_neighbours_are_other_archs_of_the_space(self, mine: Any, archs: list[Arch]):
        for arch in archs[:5]:
            found = list(mine.neighbours(arch))
            assert all(mine.contains(other) and other != arch for other in found)
            assert len(found) == sum(len(choice.options) - 1 for choice in mine.made(arch))

    @pytest.mark.parametrize("which", ["smallest", "largest"])
    def test_ends_are_archs_of_the_space(self, mine: Any, which: str):
        assert mine.contains(getattr(mine, which)())


def _part(node: Node) -> tuple[object, ...]:
    return (node.sort, node.result, *((n.name[len(node.name) :], n.option) for n in node.walk()))


def _within(node: Node, above: Node) -> bool:
    return f"{node.name}.".startswith(f"{above.name}.")
