"""The order of a graph's steps that needs the least memory.

What is held after some steps depends only on which steps they are, not on their order: a tensor is there when its
writer has run and a reader has not. So orders are paths through the graph's downsets (sets of steps that hold all they
depend on), and the best order is the path whose worst step is least bad: dynamic programming over downsets, here best
first, so that only downsets cheaper than the answer are ever visited. (Ahn et al., "Ordering Chaos: Memory-Aware
Scheduling of Irregularly Wired Neural Networks for Edge Devices", MLSys 2020, arXiv 2003.02369, section 3; the lazy
release of overwritten inputs and views is ours.)

A ready step that adds nothing to what is held and does not raise the path's peak is taken at once: whatever runs later
finds the same or less memory in use, because releases only come earlier. That makes chains linear and leaves the
search to where branches really compete. Past ``limit`` downsets a beam of the same moves takes over, and the given
order stays where the beam finds nothing better.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from sartor.errors import InputError
from sartor.measure.plan.steps import Problem, peak

LIMIT = 20_000
"""Downsets visited before the search is given up: a second or two. Of the networks we know only NASNet needs more."""
BEAM = 64


@dataclass(frozen=True)
class Ordered:
    """``steps``: numbers of the problem's steps; ``exact``: no order needs less."""

    steps: tuple[int, ...]
    peak_bytes: int
    exact: bool


def best_order(problem: Problem, *, limit: int = LIMIT, beam: int = BEAM) -> Ordered:
    """The order of least peak, or of all those found; never worse than the problem's own.

    Raises InputError for a limit or beam below 1, and for tensors in parts, whose order is their schedule's.
    """
    if problem.parts:
        raise InputError("tensors in parts keep the order they are given: search before they are cut")
    if limit < 1 or beam < 1:
        raise InputError(f"the search needs a limit and a beam of at least 1, not {limit} and {beam}")
    given = Ordered(tuple(range(len(problem.steps))), peak(problem), exact=False)
    moves = _Moves(problem)
    if given.peak_bytes <= moves.floor:
        return Ordered(given.steps, given.peak_bytes, exact=True)
    found = _exact(moves, given.peak_bytes, limit)
    if found is None:
        return Ordered(given.steps, given.peak_bytes, exact=True)
    if not found:
        tried = _beam(moves, given.peak_bytes, beam)
        return given if tried is None else Ordered(tried, peak(problem, tried), exact=False)
    return Ordered(found, peak(problem, found), exact=True)


class _Moves:
    """Downsets as bit masks of the steps that have run, and what each next step holds."""

    def __init__(self, problem: Problem) -> None:
        steps = problem.steps
        self.size = len(steps)
        base = dict.fromkeys(problem.inputs, "")
        for name in base:
            base[name] = name
        for step in steps:
            for output in step.outputs:
                base[output] = base[step.inputs[0]] if step.view and step.inputs else output
        writer = {name: number for number, step in enumerate(steps) for name in step.outputs}
        self.needs = [sum({1 << writer[n] for n in step.inputs if n in writer}) for step in steps]
        self.readers: dict[str, int] = dict.fromkeys(base.values(), 0)
        for number, step in enumerate(steps):
            for name in (*step.inputs, *(step.outputs if step.view else ())):
                self.readers[base[name]] |= 1 << number
        self.sizes = {name: problem.sizes[name] for name in self.readers}
        self.kept = {base[name] for name in problem.outputs}
        self.reads = [tuple({base[name] for name in step.inputs}) for step in steps]
        self.writes = [() if step.view and step.inputs else step.outputs for step in steps]
        self.over = [tuple(dict.fromkeys(base[name] for name in step.overwrites)) for step in steps]
        self.scratch = [step.scratch for step in steps]
        self.users: list[list[int]] = [[] for _ in steps]
        for number, mask in enumerate(self.needs):
            for before in _bits(mask):
                self.users[before].append(number)
        # An input that nobody reads is gone when the first step runs.
        fed = {base[name] for name in problem.inputs}
        self.start = sum(self.sizes[name] for name in fed)
        self.unread = sum(self.sizes[n] for n in fed if not self.readers[n] and n not in self.kept)
        self.floor = max([self.start, *(self._alone(number) for number in range(self.size))])

    def _alone(self, number: int) -> int:
        """What a step needs in any order: all it reads, all it writes, less what it may overwrite."""
        reads = sum(self.sizes[name] for name in self.reads[number])
        return reads + self._written(number, (1 << self.size) - 1)

    def _written(self, number: int, done: int) -> int:
        """Bytes that a step adds while it runs, given that ``done`` has run."""
        done |= 1 << number
        free = [n for n in self.over[number] if n not in self.kept and not self.readers[n] & ~done]
        more = 0
        for output in self.writes[number]:
            size = self.sizes[output]
            over = next((name for name in free if self.sizes[name] == size), None)
            if over is None:
                more += size
            else:
                free.remove(over)
                more += self.scratch[number]
        return more

    def run(self, number: int, done: int, held: int) -> tuple[int, int]:
        """Bytes held while the step runs, and after it."""
        during = held + self._written(number, done)
        after = done | 1 << number
        held += sum(self.sizes[name] for name in self.writes[number])
        for name in (*self.reads[number], *self.writes[number]):
            if name not in self.kept and not self.readers[name] & ~after:
                held -= self.sizes[name]
        return during, held

    def ready(self, done: int, before: Sequence[int], ran: int | None) -> tuple[int, ...]:
        """Steps that may run, given those that might before step ``ran`` did."""
        if ran is None:
            return tuple(number for number, needs in enumerate(self.needs) if not needs)
        freed = (n for n in self.users[ran] if not self.needs[n] & ~done)
        return (*(n for n in before if n != ran), *freed)


