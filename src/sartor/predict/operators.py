"""An exported network as the operators that its data go through: what predictors of any space see of it.

What only works out shapes (constants, and what is computed of them and of ``Shape``) is left out: how an exporter
spells a reshape says nothing of the network. Mills et al., GENNAPE, arXiv:2211.17226 §3, and Qin et al., ONNX-Net,
arXiv:2510.04938, both take a network so: atomic operators with their attributes, weights and shapes, and their links.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sartor.errors import InputError
from sartor.space.graph import INPUT, OUTPUT, ArchGraph

if TYPE_CHECKING:
    from onnx import ModelProto

Shape = tuple[int, ...]
LARGEST = 2.0**30
"""Multiply-accumulates whose logarithm is size 1."""


@dataclass(frozen=True)
class Operator:
    """``name`` as in ONNX; plain ``attributes``; shapes of its ``weights``; ``before``: places of the operators that
    lead to it, -1 the model's input; ``heard`` and ``made``: the shapes, without the batch, of the first thing that it
    takes and of what it makes."""

    name: str
    attributes: Mapping[str, Any]
    weights: tuple[Shape, ...]
    before: tuple[int, ...]
    heard: Shape
    made: Shape

    @property
    def macs(self) -> int:
        """Multiply-accumulates of a convolution or a matrix product, for one example; 0 of all else."""
        if self.name == "Conv" and self.weights:
            return math.prod(self.made) * math.prod(self.weights[0][1:])
        return math.prod(self.made) * self.heard[-1] if self.name in ("Gemm", "MatMul") and self.heard else 0


def operators_of(model: ModelProto) -> list[Operator]:
    """The operators of ``model`` in its own order, in which none comes before what leads to it."""
    from onnx import helper

    shapes = {weight.name: tuple(weight.dims) for weight in model.graph.initializer}
    made = shapes_made(model)
    place = {value.name: -1 for value in model.graph.input if value.name not in shapes}
    found: list[Operator] = []
    for node in model.graph.node:
        before = tuple(place[name] for name in node.input if name in place)
        if not before or node.op_type == "Shape":
            continue
        held = {a.name: plain(helper.get_attribute_value(a)) for a in sorted(node.attribute, key=lambda a: a.name)}
        found.append(
            Operator(
                node.op_type,
                {name: value for name, value in held.items() if value is not None},
                tuple(shapes[name] for name in node.input if name in shapes),
                before,
                made[next(name for name in node.input if name in place)],
                made[node.output[0]],
            )
        )
        place |= dict.fromkeys(node.output, len(found) - 1)
    return found


def shapes_made(model: ModelProto) -> dict[str, Shape]:
    """The shape, without the batch, of everything that ``model`` makes of a batch of one. It is run: shape inference
    does not get past the reshapes of a transformer. Raises InputError where it cannot be, or an input's other
    dimensions are not known."""
    import numpy as np
    import onnxruntime as ort
    from onnx import ValueInfoProto, helper

    told = model.__class__()
    told.CopyFrom(model)
    there = {value.name for value in told.graph.output}
    names = [name for node in told.graph.node for name in node.output if name and name not in there]
    told.graph.output.extend(ValueInfoProto(name=name) for name in names)
    options = ort.SessionOptions()
    options.log_severity_level = 4
    options.intra_op_num_threads = 1
    try:
        session = ort.InferenceSession(told.SerializeToString(), options, providers=["CPUExecutionProvider"])
        weights = {weight.name for weight in model.graph.initializer}
        feeds = {}
        for value in model.graph.input:
            if value.name not in weights:
                kind = value.type.tensor_type
                sides = [d.dim_value for d in kind.shape.dim[1:]]
                feeds[value.name] = np.zeros((1, *sides), helper.tensor_dtype_to_np_dtype(kind.elem_type))
        everything = [value.name for value in session.get_outputs()]
        found = zip(everything, session.run(everything, feeds), strict=True)
    except Exception as error:  # the runtime's own, of many kinds
        reason = " ".join(str(error).split())[:200]
        raise InputError(f"the exported model cannot be run ({reason}): export it anew") from error
    return {name: tuple(np.shape(value))[1:] for name, value in [*feeds.items(), *found] if value is not None}


def plain(value: object) -> int | float | str | tuple[int | float, ...] | None:
    """An attribute's number, word or numbers; None for tensors and graphs."""
    if isinstance(value, bytes):
        return value.decode(errors="replace")
    if isinstance(value, (int, float)):
        return value
    if isinstance(value, Sequence) and not isinstance(value, str) and all(isinstance(v, (int, float)) for v in value):
        return tuple(value)
    return None


def onnx_graph(model: ModelProto) -> ArchGraph:
    """The graph of ``model``'s operators. Labels have the kernel, and what strides or is a channel's own; a size is the
    logarithm of the multiply-accumulates, in [0, 1]; there are no places."""
    operators = operators_of(model)
    links = {(start + 1, to) for to, operator in enumerate(operators, 1) for start in operator.before}
    led_from = {start for start, _ in links}
    last = len(operators) + 1
    links |= {(i, last) for i in range(1, last) if i not in led_from} or {(0, last)}
    sizes = [min(1.0, math.log2(1 + operator.macs) / math.log2(LARGEST)) for operator in operators]
    labels = (INPUT, *map(label, operators), OUTPUT)
    return ArchGraph(labels, ("",) * len(labels), (0.0, *sizes, 0.0), tuple(sorted(links)))


def label(operator: Operator) -> str:
    """``Conv 3x3 depthwise /2``, ``MaxPool 2x2 /2``, ``Relu``: the same in every space. A matrix product with weights
    is the linear map that a 1x1 convolution is, and has its label."""
    kernel, strides = (operator.attributes.get(name, ()) for name in ("kernel_shape", "strides"))
    if operator.name in ("Gemm", "MatMul") and operator.weights:
        return "Conv 1x1"
    words = [operator.name, "x".join(map(str, kernel))]
    if operator.name == "Conv" and operator.attributes.get("group", 1) > 1:
        words.append("depthwise" if operator.weights and operator.weights[0][1] == 1 else "grouped")
    words.append(f"/{max(strides)}" if strides and max(strides) > 1 else "")
    return " ".join(filter(None, words))
