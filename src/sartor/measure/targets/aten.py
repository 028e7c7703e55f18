"""An ONNX file as a torch module that computes the same: what targets take that run torch programs.

ONNX Runtime folds first what is constant once the batch is fixed (its basic optimisations: standard operators only), so
that shapes are numbers. Each node that is left becomes a few calls of torch in a ``torch.fx`` graph. Quantised files
compute in fp32 what 8 bits would give.

Rejected: onnx2torch, whose last release (1.5.15, 2024) stops before opset 19 and knows no Gelu; and a program saved
beside every file, because then two artefacts could differ and files from elsewhere could not be timed.
"""

from __future__ import annotations

import operator
import tempfile
from collections.abc import Callable
from functools import partial, reduce
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
import torch
import torch.nn.functional as F
from torch import fx, nn

from sartor.errors import InputError
from sartor.measure.targets.local import reason
from sartor.measure.untrusted import called

_CLOSE = 1e-3  # fp32 sums in another order; files of 8 bits round a few values to the other side


def aten(file: Path, runtime: str, feeds: dict[str, np.ndarray]) -> nn.Module:
    """The module of ``file`` for inputs of these shapes and types, in their order; it returns the first output.

    ``runtime`` is who asks, for the messages. Raises InputError for a file that cannot be read, for an operator that is
    not here, naming its node, and where the module does not compute of ``feeds`` what ONNX Runtime does.
    """
    proto, expected = _folded(file, feeds)
    root = nn.Module()
    graph = fx.Graph()
    tracer = fx.proxy.GraphAppendingTracer(graph)
    constants = {t.name: onnx.numpy_helper.to_array(t) for t in proto.graph.initializer}
    values: dict[str, Any] = {}
    for number, name in enumerate(feeds):
        values[name] = fx.Proxy(graph.placeholder(f"input_{number}"), tracer)

    def value(name: str) -> Any:
        if name not in values and name in constants:
            kept = f"constant_{len(root._buffers)}"  # a name of our own: it becomes Python source
            root.register_buffer(kept, torch.from_numpy(np.array(constants[name])))
            values[name] = fx.Proxy(graph.get_attr(kept), tracer)
        return values[name]

    for node in proto.graph.node:
        if node.op_type == "Constant" and node.attribute[0].name == "value":
            constants[node.output[0]] = onnx.numpy_helper.to_array(node.attribute[0].t)
            continue
        convert = OPERATORS.get(node.op_type) if node.domain in ("", "ai.onnx") else None
        if convert is None:
            kind = f"{node.domain}.{node.op_type}" if node.domain else node.op_type
            raise InputError(
                f"{runtime} has no operator {kind}, which node {called(node)} of {file} needs: replace that layer, or "
                "choose another target"
            )
        try:
            made = convert(_Node(node, value, constants))
        except Exception as error:
            raise InputError(
                f"{runtime} cannot run {node.op_type}, node {called(node)} of {file}, as it is there: {reason(error)}"
            ) from error
        values.update(zip(node.output, made if isinstance(made, (list, tuple)) else [made], strict=False))
    graph.output(value(proto.graph.output[0].name).node)
    graph.eliminate_dead_code()
    module = fx.GraphModule(root, graph).eval()
    _same(module, feeds, expected, file, runtime)
    return module


def _same(module: nn.Module, feeds: dict[str, np.ndarray], expected: np.ndarray, file: Path, runtime: str) -> None:
    """An attribute that an operator above does not know must not pass for another network."""
    try:
        with torch.inference_mode():
            said = module(*(torch.from_numpy(array) for array in feeds.values())).numpy()
        apart = float(np.abs(said - expected).max()) / max(float(np.abs(expected).max()), 1e-30)
        same = said.shape == expected.shape and not apart > _CLOSE  # NaN where ONNX Runtime has it too
    except Exception as error:
        raise InputError(f"{runtime} cannot run {file}: {reason(error)}") from error
    if not same:
        raise InputError(f"{runtime} computes something else of {file} than ONNX Runtime: choose another target")


