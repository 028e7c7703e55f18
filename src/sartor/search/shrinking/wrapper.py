"""Any strategy, in a space that becomes smaller as the search goes on."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from functools import partial

from sartor.errors import InputError
from sartor.records import Arch
from sartor.search.objective import ACCURACY_LATENCY, Objective
from sartor.search.shrinking.dropping import Criterion
from sartor.search.strategy import History, fresh
from sartor.space.space import Space


def shrinking(
    strategy: Callable[..., list[Arch]], criterion: Criterion, *, every: int = 40, least: int = 100
) -> Callable[..., list[Arch]]:
    """A strategy: after each ``every`` evaluations ``criterion`` makes the space smaller, and ``strategy`` goes on in
    it, knowing the evaluated archs that it still has.

    A space of fewer than ``least`` archs is not made. Where one has no new archs left, they come from the one before.
    Which spaces there were follows from the history. Raises InputError where ``every`` or ``least`` are below 1.
    """
    if every < 1 or least < 1:
        raise InputError(f"a space shrinks every evaluation at most, to one arch at least, not {every} and {least}")
    return partial(_shrunk, strategy=strategy, criterion=criterion, every=every, least=least)


def _shrunk(
    space: Space,
    history: History,
    rng: random.Random,
    n: int,
    *,
    objectives: Sequence[Objective] = ACCURACY_LATENCY,
    strategy: Callable[..., list[Arch]],
    criterion: Criterion,
    every: int,
    least: int,
) -> list[Arch]:
    made = spaces(space, history, criterion, objectives=objectives, every=every, least=least)
    found = strategy(made[-1], within(made[-1], history), rng, n, objectives=objectives)
    seen = {record.arch for record in history}
    for larger in reversed(made[:-1]):
        found += fresh(larger, lambda s=larger: s.sample(rng), rng, n - len(found), seen | set(found))  # type: ignore[misc]
    return found


def spaces(
    space: Space,
    history: History,
    criterion: Criterion,
    *,
    objectives: Sequence[Objective] = ACCURACY_LATENCY,
    every: int = 40,
    least: int = 100,
) -> list[Space]:
    """The whole space, and what it became after each ``every`` records of the history, where it became smaller."""
    made = [space]
    for stop in range(every, len(history) + 1, every):
        smaller = criterion(made[-1], within(made[-1], history[:stop]), objectives)
        if least <= smaller.count() < made[-1].count():
            made.append(smaller)
    return made


def within(space: Space, history: History) -> History:
    """The records whose archs ``space`` has."""
    return tuple(record for record in history if space.contains(record.arch))
