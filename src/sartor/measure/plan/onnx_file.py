"""An ONNX file as a planner's problem, and the file with its nodes in the order of a plan."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import onnx

from sartor.disk import write_atomic
from sartor.errors import InputError
from sartor.measure.plan.kernels import VIEWS, WHOLE_TENSORS, Kernels, by_part, strided
from sartor.measure.plan.plan import Plan, make_plan
from sartor.measure.plan.runtime import runtime_buffers
from sartor.measure.plan.steps import Buffer, Problem, Step
from sartor.measure.runnable import load, optimised, tensors

_RUNTIME_LIST = (
    "Relu LeakyRelu Elu Celu Selu Sigmoid HardSigmoid Tanh Softplus Softsign ThresholdedRelu Softmax "
    "LogSoftmax Clip Cast"
)
RUNTIME_OVERWRITING = frozenset(_RUNTIME_LIST.split())
"""What ONNX Runtime's CPU kernels write over their input, found by asking its profiler of each (tests do so again)."""
_ACTIVATIONS = "PRelu Gelu FastGelu BiasGelu QuickGelu HardSwish Swish Mish"
_ARITHMETIC = "Erf Exp Log Sqrt Neg Abs Floor Ceil Round Not Add Sub Mul Div Pow Max Min Sum Where Dropout"
_NORMS = "BatchNormalization LayerNormalization"
_QUANTISED = "QLinearAdd QLinearMul QLinearSigmoid QLinearLeakyRelu QLinearSoftmax"
OVERWRITING = RUNTIME_OVERWRITING | frozenset(f"{_ACTIVATIONS} {_ARITHMETIC} {_NORMS} {_QUANTISED}".split())
"""What any runtime can write over an input of the same size: each value depends on its own place or row alone."""
_BY_SIZES = frozenset(["Reshape", "Expand", "Slice", "Pad", "Tile", "TopK", "Split", "ConstantOfShape", "Range"])
"""Their later inputs say how large the output is."""
_SUMMAND = {"FusedConv": 3, "Conv": 3}
"""Convolutions with a fused residual addition write their result over the summand, this input; never over the image."""


def plan_file(file: Path, *, search: bool = True, fused: bool = True) -> Plan:
    """A memory plan of ``file`` at batch 1; see :mod:`sartor.measure.memory` for what counts as memory.

    ``fused``: of the graph as ONNX Runtime runs it here; without, of the nodes as they stand in the file. Raises
    InputError when the file cannot be run.
    """
    return make_plan(problem_of(optimised(file) if fused else load(file), file), search=search)


def problem_of(
    proto: onnx.ModelProto, file: Path, *, runtime: bool = False, kernels: Kernels = WHOLE_TENSORS
) -> Problem:
    """The steps of ``proto``, those nodes that depend on its input, and the size of each tensor they make.

    ``runtime``: nodes overwrite their inputs where ONNX Runtime does; otherwise wherever their mathematics allows.
    ``kernels``: what else they can. ``file`` names it in errors.
    """
    return problem_from(proto, tensors(proto, file), runtime=runtime, kernels=kernels)


def runtime_plan(proto: onnx.ModelProto, file: Path) -> list[Buffer]:
    """The buffers that ONNX Runtime takes for ``proto``, one that it optimised itself, with the input's own."""
    values = tensors(proto, file)
    known = _known(proto)
    forms = {name: (*values[name].shape, values[name].itemsize) for name in known if values[name].ndim}
    return runtime_buffers(problem_from(proto, values, runtime=True), forms)


def problem_from(
    proto: onnx.ModelProto,
    values: Mapping[str, np.ndarray],
    *,
    runtime: bool = False,
    kernels: Kernels = WHOLE_TENSORS,
) -> Problem:
    """As :func:`problem_of`, from arrays that are as large as the tensors; what they hold is not looked at."""
    sizes = {name: int(value.nbytes) for name, value in values.items()}
    constants = constant_names(proto)
    over = RUNTIME_OVERWRITING if runtime else OVERWRITING
    kept = {value.name for value in proto.graph.output} if runtime else set()  # it gives outputs memory of their own
    nodes = computing_nodes(proto)
    shapes = {name: value.shape for name, value in values.items()}
    shapes |= {tensor.name: tuple(tensor.dims) for tensor in proto.graph.initializer}
    windows, parts = strided(proto, nodes, constants) if kernels.windows else (frozenset(), {})
    joined = frozenset(parts.values())
    steps = []
    for node in nodes:
        overwrites, scratch = _overwritable(node, over, kept), 0
        if not overwrites and kernels.by_part:
            overwrites, scratch = by_part(node, shapes, sizes)
        steps.append(
            Step(
                tuple(name for name in reads(node) if name not in constants),
                tuple(name for name in node.output if name),
                tuple(n for n in overwrites if n and n not in constants and n not in windows and n not in parts),
                view=(node.op_type in VIEWS and node.input[0] not in constants)
                or node.output[0] in windows
                or (node.op_type == "Concat" and node.output[0] in joined),
                scratch=scratch,
            )
        )
    fed = tuple(value.name for value in proto.graph.input if value.name not in constants)
    made = {*fed, *(name for step in steps for name in step.outputs)}
    return Problem(tuple(steps), sizes, fed, tuple(v.name for v in proto.graph.output if v.name in made), parts)


