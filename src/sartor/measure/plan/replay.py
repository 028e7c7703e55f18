"""A plan carried out: every node of a file run inside one block of memory, at the plan's addresses.

What a microcontroller's interpreter does, in Python and slowly: it shows that a plan is right (nothing that is still
needed is overwritten) and how much memory it really touches, which no lifetime analysis of ours has a say in.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort

from sartor.errors import InputError
from sartor.measure.plan.onnx_file import computing_nodes, constant_values
from sartor.measure.plan.plan import Plan

_UNTOUCHED = 0xA5


@dataclass(frozen=True)
class Replayed:
    """``outputs`` by name; ``high_water_bytes``: the end of the last byte that was written."""

    outputs: dict[str, np.ndarray]
    high_water_bytes: int


def replay(proto: onnx.ModelProto, plan: Plan, feeds: Mapping[str, np.ndarray], file: Path) -> Replayed:
    """Run ``proto``'s nodes in ``plan``'s order, one session each, every activation at its address and nowhere else.

    ``file`` names it in errors. Raises InputError where an input does not fit its place.
    """
    arena = np.full(plan.arena_bytes, _UNTOUCHED, np.uint8)
    written = np.zeros(plan.arena_bytes, bool)
    stored = constant_values(proto, file)
    forms: dict[str, tuple[tuple[int, ...], np.dtype]] = {}
    room = {tensor: buffer for buffer in plan.buffers for tensor in buffer.tensors}

    def write(name: str, value: np.ndarray) -> None:
        if name not in room:
            raise InputError(f"{file}: the plan has no place for {name!r}: it is not this file's")
        start, content = room[name].offset, np.ascontiguousarray(value)
        if content.nbytes > room[name].size:
            raise InputError(f"{file}: {name!r} has {content.nbytes} bytes, and its place {room[name].size}")
        forms[name] = value.shape, value.dtype  # not the content's, whose scalars have become rows
        arena[start : start + content.nbytes] = content.reshape(-1).view(np.uint8)
        written[start : start + content.nbytes] = True

    def read(name: str) -> np.ndarray:
        shape, dtype = forms[name]
        start = room[name].offset
        size = int(np.prod(shape, dtype=np.int64)) * dtype.itemsize
        return arena[start : start + size].view(dtype).reshape(shape).copy()

    for name, value in feeds.items():
        write(name, value)
    nodes = computing_nodes(proto)
    for number in plan.order:
        node = nodes[number]
        given = dict.fromkeys(name for name in node.input if name)
        inputs = {name: read(name) for name in given if name not in stored}
        weights = {name: stored[name] for name in given if name in stored}
        names = [name for name in node.output if name]
        for name, value in zip(names, _run(node, inputs, weights, names, proto), strict=True):
            write(name, value)
    high = int(written.nonzero()[0][-1]) + 1 if written.any() else 0
    outputs = [value.name for value in proto.graph.output]
    return Replayed({name: stored[name] if name in stored else read(name) for name in outputs}, high)


def _run(
    node: onnx.NodeProto,
    inputs: Mapping[str, np.ndarray],
    weights: Mapping[str, np.ndarray],
    outputs: list[str],
    proto: onnx.ModelProto,
) -> list[np.ndarray]:
    given = [
        onnx.helper.make_tensor_value_info(name, onnx.helper.np_dtype_to_tensor_dtype(value.dtype), value.shape)
        for name, value in inputs.items()
    ]
    # Weights as weights: kernels pack them and then may add in another order than with the same numbers as inputs.
    held = [onnx.numpy_helper.from_array(value, name) for name, value in weights.items()]
    made = [onnx.ValueInfoProto(name=name) for name in outputs]
    graph = onnx.helper.make_graph([node], "one", given, made, held)
    model = onnx.helper.make_model(graph, opset_imports=proto.opset_import, ir_version=proto.ir_version)
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 3
    session = ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return list(session.run(outputs, dict(inputs)))
