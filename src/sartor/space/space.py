"""Choices and their conditions: sample, mutate, cross, encode, count, contain."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial

import numpy as np
from numpy.typing import NDArray

from sartor.errors import InputError
from sartor.records import Arch, Option
from sartor.space.choice import Choice
from sartor.space.graph import INPUT, OUTPUT, ArchGraph, word

TOGETHER = 1024
"""Archs that are encoded together: what they hold stays in the processor's cache."""


@dataclass(frozen=True)
class Space:
    """A finite set of archs: every canonical assignment of options to active choices.

    Canonical: inactive choices are absent, so two archs that mean the same network are equal. A conditional choice
    comes after the choice it depends on.
    """

    choices: tuple[Choice, ...]

    def __post_init__(self) -> None:
        seen: dict[str, Choice] = {}
        for choice in self.choices:
            if choice.name in seen:
                raise InputError(f"choice {choice.name!r} is declared twice")
            if choice.when is not None:
                parent = seen.get(choice.when[0])
                if parent is None or not set(choice.when[1]) <= set(parent.options):
                    raise InputError(
                        f"choice {choice.name!r} depends on {choice.when}, which is not declared before it"
                    )
            seen[choice.name] = choice

    def canonical(self, options: Mapping[str, Option]) -> Arch:
        """The arch of ``options``: inactive choices are dropped. Raises InputError when an active one is absent."""
        arch: dict[str, Option] = {}
        for choice in self.choices:
            if _active(choice, arch):
                held = options.get(choice.name, "absent")
                if not any(held == option and type(held) is type(option) for option in choice.options):
                    raise InputError(f"{choice.name} must be one of {choice.options}, not {held!r}")
                arch[choice.name] = held
        return Arch(arch)

    def decide(self, pick: Callable[[Choice], Option]) -> Arch:
        """The arch that ``pick`` leads to, which is asked for an option of each active choice, one after the other. Of
        a space with fewer archs than its choices have, it may be none of it; ``cross`` with itself is the nearest."""
        arch: dict[str, Option] = {}
        for choice in self.choices:
            if _active(choice, arch):
                arch[choice.name] = pick(choice)
        return Arch(arch)

    def sample(self, rng: random.Random) -> Arch:
        """An arch with every active choice drawn uniformly."""
        return self.decide(lambda choice: rng.choice(choice.options))

    def smallest(self) -> Arch:
        """The arch of first options."""
        return self.decide(lambda choice: choice.options[0])

    def largest(self) -> Arch:
        """The arch of last options."""
        return self.decide(lambda choice: choice.options[-1])

    def mutate(self, arch: Arch, rng: random.Random, rate: float = 0.1) -> Arch:
        """Redraw each active choice with probability ``rate``, and at least one, so that the result differs whenever
        the space has another arch. Choices that become active are drawn."""
        free = [c.name for c in self.choices if c.name in arch and len(c.options) > 1]
        forced = rng.choice(free) if free else None

        def draw(choice: Choice) -> Option:
            current = arch.get(choice.name)
            if current is None or current not in choice.options:
                return rng.choice(choice.options)
            if len(choice.options) > 1 and (choice.name == forced or rng.random() < rate):
                return rng.choice([o for o in choice.options if o != current])
            return current

        return self.decide(draw)

    def cross(self, a: Arch, b: Arch, rng: random.Random) -> Arch:
        """Uniform crossover: each active choice comes from either parent that has it, else it is drawn."""

        def draw(choice: Choice) -> Option:
            held = [p[choice.name] for p in (a, b) if p.get(choice.name) in choice.options]
            return rng.choice(held or choice.options)

        return self.decide(draw)

    def nearest(self, arch: Arch, rng: random.Random) -> Arch:
        """The arch itself where the space has it, else one that it has and that is near."""
        return arch if self.contains(arch) else self.cross(arch, arch, rng)

    def encode(self, arch: Arch) -> np.ndarray:
        """A float vector of fixed length for predictors: one-hot options (all zero where inactive), then the rank of
        each ordered choice in [0, 1], which lets linear models see size."""
        hot, rank = [], []
        for choice in self.choices:
            held = arch.get(choice.name)
            hot += [1.0 if held == o and type(held) is type(o) else 0.0 for o in choice.options]
            position = choice.options.index(held) if held is not None else 0
            rank.append(position / max(1, len(choice.options) - 1))
        return np.array(hot + rank)

    def features(self, arch: Arch) -> np.ndarray:
        """What a predictor of how good an arch is should see: :meth:`encode`, where the space knows no better. Archs
        that compute the same may have the same."""
        return self.encode(arch)

    def features_many(self, archs: Sequence[Arch]) -> NDArray[np.float64]:
        """:meth:`features` of each ``[n, d]``."""
        return self.encode_many(archs)

    @cached_property
    def listed_features(self) -> tuple[np.ndarray, np.ndarray]:
        """:meth:`features` of :attr:`listed`, as :func:`distinct` gives them, kept: of a small space."""
        return distinct(self.features_many(self.listed))

    @cached_property
    def listed_codes(self) -> np.ndarray:
        """:meth:`encode` of :attr:`listed`, kept ``[archs, e]``: of a small space."""
        return self.encode_many(self.listed)

    def codes(self, archs: Sequence[Arch]) -> NDArray[np.int32]:
        """The places of the options that ``archs`` hold among their choices' ``[n, choices]``; -1 where a choice is not
        active. Made for hundreds of thousands of archs: :meth:`canonical` and :meth:`encode` are slower by far.

        Raises InputError with the first arch that is not a canonical assignment of these choices.
        """
        if len(archs) > TOGETHER:
            return np.concatenate([self.codes(archs[i : i + TOGETHER]) for i in range(0, len(archs), TOGETHER)])
        names = [choice.name for choice in self.choices]
        if not all(isinstance(arch, Arch) for arch in archs):
            raise InputError("archs of this space are needed: make them with canonical(options)")
        held = [arch.options(names) for arch in archs]
        codes = np.empty((len(names), len(held)), dtype=np.int32).T  # a choice's codes lie together
        wrong = np.array([len(arch) for arch in archs], dtype=np.int64)
        place = {name: j for j, name in enumerate(names)}
        for j, (choice, column) in enumerate(zip(self.choices, zip(*held, strict=True), strict=False)):
            codes[:, j] = _numbered(choice, column)
            active = np.ones(len(held), dtype=bool)
            if choice.when is not None:
                above = place[choice.when[0]]
                active = np.isin(codes[:, above], [self.choices[above].options.index(o) for o in choice.when[1]])
            wrong -= active
            wrong[(codes[:, j] >= 0) != active] = -len(names) - 1
        if (wrong != 0).any():
            first = archs[int(np.flatnonzero(wrong)[0])]
            raise InputError(f"{first} is not an arch of this space: give archs that it drew or contains")
        return codes

    def check(self, archs: Sequence[Arch]) -> None:
        """Raises InputError with the first of ``archs`` that is no canonical assignment of the choices."""
        self.codes(archs)

    def encode_many(self, archs: Sequence[Arch]) -> NDArray[np.float64]:
        """:meth:`encode` of many archs at once ``[n, d]``. Raises InputError as :meth:`codes` does."""
        codes = self.codes(archs)
        sizes = [len(choice.options) for choice in self.choices]
        found = np.zeros((len(archs), sum(sizes) + len(sizes)))
        first = 0
        for column, size in zip(codes.T, sizes, strict=True):
            active = np.flatnonzero(column >= 0)
            found[active, first + column[active]] = 1.0
            first += size
        found[:, first:] = np.clip(codes, 0, None) / np.maximum(1, np.array(sizes) - 1)
        return found

    def graph(self, arch: Arch) -> ArchGraph:
        """A chain of the options that ``arch`` holds, in the order of the choices, from an input to an output."""
        held = [choice for choice in self.choices if choice.name in arch]
        labels = (INPUT, *(word(c.name, arch[c.name]) for c in held), OUTPUT)
        sizes = (0.0, *(c.options.index(arch[c.name]) / max(1, len(c.options) - 1) for c in held), 0.0)
        places = (INPUT, *(c.name for c in held), OUTPUT)
        return ArchGraph(labels, places, sizes, tuple((i, i + 1) for i in range(len(labels) - 1)))

    def contains(self, arch: Arch) -> bool:
        """Whether ``arch`` is a canonical arch of this space."""
        try:
            return self.canonical(arch) == arch
        except InputError:
            return False

    def restrict(self, options: Mapping[str, Sequence[Option]]) -> Space:
        """A smaller space that keeps only the given options of the named choices; conditions follow."""
        kept: dict[str, tuple[Option, ...]] = {}
        choices = []
        for choice in self.choices:
            mine = tuple(o for o in choice.options if o in options.get(choice.name, choice.options))
            when = choice.when
            if when is not None:
                if when[0] not in kept:
                    continue
                values = tuple(o for o in when[1] if o in kept[when[0]])
                if not values:
                    continue
                when = (when[0], values)
            kept[choice.name] = mine
            choices.append(Choice(choice.name, mine, when))
        return Space(tuple(choices))

    def __len__(self) -> int:
        """The exact number of archs; use :meth:`count` where it may pass the platform's index limit."""
        return self.count()

    def count(self) -> int:
        """The exact number of archs, of any size: a product over independent choices, a sum over conditions."""
        children: dict[str, list[Choice]] = {}
        for choice in self.choices:
            if choice.when is not None:
                children.setdefault(choice.when[0], []).append(choice)

        def ways(choice: Choice) -> int:
            total = 0
            for option in choice.options:
                product = 1
                for child in children.get(choice.name, []):
                    assert child.when is not None
                    if option in child.when[1]:
                        product *= ways(child)
                total += product
            return total

        result = 1
        for choice in self.choices:
            if choice.when is None:
                result *= ways(choice)
        return result

    def every(self) -> Iterator[Arch]:
        """Every arch, in the order of the choices' options. Of a small space: there may be more than atoms."""

        def extend(index: int, held: dict[str, Option]) -> Iterator[Arch]:
            if index == len(self.choices):
                yield Arch(held)
                return
            choice = self.choices[index]
            if not _active(choice, held):
                yield from extend(index + 1, held)
                return
            for option in choice.options:
                yield from extend(index + 1, {**held, choice.name: option})

        return extend(0, {})

    @cached_property
    def listed(self) -> tuple[Arch, ...]:
        """:meth:`every`, kept: of a small space."""
        return tuple(self.every())

    def neighbours(self, arch: Arch) -> Iterator[Arch]:
        """The archs with another option in one choice; choices that become active have their first."""

        def other(changed: Choice, option: Option, choice: Choice) -> Option:
            return option if choice is changed else arch.get(choice.name, choice.options[0])

        for changed in self.choices:
            for option in changed.options if changed.name in arch else ():
                if option != arch[changed.name]:
                    yield self.decide(partial(other, changed, option))

    def near(self, arch: Arch) -> tuple[Arch, ...]:
        """:meth:`neighbours`, kept: who replays a climb asks for the same ones again and again."""
        if arch not in self._near:
            self._near[arch] = tuple(self.neighbours(arch))
        return self._near[arch]

    @cached_property
    def _near(self) -> dict[Arch, tuple[Arch, ...]]:
        return {}

    def to_list(self) -> list[dict[str, object]]:
        """JSON-able description: name, options and condition of each choice."""
        return [{"name": c.name, "options": list(c.options), "when": c.when} for c in self.choices]


def _active(choice: Choice, arch: Mapping[str, Option]) -> bool:
    return choice.when is None or arch.get(choice.when[0]) in choice.when[1]


def distinct(features: NDArray[np.float64]) -> tuple[np.ndarray, np.ndarray]:
    """The different rows ``[r, d]`` of features, and the place of each arch's in them ``[archs]``."""
    rows, places = np.unique(features, axis=0, return_inverse=True)
    return rows, places.reshape(-1)


def _numbered(choice: Choice, column: Sequence[Option | None]) -> NDArray[np.int32]:
    """The places of options among the choice's; -1 for None, and -2 for what is none of them."""
    numbers: dict[Option | None, int] = {option: number for number, option in enumerate(choice.options)}
    numbers[None] = -1
    # Python has 1 == 1.0 == True, which are three options: a mixed column is looked up by type, too.
    if set(map(type, column)) <= {type(choice.options[0]), type(None)}:
        try:
            return np.fromiter(map(numbers.__getitem__, column), dtype=np.int32, count=len(column))
        except KeyError:
            pass
    typed = {(type(option), option): number for option, number in numbers.items()}
    return np.array([typed.get((type(option), option), -2) for option in column], dtype=np.int32)