def _folded(file: Path, feeds: dict[str, np.ndarray]) -> tuple[onnx.ModelProto, np.ndarray]:
    """The graph with its batch fixed and constants folded, and what ONNX Runtime computes of ``feeds``."""
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_BASIC
    options.log_severity_level = 3
    options.intra_op_num_threads = 1
    try:
        for entry in onnx.load(str(file), load_external_data=False).graph.input:
            first = entry.type.tensor_type.shape.dim[:1]
            if entry.name in feeds and first and first[0].dim_param:
                options.add_free_dimension_override_by_name(first[0].dim_param, feeds[entry.name].shape[0])
        with tempfile.TemporaryDirectory() as folder:
            options.optimized_model_filepath = str(Path(folder) / "folded.onnx")
            session = ort.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])
            first_output = session.run([session.get_outputs()[0].name], feeds)[0]
            return onnx.load(options.optimized_model_filepath), first_output
    except Exception as error:  # ORT raises its own untyped exceptions
        raise InputError(f"{file} is no ONNX file that can be read ({reason(error)})") from error


class _Node:
    """One node while it is converted: ``self[i]`` is the i-th input, None where it was left out."""

    def __init__(self, node: onnx.NodeProto, value: Callable[[str], Any], constants: dict[str, np.ndarray]) -> None:
        self.node, self._value, self._constants = node, value, constants
        self._given = {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}

    def __len__(self) -> int:
        return len(self.node.input)

    def __getitem__(self, index: int) -> Any:
        return self._value(self.node.input[index]) if self.has(index) else None

    def __iter__(self) -> Any:
        return (self[i] for i in range(len(self)))

    def has(self, index: int) -> bool:
        return index < len(self.node.input) and bool(self.node.input[index])

    def attribute(self, name: str, default: Any = None) -> Any:
        found = self._given.get(name, default)
        return found.decode() if isinstance(found, bytes) else list(found) if isinstance(found, tuple) else found

    def array(self, index: int) -> np.ndarray:
        """An input that must be known beforehand."""
        name = self.node.input[index]
        if name not in self._constants:
            raise ValueError(f"its input {name} is known only when it runs")
        return self._constants[name]

    def numbers(self, index: int, attribute: str) -> list[int] | None:
        """Integers that older opsets have as an attribute and newer ones as an input; None where there are none."""
        if self.has(index):
            return [int(v) for v in np.atleast_1d(self.array(index))]
        return self.attribute(attribute)

    def only(self, **wanted: Any) -> None:
        for name, default in wanted.items():
            found = self.attribute(name, default)
            if found != default:
                raise ValueError(f"{name} is {found}, and only {default} is known")


def _padded(n: _Node, x: Any, rank: int, fill: float = 0.0) -> tuple[Any, list[int]]:
    """``x`` padded where the two ends differ, and the padding that is left to the operator."""
    n.only(auto_pad="NOTSET")
    pads = n.attribute("pads", [0] * 2 * rank)
    begin, end = pads[:rank], pads[rank:]
    if begin == end:
        return x, begin
    ends = [side for pair in zip(reversed(begin), reversed(end), strict=True) for side in pair]
    return F.pad(x, ends, value=fill), [0] * rank


def _conv(n: _Node) -> Any:
    rank = n.array(1).ndim - 2 if n.node.input[1] in n._constants else len(n.attribute("kernel_shape"))
    x, pads = _padded(n, n[0], rank)
    run = (F.conv1d, F.conv2d, F.conv3d)[rank - 1]
    stride, dilation = n.attribute("strides", [1] * rank), n.attribute("dilations", [1] * rank)
    return run(x, n[1], n[2], stride, pads, dilation, n.attribute("group", 1))


def _conv_transpose(n: _Node) -> Any:
    rank = n.array(1).ndim - 2
    n.only(auto_pad="NOTSET", output_shape=None)
    pads = n.attribute("pads", [0] * 2 * rank)
    if pads[:rank] != pads[rank:]:
        raise ValueError(f"pads {pads} differ between the two ends")
    run = (F.conv_transpose1d, F.conv_transpose2d, F.conv_transpose3d)[rank - 1]
    stride, dilation = n.attribute("strides", [1] * rank), n.attribute("dilations", [1] * rank)
    more = n.attribute("output_padding", [0] * rank)
    return run(n[0], n[1], n[2], stride, pads[:rank], more, n.attribute("group", 1), dilation)


