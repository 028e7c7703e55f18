"""Sums over the archs that meet constraints, and draws from them: exact, a group of tied choices at a time."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from sartor.errors import InputError
from sartor.records import Option
from sartor.space.choice import Choice

LIMIT = 50_000
"""Partial assignments a sum may remember: beyond it the constraints tie too many choices together."""

Weight = Callable[[Choice, Option], float]
"""What an option counts for; an arch counts for the product of its options."""


@dataclass(frozen=True)
class Constraint:
    """``holds(*options)`` of ``choices``, in that order. Where one of them is not active, nothing is asked."""

    name: str
    choices: tuple[str, ...]
    holds: Callable[..., bool]

    def met(self, held: Mapping[str, Option]) -> bool:
        """Whether ``held``, in which every choice is decided, meets it. Raises InputError where ``holds`` fails."""
        if any(name not in held for name in self.choices):
            return True
        options = [held[name] for name in self.choices]
        try:
            return bool(self.holds(*options))
        except Exception as error:
            raise InputError(f"the constraint {self.name!r} fails on {options}: {error}") from error


class Weighted:
    """The archs of ``choices`` that meet ``constraints``, each with the product of its options' weights.

    Choices that no constraint ties to others are summed in closed form. Tied ones are decided in order, and what is yet
    to come is remembered by the decisions that still matter to it, so that a chain of constraints takes a time linear
    in its length. A constraint over everything takes an exponential one, and raises InputError beyond LIMIT.
    """

    def __init__(self, choices: Sequence[Choice], constraints: Sequence[Constraint], weight: Weight):
        self.choices = choices
        self.weight = weight
        self.children: dict[str, list[Choice]] = {}
        for choice in choices:
            if choice.when is not None:
                self.children.setdefault(choice.when[0], []).append(choice)
        self.groups = [_Group(tied, among, self) for tied, among in _grouped(choices, constraints)]
        self.tied = {choice.name for group in self.groups for choice in group.choices}

    def total(self) -> float:
        """The sum over all archs; whole numbers stay whole. 0 where no arch meets the constraints."""
        result: float = 1
        for group in self.groups:
            result *= group.total(0, {})
        for choice in self.choices:
            if choice.when is None and choice.name not in self.tied:
                result *= self.free(choice)
        return result

    def free(self, choice: Choice) -> float:
        """The sum over what an untied ``choice`` and those below it may be."""
        return sum(self.weight(choice, option) * self.below(choice, option) for option in choice.options)

    def below(self, choice: Choice, option: Option) -> float:
        """The sum over the untied choices that become active with ``option``."""
        result: float = 1
        for child in self.children.get(choice.name, []):
            if child.when is not None and option in child.when[1] and child.name not in self.tied:
                result *= self.free(child)
        return result

    def draw(self, rng: random.Random) -> dict[str, Option] | None:
        """An arch with the odds of its weight; None where all weigh nothing."""
        decided: dict[str, Option] = {}
        for group in self.groups:
            if not group.draw(rng, decided):
                return None
        held: dict[str, Option] = {}
        for choice in self.choices:
            if not active(choice, held):
                continue
            if choice.name in self.tied:
                held[choice.name] = decided[choice.name]
            else:
                odds = [self.weight(choice, option) * self.below(choice, option) for option in choice.options]
                if not any(odds):
                    return None
                held[choice.name] = rng.choices(choice.options, odds)[0]
        return held


class _Group:
    """Choices that constraints tie together, with those they depend on."""

    def __init__(self, choices: Sequence[Choice], constraints: Sequence[Constraint], whole: Weighted):
        self.choices = choices
        self.whole = whole
        place = {choice.name: i for i, choice in enumerate(choices)}
        last = [max(place[name] for name in c.choices) for c in constraints]
        self.due = [[c for c, at in zip(constraints, last, strict=True) if at == i] for i in range(len(choices))]
        # Of the decisions before each choice, those that a constraint or a condition will still ask for.
        asked = [(c.choices, at) for c, at in zip(constraints, last, strict=True)]
        asked += [((c.when[0],), i) for i, c in enumerate(choices) if c.when is not None]
        self.needed = [
            tuple(c.name for c in choices[:i] if any(c.name in names and at >= i for names, at in asked))
            for i in range(len(choices) + 1)
        ]
        self.known: dict[tuple[object, ...], float] = {}

    def total(self, index: int, held: dict[str, Option]) -> float:
        """The sum over what the choices from ``index`` on may be, those before being ``held``."""
        if index == len(self.choices):
            return 1
        key = (index, *(held.get(name) for name in self.needed[index]))
        if key not in self.known:
            if len(self.known) >= LIMIT:
                names = sorted({c.name for due in self.due for c in due})
                raise InputError(
                    f"too many choices are tied together to count what meets {', '.join(names)}: "
                    "split the constraints, or restrict the space"
                )
            self.known[key] = sum((odds for _, odds in self.ways(index, held)), 0)
        return self.known[key]

    def ways(self, index: int, held: dict[str, Option]) -> Iterator[tuple[dict[str, Option], float]]:
        """Each way to decide choice ``index``, with the sum over what follows."""
        choice = self.choices[index]
        if not active(choice, held):
            yield held, self.total(index + 1, held)
            return
        for option in choice.options:
            weight = self.whole.weight(choice, option)
            more = {**held, choice.name: option}
            if weight and all(constraint.met(more) for constraint in self.due[index]):
                yield more, weight * self.whole.below(choice, option) * self.total(index + 1, more)

    def draw(self, rng: random.Random, decided: dict[str, Option]) -> bool:
        held: dict[str, Option] = {}
        for index in range(len(self.choices)):
            ways = [(more, odds) for more, odds in self.ways(index, held) if odds]
            if not ways:
                return False
            held = rng.choices([more for more, _ in ways], [odds for _, odds in ways])[0]
        decided.update(held)
        return True


def active(choice: Choice, held: Mapping[str, Option]) -> bool:
    """Whether ``choice`` is one, given the options ``held`` of those before it."""
    return choice.when is None or held.get(choice.when[0]) in choice.when[1]


def _grouped(
    choices: Sequence[Choice], constraints: Sequence[Constraint]
) -> list[tuple[list[Choice], list[Constraint]]]:
    """Constraints that share choices, or what these depend on, with all of those choices, in the space's order."""
    parent = {choice.name: choice.when[0] for choice in choices if choice.when is not None}
    groups: list[tuple[set[str], list[Constraint]]] = []
    for constraint in constraints:
        names: set[str] = set()
        for given in constraint.choices:
            name: str | None = given
            while name is not None:
                names.add(name)
                name = parent.get(name)
        among = [constraint]
        for group in [g for g in groups if g[0] & names]:
            groups.remove(group)
            names |= group[0]
            among = group[1] + among
        groups.append((names, among))
    return [([c for c in choices if c.name in names], among) for names, among in groups]
