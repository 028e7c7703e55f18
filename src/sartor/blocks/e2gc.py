"""E2GC: group convolutions whose groups all have the same number of channels (P452, arXiv:2006.15100)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from sartor.errors import InputError


def groups_of(channels: int, group_size: int) -> int:
    """How many groups of ``group_size`` channels there are. Raises ValueError where some would be left over."""
    if group_size < 1 or channels % group_size:
        raise ValueError(f"{channels} channels are no groups of {group_size}")
    return channels // group_size


@dataclass(frozen=True)
class Grouped:
    """A group convolution of ``channels`` to as many, with a square ``kernel``, on ``pixels`` outputs (h times w); it
    reads ``stride``² as many."""

    channels: int
    pixels: int
    kernel: int = 3
    stride: int = 1

    def macs(self, group_size: int) -> int:
        """Each output value is made of a kernel of each of its group's channels."""
        return self.pixels * self.channels * group_size * self.kernel**2

    def moved(self, group_size: int) -> int:
        """Values read and written, each once: input, output and weights."""
        activations = self.channels * self.pixels * (1 + self.stride**2)
        return activations + self.channels * group_size * self.kernel**2

    def reuse(self, group_size: int) -> float:
        """Multiply-accumulates a value that is moved: the arithmetic intensity."""
        return self.macs(group_size) / self.moved(group_size)


def balance(layers: Sequence[Grouped], group_size: int, *, mac: float, moved: float) -> float:
    """What computing costs over what moving data costs, in all ``layers`` together.

    ``mac`` and ``moved`` are the costs of a multiply-accumulate and of moving a value, in any one unit: energies, or
    the inverse of a machine's peak and bandwidth.
    """
    computing = mac * sum(layer.macs(group_size) for layer in layers)
    return computing / (moved * sum(layer.moved(group_size) for layer in layers))


def group_size(layers: Sequence[Grouped], *, mac: float, moved: float) -> int:
    """The number of channels a group, the same in all ``layers``, with which computing and moving data cost the same.

    With fewer, convolutions wait for data; with more, they compute more and more for a reuse of data that hardly
    rises (§III). Computing grows with the size of the groups while most of the data, the activations, stays, so there
    is one such size; of those that divide every layer's channels the nearest is taken, by the ratio. Layers of one
    fixed number of groups cannot have it: theirs grow as the channels do. Deviation: the paper weighs both by
    what its GPUs take; here the costs are given (:mod:`sartor.measure.energy.analytic` has some).

    Raises InputError for no layers, and for costs that are not positive.
    """
    if not layers:
        raise InputError("a size of groups is chosen for layers: give at least one")
    if not (math.isfinite(mac) and math.isfinite(moved) and mac > 0 and moved > 0):
        raise InputError(f"costs of a multiply-accumulate and of moving a value are positive, not {mac} and {moved}")
    common = math.gcd(*(layer.channels for layer in layers))
    sizes = [size for size in range(1, common + 1) if common % size == 0]
    return min(sizes, key=lambda size: abs(math.log(balance(layers, size, mac=mac, moved=moved))))
