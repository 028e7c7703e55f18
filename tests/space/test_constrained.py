"""Constrained spaces against brute force, and the contract every space keeps."""

from __future__ import annotations

import math
import random
from fractions import Fraction
from itertools import combinations, pairwise

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from contracts.space import SpaceSuite
from sartor.errors import InputError
from sartor.records import Arch
from sartor.search import run
from sartor.search.objective import Objective
from sartor.space import Choice, Space, weighted
from sartor.space import constrained as module
from sartor.space.constrained import Constrained, Constraint
from sartor.space.weighted import Weighted
from space.spaces import enumerated, spaces

seeds = st.integers(0, 2**32)


def met(arch: Arch, constraints: tuple[Constraint, ...]) -> bool:
    """Written apart from the space: a constraint on what is not there says nothing."""
    return all(c.holds(*(arch[n] for n in c.choices)) for c in constraints if all(n in arch for n in c.choices))


@st.composite
def problems(draw: st.DrawFn) -> tuple[Space, tuple[Constraint, ...]]:
    """A random space with up to four random relations between one to three of its choices."""
    space = draw(spaces())
    names = [choice.name for choice in space.choices]
    constraints = []
    for i in range(draw(st.integers(0, 4))):
        of = draw(st.lists(st.sampled_from(names), min_size=1, max_size=3, unique=True))
        seed, share = draw(seeds), draw(st.sampled_from((0.2, 0.5, 0.8)))
        constraints.append(
            Constraint(
                f"r{i}", tuple(of), lambda *o, seed=seed, share=share: random.Random(f"{seed}{o}").random() < share
            )
        )
    return space, tuple(constraints)


@settings(max_examples=50)
@given(problems(), seeds)
def test_all_it_does_is_what_brute_force_finds(problem: tuple[Space, tuple[Constraint, ...]], seed: int):
    space, constraints = problem
    wanted = {arch for arch in enumerated(space) if met(arch, constraints)}
    assume(wanted)
    mine, rng = Constrained(space.choices, constraints), random.Random(seed)
    assert mine.count() == len(wanted)
    assert list(mine.every()) == [arch for arch in space.every() if arch in wanted]
    assert {arch for arch in enumerated(space) if mine.contains(arch)} == wanted
    a, b = mine.sample(rng), mine.sample(rng)
    mutant = mine.mutate(a, rng, rng.random())
    assert {a, b, mutant, mine.cross(a, b, rng), mine.smallest(), mine.largest()} <= wanted
    assert (mutant == a) == (len(wanted) == 1)
    assert mine.cross(a, a, rng) == a
    assert set(mine.neighbours(a)) <= wanted - {a}
    assert mine.smallest() == next(mine.every())


@settings(max_examples=50)
@given(problems(), seeds)
def test_constructed_archs_are_as_good_as_drawn_ones(problem: tuple[Space, tuple[Constraint, ...]], seed: int):
    """Without a single draw of the plain space, which the spaces above are mostly decided by."""
    space, constraints = problem
    wanted = {arch for arch in enumerated(space) if met(arch, constraints)}
    assume(wanted)
    rng = random.Random(seed)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "TRIES", 0)
        mine = Constrained(space.choices, constraints)
        a, b = mine.sample(rng), mine.sample(rng)
        mutant, child = mine.mutate(a, rng), mine.cross(a, b, rng)
    assert {a, b, mutant, child} <= wanted
    assert (mutant == a) == (len(wanted) == 1)
    for name, option in child.items():
        held = [parent[name] for parent in (a, b) if name in parent]
        assert not held or option in held


@settings(max_examples=50)
@given(problems())
def test_weights_are_the_odds_of_drawing_until_the_constraints_are_met(problem: tuple[Space, tuple[Constraint, ...]]):
    space, constraints = problem
    sizes = {choice.name: len(choice.options) for choice in space.choices}
    odds = {a: Fraction(1, math.prod(sizes[n] for n in a)) for a in enumerated(space) if met(a, constraints)}
    for choice in space.choices:
        for option in choice.options:
            wanted = sum(p for arch, p in odds.items() if arch.get(choice.name, option) == option)
            sums = Weighted(
                space.choices,
                constraints,
                lambda c, o, at=choice, to=option: Fraction(int(c is not at or o == to), len(c.options)),  # type: ignore
            )
            # With the option fixed, archs in which the choice is not active keep all of their weight.
            assert sums.total() == wanted


