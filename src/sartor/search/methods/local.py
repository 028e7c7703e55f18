"""Local search: to a better neighbour until there is none, then from somewhere else. White et al., arXiv:2005.02960."""

from __future__ import annotations

import random
from collections.abc import Sequence

from sartor.records import Arch, Record
from sartor.search.objective import ACCURACY_LATENCY, Objective, measured
from sartor.search.strategy import History, fresh
from sartor.space.space import Space


def local_search(
    space: Space,
    history: History,
    rng: random.Random,
    n: int,
    *,
    objectives: Sequence[Objective] = ACCURACY_LATENCY,
) -> list[Arch]:
    """Up to n neighbours, in random order, of the arch where the history's climb stands, or a random arch where it has
    come to an end: the first neighbour that is better by the first objective is where it goes on.

    Where a climb stands is found by replaying the history. Deviation: a climb goes on from the first better neighbour,
    not the best of all, which takes fewer evaluations.
    """
    first = objectives[0]
    seen: set[Arch] = set()
    here: Record | None = None
    left: set[Arch] = set()  # neighbours of ``here`` that nobody has evaluated
    for record in history:
        seen.add(record.arch)
        begins = not left  # the climb before had ended, and this is where another begins
        left.discard(record.arch)
        if not measured(record.metrics, [first]):
            continue
        if begins or here is None or first.cost(record.metrics[first.metric]) < first.cost(here.metrics[first.metric]):
            here = record
            left = {arch for arch in space.near(here.arch) if arch not in seen}
    found = sorted(left, key=lambda arch: arch.key)
    rng.shuffle(found)
    found = found[:n]
    return found + fresh(space, lambda: space.sample(rng), rng, n - len(found), seen | set(found))
