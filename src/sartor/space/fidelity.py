"""Spaces whose archs are evaluated at several fidelities: epochs, shares of the data, resolutions.

The fidelity is one more choice, the last. An arch with its fidelity is then an arch like any other: its record is kept,
replayed and never made twice as before, and what was learnt of an arch at one fidelity is no claim about another.
Rejected: a fidelity beside the arch in records and evaluators, which every store, loop and strategy would have to know.
"""

from __future__ import annotations

import math
import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from sartor.errors import InputError
from sartor.records import Arch, Option
from sartor.space.choice import Choice
from sartor.space.derivation import Derivations
from sartor.space.space import Space

FIDELITY = "fidelity"
"""The choice's name."""


@dataclass(frozen=True)
class Fidelities(Space):
    """``plain``'s archs, each at every fidelity: ``choices`` are those of ``plain`` and FIDELITY, ``costs`` the cost of
    an evaluation at each of its options, ascending, in evaluations at the full one. See :func:`with_fidelities`."""

    plain: Space
    costs: tuple[float, ...]

    @property
    def fidelities(self) -> tuple[Option, ...]:
        """The options of FIDELITY, cheapest first; the last is the full one."""
        return self.choices[-1].options

    def at(self, arch: Arch, fidelity: Option) -> Arch:
        """The plain ``arch`` at ``fidelity``."""
        return Arch({**arch, FIDELITY: fidelity})

    def plain_of(self, arch: Arch) -> Arch:
        """``arch`` without its fidelity. Remembered: strategies ask it of a whole history, again and again."""
        if (found := self._plain.get(arch)) is None:
            found = Arch({name: option for name, option in arch.items() if name != FIDELITY})
            self._plain[arch] = found
        return found

    def cost(self, arch: Arch) -> float:
        """What an evaluation of ``arch`` costs, in full evaluations."""
        return self.costs[self.fidelities.index(arch[FIDELITY])]

    def only_full(self) -> Fidelities:
        """The same archs at the full fidelity alone: what a strategy searches that knows nothing of fidelities."""
        return self._with(self.plain, self.fidelities[-1:])

    def sample(self, rng: random.Random) -> Arch:
        return self.at(self.plain.sample(rng), rng.choice(self.fidelities))

    def smallest(self) -> Arch:
        return self.at(self.plain.smallest(), self.fidelities[0])

    def largest(self) -> Arch:
        return self.at(self.plain.largest(), self.fidelities[-1])

    def mutate(self, arch: Arch, rng: random.Random, rate: float = 0.1) -> Arch:
        """The plain arch mutated; or another fidelity, as often as one choice of all is, and with ``rate``."""
        plain, held = self.plain_of(arch), arch[FIDELITY]
        others = [option for option in self.fidelities if option != held]
        moves = self.plain.count() > 1
        forced = bool(others) and (not moves or rng.randrange(len(arch)) == 0)
        fidelity = rng.choice(others) if forced or (others and rng.random() < rate) else held
        return self.at(plain if forced or not moves else self.plain.mutate(plain, rng, rate), fidelity)

    def cross(self, a: Arch, b: Arch, rng: random.Random) -> Arch:
        plain = self.plain.cross(self.plain_of(a), self.plain_of(b), rng)
        return self.at(plain, rng.choice([parent[FIDELITY] for parent in (a, b)]))

    def contains(self, arch: Arch) -> bool:
        return super().contains(arch) and self.plain.contains(self.plain_of(arch))

    def count(self) -> int:
        return self.plain.count() * len(self.fidelities)

    def every(self) -> Iterator[Arch]:
        return (self.at(arch, fidelity) for arch in self.plain.every() for fidelity in self.fidelities)

    def neighbours(self, arch: Arch) -> Iterator[Arch]:
        held = arch[FIDELITY]
        plain = self.plain_of(arch)
        yield from (self.at(other, held) for other in self.plain.neighbours(plain))
        yield from (self.at(plain, option) for option in self.fidelities if option != held)

    def restrict(self, options: Mapping[str, Sequence[Option]]) -> Space:
        kept = [o for o in self.fidelities if o in options.get(FIDELITY, self.fidelities)]
        return self._with(self.plain.restrict({k: v for k, v in options.items() if k != FIDELITY}), kept)

    @cached_property
    def _plain(self) -> dict[Arch, Arch]:
        return {}

    def _with(self, plain: Space, fidelities: Sequence[Option]) -> Fidelities:
        """These fidelities of ``plain``, at the costs they have here."""
        last = Choice(FIDELITY, tuple(fidelities))
        costs = tuple(self.costs[self.fidelities.index(option)] for option in fidelities)
        return Fidelities((*plain.choices, last), plain, costs)


def with_fidelities(plain: Space, costs: Mapping[Option, float]) -> Fidelities:
    """``plain`` with the fidelities ``costs``: what each costs, in any unit, such as ``{3: 3, 10: 10, 50: 50}`` epochs.

    Raises InputError where there are none, a cost is no positive number, two are equal, or ``plain`` has them already.
    """
    if isinstance(plain, Derivations):
        raise InputError("a grammar's space has no choices to put a fidelity beside: give a space of choices")
    if any(choice.name == FIDELITY for choice in plain.choices):
        raise InputError(f"the space has a choice called {FIDELITY!r} already: rename it")
    wrong = [o for o, c in costs.items() if not (isinstance(c, (int, float)) and math.isfinite(c) and c > 0)]
    if not costs or wrong:
        raise InputError(f"fidelities need positive costs, such as {{3: 3, 50: 50}}, not {dict(costs)}")
    if len(set(costs.values())) < len(costs):
        raise InputError(f"two fidelities cost the same: keep the better of them ({dict(costs)})")
    ascending = sorted(costs, key=lambda option: costs[option])
    full = costs[ascending[-1]]
    choice = Choice(FIDELITY, tuple(ascending))
    return Fidelities((*plain.choices, choice), plain, tuple(costs[option] / full for option in ascending))
