"""Calls whose arguments are choices: any callable, nested, and the same space for every strategy."""

from __future__ import annotations

import math
import random
from collections import namedtuple
from dataclasses import dataclass, field
from fractions import Fraction
from itertools import combinations, combinations_with_replacement, permutations
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from contracts.space import SpaceSuite
from sartor.errors import InputError
from sartor.models.relaxed import relaxed, strongest
from sartor.records import Arch
from sartor.search.named import run
from sartor.search.objective import Objective
from sartor.space.symbolic import manyof, materialise, oneof, repeated, space_of, stepped, symbolic


@dataclass(frozen=True)
class Recipe:
    rate: Any
    layers: Any
    note: str = "kept"
    made: int = field(init=False, default=3)


NESTED = {
    "recipe": Recipe(stepped(0.1, 0.4, 4), [oneof(["a", oneof([1, 2])]), manyof(2, ["x", oneof([7, 8]), "z"])]),
    "fraction": symbolic(Fraction, oneof([1, 2]), denominator=oneof([3, 5])),
    "many": repeated(oneof([0, 1]), [1, 3]),
}


class TestNested(SpaceSuite):
    space = space_of(NESTED)


class TestShared(SpaceSuite):
    space = space_of([oneof([8, 16], name="width"), oneof([1, 2]), oneof([8, 16], name="width")])


def test_one_edited_argument_makes_a_layer_searchable():
    """``nn.Conv2d(3, 16, 3)`` with one argument replaced: the rest is as it was."""
    net = symbolic(nn.Conv2d, 3, 16, oneof([3, 5]))
    space = space_of(net)
    found = [materialise(net, arch) for arch in space.every()]
    assert [(type(c), c.in_channels, c.out_channels, c.kernel_size) for c in found] == [
        (nn.Conv2d, 3, 16, (k, k)) for k in (3, 5)
    ]


def test_works_with_what_is_no_module():
    space = space_of(NESTED)
    values = {str(materialise(NESTED, arch)) for arch in space.every()}
    # By hand: 4 rates, "a" or one of 2, ordered pairs of three of which one is double, 4 fractions, 2 + 8 lists.
    assert space.count() == 4 * 3 * (2 + 4 * 2) * 4 * (2 + 8)
    assert len(values) == space.count()
    one = materialise(NESTED, space.smallest())
    assert one["recipe"] == Recipe(0.1, ["a", ["x", 7]])
    assert one["fraction"] == Fraction(1, 3)
    assert one["many"] == [0]
    assert NESTED["recipe"].note == "kept"


def test_named_tuples_and_plain_values_come_back_as_they_were():
    Point = namedtuple("Point", "x y")
    value = {"point": Point(oneof([1]), 2), "same": [1, (2, 3)], "array": torch.zeros(2)}
    found = materialise(value, space_of(value).smallest())
    assert found["point"] == Point(1, 2)
    assert found["same"] is value["same"]
    assert found["array"] is value["array"]


@pytest.mark.parametrize("ordered", [False, True])
@pytest.mark.parametrize("distinct", [False, True])
@pytest.mark.parametrize("k", [1, 2, 3])
def test_manyof_is_pythons_itertools(k: int, distinct: bool, ordered: bool):
    value = manyof(k, list("abc"), distinct=distinct, ordered=ordered)
    found = [tuple(materialise(value, arch)) for arch in space_of(value).every()]
    if distinct:
        expected = combinations("abc", k) if ordered else permutations("abc", k)
    else:
        every = [(a, *rest) for a in "abc" for rest in _lists(k - 1)]
        expected = combinations_with_replacement("abc", k) if ordered else every
    assert sorted(found) == sorted(expected)


def _lists(k: int) -> list[tuple[str, ...]]:
    return [()] if k == 0 else [(a, *rest) for a in "abc" for rest in _lists(k - 1)]


values = st.recursive(
    st.integers(0, 9) | st.text("ab", max_size=1),
    lambda inner: (
        st.lists(inner, max_size=2)
        | st.lists(inner, min_size=1, max_size=3).map(oneof)
        | st.dictionaries(st.sampled_from("xyz"), inner, max_size=2)
        | st.tuples(inner, st.sampled_from([[1], [0, 2]])).map(lambda pair: repeated(*pair))
    ),
    max_leaves=6,
)


def plainly(value: Any) -> list[Any]:
    """Everything that a value may be, once for each way: by recursion that knows no spaces."""
    name = type(value).__name__
    if name == "OneOf":
        return [made for candidate in value.candidates for made in plainly(candidate)]
    if name == "Repeated":
        return [made for times in value.times for made in plainly([value.item] * times)]
    if isinstance(value, list):
        found: list[Any] = [[]]
        for item in value:
            found = [[*held, made] for held in found for made in plainly(item)]
        return found
    if isinstance(value, dict):
        return [dict(zip(value, made, strict=True)) for made in plainly(list(value.values()))]
    return [value]


@given(values)
def test_archs_make_what_the_value_may_be(value):
    space = space_of(value)
    if space.count() > 2_000:
        return
    archs = list(space.every())
    assert space.count() == len(archs)
    found = [materialise(value, arch) for arch in archs]
    assert sorted(map(repr, found)) == sorted(map(repr, plainly(value)))
    for arch in archs[:20]:
        assert materialise(value, Arch.from_json(arch.to_json())) == materialise(value, arch)
        assert space.canonical(dict(arch)) == arch