def _bits(mask: int) -> Iterator[int]:
    while mask:
        low = mask & -mask
        yield low.bit_length() - 1
        mask ^= low


def _free_move(moves: _Moves, done: int, held: int, worst: int, ready: Sequence[int]) -> int | None:
    for number in ready:
        during, after = moves.run(number, done, held)
        if during <= worst and after <= held:
            return number
    return None


def _exact(moves: _Moves, bound: int, limit: int) -> tuple[int, ...] | None:
    """The best order below ``bound``; None where there is none, and () where ``limit`` ended the search."""
    full = (1 << moves.size) - 1
    count = 0
    came: dict[int, tuple[int, int]] = {}  # downset -> the one before, the step between
    best: dict[int, int] = {0: moves.start}
    # The largest set first among equals: the search runs ahead instead of widening.
    heap: list[tuple[int, int, int, int, tuple[int, ...]]] = [
        (moves.start, 0, 0, moves.start - moves.unread, moves.ready(0, (), None))
    ]
    closed: set[int] = set()
    while heap:
        worst, _, done, held, ready = heapq.heappop(heap)
        if done in closed:
            continue
        closed.add(done)
        if done == full:
            return _path(came, full)
        count += 1
        if count > limit:
            return ()
        free = _free_move(moves, done, held, worst, ready)
        for number in ready if free is None else (free,):
            during, after = moves.run(number, done, held)
            reached, peak_there = done | 1 << number, max(worst, during)
            if peak_there >= bound or peak_there >= best.get(reached, bound):
                continue
            best[reached] = peak_there
            came[reached] = done, number
            heapq.heappush(
                heap, (peak_there, -reached.bit_count(), reached, after, moves.ready(reached, ready, number))
            )
    return None


def _path(came: dict[int, tuple[int, int]], done: int) -> tuple[int, ...]:
    path = []
    while done:
        done, number = came[done]
        path.append(number)
    return tuple(reversed(path))


def _beam(moves: _Moves, bound: int, width: int) -> tuple[int, ...] | None:
    """Of each size the ``width`` downsets of least peak, then least memory; None where all reach ``bound``."""
    rows = {0: (moves.start, moves.start - moves.unread, moves.ready(0, (), None))}
    came: dict[int, tuple[int, int]] = {}
    for _ in range(moves.size):
        following: dict[int, tuple[int, int, tuple[int, ...]]] = {}
        for done, (worst, held, ready) in rows.items():
            free = _free_move(moves, done, held, worst, ready)
            for number in ready if free is None else (free,):
                during, after = moves.run(number, done, held)
                reached, peak_there = done | 1 << number, max(worst, during)
                if peak_there < min(bound, following.get(reached, (bound,))[0]):
                    following[reached] = peak_there, after, moves.ready(reached, ready, number)
                    came[reached] = done, number
        rows = dict(sorted(following.items(), key=lambda item: item[1][:2])[:width])
    return _path(came, (1 << moves.size) - 1) if rows else None
