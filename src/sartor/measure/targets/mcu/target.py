"""``mcu:NAME``: how long a file takes on a microcontroller, and whether it fits there, from the file alone."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, replace
from functools import lru_cache
from pathlib import Path
from typing import Any

import onnx

from sartor.errors import InputError
from sartor.measure.plan.kernels import Kernels
from sartor.measure.plan.patches import Schedule, schedule
from sartor.measure.plan.unroll import Graph, unrolled
from sartor.measure.runnable import load, tensors
from sartor.measure.targets.mcu.boards import (
    BOARDS,
    CORES,
    FLOAT_MAC_CYCLES,
    MAC_CYCLES,
    MOVED_CYCLES,
    RUNTIME_FLASH,
    RUNTIME_RAM,
    RUNTIMES,
    WHOLE_OUTPUTS,
    WRITTEN_CYCLES,
    Board,
)
from sartor.measure.targets.mcu.graph import board_graph
from sartor.measure.targets.quantities import in_range, split_settings
from sartor.measure.targets.simulated import Simulated
from sartor.measure.targets.work import Work, work_in, work_of


@dataclass(frozen=True)
class Mcu(Simulated):
    """See the module. ``clock_hz``: the chip's highest unless another is asked for. ``runtime``: whose kernels.
    ``patches``: networks whose activations do not fit are run patch by patch where that makes them fit."""

    board_name: str
    threads: int = 1
    clock_hz: float = 0.0
    runtime: str = "cubeai"
    patches: bool = False

    @classmethod
    def open(cls, settings: str, threads: int) -> Mcu:
        """From ``NAME[,clock=216MHz][,runtime=tinyengine][,patches=on]``.

        Raises InputError naming the boards there are.
        """
        name, found = split_settings("mcu", settings, ("clock", "runtime", "patches"))
        if name not in BOARDS:
            raise InputError(f"no board is called {name!r}: choose one of {', '.join(f'mcu:{n}' for n in BOARDS)}")
        runtime = found.get("runtime", "cubeai")
        if runtime not in RUNTIMES:
            raise InputError(f"no runtime is called {runtime!r}: choose one of {', '.join(RUNTIMES)}")
        if found.get("patches", "off") not in ("on", "off"):
            raise InputError(f"patches={found['patches']} is neither on nor off")
        clock_hz = in_range("clock", found["clock"], "hz", 1e5, 1e10) if "clock" in found else BOARDS[name].clock_hz
        return cls(name, threads, clock_hz, runtime, found.get("patches") == "on")

    @property
    def board(self) -> Board:
        return BOARDS[self.board_name]

    @property
    def name(self) -> str:  # type: ignore[override]
        """With the settings that are not the default."""
        clock = "" if self.clock_hz == self.board.clock_hz else f",clock={self.clock_hz / 1e6:g}MHz"
        runtime = "" if self.runtime == "cubeai" else f",runtime={self.runtime}"
        return f"mcu:{self.board_name}{clock}{runtime}{',patches=on' if self.patches else ''}"

    @property
    def device(self) -> dict[str, Any]:
        board = self.board
        return {
            "cpu": f"{self.board_name} ({board.core}), simulated",
            "cores": 1,
            "clock_hz": self.clock_hz,
            "memory_bytes": board.sram_bytes,
            "flash_bytes": board.flash_bytes,
            "runtime": self.runtime,
            "patches": self.patches,
        }

    @property
    def max_memory_bytes(self) -> int:
        """What of the SRAM is left for activations."""
        return self.board.sram_bytes - RUNTIME_RAM

    @property
    def max_size_bytes(self) -> int:
        """What of the flash is left for the network."""
        return self.board.flash_bytes - RUNTIME_FLASH

    def cycles(self, work: Work, batch: int = 1) -> tuple[float, str]:
        """See ``Simulated``."""
        if work.kind == "elementwise":
            narrow = MOVED_CYCLES * (work.read + work.written)
            wide, bound = narrow, "memory"
        else:
            narrow = MAC_CYCLES[work.kind] * work.macs + WRITTEN_CYCLES * work.written
            wide = max(narrow, FLOAT_MAC_CYCLES * work.macs)
            bound = "overhead" if WRITTEN_CYCLES * work.written > narrow / 2 else "compute"
        factor = CORES[self.board.core] * RUNTIMES[self.runtime] * batch
        return factor * (narrow if work.bits == 8 else wide), bound

    def peak_bytes(self, file: Path) -> int:
        """The bytes of one block that holds all activations, in the best order found, where the sensor gives what the
        network takes: an input or output that is a float only until it is quantised is none on a board.

        Depthwise convolutions and products write over their input (:mod:`sartor.measure.plan.kernels`). Raises
        InputError.
        """
        return self.schedule(file).plan.arena_bytes

    def schedule(self, file: Path) -> Schedule:
        """The order, the addresses and the patches with which ``file`` runs here. Raises InputError."""
        limit = self.max_memory_bytes if self.patches else None
        if not file.is_file():
            raise InputError(f"{file} is missing")
        return _scheduled(file.read_bytes(), file, limit, Kernels(self.runtime not in WHOLE_OUTPUTS, self.patches))

    def patched(self, file: Path) -> dict[str, Any] | None:
        """See ``targets.target.Patching``; where the file cannot be patched, ``because`` says why."""
        if replace(self, patches=False).peak_bytes(file) <= self.max_memory_bytes:
            return None
        there = replace(self, patches=True)
        try:
            found, latency = there.schedule(file), there.latency_ms(file)
        except InputError as error:  # the file without patches was read and planned above, and has its figures
            return {"because": str(error), "fits": False, "cuts": []}
        return {
            "peak_activation_bytes": found.plan.arena_bytes,
            "overhead": found.overhead,
            "latency_ms": latency.median_ms,
            "fits": found.plan.arena_bytes <= self.max_memory_bytes,
            "cuts": [asdict(cut) for cut in found.cuts],
        }

    def work(self, file: Path) -> tuple[Work, ...]:
        """See ``Simulated``: with what patches do again. Slices and concatenations are addresses here."""
        cuts = self.schedule(file).cuts if self.patches else ()
        if not cuts:
            return work_of(file)
        proto = load(file)
        made = unrolled(proto, cuts, tensors(proto, file))
        names = {work.made: work.name for work in work_of(file)}
        merged: dict[str, Work] = {}
        for work in work_in(made.proto, made.values, made.moved):
            whole = made.origin.get(work.made, work.made)
            before = merged.get(whole)
            merged[whole] = (
                replace(work, name=names.get(whole, work.name), made=whole) if before is None else _sum(before, work)
            )
        return tuple(merged.values())

    def flash_bytes(self, file: Path) -> int:
        """What the weights and biases take as they are stored; the graph is code, which ``RUNTIME_FLASH`` has."""
        return sum(
            math.prod(tensor.dims) * onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type).itemsize
            for tensor in load(file).graph.initializer
        )

    def misfits(self, file: Path) -> list[str]:
        """What of ``file`` is too large for the board and by how much; none where it fits. Raises InputError."""
        told = []
        peak, room = self.peak_bytes(file), self.max_memory_bytes
        if peak > room:
            widest = max(self.work(file), key=lambda work: (work.read + work.written) * work.bits)
            told.append(
                f"activations take {peak:,} bytes and {self.board_name} has {room:,} for them, {peak - room:,} too "
                f"few: most at {widest.name} ({widest.op})"
            )
        stored, room = self.flash_bytes(file), self.max_size_bytes
        if stored > room:
            largest = max(work_of(file), key=lambda work: work.weights * work.bits)
            told.append(
                f"weights take {stored:,} bytes and {self.board_name} has {room:,} of flash for them, "
                f"{stored - room:,} too few: most at {largest.name} ({largest.op})"
            )
        return told


def _sum(one: Work, other: Work) -> Work:
    """Two patches of one node."""
    more = {name: getattr(one, name) + getattr(other, name) for name in ("macs", "rows", "read", "written")}
    return replace(one, **more)


@lru_cache(maxsize=8)  # a file's peak, latency and misfits are asked for one after the other
def _scheduled(content: bytes, file: Path, limit: int | None, kernels: Kernels) -> Schedule:
    source = None
    if limit is not None:
        proto = load(file)
        source = Graph(proto, tensors(proto, file))
    return schedule(board_graph(file), file, limit=limit, kernels=kernels, source=source)
