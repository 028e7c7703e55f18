"""PreNAS: before anything is trained, the archs of each size that a zero-cost score prefers.

Wang et al., P258 (arXiv:2304.14636).
"""

from __future__ import annotations

import random
from collections.abc import Callable

import numpy as np

from sartor.errors import InputError
from sartor.records import Arch
from sartor.search.strategy import fresh
from sartor.space.listed import Listed
from sartor.space.space import Space


def prenas(
    space: Space,
    score: Callable[[Arch], float],
    size: Callable[[Arch], float],
    rng: random.Random,
    *,
    bins: int = 10,
    each: int = 5,
    draws: int = 1000,
) -> Listed:
    """The ``each`` archs with the highest ``score`` in each of ``bins`` ranges of ``size`` that hold as many of up to
    ``draws`` random archs: the space to train and to search, instead of the whole.

    Deviation: the paper finds them by evolution in each bin; drawing does for spaces of thousands. Raises InputError
    where there are no bins, or none are wanted of them.
    """
    if min(bins, each, draws) < 1:
        raise InputError(f"bins, each and draws must be 1 at least, not {bins}, {each} and {draws}")
    archs = fresh(space, lambda: space.sample(rng), rng, draws, (), patience=2)
    order = sorted(archs, key=lambda arch: (size(arch), arch.key))
    preferred: list[Arch] = []
    for places in np.array_split(np.arange(len(order)), min(bins, len(order))):
        preferred += sorted((order[i] for i in places), key=lambda arch: (-score(arch), arch.key))[:each]
    return Listed(space.choices, tuple(preferred))
