"""Multiply-accumulates and parameters of an ONNX file, node by node, for files whose module is not at hand.

Shapes come from running the file once at batch 1, so operators of any domain are right. A quantised file counts like
the one it came from: a weight behind DequantizeLinear is a weight, scales and zero points are not.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
import onnx

from sartor.errors import InputError
from sartor.measure.counts import Counts, Layer
from sartor.measure.plan.kernels import VIEWS
from sartor.measure.plan.onnx_file import OVERWRITING
from sartor.measure.runnable import load, tensors

Shapes = Mapping[str, tuple[int, ...]]

_REDUCING_LIST = (
    "Softmax LogSoftmax LayerNormalization BatchNormalization GroupNormalization InstanceNormalization "
    "RMSNormalization GlobalAveragePool GlobalMaxPool QLinearGlobalAveragePool QLinearAveragePool CumSum "
    "ArgMax ArgMin TopK LpNormalization SkipLayerNormalization EmbedLayerNormalization"
)
_REDUCING = frozenset(_REDUCING_LIST.split())
_WEIGHT = {"Conv": 1, "FusedConv": 1, "ConvInteger": 1, "QLinearConv": 3, "ConvTranspose": 1}
_PRODUCTS = frozenset({"MatMul", "Gemm", "FusedGemm", "FusedMatMul", "QLinearMatMul", "QGemm", "MatMulInteger"})
_STORED = {
    onnx.TensorProto.FLOAT,
    onnx.TensorProto.FLOAT16,
    onnx.TensorProto.BFLOAT16,
    onnx.TensorProto.DOUBLE,
    onnx.TensorProto.INT8,
    onnx.TensorProto.UINT8,
}
_UNCOUNTED_LIST = (
    "DFT STFT Attention MultiHeadAttention GroupQueryAttention QAttention PackedAttention DeformConv "
    "MatMulNBits MatMulBnb4 QMoE MoE DynamicQuantizeLSTM QOrderedMatMul FusedMatMulActivation Loop Scan If Det"
)
_UNCOUNTED = frozenset(_UNCOUNTED_LIST.split())
"""Compute, or run graphs of their own, and have no rule here: they are named, never passed over."""
_QUANTISERS = ("QuantizeLinear", "DequantizeLinear")
# Where the scales and zero points of fused operators stand; everything else they read is data or weight.
_QUANTISATION_INPUTS = {
    "QLinearConv": (1, 2, 4, 5, 6, 7),
    "QLinearMatMul": (1, 2, 4, 5, 6, 7),
    "QGemm": (1, 2, 4, 5, 7, 8),
}


def graph_counts(file: Path) -> Counts:
    """Count ``file`` at batch 1. Raises InputError when it is missing, no ONNX file, or does not run."""
    proto = load(file)
    values = tensors(proto, file)
    known = shapes(proto, values)
    layers = tuple(_layers(proto, known, values))
    params, macs = sum(layer.params for layer in layers), sum(layer.macs for layer in layers)
    unknown = Counter(node.op_type for node in proto.graph.node if node.op_type in _UNCOUNTED)
    named = tuple(f"{operator}, {times} times" if times > 1 else operator for operator, times in unknown.items())
    return Counts(params, macs, layers, _weight_bytes(proto), named)


def _weight_bytes(proto: onnx.ModelProto) -> dict[str, int]:
    """All that the file stores, scales and shapes included, by dtype."""
    found: dict[str, int] = {}
    for tensor in proto.graph.initializer:
        dtype = onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type)
        found[str(dtype)] = found.get(str(dtype), 0) + math.prod(tensor.dims) * dtype.itemsize
    return found


def shapes(proto: onnx.ModelProto, values: Mapping[str, np.ndarray]) -> dict[str, tuple[int, ...]]:
    """The shape of every tensor, weights included."""
    weights = {tensor.name: tuple(tensor.dims) for tensor in proto.graph.initializer}
    return {**weights, **{name: tuple(np.shape(value)) for name, value in values.items()}}


def node_macs(node: onnx.NodeProto, known: Shapes) -> int:
    """Multiply-accumulates of one node; 0 for operators that only add, compare, move or normalise."""
    out = math.prod(known[node.output[0]]) if node.output and node.output[0] in known else 0
    if node.op_type in _WEIGHT:
        spread = known[node.input[0]] if node.op_type == "ConvTranspose" else None
        kernel = math.prod(known[node.input[_WEIGHT[node.op_type]]][1:])
        return (math.prod(spread) if spread is not None else out) * kernel
    if node.op_type in _PRODUCTS:
        left = known[node.input[0]]
        transposed = any(a.name == "transA" and a.i for a in node.attribute)
        return out * left[-2 if transposed else -1]
    if node.op_type == "Einsum":
        return _einsum(node, known)
    if node.op_type in ("LSTM", "GRU", "RNN"):
        steps, batch = known[node.input[0]][:2]
        return steps * batch * sum(math.prod(known[name]) for name in node.input[1:3])
    return 0


def _elementwise(node: onnx.NodeProto, values: Mapping[str, np.ndarray]) -> int:
    """As in :mod:`sartor.measure.counts`: values written, read by what reduces, or seen by a pooling's windows."""
    out = int(values[node.output[0]].size)
    if node.op_type in ("MaxPool", "AveragePool", "LpPool"):
        return out * math.prod(next((a.ints for a in node.attribute if a.name == "kernel_shape"), []))
    if node.op_type in _REDUCING or node.op_type.startswith("Reduce"):
        return max(out, max((int(values[name].size) for name in node.input if name in values), default=0))
    return out if node.op_type in OVERWRITING else 0


