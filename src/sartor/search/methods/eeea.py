"""EEEA-Net: a first generation without what is too large, found before anything is evaluated; then NSGA-II.

Termritthikun et al., P062 (arXiv:2108.06156), early exit population initialisation.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Sequence

import numpy as np

from sartor.errors import InputError
from sartor.records import Arch
from sartor.search.methods.nsga2 import nsga2
from sartor.search.objective import ACCURACY_LATENCY, Objective
from sartor.search.strategy import History, fresh
from sartor.space.derivation import Derivations
from sartor.space.space import Space

Size = Callable[[Arch], float]
"""What an arch costs, known without evaluating it: parameters, MACs."""


def eeea(
    space: Space,
    history: History,
    rng: random.Random,
    n: int,
    *,
    objectives: Sequence[Objective] = ACCURACY_LATENCY,
    size: Size | None = None,
    threshold: float | None = None,
    growth: float = 1.1,
    patience: int = 50,
    population: int = 24,
) -> list[Arch]:
    """n archs: of the first ``population``, none whose ``size`` is above the threshold; then as ``nsga2``.

    Drawn archs above ``threshold`` are rejected, and where ``patience`` in a row were, it steps up for those that
    follow: it is multiplied by ``growth``, or becomes the smallest size rejected where that is larger. Without ``size``
    it is the mean rank of an arch's options, which are ordered small to large where they have a size; without
    ``threshold``, the median of what the space has.

    Deviations: the paper's threshold is given and stays; and its generations are of a genetic algorithm of its own,
    where these are NSGA-II's. Raises InputError where a size is not finite, ``growth`` is below 1, or ``patience`` is.
    """
    if not (growth >= 1 and patience >= 1):
        raise InputError(f"growth and patience must be 1 at least, not {growth!r} and {patience!r}")
    if len(history) >= population:
        return nsga2(space, history, rng, n, objectives=objectives, population=population)
    measure = size or rank_size(space)
    limit = median_size(space, measure) if threshold is None else threshold

    def small() -> Arch:
        nonlocal limit
        while True:
            rejected = []
            for _ in range(patience):
                arch = space.sample(rng)
                found = measure(arch)
                if not math.isfinite(found):
                    raise InputError(f"the size of {arch} must be a finite number, not {found!r}")
                if found <= limit:
                    return arch
                rejected.append(found)
            limit = max(limit * growth, min(rejected))

    return fresh(space, small, rng, n, {record.arch for record in history})


def rank_size(space: Space) -> Size:
    """The mean rank in [0, 1] of an arch's options; a choice that is not active counts as its smallest. Of a derivation
    it is the number of its places."""
    if isinstance(space, Derivations):
        return len
    places = {choice.name: {option: i for i, option in enumerate(choice.options)} for choice in space.choices}

    def size(arch: Arch) -> float:
        ranks = [places[name][option] / max(1, len(places[name]) - 1) for name, option in arch.items()]
        return sum(ranks) / len(places)

    return size


def median_size(space: Space, size: Size, draws: int = 101) -> float:
    """The median size of ``draws`` archs, the same each time."""
    rng = random.Random(0)
    return float(np.median([size(space.sample(rng)) for _ in range(draws)]))
