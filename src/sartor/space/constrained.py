"""Spaces with constraints between their choices."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import combinations

from sartor.errors import InputError
from sartor.records import Arch, Option
from sartor.space.choice import Choice
from sartor.space.space import Space
from sartor.space.weighted import Constraint, Weight, Weighted, active

TRIES = 64
"""Draws of the plain space that are tried before an arch that meets the constraints is constructed."""

CHANGED = 0.05
"""What an option that differs counts for, at least, where a mutant is constructed: few do."""

__all__ = ["Constrained", "Constraint"]


@dataclass(frozen=True)
class Constrained(Space):
    """The archs of a space that meet every one of ``constraints``.

    Archs are drawn as the plain space draws them until one meets the constraints; after TRIES they are constructed,
    with the same odds: exact, for what can be counted (see :class:`sartor.space.weighted.Weighted`). Raises InputError
    for a constraint on a choice that is not there, and where no arch meets the constraints, with the fewest of them
    found that contradict each other.
    """

    constraints: tuple[Constraint, ...]

    def __post_init__(self) -> None:
        super().__post_init__()
        names = {choice.name for choice in self.choices}
        for constraint in self.constraints:
            unknown = [name for name in constraint.choices if name not in names]
            if unknown or not constraint.choices:
                raise InputError(f"the constraint {constraint.name!r} is on {unknown or 'nothing'}: name choices")
            if len(set(constraint.choices)) < len(constraint.choices):
                raise InputError(f"the constraint {constraint.name!r} names a choice twice: {constraint.choices}")
        twice = {c.name for c in self.constraints if [d.name for d in self.constraints].count(c.name) > 1}
        if twice:
            raise InputError(f"two constraints are called {', '.join(sorted(twice))}: give each its own name")
        rng = random.Random(0)
        if self._drawn(lambda: Space.sample(self, rng)) is None and not self._weighted(_one).total():
            raise InputError(f"no arch meets {_listed(self._contradiction())}: change one of them, or the options")

    def sample(self, rng: random.Random) -> Arch:
        """As the plain space draws, given that the constraints are met."""
        found = self._drawn(lambda: Space.sample(self, rng))
        return found if found is not None else _constructed(self._even, rng)

    def mutate(self, arch: Arch, rng: random.Random, rate: float = 0.1) -> Arch:
        """Another arch that meets the constraints, wherever there is one: more choices change where they must."""
        found = self._drawn(lambda: Space.mutate(self, arch, rng, rate), arch)
        if found is not None:
            return found
        free = [choice for choice in self.choices if choice.name in arch and len(choice.options) > 1]
        for forced in rng.sample(free, len(free)):

            def weight(choice: Choice, option: Option, forced: Choice = forced) -> float:
                kept = choice.name not in arch or arch[choice.name] == option
                return float(choice is not forced) if kept else max(rate, CHANGED)

            held = self._weighted(weight).draw(rng)
            if held is not None:
                return Arch(held)
        return arch

    def cross(self, a: Arch, b: Arch, rng: random.Random) -> Arch:
        """Each choice from either parent, such that the constraints are met."""
        found = self._drawn(lambda: Space.cross(self, a, b, rng))
        if found is not None:
            return found

        def weight(choice: Choice, option: Option) -> float:
            held = [parent[choice.name] for parent in (a, b) if choice.name in parent]
            return 1.0 if not held else float(option in held)

        return _constructed(self._weighted(weight), rng)

    def smallest(self) -> Arch:
        """The arch of first options, as far as the constraints let it: choice by choice, in order."""
        return self._first(lambda options: options)

    def largest(self) -> Arch:
        """The arch of last options, as far as the constraints let it: choice by choice, in order."""
        return self._first(lambda options: options[::-1])

    def contains(self, arch: Arch) -> bool:
        return super().contains(arch) and self._met(arch)

    def restrict(self, options: Mapping[str, Sequence[Option]]) -> Space:
        """Constraints on choices that are never active any more say nothing, and go."""
        whole = super().restrict(options)
        names = {choice.name for choice in whole.choices}
        return Constrained(whole.choices, tuple(c for c in self.constraints if names.issuperset(c.choices)))

    def count(self) -> int:
        """The exact number of archs. Raises InputError where constraints tie too many choices together to count."""
        return self._size

    def every(self) -> Iterator[Arch]:
        """In the order of the choices' options. A constraint is asked as soon as its last choice is decided."""
        place = {choice.name: i for i, choice in enumerate(self.choices)}
        due: list[list[Constraint]] = [[] for _ in self.choices]
        for constraint in self.constraints:
            due[max(place[name] for name in constraint.choices)].append(constraint)

        def extend(index: int, held: dict[str, Option]) -> Iterator[Arch]:
            if index == len(self.choices):
                yield Arch(held)
                return
            choice = self.choices[index]
            if not active(choice, held):
                yield from extend(index + 1, held)
                return
            for option in choice.options:
                more = {**held, choice.name: option}
                if all(constraint.met(more) for constraint in due[index]):
                    yield from extend(index + 1, more)

        return extend(0, {})

    def neighbours(self, arch: Arch) -> Iterator[Arch]:
        """Those that meet the constraints; where none does, what is two changes away and does."""
        near = list(super().neighbours(arch))
        found = [other for other in near if self._met(other)]
        if not found:
            further = (other for one in near for other in Space.neighbours(self, one))
            found = [other for other in dict.fromkeys(further) if other != arch and self._met(other)]
        return iter(found)

    def _met(self, arch: Mapping[str, Option]) -> bool:
        return all(constraint.met(arch) for constraint in self.constraints)

    def _drawn(self, draw: Callable[[], Arch], other: Arch | None = None) -> Arch | None:
        """The first of TRIES draws that meets the constraints and is not ``other``."""
        for _ in range(TRIES):
            found = draw()
            if found != other and self._met(found):
                return found
        return None

    def _weighted(self, weight: Weight) -> Weighted:
        return Weighted(self.choices, self.constraints, weight)

    @cached_property
    def _even(self) -> Weighted:
        """With the plain space's odds."""
        return self._weighted(lambda choice, option: 1 / len(choice.options))

    @cached_property
    def _size(self) -> int:
        return int(self._weighted(_one).total())

    def _first(self, order: Callable[[tuple[Option, ...]], tuple[Option, ...]]) -> Arch:
        decided: dict[str, Option] = {}
        for choice in self.choices:
            if not active(choice, decided):
                continue
            for option in order(choice.options):
                trial = {**decided, choice.name: option}
                if self._weighted(_fixed(trial)).total():
                    decided = trial
                    break
        return Arch(decided)

    def _contradiction(self) -> list[Constraint]:
        """A subset that cannot be met, none of whose members can be left out: one or two where so few suffice."""

        def met(some: Sequence[Constraint]) -> bool:
            return bool(Weighted(self.choices, some, _one).total())

        for size in (1, 2):
            for some in combinations(self.constraints, size):
                if not met(some):
                    return list(some)
        kept = list(self.constraints)
        for constraint in self.constraints:
            fewer = [c for c in kept if c is not constraint]
            if not met(fewer):
                kept = fewer
        return kept


def _constructed(weighted: Weighted, rng: random.Random) -> Arch:
    held = weighted.draw(rng)
    if held is None:  # a space that could be made has an arch, and a child may be its parent
        raise InputError("neither parent meets the constraints: give archs of this space")
    return Arch(held)


def _fixed(held: Mapping[str, Option]) -> Weight:
    """Of the archs with these options, each counts for one."""
    return lambda choice, option: float(held.get(choice.name, option) == option)


def _one(choice: Choice, option: Option) -> float:
    return 1


def _listed(constraints: Sequence[Constraint]) -> str:
    names = [repr(constraint.name) for constraint in constraints]
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]} together"