def _einsum(node: onnx.NodeProto, known: Shapes) -> int:
    equation = next(a.s.decode() for a in node.attribute if a.name == "equation").replace(" ", "")
    terms = equation.split("->")[0].split(",")
    if len(terms) != 2 or "." in equation:
        raise InputError(f"einsum {equation!r} cannot be counted: two operands with named dimensions are needed")
    sizes: dict[str, int] = {}
    for term, name in zip(terms, node.input, strict=True):
        sizes.update(zip(term, known[name], strict=True))
    return math.prod(sizes.values())


def _layers(proto: onnx.ModelProto, known: Shapes, values: Mapping[str, np.ndarray]) -> Iterator[Layer]:
    owned = _parameters(proto)
    stored_bytes = {
        t.name: math.prod(t.dims) * onnx.helper.tensor_dtype_to_np_dtype(t.data_type).itemsize
        for t in proto.graph.initializer
    }
    through: dict[str, list[str]] = {}  # a dequantised or reshaped weight -> the stored tensor behind it
    # Quantisers first: files exist whose nodes are not in order, and these nodes read stored tensors directly.
    for node in sorted(proto.graph.node, key=lambda n: n.op_type not in _QUANTISERS):
        read = [stored for name in node.input for stored in through.get(name, [name]) if stored in owned]
        if node.op_type in (*_QUANTISERS, "Identity", "Transpose", "Reshape") and read and len(node.output) == 1:
            through[node.output[0]] = read  # counted where it is used
            continue
        params = sum(owned.pop(name, 0) for name in dict.fromkeys(read))
        macs = node_macs(node, known)
        value = values[node.output[0]]
        view = node.op_type in VIEWS
        yield Layer(
            node.name or node.output[0],
            node.op_type,
            macs,
            params,
            value.shape,
            int(value.nbytes),
            elementwise=_elementwise(node, values),
            read_bytes=0 if view else sum(int(values[name].nbytes) for name in node.input if name in values),
            written_bytes=0 if view else sum(int(values[name].nbytes) for name in node.output if name in values),
            weight_read_bytes=sum(stored_bytes.get(name, 0) for name in node.input),
        )


def _parameters(proto: onnx.ModelProto) -> dict[str, int]:
    """Sizes of the stored tensors that were learned: weights and biases, no scales, zero points or shapes."""
    aside: set[str] = set()
    biases: set[str] = set()
    for node in proto.graph.node:
        if node.op_type in _QUANTISERS:
            aside.update(node.input[1:])
            biases.add(node.input[0])
        elif node.op_type in _QUANTISATION_INPUTS:
            aside.update(name for i, name in enumerate(node.input) if i in _QUANTISATION_INPUTS[node.op_type])
            biases.update(node.input[8:9] if node.op_type == "QLinearConv" else node.input[6:7])
    stored = {tensor.name: tensor for tensor in proto.graph.initializer}
    constants = [node for node in proto.graph.node if node.op_type == "Constant"]
    stored |= {node.output[0]: a.t for node in constants for a in node.attribute if a.name == "value"}
    return {
        name: math.prod(tensor.dims)
        for name, tensor in stored.items()
        if name not in aside
        and tensor.dims
        and (tensor.data_type in _STORED or (tensor.data_type == onnx.TensorProto.INT32 and name in biases))
    }