def _gemm(n: _Node) -> Any:
    a = n[0].transpose(0, 1) if n.attribute("transA", 0) else n[0]
    if n.attribute("alpha", 1.0) == 1.0 == n.attribute("beta", 1.0) and not n.attribute("transA", 0):
        weight = n[1] if n.attribute("transB", 0) else n[1].transpose(0, 1)
        whole = not n.has(2) or (n.node.input[2] in n._constants and n.array(2).ndim == 1)
        return F.linear(a, weight, n[2]) if whole else F.linear(a, weight) + n[2]
    product = n.attribute("alpha", 1.0) * torch.matmul(a, n[1].transpose(0, 1) if n.attribute("transB", 0) else n[1])
    return product + n.attribute("beta", 1.0) * n[2] if n.has(2) else product


def _layer_norm(n: _Node) -> Any:
    return F.layer_norm(n[0], n.array(1).shape, n[1], n[2], n.attribute("epsilon", 1e-5))


def _pool(n: _Node, average: bool) -> Any:
    kernel = n.attribute("kernel_shape")
    rank = len(kernel)
    stride = n.attribute("strides", [1] * rank)
    inside = bool(n.attribute("count_include_pad", 0))
    pads = n.attribute("pads", [0] * 2 * rank)
    ceil = bool(n.attribute("ceil_mode", 0))
    if average:
        n.only(dilations=[1] * rank)
        if pads[:rank] != pads[rank:] and not inside:
            raise ValueError(f"pads {pads} differ between the two ends")
        x, pads = _padded(n, n[0], rank)
        return (F.avg_pool1d, F.avg_pool2d, F.avg_pool3d)[rank - 1](x, kernel, stride, pads, ceil, inside)
    x, pads = _padded(n, n[0], rank, float("-inf"))
    run = (F.max_pool1d, F.max_pool2d, F.max_pool3d)[rank - 1]
    return run(x, kernel, stride, pads, n.attribute("dilations", [1] * rank), ceil)


def _reduce(n: _Node, run: Callable[..., Any]) -> Any:
    axes, keep = n.numbers(1, "axes"), bool(n.attribute("keepdims", 1))
    if axes is None:
        if n.attribute("noop_with_empty_axes", 0):
            return n[0]
        raise ValueError("it reduces every axis, and their number is not stated")
    return run(n[0], axes, keepdim=keep)


def _reshape(n: _Node) -> Any:
    shape = [int(v) for v in n.array(1)]
    if not n.attribute("allowzero", 0):
        shape = [n[0].shape[i] if size == 0 else size for i, size in enumerate(shape)]
    return n[0].reshape(shape)


def _flatten(n: _Node) -> Any:
    axis = n.attribute("axis", 1)
    if axis == 0:
        return n[0].reshape(1, -1)
    return n[0].flatten(axis) if axis == 1 else n[0].flatten(0, axis - 1).flatten(1)


def _squeeze(n: _Node) -> Any:
    axes = n.numbers(1, "axes")
    return n[0].squeeze() if axes is None else n[0].squeeze(tuple(axes))


def _unsqueeze(n: _Node) -> Any:
    axes = n.numbers(1, "axes") or []
    if min(axes, default=0) < 0 and len(axes) > 1:
        raise ValueError(f"axes {axes}")
    return reduce(lambda x, axis: x.unsqueeze(axis), sorted(axes), n[0])


def _split(n: _Node) -> Any:
    axis, sizes = n.attribute("axis", 0), n.numbers(1, "split")
    if sizes is None:
        return _items(torch.chunk(n[0], len(n.node.output), axis), len(n.node.output))
    return _items(torch.split(n[0], sizes, axis), len(sizes))


def _items(parts: Any, count: int) -> list[Any]:
    return [parts[i] for i in range(count)]


def _slice(n: _Node) -> Any:
    starts, ends = n.numbers(1, "starts") or [], n.numbers(2, "ends") or []
    axes = n.numbers(3, "axes") or list(range(len(starts)))
    steps = n.numbers(4, "steps") or [1] * len(starts)
    x = n[0]
    for start, end, axis, step in zip(starts, ends, axes, steps, strict=True):
        if step < 1:
            if (start, step) != (-1, -1) or end > -(2**31):
                raise ValueError(f"a step of {step} from {start} to {end}")
            x = torch.flip(x, [axis])
        else:
            x = torch.ops.aten.slice.Tensor(x, axis, start, min(end, 2**63 - 1), step)
    return x


