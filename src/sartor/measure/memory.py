"""Peak memory for activations of an exported file, batch 1, from the order its nodes run in.

The file is first optimised by ONNX Runtime as a session on this CPU does it (batch norm, activations, residual
additions and QDQ pairs fused, blocked layouts with their padding), because that is what runs. Every tensor then has
its real type: one byte a value where a quantised kernel writes it. Rejected: the CPU-independent optimisations alone,
which leave residual additions unfused and count a third buffer that is never there.

What is counted: all activations alive while a node runs, its inputs and outputs included, and the file's own input and
output. A view (reshape, flatten) takes nothing; an elementwise node overwrites an input that dies with it, as the
runtimes do. Not counted: weights, and scratch space of kernels, which differs between runtimes.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort

from sartor.errors import InputError

_VIEWS = frozenset({"Reshape", "Flatten", "Squeeze", "Unsqueeze", "Identity", "Dropout"})
_ACTIVATIONS = "Relu LeakyRelu PRelu Elu Celu Selu Gelu FastGelu BiasGelu QuickGelu Sigmoid HardSigmoid HardSwish Swish"
_ARITHMETIC = (
    "Mish Tanh Clip Softplus Erf Exp Log Sqrt Neg Abs Floor Ceil Round Not Add Sub Mul Div Pow Max Min Sum Where"
)
_NORMS = "BatchNormalization LayerNormalization Softmax"
_QUANTISED = "QLinearAdd QLinearMul QLinearSigmoid QLinearLeakyRelu QLinearSoftmax"
_IN_PLACE = frozenset(f"{_ACTIVATIONS} {_ARITHMETIC} {_NORMS} {_QUANTISED}".split())
_SUMMAND = {"FusedConv": 3, "Conv": 3}
"""Convolutions with a fused residual addition write their result over the summand, this input; never over the image."""


@dataclass(frozen=True)
class Step:
    """One node: the activations it reads and writes, those it may overwrite, and whether it is only a view."""

    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    overwrites: tuple[str, ...] = ()
    view: bool = False


def peak_activation_bytes(file: Path) -> int:
    """The most bytes of activations alive at once in ``file``. Raises InputError when the file cannot be run."""
    proto = optimised(file)
    sizes = _sizes(proto, file)
    constants = {tensor.name for tensor in proto.graph.initializer}
    constants |= {name for node in proto.graph.node if not _reads(node, constants) for name in node.output}
    steps = [
        Step(
            tuple(name for name in node.input if name and name not in constants),
            tuple(name for name in node.output if name),
            tuple(name for name in _overwritable(node) if name and name not in constants),
            view=node.op_type in _VIEWS,
        )
        for node in proto.graph.node
        if not set(node.output) <= constants
    ]
    fed = [value.name for value in proto.graph.input if value.name not in constants]
    return plan_peak(steps, sizes, fed, [value.name for value in proto.graph.output])


def plan_peak(steps: Sequence[Step], sizes: Mapping[str, int], inputs: Sequence[str], outputs: Sequence[str]) -> int:
    """The peak in bytes of running ``steps`` in order. ``sizes``: bytes of each tensor; ``outputs`` live to the end."""
    place: dict[str, str] = {name: name for name in inputs}  # tensor -> the buffer that holds it
    last = _last_uses(steps, outputs)
    held: dict[str, int] = {name: sizes[name] for name in inputs}
    peak = sum(held.values())
    for number, step in enumerate(steps):
        for output in step.outputs:
            place[output] = _buffer_for(step, output, number, place, last, sizes, held)
            held.setdefault(place[output], sizes[output])
        peak = max(peak, sum(held.values()))
        living = {place[name] for name in place if last.get(name, -1) > number}
        held = {buffer: size for buffer, size in held.items() if buffer in living}
    return peak


def _overwritable(node: onnx.NodeProto) -> list[str]:
    if node.op_type in _SUMMAND:
        return list(node.input[_SUMMAND[node.op_type] :])
    return list(node.input) if node.op_type in _IN_PLACE else []


def _buffer_for(
    step: Step,
    output: str,
    number: int,
    place: Mapping[str, str],
    last: Mapping[str, int],
    sizes: Mapping[str, int],
    held: Mapping[str, int],
) -> str:
    if step.view and step.inputs:
        return place[step.inputs[0]]
    taken = {place.get(other) for other in step.outputs if other != output}
    for name in step.overwrites:
        buffer = place[name]
        dies = all(last.get(other, -1) <= number for other in place if place[other] == buffer)
        if dies and buffer not in taken and held[buffer] == sizes[output]:
            return buffer
    return output


def _last_uses(steps: Sequence[Step], outputs: Sequence[str]) -> dict[str, int]:
    last = {name: number for number, step in enumerate(steps) for name in step.inputs}
    return {**last, **dict.fromkeys(outputs, len(steps))}


def optimised(file: Path) -> onnx.ModelProto:
    """``file`` as ONNX Runtime runs it on this CPU, all optimisations applied. Raises InputError."""
    if not file.is_file():
        raise InputError(f"{file} is missing")
    with tempfile.TemporaryDirectory() as folder:
        options = ort.SessionOptions()
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_ALL
        options.optimized_model_filepath = str(Path(folder) / "optimised.onnx")
        options.log_severity_level = 3
        try:
            ort.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])
            return onnx.load(options.optimized_model_filepath)
        except Exception as error:  # ORT raises its own untyped exceptions
            reason = (str(error).strip() or type(error).__name__).splitlines()[0][:200]
            raise InputError(f"{file} is no ONNX file that ONNX Runtime can run ({reason})") from error


def tensors(proto: onnx.ModelProto, file: Path) -> dict[str, np.ndarray]:
    """Every computed tensor of ``proto`` on zeros of batch 1, by running it: right for operators of any domain."""
    copy = onnx.ModelProto()
    copy.CopyFrom(proto)
    fed = {value.name: _zeros(value, file) for value in proto.graph.input}
    there = {value.name for value in proto.graph.output}
    names = [name for node in proto.graph.node for name in node.output if name]
    copy.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names if name not in there)
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 3
    session = ort.InferenceSession(copy.SerializeToString(), options, providers=["CPUExecutionProvider"])
    return {**fed, **dict(zip(names, session.run(names, fed), strict=True))}


def _sizes(proto: onnx.ModelProto, file: Path) -> dict[str, int]:
    return {name: int(value.nbytes) for name, value in tensors(proto, file).items()}


def _reads(node: onnx.NodeProto, constants: set[str]) -> bool:
    """True when the node depends on the file's input. Nodes come in topological order."""
    depends = any(name and name not in constants for name in node.input)
    if not depends:
        constants.update(node.output)
    return depends


def _zeros(value: onnx.ValueInfoProto, file: Path) -> np.ndarray:
    dims = value.type.tensor_type.shape.dim
    shape = [d.dim_value if d.HasField("dim_value") else 1 if axis == 0 else 0 for axis, d in enumerate(dims)]
    if 0 in shape:
        raise InputError(f"{file}: input {value.name} has open sizes: export it with every size but the batch fixed")
    return np.zeros(shape, onnx.helper.tensor_dtype_to_np_dtype(value.type.tensor_type.elem_type))
