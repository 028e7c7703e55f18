"""What a file makes a machine do, node by node, for targets that are models of one: shapes and widths, no times.

A quantised file in QDQ form is read as what it stands for: a node whose inputs and weights all come out of
DequantizeLinear works on 8 bits, and the quantisers are no work of their own. Batch norm and activations behind a
convolution or a product are part of it, as every runtime for small machines has them.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx

from sartor.measure.graph_counts import node_macs, shapes
from sartor.measure.runnable import load, tensors

_CONVOLUTIONS = {"Conv": 1, "FusedConv": 1, "QLinearConv": 3, "ConvInteger": 1, "ConvTranspose": 1}
_PRODUCTS = {
    "MatMul": 1,
    "Gemm": 1,
    "FusedGemm": 1,
    "FusedMatMul": 1,
    "QGemm": 3,
    "QLinearMatMul": 3,
    "MatMulInteger": 1,
}
_QUANTISERS = frozenset({"QuantizeLinear", "DequantizeLinear"})
_FREE = frozenset({"Reshape", "Flatten", "Squeeze", "Unsqueeze", "Identity", "Dropout", "Constant", "Shape"})
_ABSORBED = frozenset({"BatchNormalization", "Relu", "Clip", "LeakyRelu"})
_ABSORBING = frozenset({*_CONVOLUTIONS, *_PRODUCTS, *_ABSORBED, "Add"})
_INTEGERS = (onnx.TensorProto.INT8, onnx.TensorProto.UINT8)
_HALVES = (onnx.TensorProto.FLOAT16, onnx.TensorProto.BFLOAT16)

KINDS = ("convolution", "pointwise", "depthwise", "dense", "elementwise")


@dataclass(frozen=True)
class Work:
    """One node at batch 1.

    ``kind``: one of ``KINDS``; a grouped convolution whose groups have one channel is depthwise, whatever else is not
    a convolution or a product elementwise. ``macs``: multiply-accumulates. ``rows``, ``depth``, ``columns``: of the
    matrix products that it is, ``groups`` of them (of a convolution: pixels, kernel times channels, filters).
    ``read``, ``written``: values. ``weights``: stored values. ``bits``: 8, 16 or 32.
    ``made``: its first output.
    """

    name: str
    op: str
    kind: str
    macs: int
    rows: int
    depth: int
    columns: int
    groups: int
    read: int
    written: int
    weights: int
    bits: int
    made: str = ""


def work_of(file: Path) -> tuple[Work, ...]:
    """What ``file`` asks for, in the order of its nodes. Raises InputError for a file that does not run."""
    proto = load(file)
    return work_in(proto, tensors(proto, file))


def work_in(
    proto: onnx.ModelProto, values: Mapping[str, np.ndarray], free: AbstractSet[str] = frozenset()
) -> tuple[Work, ...]:
    """As :func:`work_of`, from arrays of the tensors' shapes and types; who makes a tensor of ``free`` does nothing."""
    known = shapes(proto, values)
    stored = {tensor.name for tensor in proto.graph.initializer}
    narrow, half = _narrow(proto, values, free), _half(proto, values, free)
    made = {name: node for node in proto.graph.node for name in node.output}
    found = []
    for node in proto.graph.node:
        if all(not name or name in stored for name in node.input):
            stored.update(node.output)  # computed once, before anything runs
            continue
        if node.op_type in _QUANTISERS | _FREE or node.output[0] in free:
            continue
        before = _behind(made, node.input[0]) if node.op_type in _ABSORBED else None
        if before is not None and before.op_type in _ABSORBING:
            continue
        found.append(_work(node, known, stored, narrow, half))
    return tuple(found)


def _behind(made: dict[str, onnx.NodeProto], name: str) -> onnx.NodeProto | None:
    """The node that computed ``name``, quantisers and views left out."""
    while (node := made.get(name)) is not None and (node.op_type in _QUANTISERS or node.op_type in _FREE):
        if not node.input:
            return None
        name = node.input[0]
    return node


def _narrow(proto: onnx.ModelProto, values: Mapping[str, np.ndarray], free: AbstractSet[str]) -> set[str]:
    """Tensors that hold 8 bits, or stand for a tensor that does, whole or in parts."""
    narrow = {tensor.name for tensor in proto.graph.initializer if tensor.data_type in _INTEGERS}
    narrow |= {name for name, value in values.items() if value.dtype in (np.int8, np.uint8)}
    for node in proto.graph.node:
        first = node.input[0] if node.input else ""
        stands = node.op_type in ("DequantizeLinear", *_FREE) or node.output[0] in free
        if first in narrow and stands:
            narrow.update(node.output)
    return narrow


def _half(proto: onnx.ModelProto, values: Mapping[str, np.ndarray], free: AbstractSet[str]) -> set[str]:
    """Tensors of 16-bit floats."""
    weights = {tensor.name for tensor in proto.graph.initializer if tensor.data_type in _HALVES}
    half = weights | {name for name, value in values.items() if value.dtype == np.float16}
    for node in proto.graph.node:
        if node.input and node.input[0] in half and node.output[0] in free:
            half.update(node.output)  # a part of a weight
    return half


def _work(
    node: onnx.NodeProto,
    known: dict[str, tuple[int, ...]],
    stored: set[str],
    narrow: set[str],
    half: set[str],
) -> Work:
    out = known[node.output[0]]
    macs, groups = node_macs(node, known), 1
    rows = depth = columns = 0
    kind = "elementwise"
    operands = [name for name in node.input if name and name in known]
    if node.op_type in _CONVOLUTIONS:
        weight = known[node.input[_CONVOLUTIONS[node.op_type]]]
        groups = next((a.i for a in node.attribute if a.name == "group"), 1)
        columns, depth = weight[0] // groups, math.prod(weight[1:])
        rows = macs // max(1, columns * depth * groups)
        kind = "pointwise" if depth == weight[1] else "convolution"
        if groups > 1 and weight[1] == 1:
            kind = "depthwise"
        operands = [node.input[0], node.input[_CONVOLUTIONS[node.op_type]]]
    elif node.op_type in _PRODUCTS:
        right = known[node.input[_PRODUCTS[node.op_type]]]
        columns = out[-1] if out else 1  # two vectors make a number
        depth = macs // max(1, math.prod(out))
        groups = math.prod(right[:-2]) if len(right) > 2 else 1
        rows = math.prod(out[:-1]) // max(1, groups)
        kind = "dense"
        operands = [node.input[0], node.input[_PRODUCTS[node.op_type]]]
    elif macs:  # einsum, recurrent layers: one product of the same work
        rows, depth, columns, kind = 1, 1, macs, "dense"
    return Work(
        name=node.name or node.output[0],
        op=node.op_type,
        kind=kind,
        macs=macs,
        rows=rows,
        depth=depth,
        columns=columns,
        groups=groups,
        read=sum(math.prod(known[n]) for n in node.input if n in known and n not in stored),
        written=sum(math.prod(known[n]) for n in node.output if n in known),
        weights=sum(math.prod(known[n]) for n in node.input if n in known and n in stored),
        bits=8 if all(name in narrow for name in operands) else 16 if all(name in half for name in operands) else 32,
        made=node.output[0],
    )