def _gather(n: _Node) -> Any:
    axis = n.attribute("axis", 0)
    if n.node.input[1] in n._constants and n.array(1).ndim == 0:
        return n[0].select(axis, int(n.array(1)))
    if n.node.input[1] in n._constants:
        index = n.array(1)
        chosen = n[0].index_select(axis, n[1].reshape(-1) if index.ndim != 1 else n[1])
        return chosen if index.ndim == 1 else chosen.unflatten(axis, index.shape)
    if axis == 0 and n.array(0).ndim == 2:
        return F.embedding(n[1], n[0])
    raise ValueError(f"it gathers along axis {axis} by indices that are known only when it runs")


def _pad(n: _Node) -> Any:
    pads = n.numbers(1, "pads") or []
    mode = n.attribute("mode", "constant")
    rank = len(pads) // 2
    pairs = [(pads[i], pads[rank + i]) for i in reversed(range(rank))]
    if mode == "constant":
        fill = float(n.array(2)) if n.has(2) else n.attribute("value", 0.0)
        return F.pad(n[0], [side for pair in pairs for side in pair], value=fill)
    while pairs and pairs[-1] == (0, 0):
        pairs.pop()
    return F.pad(n[0], [side for pair in pairs for side in pair], {"edge": "replicate"}.get(mode, mode))


def _resize(n: _Node) -> Any:
    mode, where = n.attribute("mode", "nearest"), n.attribute("coordinate_transformation_mode", "half_pixel")
    if n.has(3):
        size: Any = {"size": [int(v) for v in n.array(3)][2:]}
    else:
        size = {"scale_factor": [float(v) for v in n.array(2)][2:], "recompute_scale_factor": False}
    if mode == "nearest" and where == "asymmetric" and n.attribute("nearest_mode", "round_prefer_floor") == "floor":
        return F.interpolate(n[0], **size)
    if mode == "linear" and where in ("half_pixel", "pytorch_half_pixel", "align_corners"):
        n.only(antialias=0)
        return F.interpolate(n[0], **size, mode="bilinear", align_corners=where == "align_corners")
    raise ValueError(f"mode {mode} with {where}")


def _quantised(n: _Node) -> tuple[Any, Any, int]:
    """Scale and zero point shaped to go with the input, and the axis; zero point as float."""
    axis, count = n.attribute("axis", 1), n.array(1).size
    n.only(block_size=0)
    scale, zero = n[1], (n[2].to(torch.float32) if n.has(2) else 0.0)
    return scale, zero, axis if count > 1 else -1


def _dequantise(n: _Node) -> Any:
    scale, zero, axis = _quantised(n)
    x = n[0].to(torch.float32)
    if axis < 0:
        return (x - zero) * scale
    return ((x.transpose(axis, -1) - zero) * scale).transpose(axis, -1)


def _quantise(n: _Node) -> Any:
    scale, zero, axis = _quantised(n)
    kind = n.array(2).dtype if n.has(2) else np.dtype(np.uint8)
    if kind not in (np.dtype(np.uint8), np.dtype(np.int8)):
        raise ValueError(f"it quantises to {kind}")
    low, high = np.iinfo(kind).min, np.iinfo(kind).max
    x = n[0] if axis < 0 else n[0].transpose(axis, -1)
    x = torch.clamp(torch.round(x / scale) + zero, low, high)
    return x if axis < 0 else x.transpose(axis, -1)


def _clip(n: _Node) -> Any:
    low = float(n.array(1)) if n.has(1) else n.attribute("min")
    high = float(n.array(2)) if n.has(2) else n.attribute("max")
    return n[0] if low is None and high is None else torch.clamp(n[0], low, high)


def _cast(n: _Node) -> Any:
    return n[0].to(getattr(torch, str(onnx.helper.tensor_dtype_to_np_dtype(n.attribute("to")))))


def _depth_to_space(n: _Node) -> Any:
    n.only(mode="CRD")
    return F.pixel_shuffle(n[0], n.attribute("blocksize"))


def _plain(run: Callable[..., Any]) -> Callable[[_Node], Any]:
    """Inputs in, output out, no attributes."""
    return lambda n: run(*n)


def _fold(run: Callable[..., Any]) -> Callable[[_Node], Any]:
    """Two or more inputs, from the left."""
    return lambda n: reduce(run, n)