def reordered(proto: onnx.ModelProto, order: Sequence[int]) -> onnx.ModelProto:
    """``proto`` with its computing nodes in ``order``, as :func:`problem_of` numbers them; nodes that make constants
    come first. Raises InputError where the order is not one of these nodes."""
    nodes = computing_nodes(proto)
    if sorted(order) != list(range(len(nodes))):
        raise InputError(f"the order must name each of the file's {len(nodes)} nodes once")
    kept = [node for node in proto.graph.node if not any(node is other for other in nodes)]
    copy = onnx.ModelProto()
    copy.CopyFrom(proto)
    del copy.graph.node[:]
    copy.graph.node.extend([*kept, *(nodes[number] for number in order)])
    known = {v.name for v in proto.graph.input} | {t.name for t in proto.graph.initializer}
    for node in copy.graph.node:
        missing = [name for name in reads(node) if name not in known]
        if missing:
            raise InputError(f"the order runs node {node.name!r} before the one that makes its input {missing[0]!r}")
        known.update(node.output)
    return copy


def write_planned(file: Path, target: Path) -> Plan:
    """Write ``file`` to ``target`` with its nodes in their planned order, and return the plan.

    The outputs are the same, exactly. It saves memory in runtimes that follow a file's order. Raises InputError.
    """
    plan = plan_file(file, fused=False)
    write_atomic(target, reordered(load(file), plan.order).SerializeToString())
    return plan


def constant_names(proto: onnx.ModelProto) -> set[str]:
    """Weights, and what is computed from nothing else."""
    constants = {tensor.name for tensor in proto.graph.initializer}
    for node in proto.graph.node:
        if all(name in constants for name in reads(node)):
            constants.update(node.output)
    return constants


def _known(proto: onnx.ModelProto) -> set[str]:
    """Activations whose shapes follow from the input's without running: not those reshaped to computed sizes."""
    constants = constant_names(proto)
    stored = {tensor.name: tensor for tensor in proto.graph.initializer}
    known = {value.name for value in proto.graph.input}
    for node in proto.graph.node:
        if node.op_type in ("Resize", "Upsample"):  # the runtime's inference multiplies sizes, not an open batch
            continue
        if node.op_type in _BY_SIZES and any(name not in constants for name in node.input[1:] if name):
            continue
        if node.op_type == "Reshape":
            target = stored.get(node.input[1])
            sizes = [] if target is None else onnx.numpy_helper.to_array(target).reshape(-1).tolist()
            if -1 in sizes and sizes[0] != 0:  # the batch is open, so what is left of it is too
                continue
        if all(name in known or name in constants for name in reads(node)):
            known.update(name for name in node.output if name)
    return known


def constant_values(proto: onnx.ModelProto, file: Path) -> dict[str, np.ndarray]:
    """Weights and what is computed from them alone, by name."""
    stored = {tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in proto.graph.initializer}
    names = constant_names(proto) - set(stored)
    return stored if not names else {**stored, **{n: v for n, v in tensors(proto, file).items() if n in names}}


def computing_nodes(proto: onnx.ModelProto) -> list[onnx.NodeProto]:
    """The nodes that depend on the input, in the file's order: a plan's steps."""
    constants = constant_names(proto)
    return [node for node in proto.graph.node if not set(node.output) <= constants]


def reads(node: onnx.NodeProto) -> list[str]:
    """A node's inputs, and what the graphs inside it (branches, loops) read from around them."""
    names = [name for name in node.input if name]
    for attribute in node.attribute:
        for graph in (*attribute.graphs, *([attribute.g] if attribute.type == onnx.AttributeProto.GRAPH else [])):
            own = {v.name for v in graph.input} | {t.name for t in graph.initializer}
            for inner in graph.node:
                names.extend(name for name in reads(inner) if name not in own)
                own.update(inner.output)
    return names


def _overwritable(node: onnx.NodeProto, over: frozenset[str], kept: set[str]) -> list[str]:
    if kept.intersection(node.output):
        return []
    if node.op_type in _SUMMAND:
        return list(node.input[_SUMMAND[node.op_type] :])
    return list(node.input) if node.op_type in over else []
