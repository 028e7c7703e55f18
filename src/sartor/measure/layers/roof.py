"""The best rates of a target, by small files: some only multiply, one only moves.

Arithmetic is a matrix product's and a convolution's, whichever is faster: runtimes have kernels of their own for each.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from sartor.errors import InputError
from sartor.measure.layers.layer import Roof
from sartor.measure.targets.target import Target

SIDE = 384
"""Of a square matrix product: its three matrices are in a core's own cache, and there is work for many threads."""
CHANNELS, PIXELS = 64, 56
"""Of the convolution, 3x3: as most of them are in the networks that such kernels were written for."""
MOVED = 2**22
"""Values that are read, and written: 32 MB, more than a core's own caches hold. For more, some runtimes ask the system
for fresh memory in every call, and that would be timed."""
TURNS = 3
"""Best of so many medians: another process may take the machine for one of them."""
RUNS, MIN_TIME_S, BUDGET_S = 10, 0.02, 0.2


_known: dict[tuple[str, int], Roof] = {}


def roof(target: Target) -> Roof:
    """Of ``target`` with its threads, measured once in a process. Raises InputError where it cannot run fp32."""
    key = target.name, target.threads
    if key not in _known:
        _known[key] = _measured(target)
    return _known[key]


def _measured(target: Target) -> Roof:
    product: tuple[Any, ...] = ("MatMul", [SIDE, SIDE], [SIDE, SIDE])
    convolution: tuple[Any, ...] = ("Conv", [1, CHANNELS, PIXELS, PIXELS], [CHANNELS, CHANNELS, 3, 3])
    same: dict[str, Any] = {"pads": [1, 1, 1, 1]}
    wide = _best([_multiply(*product), _multiply(*convolution, **same), _move()], target)
    try:
        narrow = _best([_multiply_int8(*product), _multiply_int8(*convolution, **same)], target)
    except InputError:  # a target without 8 bits
        narrow = []
    macs = SIDE**3, 9 * CHANNELS**2 * PIXELS**2
    peaks = [max(n / s for n, s in zip(macs, seconds, strict=False)) for seconds in (wide, narrow) if seconds]
    return Roof(peaks[0], 2 * 4 * MOVED / wide[-1], *peaks[1:])


def _best(graphs: Sequence[onnx.GraphProto], target: Target) -> list[float]:
    """Seconds of a call of each of ``graphs``."""
    with tempfile.TemporaryDirectory() as folder:
        files = [Path(folder) / f"{graph.name}.onnx" for graph in graphs]
        for file, graph in zip(files, graphs, strict=True):
            opset = [helper.make_opsetid("", 18)]
            onnx.save(helper.make_model(graph, opset_imports=opset, ir_version=8), file)
        times = target.latencies(files * TURNS, runs=RUNS, min_time_s=MIN_TIME_S, budget_s=BUDGET_S)
    return [min(latency.median_ms for latency in times[place :: len(files)]) / 1e3 for place in range(len(files))]


def _multiply(op: str, shape: list[int], weight: list[int], **attributes: Any) -> onnx.GraphProto:
    """One operator whose result is as large as its input."""
    values = np.random.default_rng(0).standard_normal(weight).astype(np.float32)
    node = helper.make_node(op, ["x", "w"], ["y"], **attributes)
    return helper.make_graph(
        [node], op, [_value("x", shape)], [_value("y", shape)], [numpy_helper.from_array(values, "w")]
    )


def _multiply_int8(op: str, shape: list[int], weight: list[int], **attributes: Any) -> onnx.GraphProto:
    """As quantised files have it: quantisers around it, of 8 bits from outside to inside."""
    values = np.random.default_rng(0).integers(-100, 100, weight).astype(np.int8)
    nodes = [
        helper.make_node("DequantizeLinear", ["x", "scale", "zero"], ["wide"]),
        helper.make_node("DequantizeLinear", ["w", "scale", "none"], ["weight"]),
        helper.make_node(op, ["wide", "weight"], ["result"], **attributes),
        helper.make_node("QuantizeLinear", ["result", "scale", "zero"], ["y"]),
    ]
    held = [("w", values), ("scale", np.float32(0.01)), ("zero", np.uint8(128)), ("none", np.int8(0))]
    return helper.make_graph(
        nodes,
        f"{op}-int8",
        [_value("x", shape, TensorProto.UINT8)],
        [_value("y", shape, TensorProto.UINT8)],
        [numpy_helper.from_array(np.asarray(array), name) for name, array in held],
    )


def _move() -> onnx.GraphProto:
    shape = [1, MOVED]
    return helper.make_graph(
        [helper.make_node("Neg", ["x"], ["y"])], "move", [_value("x", shape)], [_value("y", shape)]
    )


def _value(name: str, shape: list[int], dtype: int = TensorProto.FLOAT) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, dtype, shape)
