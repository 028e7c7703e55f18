"""BOHB: Hyperband whose new archs come from a model of the good ones. Falkner et al., arXiv:1807.01774, algorithm 2.

Zela et al., arXiv:1807.06906 (P265), search architectures and training's settings together with it: one space holds the
choices of both, and epochs are the fidelity.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Sequence
from functools import partial

import numpy as np

from sartor.records import Arch
from sartor.search.density import Codes, Density, codes_of, fit_density, without_inactive
from sartor.search.objective import ACCURACY_LATENCY, Objective
from sartor.search.rungs import climb, rungs_of, values_by_rung
from sartor.search.strategy import History, declared, fresh
from sartor.space.space import Space


def bohb(
    space: Space,
    history: History,
    rng: random.Random,
    n: int,
    *,
    objectives: Sequence[Objective] = ACCURACY_LATENCY,
    eta: float = 3,
    random_share: float = 1 / 3,
    good_share: float = 0.15,
    samples: int = 64,
    widen: float = 3.0,
) -> list[Arch]:
    """n archs of Hyperband, by the first objective, of which the new ones are those of ``samples`` drawn from the
    density of the good (``good_share``, by what was seen at the highest fidelity that has enough) that are likeliest
    among the good and least among the rest; a ``random_share`` of them is random.

    On a plain space there is one rung: what is left of it is a Parzen estimator, as TPE is. Deviations: bandwidths of
    unordered choices, which the authors' program takes from the deviation of the options' numbers, are those of
    ``density.fit_density``; and a candidate that has been evaluated is passed over.
    """
    rungs = rungs_of(space, eta)
    values = values_by_rung(rungs, history, objectives[0])
    model = _model(rungs.plain, values, random.Random(rng.random()), good_share, widen)

    def propose() -> Arch:
        if model is None or rng.random() < random_share:
            return rungs.plain.sample(rng)
        return model(rng, samples, known)

    known: set[Arch] = set()

    def draw(k: int, seen: set[Arch]) -> list[Arch]:
        nonlocal known
        known = seen
        return fresh(rungs.plain, propose, rng, k, seen, patience=3)

    return climb(space, history, rng, n, objectives[0], eta, range, draw)


def _model(
    plain: Space, values: Sequence[dict[Arch, float]], rng: random.Random, good_share: float, widen: float
) -> Callable[[random.Random, int, set[Arch]], Arch] | None:
    """What proposes archs, from the highest rung with ``d + 3`` archs measured; None where none has as many.

    The good are the best ``good_share``, the rest the others, and both at least ``d + 1``, which may overlap (§4).
    """
    least = len(declared(plain).choices) + 1
    for rung in reversed(values):
        usable = sorted((arch for arch, value in rung.items() if math.isfinite(value)), key=rung.__getitem__)
        if len(usable) >= least + 2:
            codes = codes_of(plain, usable)
            good = codes[: max(least, int(good_share * len(codes)))]
            rest = codes[-max(least, len(codes) - int(good_share * len(codes))) :]
            drawn = np.random.default_rng(rng.randrange(2**31))
            wide, narrow = (fit_density(plain, good, drawn, factor) for factor in (widen, 1.0))
            return partial(_likeliest, plain, wide, narrow, fit_density(plain, rest, drawn))
    return None


def _likeliest(
    plain: Space, wide: Density, good: Density, rest: Density, rng: random.Random, samples: int, known: set[Arch]
) -> Arch:
    """Of archs drawn from ``wide``, the one that the others say is the likeliest to be good, and that is not known."""
    drawn = without_inactive(plain, wide.draw(np.random.default_rng(rng.randrange(2**31)), samples))
    codes = drawn[np.argsort(rest.log(drawn) - good.log(drawn), kind="stable")]
    found = _arch(plain, codes[0], rng)
    for row in codes[1:]:
        if found not in known:
            break
        found = _arch(plain, row, rng)
    return found


def _arch(plain: Space, row: Codes, rng: random.Random) -> Arch:
    """The arch of codes; of a list without it, the nearest."""
    pairs = zip(plain.choices, row, strict=True)
    arch = Arch({choice.name: choice.options[place] for choice, place in pairs if place >= 0})
    return plain.nearest(arch, rng)
