"""A layer as it was measured, and the roof that a machine puts over layers.

A roofline (Williams et al., CACM 52(4), 2009): a layer takes at least the time of its arithmetic at the best rate that
the machine reaches, and at least that of its bytes at the best rate at which they move.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

OVERHEAD = 4.0
"""Times the least time above which neither arithmetic nor traffic explains a layer."""


@dataclass(frozen=True)
class Layer:
    """One kernel of a network with what runs inside it: a unit of :func:`sartor.measure.units.split.units`.

    ``name``: where its weights live (``layer1.0.conv1``), else its first node's name. ``operator``: what it runs, the
    anchor first (``Conv+Add+Relu``). ``bytes``: what it moves at least, activations read and written and weights read,
    each once. ``time_ms``: in place where the target tells it, else by itself. ``share``: of the layers' sum.
    ``bound``: ``compute``, ``memory`` or ``overhead``. ``least_ms``: at the roof. ``bits``: of what it
    multiplies, which says under whose peak it is.
    """

    name: str
    operator: str
    output_shape: tuple[int, ...]
    macs: int
    bytes: int
    weight_bytes: int
    time_ms: float
    share: float
    bound: str
    least_ms: float
    bits: int = 32

    @property
    def intensity(self) -> float:
        """Multiply-accumulates for each byte."""
        return self.macs / self.bytes if self.bytes else 0.0

    @property
    def efficiency(self) -> float:
        """Of the roof's rate. Above 1 where bytes came out of a cache: the roof's bandwidth is that of large arrays."""
        return self.least_ms / self.time_ms if self.time_ms else 0.0

    def to_dict(self) -> dict[str, Any]:
        return {**asdict(self), "output_shape": list(self.output_shape)}


@dataclass(frozen=True)
class Roof:
    """The best rates of a target with its threads, both measured. ``int8_macs_per_s``: None where it was not."""

    peak_macs_per_s: float
    bytes_per_s: float
    int8_macs_per_s: float | None = None

    @property
    def ridge(self) -> float:
        """The intensity from which arithmetic takes longer than traffic, in multiply-accumulates a byte."""
        return self.peak_macs_per_s / self.bytes_per_s

    def peak(self, bits: int = 32) -> float:
        """Multiply-accumulates a second."""
        return self.int8_macs_per_s if bits == 8 and self.int8_macs_per_s else self.peak_macs_per_s

    def least_ms(self, macs: int, bytes: int, bits: int = 32) -> float:
        return max(macs / self.peak(bits), bytes / self.bytes_per_s) * 1e3

    def bound(self, macs: int, bytes: int, time_ms: float, bits: int = 32) -> str:
        """What explains ``time_ms`` best."""
        if time_ms > OVERHEAD * self.least_ms(macs, bytes, bits):
            return "overhead"
        return "compute" if macs / self.peak(bits) >= bytes / self.bytes_per_s else "memory"

    def to_dict(self) -> dict[str, Any]:
        return {**asdict(self), "ridge": self.ridge}
