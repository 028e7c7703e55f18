"""Addresses in one block of memory for buffers that come and go."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from sartor.errors import InputError
from sartor.measure.plan.steps import Buffer

ALIGNMENT = 16
"""Bytes: what vector instructions of microcontrollers ask for."""


@dataclass(frozen=True)
class Placed:
    """A buffer's address. ``size`` is as it was asked for; the space up to the next alignment is its own too."""

    name: str
    offset: int
    size: int
    first: int
    last: int
    tensors: tuple[str, ...]

    @property
    def end(self) -> int:
        return self.offset + self.size


_ORDERS: tuple[Callable[[Buffer], tuple[int, ...]], ...] = (
    lambda b: (-b.size, b.first),
    lambda b: (-b.size * (b.last - b.first + 1), b.first),
    lambda b: (b.first, -b.size),
    lambda b: (b.first - b.last, -b.size),
)
"""Which buffer is placed first: the largest (TensorFlow Lite Micro's greedy planner; Pisarchyk & Lee, arXiv 2001.03288,
section 4.2); the most bytes times steps; the earliest; the longest-lived. No order is best for all graphs."""


def place(made: Sequence[Buffer], *, alignment: int = ALIGNMENT) -> tuple[Placed, ...]:
    """An address for every buffer, so that no two that are there at once overlap: best fit in each of several orders,
    and of these the smallest arena. Raises InputError for an alignment that is no power of two."""
    if alignment < 1 or alignment & (alignment - 1):
        raise InputError(f"the alignment must be a power of two, not {alignment}")
    tries = [_place(sorted(made, key=key), alignment) for key in _ORDERS]
    return tuple(sorted(min(tries, key=arena_bytes), key=lambda p: (p.first, p.offset)))


def arena_bytes(placed: Iterable[Placed]) -> int:
    return max((buffer.end for buffer in placed), default=0)


def _place(ordered: Sequence[Buffer], alignment: int) -> list[Placed]:
    placed: list[Placed] = []
    for buffer in ordered:
        beside = sorted(
            (p for p in placed if p.first <= buffer.last and buffer.first <= p.last), key=lambda p: p.offset
        )
        offset = _best_gap(beside, buffer.size, alignment) if buffer.size else 0
        placed.append(Placed(buffer.name, offset, buffer.size, buffer.first, buffer.last, tuple(buffer.tensors)))
    return placed


def _best_gap(beside: Sequence[Placed], size: int, alignment: int) -> int:
    """The start of the tightest gap between buffers that are there at the same time, or the end of the last."""
    best, tightest, free = -1, -1, 0
    for other in beside:
        room = other.offset - free
        if room >= size and (best < 0 or room < tightest):
            best, tightest = free, room
        free = max(free, -(-other.end // alignment) * alignment)
    return free if best < 0 else best
