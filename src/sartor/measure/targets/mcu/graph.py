"""A file as the graph that a board runs: one image, 8 bits from the sensor, activations fused into what they follow."""

from __future__ import annotations

import tempfile
from pathlib import Path

import onnx

from sartor.errors import InputError
from sartor.measure.runnable import load, optimised

_QUANTISED = {onnx.TensorProto.INT8, onnx.TensorProto.UINT8}


def board_graph(file: Path) -> onnx.ModelProto:
    """``file`` at batch 1, as any runtime fuses it, between the quantisers of its inputs and outputs.

    Raises InputError.
    """
    proto = load(file)
    _without_edges(proto)
    for value in proto.graph.input:  # the batch is no longer open, so no node computes shapes from it
        if value.type.tensor_type.shape.dim:
            value.type.tensor_type.shape.dim[0].dim_value = value.type.tensor_type.shape.dim[0].dim_value or 1
    with tempfile.TemporaryDirectory() as folder:
        inner = Path(folder) / "board.onnx"
        try:
            inner.write_bytes(proto.SerializeToString())
        except ValueError as error:  # protobuf's, above 2 GB
            raise InputError(f"{file} is too large to plan for a microcontroller ({error})") from error
        return optimised(inner, layouts=False)


def _without_edges(proto: onnx.ModelProto) -> None:
    """Make the inputs and outputs of ``proto`` the 8-bit tensors behind its outermost quantisers."""
    graph = proto.graph
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
