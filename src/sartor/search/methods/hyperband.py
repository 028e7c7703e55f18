"""Successive halving, Hyperband and ASHA: many archs cheaply, the best of them dearly.

Each needs a space with fidelities (``sartor.space.fidelity``). On a plain space there is one rung, nobody is halved,
and all three are random search.
"""

from __future__ import annotations

import math
import random
from collections.abc import Sequence

from sartor.records import Arch
from sartor.search.objective import ACCURACY_LATENCY, Objective
from sartor.search.rungs import Draw, climb, rungs_of, values_by_rung
from sartor.search.strategy import History, fresh
from sartor.space.space import Space


def halving(
    space: Space,
    history: History,
    rng: random.Random,
    n: int,
    *,
    objectives: Sequence[Objective] = ACCURACY_LATENCY,
    eta: float = 3,
) -> list[Arch]:
    """n archs of successive halving, by the first objective: brackets from the cheapest rung on, one after another.

    Jamieson & Talwalkar, arXiv:1502.07943. A bracket is the first of Hyperband's; see ``sartor.search.rungs``.
    """
    return climb(space, history, rng, n, objectives[0], eta, lambda _: (0,), _random(space, rng, eta))


def hyperband(
    space: Space,
    history: History,
    rng: random.Random,
    n: int,
    *,
    objectives: Sequence[Objective] = ACCURACY_LATENCY,
    eta: float = 3,
) -> list[Arch]:
    """n archs of Hyperband, by the first objective: brackets that start on each rung in turn, the cheapest first, for
    nobody knows beforehand how much a cheap evaluation tells.

    Li et al., arXiv:1603.06560, algorithm 1. Deviation: brackets are repeated, and while one waits the next is begun.
    """
    return climb(space, history, rng, n, objectives[0], eta, range, _random(space, rng, eta))


def asha(
    space: Space,
    history: History,
    rng: random.Random,
    n: int,
    *,
    objectives: Sequence[Objective] = ACCURACY_LATENCY,
    eta: float = 3,
) -> list[Arch]:
    """n archs of asynchronous successive halving, by the first objective: whoever is among the best of a rung so far is
    promoted at once, from the highest rung down; where nobody is, a new arch enters the cheapest.

    Li et al., arXiv:1810.05934, algorithm 2. The best are a share cost / next cost, which is 1/``eta`` in the paper.
    """
    rungs, first = rungs_of(space, eta), objectives[0]
    values = values_by_rung(rungs, history, first)
    found: list[Arch] = []
    for rung in reversed(range(len(rungs.costs) - 1)):
        share = rungs.costs[rung] / rungs.costs[rung + 1]
        usable = [arch for arch, value in values[rung].items() if math.isfinite(value)]
        best = sorted(usable, key=lambda arch: values[rung][arch])[: math.floor(len(values[rung]) * share + 1e-9)]
        found += [rungs.at(arch, rung + 1) for arch in best if arch not in values[rung + 1]]
    found = found[:n]
    known = {rungs.split(record.arch)[0] for record in history}
    found += [rungs.at(arch, 0) for arch in _random(space, rng, eta)(n - len(found), known)]
    seen = {record.arch for record in history} | set(found)
    return found + fresh(space, lambda: space.sample(rng), rng, n - len(found), seen)


def _random(space: Space, rng: random.Random, eta: float) -> Draw:
    plain = rungs_of(space, eta).plain
    return lambda k, known: fresh(plain, lambda: plain.sample(rng), rng, k, known)
