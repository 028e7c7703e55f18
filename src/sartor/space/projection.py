"""Random projections of sets of texts, the same in every process."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

PROJECTED = 64
"""Length of a projection."""


def project(features: Iterable[str], length: int) -> NDArray[np.float64]:
    """The sum ``[length]``, at most 256, of one vector of ±1/√length for each feature, which its hash decides: inner
    products of two sums are on average those of the counts of features. Achlioptas 2003
    (10.1016/S0022-0000(03)00025-4), theorem 1.1's second kind of matrix."""
    total = np.zeros(length)
    for feature in features:
        total += _signs(feature)[:length]
    return total / np.sqrt(length)


@lru_cache(maxsize=65536)
def _signs(feature: str) -> NDArray[np.float64]:
    bits = np.unpackbits(np.frombuffer(hashlib.sha256(feature.encode()).digest(), dtype=np.uint8))
    return bits.astype(np.float64) * 2 - 1
