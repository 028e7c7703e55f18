"""Places of a derivation tree, and which rule is taken at one."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

from sartor.errors import InputError
from sartor.records import Arch, Option
from sartor.space.chart import Result, Results, Rule, Sort


@dataclass(frozen=True, eq=False)
class Node:
    """A place of a derivation: its ``name``, what stood there to be derived, the rule's ``option``, its ``parts`` and
    ``result``. ``wanted`` and ``height`` are those that were left there; ``viable`` are the rules that fitted."""

    name: str
    sort: Sort
    height: int
    wanted: Results
    viable: tuple[Rule, ...]
    rule: Rule
    parts: tuple[Node, ...]
    result: Result

    @property
    def option(self) -> Option:
        return self.rule.option

    @cached_property
    def tallness(self) -> int:
        """The height of the derivation from here: 1 of a leaf."""
        return 1 + max((part.tallness for part in self.parts), default=0)

    def walk(self) -> Iterator[Node]:
        """This place and all below, in the order they were derived."""
        yield self
        for part in self.parts:
            yield from part.walk()

    def part(self, label: str) -> Node:
        """The part called ``label``."""
        return next(part for part in self.parts if part.name == f"{self.name}.{label}")


Draw = Callable[[str, Sequence[Rule]], Rule]
"""``(place, rules that fit) -> rule``."""


def arch_of(root: Node) -> Arch:
    """The arch of a derivation."""
    return Arch({node.name: node.option for node in root.walk()})


def below(node: Node) -> dict[str, Option]:
    """The options of a part, by their places from it on."""
    return {inside.name[len(node.name) :]: inside.option for inside in node.walk()}


def same(option: Option, held: Option | None) -> bool:
    """Python has 1 == 1.0 == True, which are three options."""
    return option == held and type(option) is type(held)


def named(name: str, viable: Sequence[Rule], held: Option) -> Rule:
    """The rule called ``held``. Raises InputError where none of those that fit is."""
    for rule in viable:
        if same(rule.option, held):
            return rule
    raise InputError(f"{name} must be one of {tuple(rule.option for rule in viable)}, not {held!r}")


def this(rule: Rule, name: str, viable: Sequence[Rule]) -> Rule:
    """That rule, wherever it fits."""
    return rule


def other(old: Option, rng: random.Random, name: str, viable: Sequence[Rule]) -> Rule:
    """Another rule than that of ``old``, where there is one."""
    return weighted([rule for rule in viable if rule.option != old] or viable, rng)


def weighted(rules: Sequence[Rule], rng: random.Random) -> Rule:
    """One of the rules, drawn in proportion to its weight."""
    return rng.choices(rules, [rule.weight for rule in rules])[0]