@settings(max_examples=50)
@given(problems())
def test_a_contradiction_is_named_by_a_subset_that_cannot_be_smaller(problem: tuple[Space, tuple[Constraint, ...]]):
    space, constraints = problem
    archs = enumerated(space)
    assume(not any(met(arch, constraints) for arch in archs))
    with pytest.raises(InputError) as caught:
        Constrained(space.choices, constraints)
    named = tuple(c for c in constraints if repr(c.name) in str(caught.value))
    assert named
    assert not any(met(arch, named) for arch in archs)
    for fewer in combinations(named, len(named) - 1):
        assert any(met(arch, fewer) for arch in archs)
    smallest = min(n for n in range(1, 5) for c in combinations(constraints, n) if not any(met(a, c) for a in archs))
    assert len(named) == smallest or smallest > 2


RISING = Constrained(
    tuple(Choice(f"width{i}", tuple(range(8))) for i in range(24)),
    tuple(Constraint(f"rises{i}", (f"width{i}", f"width{i + 1}"), lambda a, b: a <= b) for i in range(23)),
)
HEADS = Constrained(
    (
        Choice("op", ("conv", "attention")),
        Choice("heads", (1, 2, 3, 4, 6), when=("op", ("attention",))),
        Choice("width", (12, 16, 20, 24)),
        Choice("depth", (1, 2, 3)),
    ),
    (
        Constraint("heads divide the width", ("width", "heads"), lambda width, heads: width % heads == 0),
        Constraint("deep is narrow", ("width", "depth"), lambda width, depth: width * depth <= 40),
    ),
)


class TestRising(SpaceSuite):
    space = RISING


class TestHeads(SpaceSuite):
    space = HEADS


def test_a_chain_is_counted_and_drawn_from_however_few_of_the_draws_meet_it():
    """Rising sequences of 24 of eight widths: 31 over 7, in a space of 8²⁴ of which a draw never meets one."""
    assert RISING.count() == math.comb(24 + 7, 7)
    arch = RISING.sample(random.Random(0))
    assert all(arch[f"width{i}"] <= arch[f"width{j}"] for i, j in pairwise(range(24)))


def test_every_strategy_of_the_search_goes_through_it():
    for strategy in ("random", "evolution", "nsga2", "linas", "local"):
        seen = run(
            HEADS,
            lambda arch: {"loss": abs(arch["width"] * arch["depth"] - 37), "ms": float(arch["width"])},
            strategy,
            20,
            objectives=(Objective("loss"), Objective("ms")),
        )
        assert len({record.arch for record in seen}) == 20
        assert all(HEADS.contains(record.arch) for record in seen)


def test_a_restricted_space_keeps_the_constraints_that_still_say_something():
    convolutional = HEADS.restrict({"op": ["conv"]})
    assert isinstance(convolutional, Constrained)
    assert [c.name for c in convolutional.constraints] == ["deep is narrow"]
    assert convolutional.count() == sum(arch["op"] == "conv" for arch in HEADS.every())


@pytest.mark.parametrize(
    ("constraints", "says"),
    [
        ((Constraint("typo", ("widht",), bool),), "name choices"),
        ((Constraint("nothing", (), bool),), "name choices"),
        ((Constraint("twice", ("width", "width"), max),), "names a choice twice"),
        ((Constraint("same", ("width",), bool), Constraint("same", ("depth",), bool)), "called same"),
        ((Constraint("broken", ("width",), lambda width: width.nope),), "'broken' fails on"),
        ((Constraint("never", ("op", "width"), lambda op, width: False),), "no arch meets 'never': change"),
        (
            (
                Constraint("fine", ("op",), lambda op: True),
                Constraint("wide", ("width",), lambda width: width > 16),
                Constraint("narrow", ("width", "depth"), lambda width, depth: width * depth < 17),
            ),
            "'wide' and 'narrow' together",
        ),
    ],
)
def test_bad_constraints_are_named(constraints: tuple[Constraint, ...], says: str):
    with pytest.raises(InputError, match=says):
        Constrained(HEADS.choices, constraints)


def test_a_sum_over_too_many_choices_says_so(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(weighted, "LIMIT", 500)
    choices = tuple(Choice(f"c{i}", tuple(range(9))) for i in range(22))
    total = Constraint("budget", tuple(c.name for c in choices), lambda *given: hash(given) % 2 == 0)
    space = Constrained(choices, (total,))
    assert space.contains(space.sample(random.Random(0)))
    with pytest.raises(InputError, match="too many choices are tied together to count what meets budget"):
        space.count()