OPERATORS: dict[str, Callable[[_Node], Any]] = {
    "Conv": _conv,
    "ConvTranspose": _conv_transpose,
    "Gemm": _gemm,
    "MatMul": _plain(torch.matmul),
    "Einsum": lambda n: torch.einsum(n.attribute("equation"), *n),
    "BatchNormalization": lambda n: F.batch_norm(n[0], n[3], n[4], n[1], n[2], eps=n.attribute("epsilon", 1e-5)),
    "LayerNormalization": _layer_norm,
    "InstanceNormalization": lambda n: F.instance_norm(n[0], weight=n[1], bias=n[2], eps=n.attribute("epsilon", 1e-5)),
    "Relu": _plain(F.relu),
    "LeakyRelu": lambda n: F.leaky_relu(n[0], n.attribute("alpha", 0.01)),
    "PRelu": lambda n: torch.where(n[0] > 0, n[0], n[0] * n[1]),
    "Elu": lambda n: F.elu(n[0], n.attribute("alpha", 1.0)),
    "Gelu": lambda n: F.gelu(n[0], approximate=n.attribute("approximate", "none")),
    "Sigmoid": _plain(torch.sigmoid),
    "HardSigmoid": lambda n: torch.clamp(n.attribute("alpha", 0.2) * n[0] + n.attribute("beta", 0.5), 0, 1),
    "HardSwish": _plain(F.hardswish),
    "Tanh": _plain(torch.tanh),
    "Softplus": _plain(F.softplus),
    "Mish": _plain(F.mish),
    "Erf": _plain(torch.erf),
    "Exp": _plain(torch.exp),
    "Log": _plain(torch.log),
    "Sqrt": _plain(torch.sqrt),
    "Reciprocal": _plain(torch.reciprocal),
    "Abs": _plain(torch.abs),
    "Neg": _plain(torch.neg),
    "Floor": _plain(torch.floor),
    "Ceil": _plain(torch.ceil),
    "Round": _plain(torch.round),
    "Sin": _plain(torch.sin),
    "Cos": _plain(torch.cos),
    "Add": _plain(operator.add),
    "Sub": _plain(operator.sub),
    "Mul": _plain(operator.mul),
    "Div": _plain(operator.truediv),
    "Pow": _plain(torch.pow),
    "Max": _fold(torch.maximum),
    "Min": _fold(torch.minimum),
    "Sum": _fold(operator.add),
    "Where": _plain(torch.where),
    "Equal": _plain(torch.eq),
    "Less": _plain(torch.lt),
    "Greater": _plain(torch.gt),
    "Not": _plain(torch.logical_not),
    "Clip": _clip,
    "Softmax": lambda n: F.softmax(n[0], n.attribute("axis", -1)),
    "LogSoftmax": lambda n: F.log_softmax(n[0], n.attribute("axis", -1)),
    "MaxPool": partial(_pool, average=False),
    "AveragePool": partial(_pool, average=True),
    "GlobalAveragePool": lambda n: F.adaptive_avg_pool2d(n[0], 1),
    "GlobalMaxPool": lambda n: F.adaptive_max_pool2d(n[0], 1),
    "ReduceMean": partial(_reduce, run=torch.mean),
    "ReduceSum": partial(_reduce, run=torch.sum),
    "ReduceMax": partial(_reduce, run=torch.amax),
    "ReduceMin": partial(_reduce, run=torch.amin),
    "ReduceL2": partial(_reduce, run=partial(torch.linalg.vector_norm, ord=2)),
    "Reshape": _reshape,
    "Flatten": _flatten,
    "Transpose": lambda n: n[0].permute(n.attribute("perm")),
    "Squeeze": _squeeze,
    "Unsqueeze": _unsqueeze,
    "Concat": lambda n: torch.cat(list(n), n.attribute("axis")),
    "Split": _split,
    "Slice": _slice,
    "Gather": _gather,
    "Expand": lambda n: n[0] * torch.ones([int(v) for v in n.array(1)]),
    "Pad": _pad,
    "Resize": _resize,
    "DepthToSpace": _depth_to_space,
    "Identity": _plain(lambda x: x),
    "Dropout": lambda n: n[0],
    "Cast": _cast,
    "QuantizeLinear": _quantise,
    "DequantizeLinear": _dequantise,
}
"""Operator → what torch computes instead. The tests hold each file of theirs to ONNX Runtime's outputs."""
