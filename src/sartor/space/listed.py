"""A space of which only some archs exist: those of a table."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from sartor.errors import InputError
from sartor.records import Arch, Option
from sartor.space.space import Space

TRIES = 8
"""Mutations and crossovers that are drawn before the nearest arch that exists is taken."""


@dataclass(frozen=True)
class Listed(Space):
    """The ``archs`` of a space that exist. Sampling draws from them; what a mutation or a crossover leads to is the
    nearest of them, by the number of choices that differ."""

    archs: tuple[Arch, ...]

    def sample(self, rng: random.Random) -> Arch:
        return rng.choice(self.archs)

    def mutate(self, arch: Arch, rng: random.Random, rate: float = 0.1) -> Arch:
        for _ in range(TRIES):
            found = super().mutate(arch, rng, rate)
            if found in self._places:
                return found
        return self._nearest(found, rng, {arch})

    def cross(self, a: Arch, b: Arch, rng: random.Random) -> Arch:
        for _ in range(TRIES):
            found = super().cross(a, b, rng)
            if found in self._places:
                return found
        return self._nearest(found, rng, {a, b})

    def smallest(self) -> Arch:
        """The arch nearest to that of first options."""
        return self._nearest(super().smallest(), random.Random(0), set())

    def largest(self) -> Arch:
        """The arch nearest to that of last options."""
        return self._nearest(super().largest(), random.Random(0), set())

    def contains(self, arch: Arch) -> bool:
        return arch in self._places

    def count(self) -> int:
        return len(self.archs)

    def restrict(self, options: Mapping[str, Sequence[Option]]) -> Space:
        whole = super().restrict(options)
        kept = tuple(arch for arch in self.archs if whole.contains(arch))
        if not kept:
            raise InputError("no arch that exists has these options")
        return Listed(whole.choices, kept)

    def every(self) -> Iterator[Arch]:
        return iter(self.archs)

    def neighbours(self, arch: Arch) -> Iterator[Arch]:
        """Those that exist; where none does, those with the fewest choices that differ."""
        near = [found for found in super().neighbours(arch) if found in self._places]
        if near or len(self.archs) == 1:
            return iter(near)
        apart = self._apart(arch)
        apart[apart == 0] = np.iinfo(apart.dtype).max
        return iter([self.archs[i] for i in np.flatnonzero(apart == apart.min())])

    @cached_property
    def _places(self) -> dict[Arch, int]:
        return {arch: place for place, arch in enumerate(self.archs)}

    @cached_property
    def _codes(self) -> NDArray[np.int32]:
        """Options as numbers ``[archs, choices]``; -1 where a choice is not active."""
        return np.array([self._code(arch) for arch in self.archs], dtype=np.int32)

    @cached_property
    def _numbers(self) -> list[dict[Option, int]]:
        return [{option: number for number, option in enumerate(c.options)} for c in self.choices]

    def _code(self, arch: Arch) -> list[int]:
        pairs = zip(self.choices, self._numbers, strict=True)
        return [-1 if c.name not in arch else numbers[arch[c.name]] for c, numbers in pairs]

    def _apart(self, arch: Arch) -> NDArray[np.int64]:
        return (self._codes != np.array(self._code(arch), dtype=np.int32)).sum(axis=1)

    def _nearest(self, arch: Arch, rng: random.Random, but: set[Arch]) -> Arch:
        apart = self._apart(arch)
        for other in but:
            if (place := self._places.get(other)) is not None and len(self.archs) > len(but):
                apart[place] = np.iinfo(apart.dtype).max
        return self.archs[rng.choice(np.flatnonzero(apart == apart.min()).tolist())]
