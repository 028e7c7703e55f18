"""``mcu:NAME``: how long a file takes on a microcontroller, and whether it fits there, from the file alone."""

from __future__ import annotations

import math
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import onnx

from sartor.errors import InputError
from sartor.measure.plan.onnx_file import plan_file
from sartor.measure.runnable import load
from sartor.measure.targets.mcu.boards import (
    BOARDS,
    CORES,
    FLOAT_MAC_CYCLES,
    MAC_CYCLES,
    MOVED_CYCLES,
    RUNTIME_FLASH,
    RUNTIME_RAM,
    RUNTIMES,
    WRITTEN_CYCLES,
    Board,
)
from sartor.measure.targets.quantities import in_range, split_settings
from sartor.measure.targets.simulated import Simulated
from sartor.measure.targets.work import Work, work_of

_QUANTISED = {onnx.TensorProto.INT8, onnx.TensorProto.UINT8}


@dataclass(frozen=True)
class Mcu(Simulated):
    """See the module. ``clock_hz``: the chip's highest unless another is asked for. ``runtime``: whose kernels."""

    board_name: str
    threads: int = 1
    clock_hz: float = 0.0
    runtime: str = "cubeai"

    @classmethod
    def open(cls, settings: str, threads: int) -> Mcu:
        """From ``NAME[,clock=216MHz][,runtime=tinyengine]``. Raises InputError naming the boards there are."""
        name, found = split_settings("mcu", settings, ("clock", "runtime"))
        if name not in BOARDS:
            raise InputError(f"no board is called {name!r}: choose one of {', '.join(f'mcu:{n}' for n in BOARDS)}")
        runtime = found.get("runtime", "cubeai")
        if runtime not in RUNTIMES:
            raise InputError(f"no runtime is called {runtime!r}: choose one of {', '.join(RUNTIMES)}")
        clock_hz = in_range("clock", found["clock"], "hz", 1e5, 1e10) if "clock" in found else BOARDS[name].clock_hz
        return cls(name, threads, clock_hz, runtime)

    @property
    def board(self) -> Board:
        return BOARDS[self.board_name]

    @property
    def name(self) -> str:  # type: ignore[override]
        """With the settings that are not the default."""
        clock = "" if self.clock_hz == self.board.clock_hz else f",clock={self.clock_hz / 1e6:g}MHz"
        return f"mcu:{self.board_name}{clock}{'' if self.runtime == 'cubeai' else f',runtime={self.runtime}'}"

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

        Raises InputError.
        """
        proto = _without_edges(load(file))
        if proto is None:
            return plan_file(file).arena_bytes
        with tempfile.TemporaryDirectory() as folder:
            inner = Path(folder) / file.name
            inner.write_bytes(proto.SerializeToString())
            return plan_file(inner).arena_bytes

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
            widest = max(work_of(file), key=lambda work: (work.read + work.written) * work.bits)
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


def _without_edges(proto: onnx.ModelProto) -> onnx.ModelProto | None:
    """``proto`` whose inputs and outputs are the 8-bit tensors behind the outermost quantisers; None without any."""
    graph, changed = proto.graph, False
    stored = {tensor.name: tensor for tensor in graph.initializer}
    for node in list(graph.node):
        zero = stored.get(node.input[2]) if len(node.input) > 2 else None
        if zero is None or zero.data_type not in _QUANTISED:
            continue
        if node.op_type == "QuantizeLinear":
            readers = sum(node.input[0] in other.input for other in graph.node)
            edge = next((value for value in graph.input if value.name == node.input[0]), None)
            inner = node.output[0]
        elif node.op_type == "DequantizeLinear":
            readers = 1 + sum(node.output[0] in other.input for other in graph.node)
            edge = next((value for value in graph.output if value.name == node.output[0]), None)
            inner = node.input[0]
        else:
            continue
        if edge is not None and readers == 1 and inner not in stored:
            edge.name = inner
            edge.type.tensor_type.elem_type = zero.data_type
            graph.node.remove(node)
            changed = True
    return proto if changed else None