def test_one_name_is_one_choice():
    width = oneof([8, 16], name="width")
    net = symbolic(nn.Sequential, symbolic(nn.Linear, 4, width), symbolic(nn.Linear, width, 2))
    assert space_of(net).count() == 2
    for arch in space_of(net).every():
        assert materialise(net, arch)(torch.randn(3, 4)).shape == (3, 2)


def test_a_name_is_refused_where_its_choice_may_not_be():
    inner = oneof([8, 16], name="width")
    with pytest.raises(InputError, match="use it before"):
        space_of([oneof([[inner], 2]), inner])
    assert space_of([inner, oneof([[inner], 2])]).count() == 4
    with pytest.raises(InputError, match="name them apart"):
        space_of([inner, oneof([8, 32], name="width")])


@pytest.mark.parametrize(
    ("make", "fix"),
    [
        (lambda: oneof([]), "list of candidates"),
        (lambda: oneof("abc"), "list of candidates"),
        (lambda: manyof(4, [1, 2, 3]), "choose fewer"),
        (lambda: manyof(0, [1, 2, 3]), "choose fewer"),
        (lambda: manyof(1, "abc"), "list of candidates"),
        (lambda: space_of(manyof(8, range(20))), "choose among fewer"),
        (lambda: stepped(1, 0, 3), "low < high"),
        (lambda: stepped(0, 1, 3, log=True), "low < high"),
        (lambda: repeated(1, []), "times"),
        (lambda: symbolic(3), "called"),
        (lambda: materialise(oneof([1, 2]), {}), "must be one of"),
        (lambda: materialise(oneof([1, 2]), {"value": True}), "must be one of"),
        (lambda: relaxed(symbolic(nn.Linear, 2, oneof([1, 2]))), "not among modules"),
    ],
)
def test_refuses_bad_input(make, fix):
    with pytest.raises(InputError, match=fix):
        make()


def test_steps_are_equal_in_difference_or_ratio():
    assert stepped(1, 4, 4).candidates == (1, 2, 3, 4)
    assert stepped(1, 8, 4, log=True).candidates == pytest.approx((1, 2, 4, 8))


# -- one program, any way of searching it

SQUARE = symbolic(
    nn.Sequential,
    symbolic(nn.Linear, 1, 16),
    oneof([symbolic(nn.Identity), symbolic(nn.Sequential, oneof([symbolic(nn.Tanh), symbolic(nn.Identity)]))]),
    symbolic(nn.Linear, 16, 1),
)
"""A linear map, unless both choices are the second and the first: x² has no other fit."""
WANTED = Arch({"1": 1, "1/1.0": 0})


def loss_of(network: nn.Module, steps: int, rate: float = 0.02) -> float:
    x = torch.linspace(-1, 1, 64)[:, None]
    optimiser = torch.optim.Adam(network.parameters(), lr=rate)
    for _ in range(steps):
        loss = nn.functional.mse_loss(network(x), x**2)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    return float(loss.detach())


def evaluate(arch: Arch) -> dict[str, float]:
    torch.manual_seed(0)
    return {"loss": loss_of(materialise(SQUARE, arch), 200)}


@pytest.mark.parametrize("strategy", ["random", "evolution"])
def test_a_program_is_searched_by_evaluations(strategy: str):
    found = run(space_of(SQUARE), evaluate, strategy, 3, objectives=[Objective("loss")])
    assert min(found, key=lambda record: record.metrics["loss"]).arch == WANTED


def test_the_same_program_is_searched_by_gradient():
    torch.manual_seed(0)
    network = relaxed(SQUARE)
    assert loss_of(network, 400) < 0.01
    assert strongest(SQUARE, network) == WANTED


def test_a_search_of_architectures_within_one_of_hardware():
    """Outer: which machine; inner: the best network for it. As good as both at once, of which all are tried."""
    machine = {"lanes": oneof([1, 4]), "memory": oneof([16, 64])}
    network = {"width": oneof([8, 16, 32]), "depth": oneof([1, 2, 4])}

    def cost(hardware: dict, net: dict) -> float:
        weights = net["width"] ** 2 * net["depth"]
        slow = math.inf if net["width"] > hardware["memory"] else weights / hardware["lanes"]
        return 100 / weights + slow / 1000 + hardware["lanes"] * hardware["memory"] / 500

    def best_network(arch: Arch) -> dict[str, float]:
        hardware = materialise(machine, arch)
        inner = lambda a: {"cost": cost(hardware, materialise(network, a))}
        found = run(space_of(network), inner, "evolution", 9, objectives=[Objective("cost")])
        return {"cost": min(r.metrics["cost"] for r in found if "cost" in r.metrics)}

    found = run(space_of(machine), best_network, "evolution", 4, objectives=[Objective("cost")])
    together = [
        cost(materialise(machine, m), materialise(network, n))
        for m in space_of(machine).every()
        for n in space_of(network).every()
    ]
    assert min(record.metrics["cost"] for record in found) == min(together)


def test_choices_come_in_the_order_of_the_random_walk_down():
    """The tree of decisions: a candidate's choices follow the choice that it is a candidate of."""
    names = [choice.name for choice in space_of(NESTED).choices]
    for choice in space_of(NESTED).choices:
        assert choice.when is None or names.index(choice.when[0]) < names.index(choice.name)
    space, rng = space_of(NESTED), random.Random(0)
    assert all(space.contains(space.sample(rng)) for _ in range(50))
