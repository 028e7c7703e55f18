"""What an inference's operations and data movement would take on a chip of known energies: a model, not a measurement.

Energies are Horowitz's, of a 45 nm chip at 0.9 V ("Computing's energy problem", ISSCC 2014, figure 1.1.9): absolute
figures of today's chips are several times lower, and their ratios, which are what comparing networks needs, much the
same. Instructions, leakage and whatever waits are in none of it.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

from sartor.measure.targets.work import Work

MULTIPLY_PJ = {8: 0.2, 16: 1.1, 32: 3.7}
ADD_PJ = {8: 0.1, 16: 0.4, 32: 0.9}
"""Picojoules by bits. Products of 8 bits are added up in 32, which is the 32-bit integer addition's; floats else."""
CACHE_PJ_PER_BYTE = 100 / 8
"""64 bits out of an SRAM of 1 MB, the figure's largest."""
DRAM_PJ_PER_BYTE = 1300 / 8
"""64 bits, the lower of its two (1.3 to 2.6 nJ): what is read in a row."""
CACHE_BYTES = 2**20


@dataclass(frozen=True)
class Chip:
    """What of a network stays near its arithmetic. ``memory_bytes`` is all there is of it."""

    name: str
    memory_bytes: float = CACHE_BYTES

    def pj_per_byte(self, size_bytes: float) -> float:
        """Of data that are ``size_bytes`` together: near where they fit."""
        return CACHE_PJ_PER_BYTE if size_bytes <= self.memory_bytes else DRAM_PJ_PER_BYTE


@dataclass(frozen=True)
class Spent:
    """Millijoules of one inference."""

    compute_mj: float
    memory_mj: float

    @property
    def mj(self) -> float:
        return self.compute_mj + self.memory_mj


def mac_pj(bits: int) -> float:
    """One multiplication with its addition."""
    return MULTIPLY_PJ[bits] + ADD_PJ[bits]


def spent(works: Iterable[Work], chip: Chip = Chip("45 nm")) -> Spent:
    """What the ``works`` of a file take on ``chip``.

    Each multiply-accumulate one multiplication and one addition, each value that anything else writes one addition, at
    the bits of the node. Weights are read once an inference, from the memory where all of them fit, else from DRAM;
    activations are written and read by each node, in memory where those of the node fit, else in DRAM.
    """
    works = tuple(works)
    weights = sum(work.weights * work.bits / 8 for work in works)
    compute = memory = 0.0
    for work in works:
        others = 0 if work.macs else work.written
        compute += work.macs * mac_pj(work.bits) + others * ADD_PJ[work.bits]
        moved = (work.read + work.written) * work.bits / 8
        memory += moved * chip.pj_per_byte(moved) + work.weights * work.bits / 8 * chip.pj_per_byte(weights)
    return Spent(compute / 1e9, memory / 1e9)


ON_CHIP = math.inf
"""A microcontroller has no other memory: SRAM and flash are both taken for the figure's SRAM."""
