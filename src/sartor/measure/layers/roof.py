"""The best rates of a target, by small files: some only multiply, one only moves.

Arithmetic is a matrix product's and a convolution's, whichever is faster: runtimes have kernels of their own for each.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path

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
RUNS, MIN_TIME_S, BUDGET_S = 10, 0.02, 0.5


def roof(target: Target) -> Roof:
    """Of ``target`` with its threads. Raises InputError where it cannot run the first three files."""
    with tempfile.TemporaryDirectory() as folder:
        files = []
        for graph in (_product(), _convolution(), _move(), _product_int8()):
            opset = [helper.make_opsetid("", 18)]
            files.append(Path(folder) / f"{graph.name}.onnx")
            onnx.save(helper.make_model(graph, opset_imports=opset, ir_version=8), files[-1])
        product, convolution, move = _best(files[:3], target)
        try:
            (product_int8,) = _best(files[3:], target)
        except InputError:  # a target without 8 bits
            product_int8 = None
    peak = max(SIDE**3 / product, 9 * CHANNELS**2 * PIXELS**2 / convolution)
    return Roof(peak, 2 * 4 * MOVED / move, SIDE**3 / product_int8 if product_int8 else None)


def _best(files: Sequence[Path], target: Target) -> list[float]:
    """Seconds of a call of each of ``files``."""
    times = target.latencies([*files] * TURNS, runs=RUNS, min_time_s=MIN_TIME_S, budget_s=BUDGET_S)
    return [min(latency.median_ms for latency in times[place :: len(files)]) / 1e3 for place in range(len(files))]


def _product() -> onnx.GraphProto:
    weight = np.random.default_rng(0).standard_normal((SIDE, SIDE)).astype(np.float32)
    return helper.make_graph(
        [helper.make_node("MatMul", ["x", "w"], ["y"])],
        "product",
        [_value("x", [SIDE, SIDE])],
        [_value("y", [SIDE, SIDE])],
        [numpy_helper.from_array(weight, "w")],
    )


def _convolution() -> onnx.GraphProto:
    shape = [1, CHANNELS, PIXELS, PIXELS]
    weight = np.random.default_rng(0).standard_normal((CHANNELS, CHANNELS, 3, 3)).astype(np.float32)
    return helper.make_graph(
        [helper.make_node("Conv", ["x", "w"], ["y"], pads=[1, 1, 1, 1])],
        "convolution",
        [_value("x", shape)],
        [_value("y", shape)],
        [numpy_helper.from_array(weight, "w")],
    )


def _product_int8() -> onnx.GraphProto:
    """As quantised files have it: quantisers around a product, of 8 bits from outside to inside."""
    weight = np.random.default_rng(0).integers(-100, 100, (SIDE, SIDE)).astype(np.int8)
    nodes = [
        helper.make_node("DequantizeLinear", ["x", "scale", "zero"], ["wide"]),
        helper.make_node("DequantizeLinear", ["w", "scale", "none"], ["weight"]),
        helper.make_node("MatMul", ["wide", "weight"], ["product"]),
        helper.make_node("QuantizeLinear", ["product", "scale", "zero"], ["y"]),
    ]
    held = [("w", weight), ("scale", np.float32(0.01)), ("zero", np.uint8(128)), ("none", np.int8(0))]
    return helper.make_graph(
        nodes,
        "product_int8",
        [_value("x", [SIDE, SIDE], TensorProto.UINT8)],
        [_value("y", [SIDE, SIDE], TensorProto.UINT8)],
        [numpy_helper.from_array(np.asarray(array), name) for name, array in held],
    )


def _move() -> onnx.GraphProto:
    shape = [1, MOVED]
    return helper.make_graph(
        [helper.make_node("Neg", ["x"], ["y"])], "move", [_value("x", shape)], [_value("y", shape)]
    )


def _value(name: str, shape: list[int], dtype: int = TensorProto.FLOAT) -> onnx.ValueInfoProto:
    return helper.make_tensor_value_info(name, dtype, shape)
