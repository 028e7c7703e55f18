"""Successive halving as a function of the history: the fidelities that are rungs, the brackets that climb them, and
where each bracket stands.

Jamieson & Talwalkar, arXiv:1502.07943; Li et al., arXiv:1603.06560, algorithm 1. The paper's rungs cost powers of
``eta``, and 1/``eta`` of the archs goes on. Here a space lists its fidelities, at any costs, so what is kept of the
paper is that every rung of a bracket costs the same: of n archs on a rung, n · cost / next cost go on. Where costs are
powers of ``eta`` these are the paper's numbers (81, 34, 15, 8 and 5 archs for R = 81, η = 3).
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from sartor.errors import InputError
from sartor.records import Arch, Option
from sartor.search.objective import Objective, measured
from sartor.search.strategy import History, fresh
from sartor.space.fidelity import FIDELITY, Fidelities
from sartor.space.space import Space

Draw = Callable[[int, set[Arch]], list[Arch]]
"""``(k, seen) -> archs``: up to k plain archs that are not in ``seen``."""


@dataclass(frozen=True)
class Rungs:
    """The fidelities in use, cheapest first, and their costs; a plain space has one, which is no choice of it."""

    space: Space
    plain: Space
    fidelities: tuple[Option | None, ...]
    costs: tuple[float, ...]

    def at(self, plain: Arch, rung: int) -> Arch:
        option = self.fidelities[rung]
        return plain if option is None else Arch({**plain, FIDELITY: option})

    def split(self, arch: Arch) -> tuple[Arch, int | None]:
        """The plain arch, and its rung; None where its fidelity is none."""
        if self.fidelities[0] is None:
            return arch, 0
        assert isinstance(self.space, Fidelities)
        held = arch[FIDELITY]
        return self.space.plain_of(arch), self.fidelities.index(held) if held in self.fidelities else None


def rungs_of(space: Space, eta: float) -> Rungs:
    """The full fidelity, and below each rung the dearest that costs at most 1/``eta`` of it."""
    if not eta > 1:
        raise InputError(f"eta must be more than 1, such as 3, not {eta}")
    if not isinstance(space, Fidelities):
        return Rungs(space, space, (None,), (1.0,))
    kept = [len(space.costs) - 1]
    for place in reversed(range(len(space.costs))):
        if space.costs[place] * eta <= space.costs[kept[0]] * (1 + 1e-9):
            kept.insert(0, place)
    return Rungs(space, space.plain, tuple(space.fidelities[i] for i in kept), tuple(space.costs[i] for i in kept))


def brackets(costs: Sequence[float]) -> list[list[int]]:
    """How many archs are on each rung of each of Hyperband's brackets, of which the first starts on the cheapest rung,
    the next on the rung above that, and the last on the full one. Each costs about as many full evaluations as there
    are rungs.
    """
    top, found = len(costs) - 1, []
    for start in range(len(costs)):
        n = math.ceil(len(costs) / (top - start + 1) * costs[top] / costs[start] - 1e-9)
        found.append([max(1, math.floor(n * costs[start] / cost + 1e-9)) for cost in costs[start:]])
    return found


@dataclass
class _Bracket:
    start: int
    sizes: list[int]
    members: list[Arch] = field(default_factory=list)

    @property
    def free(self) -> int:
        return self.sizes[0] - len(self.members)

    def waiting(self, values: Sequence[dict[Arch, float]]) -> list[tuple[Arch, int]]:
        """The archs, with their rung, that have been promoted and not evaluated there."""
        alive, rung = self.members, self.start
        if self.free > 0:
            return []
        for size in self.sizes[1:]:
            usable = [arch for arch in alive if math.isfinite(values[rung][arch])]
            alive = sorted(usable, key=lambda arch: values[rung][arch])[:size]
            rung += 1
            if pending := [(arch, rung) for arch in alive if arch not in values[rung]]:
                return pending
        return []


def values_by_rung(rungs: Rungs, history: History, first: Objective) -> list[dict[Arch, float]]:
    """Of each rung: plain arch → cost by ``first``, infinite where it could not be measured, in the history's order."""
    values: list[dict[Arch, float]] = [{} for _ in rungs.costs]
    for record in history:
        plain, rung = rungs.split(record.arch)
        if rung is not None:
            usable = measured(record.metrics, [first])
            values[rung][plain] = first.cost(record.metrics[first.metric]) if usable else math.inf
    return values


def climb(
    space: Space,
    history: History,
    rng: random.Random,
    n: int,
    first: Objective,
    eta: float,
    starts: Callable[[int], Sequence[int]],
    draw: Draw,
) -> list[Arch]:
    """n archs: what brackets wait for, the oldest bracket first; then new archs, from ``draw``, for the next brackets.

    ``starts``: from the number of rungs to the rungs that brackets start on, over and over. Where each bracket stands
    is found by replaying the history: an arch that nobody knows belongs to the oldest bracket with room on its rung.
    While a bracket waits for its last evaluations the next one is begun, so that a batch of any size can be proposed.
    """
    rungs = rungs_of(space, eta)
    values = values_by_rung(rungs, history, first)
    sizes, cycle = brackets(rungs.costs), list(starts(len(rungs.costs)))
    begun: list[_Bracket] = []

    def room(start: int | None) -> _Bracket | None:
        """The oldest bracket with room, that starts on ``start`` where that is given; None where none ever does."""
        if start is not None and start not in cycle:
            return None
        for bracket in begun:
            if bracket.free > 0 and start in (None, bracket.start):
                return bracket
        while True:
            at = cycle[len(begun) % len(cycle)]
            begun.append(_Bracket(at, sizes[at]))
            if start in (None, at):
                return begun[-1]

    known: set[Arch] = set()
    for record in history:
        plain, rung = rungs.split(record.arch)
        if plain not in known and rung is not None and (bracket := room(rung)) is not None:
            bracket.members.append(plain)
        known.add(plain)
    found = [rungs.at(*place) for bracket in begun for place in bracket.waiting(values)][:n]
    while len(found) < n:
        bracket = room(None)
        assert bracket is not None
        new = draw(min(n - len(found), bracket.free), known)
        if not new:  # every arch is known somewhere: whatever is left, at any fidelity
            seen = {record.arch for record in history} | set(found)
            return found + fresh(space, lambda: space.sample(rng), rng, n - len(found), seen)
        known.update(new)
        bracket.members += new
        found += [rungs.at(arch, bracket.start) for arch in new]
    return found
