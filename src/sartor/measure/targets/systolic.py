"""``systolic:ROWSxCOLS``: an accelerator whose processing elements pass values to their neighbours.

Settings: ``dataflow=os|ws|is`` (what stays in place: outputs, weights or inputs), ``sram`` (bytes on the chip, in three
equal parts: inputs, weights, outputs), ``bandwidth`` (bytes a second to memory) and ``clock``.

Every convolution is the matrix product that it is (grouped ones a product a group); a product is cut into folds of the
array's size, and a fold takes ``2 R + C + T - 2`` cycles: filling, T steps, draining. Source: Samajdar et al.,
SCALE-Sim (arXiv 1811.02883), equations 1 to 4; its simulator, version 3, counts the same cycles with weights or inputs
in place, and with outputs in place ``R`` fewer a fold, whose draining it hides. Ours is what memory costs: a
part that fits its share of the SRAM is read once, one that does not is read again for each fold that needs it, and
traffic overlaps with computing, so the longer of the two counts; the paper's simulator follows every address instead.
What is no product is done by a vector unit of ``COLS`` lanes.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from typing import Any

from sartor.errors import InputError
from sartor.measure.targets.quantities import in_range, split_settings
from sartor.measure.targets.simulated import Simulated
from sartor.measure.targets.work import Work

DATAFLOWS = ("os", "ws", "is")
LARGEST = 4096
"""Rows and columns; the TPU's first version has 256."""


@dataclass(frozen=True)
class Systolic(Simulated):
    """See the module. The defaults are those of SCALE-Sim's example of Google's TPU, a quarter of its side."""

    rows: int
    columns: int
    threads: int = 1
    dataflow: str = "ws"
    sram_bytes: int = 1_500_000
    bandwidth: float = 10e9
    clock_hz: float = 1e9

    @classmethod
    def open(cls, settings: str, threads: int) -> Systolic:
        """From ``ROWSxCOLS[,dataflow=os|ws|is][,sram=1.5MB][,bandwidth=10GB][,clock=1GHz]``. Raises InputError."""
        size, found = split_settings("systolic", settings, ("dataflow", "sram", "bandwidth", "clock"))
        sides = re.fullmatch(r"(\d{1,5})x(\d{1,5})", size)
        if sides is None or not all(1 <= int(side) <= LARGEST for side in sides.groups()):
            raise InputError(f"systolic:{size} has no size: write ROWSxCOLS, from 1x1 to {LARGEST}x{LARGEST}")
        if found.get("dataflow", "ws") not in DATAFLOWS:
            raise InputError(f"no dataflow is called {found['dataflow']!r}: choose one of {', '.join(DATAFLOWS)}")
        default = cls(1, 1)
        return cls(
            int(sides[1]),
            int(sides[2]),
            threads,
            found.get("dataflow", default.dataflow),
            round(in_range("sram", found["sram"], "bytes", 1, 1e12)) if "sram" in found else default.sram_bytes,
            in_range("bandwidth", found["bandwidth"], "bytes", 1e3, 1e15)
            if "bandwidth" in found
            else default.bandwidth,
            in_range("clock", found["clock"], "hz", 1e3, 1e11) if "clock" in found else default.clock_hz,
        )

    @property
    def name(self) -> str:  # type: ignore[override]
        """With the settings that are not the default."""
        default = Systolic(self.rows, self.columns)
        parts = [f"systolic:{self.rows}x{self.columns}"]
        if self.dataflow != default.dataflow:
            parts.append(f"dataflow={self.dataflow}")
        if self.sram_bytes != default.sram_bytes:
            parts.append(f"sram={self.sram_bytes}")
        if self.bandwidth != default.bandwidth:
            parts.append(f"bandwidth={self.bandwidth:.12f}".rstrip("0").rstrip("."))
        if self.clock_hz != default.clock_hz:
            parts.append(f"clock={self.clock_hz:.12f}".rstrip("0").rstrip("."))
        return ",".join(parts)

    @property
    def device(self) -> dict[str, Any]:
        return {
            "cpu": f"{self.rows}x{self.columns} systolic array, simulated",
            "cores": 1,
            "clock_hz": self.clock_hz,
            "dataflow": self.dataflow,
            "memory_bytes": self.sram_bytes,
            "bandwidth": self.bandwidth,
        }

    def cycles(self, work: Work, batch: int = 1) -> tuple[float, str]:
        """See ``Simulated``."""
        width = work.bits / 8
        if work.kind == "elementwise":
            compute = batch * (work.read + work.written) / self.columns
            traffic = width * batch * (work.read + work.written)
        else:
            rows = work.rows * batch
            compute = work.groups * self.product_cycles(rows, work.depth, work.columns)
            traffic = work.groups * width * self._moved(rows, work.depth, work.columns, width)
        memory = traffic / self.bandwidth * self.clock_hz
        return max(compute, memory), "memory" if memory > compute else "compute"

    def product_cycles(self, m: int, k: int, n: int) -> int:
        """Cycles of an [m, k] by [k, n] product from a full SRAM."""
        down, across, steps = self._mapped(m, k, n)
        folds = math.ceil(down / self.rows) * math.ceil(across / self.columns)
        return folds * (2 * self.rows + self.columns + steps - 2)

    def _mapped(self, m: int, k: int, n: int) -> tuple[int, int, int]:
        """What lies along the rows, along the columns, and in time."""
        return {"os": (m, n, k), "ws": (k, n, m), "is": (k, m, n)}[self.dataflow]

    def _moved(self, m: int, k: int, n: int, width: float) -> float:
        """Values between memory and chip."""
        down, across, _ = self._mapped(m, k, n)
        row_folds, column_folds = math.ceil(down / self.rows), math.ceil(across / self.columns)
        again = {  # how often inputs and weights are asked for, and outputs written
            "os": (column_folds, row_folds, 1),
            "ws": (column_folds, 1, row_folds),
            "is": (1, column_folds, row_folds),
        }[self.dataflow]
        share = self.sram_bytes / 3 / width
        inputs, weights, outputs = (
            size * (1 if size <= share else times) for size, times in zip((m * k, k * n, m * n), again, strict=True)
        )
        # A sum that does not stay on the chip is read back before it goes on.
        return inputs + weights + (outputs if outputs == m * n else 2 * outputs - m * n)
