"""A file as units: each operator that computes with what is done to its result on the way.

A runtime runs a convolution and the activation, the residual addition or the quantiser behind it as one kernel, so they
are one unit: an operator that only works on single entries joins the unit that made the latest of its inputs. nn-Meter
(Zhang et al., MobiSys 2021, §4) finds such kernels by probing the runtime with pairs of operators; here the rule is
fixed, so that one file has the same units on every device, and what a device fuses beyond it shows in whole networks
(see ``units.model``). What reads a quantised tensor holds its own DequantizeLinear, as a quantised kernel does.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import onnx
from onnx import numpy_helper

from sartor.measure.graph_counts import node_macs
from sartor.measure.runnable import load, tensors

_ENTRYWISE = (
    "Relu LeakyRelu PRelu Elu Celu Selu Gelu Sigmoid HardSigmoid HardSwish Swish Mish Tanh Clip Softplus Erf "
    "Exp Log Sqrt Neg Abs Reciprocal Add Sub Mul Div Pow Max Min Where Cast Identity Dropout "
    "QuantizeLinear BatchNormalization"
)
_VIEWS = "Reshape Flatten Squeeze Unsqueeze"
FOLLOWERS = frozenset(f"{_ENTRYWISE} {_VIEWS}".split())
"""Operators on single entries, and views: they run with what comes before them."""

_SMALL = 16
"""Entries of a constant up to which its values are a part of what a unit is: shapes, axes, bounds; not weights."""


@dataclass(frozen=True)
class Unit:
    """One unit of a file. ``fed``: the tensors that it reads from other units; ``made``: those that others read.

    ``values`` have the shapes and types of its tensors, and no numbers.
    """

    nodes: tuple[onnx.NodeProto, ...]
    fed: tuple[str, ...]
    made: tuple[str, ...]
    held: Mapping[str, onnx.TensorProto]
    values: Mapping[str, np.ndarray]
    opset: tuple[onnx.OperatorSetIdProto, ...]

    @cached_property
    def anchor(self) -> str:
        """The operator that gives the unit its name: the one of most multiply-accumulates, else the first."""
        return max(self.nodes, key=self.node_macs).op_type if self.macs else self.nodes[0].op_type

    @cached_property
    def macs(self) -> int:
        return sum(map(self.node_macs, self.nodes))

    @cached_property
    def weight_bytes(self) -> int:
        return sum(_nbytes(tensor) for tensor in self.held.values())

    @cached_property
    def sizes(self) -> Mapping[str, int]:
        """Bytes of each tensor that it reads: activations, and weights."""
        fed = {name: int(self.values[name].nbytes) for name in self.fed}
        return fed | {name: _nbytes(tensor) for name, tensor in self.held.items()}

    @cached_property
    def read_bytes(self) -> int:
        """Of activations."""
        return sum(int(self.values[name].nbytes) for name in self.fed)

    @cached_property
    def written_bytes(self) -> int:
        return sum(int(self.values[name].nbytes) for name in self.made)

    @cached_property
    def between_bytes(self) -> int:
        """Of results that stay inside: what fusing spares."""
        inside = {name for node in self.nodes for name in node.output if name} - set(self.made)
        return sum(int(self.values[name].nbytes) for name in inside if name in self.values)

    @cached_property
    def key(self) -> str:
        """Two units of one key do the same work, whatever their weights: operators, attributes, shapes, types."""
        names = {name: f"in{i}" for i, name in enumerate(self.fed)}
        said: list[object] = [_kind(self.values[name]) for name in self.fed]
        for number, node in enumerate(self.nodes):
            reads = [names.get(name) or _constant(self.held.get(name)) for name in node.input]
            names |= {name: f"{number}.{place}" for place, name in enumerate(node.output) if name}
            attributes = sorted((a.name, onnx.helper.printable_attribute(a)) for a in node.attribute)
            said.append([node.domain, node.op_type, attributes, reads])
        said.append([names[name] for name in self.made])
        text = json.dumps(said)
        return f"{self.anchor}-{hashlib.sha256(text.encode()).hexdigest()[:20]}"

    def node_macs(self, node: onnx.NodeProto) -> int:
        """Of one of its operators."""
        known = {name: value.shape for name, value in self.values.items()}
        known |= {name: tuple(tensor.dims) for name, tensor in self.held.items()}
        return node_macs(node, known)

    def to_onnx(self) -> onnx.ModelProto:
        """A file of this unit alone, with the weights it has."""
        value = onnx.helper.make_tensor_value_info

        def described(name: str) -> onnx.ValueInfoProto:
            array = self.values[name]
            return value(name, onnx.helper.np_dtype_to_tensor_dtype(array.dtype), list(array.shape))

        graph = onnx.helper.make_graph(
            list(self.nodes),
            self.key,
            [described(name) for name in self.fed],
            [described(name) for name in self.made],
            list(self.held.values()),
        )
        return onnx.helper.make_model(graph, opset_imports=list(self.opset), ir_version=10)


def units(file: Path) -> tuple[Unit, ...]:
    """The units of ``file`` at batch 1, in the order of their first node. Raises InputError where it does not run."""
    proto = load(file)
    values = tensors(proto, file)
    return tuple(_split(proto, values))


def united(groups: Sequence[Sequence[Unit]], results: Collection[str]) -> list[Unit]:
    """The units of each group as one; ``groups`` have all units of a file, ``results`` are what the file gives back."""
    readers = _readers([[node for unit in group for node in unit.nodes] for group in groups])
    return [
        group[0] if len(group) == 1 else _united(place, group, readers, results) for place, group in enumerate(groups)
    ]


def _united(place: int, group: Sequence[Unit], readers: Mapping[str, set[int]], results: Collection[str]) -> Unit:
    made = [name for unit in group for name in unit.made]
    return Unit(
        tuple({node.output[0]: node for unit in group for node in unit.nodes}.values()),
        tuple(dict.fromkeys(name for unit in group for name in unit.fed if name not in made)),
        tuple(name for name in made if name in results or readers[name] - {place}),
        {name: tensor for unit in group for name, tensor in unit.held.items()},
        {name: value for unit in group for name, value in unit.values.items()},
        group[0].opset,
    )


def _split(proto: onnx.ModelProto, values: Mapping[str, np.ndarray]) -> Iterator[Unit]:
    constants = {tensor.name: tensor for tensor in proto.graph.initializer}
    inputs = {value.name for value in proto.graph.input} - set(constants)
    groups: list[list[onnx.NodeProto]] = []
    home: dict[str, int] = {}  # a computed tensor → its unit
    made_at: dict[str, int] = {}  # a computed tensor → the number of its node
    dequantisers: dict[str, onnx.NodeProto] = {}
    weights: dict[str, onnx.NodeProto] = {}  # what is stored in 8 bits is read in 8 bits
    for number, node in enumerate(proto.graph.node):
        computed = [name for name in node.input if name in home or name in inputs or name in dequantisers]
        if node.op_type == "DequantizeLinear" and node.input[0] in constants:
            weights[node.output[0]] = node
        if not computed:  # of constants alone: folded before anything runs
            for name in filter(None, node.output):
                held = values.get(name)
                if held is not None:
                    constants[name] = numpy_helper.from_array(np.asarray(held), name)
            continue
        if node.op_type == "DequantizeLinear":
            dequantisers[node.output[0]] = node
            continue
        latest = max((name for name in computed if name in home), key=made_at.__getitem__, default=None)
        through = [name for name in computed if name in dequantisers]
        stored = [weights[name] for name in dict.fromkeys(node.input) if name in weights]
        if node.op_type in FOLLOWERS and latest is not None and not through:
            place = home[latest]
        else:
            place = len(groups)
            groups.append([dequantisers[name] for name in dict.fromkeys(through)])
        groups[place] += [*stored, node]
        for name in filter(None, node.output):
            home[name], made_at[name] = place, number
    results = {value.name for value in proto.graph.output}
    for name in (name for name in dequantisers if name in results):  # a file that ends with one
        before = home.get(dequantisers[name].input[0])
        if before is None:
            groups.append([dequantisers[name]])
        else:
            groups[before].append(dequantisers[name])
    readers = _readers(groups)
    for place, nodes in enumerate(groups):
        yield _unit(place, nodes, readers, results, constants, values, tuple(proto.opset_import))


def _unit(
    place: int,
    nodes: Sequence[onnx.NodeProto],
    readers: Mapping[str, set[int]],
    results: set[str],
    constants: Mapping[str, onnx.TensorProto],
    values: Mapping[str, np.ndarray],
    opset: tuple[onnx.OperatorSetIdProto, ...],
) -> Unit:
    own = {name for node in nodes for name in node.output if name}
    read = [name for node in nodes for name in node.input if name and name not in own]
    dequantised = {node.output[0] for node in nodes if node.op_type == "DequantizeLinear"}
    made = [n for node in nodes for n in node.output if n in results or (readers[n] - {place} and n not in dequantised)]
    return Unit(
        tuple(nodes),
        tuple(dict.fromkeys(name for name in read if name not in constants)),
        tuple(dict.fromkeys(made)),
        {name: constants[name] for name in dict.fromkeys(read) if name in constants},
        {name: _size_of(values[name]) for name in {*read, *own} if name in values},
        opset,
    )


def _size_of(array: np.ndarray) -> np.ndarray:
    """An array of the same shape and type that takes no memory: activations of many networks would take gigabytes."""
    return np.broadcast_to(np.zeros((), array.dtype), array.shape)


def _readers(groups: Sequence[Sequence[onnx.NodeProto]]) -> dict[str, set[int]]:
    found: dict[str, set[int]] = defaultdict(set)
    for place, nodes in enumerate(groups):
        for node in nodes:
            for name in node.input:
                found[name].add(place)
    return found


def _kind(array: np.ndarray) -> list[object]:
    return [str(array.dtype), list(array.shape)]


def _constant(tensor: onnx.TensorProto | None) -> list[object]:
    if tensor is None:
        return []
    said: list[object] = [tensor.data_type, list(tensor.dims)]
    if tensor.data_type == onnx.TensorProto.INT64 and math.prod(tensor.dims) <= _SMALL:
        said.append(numpy_helper.to_array(tensor).tolist())
    return said


def _nbytes(tensor: onnx.TensorProto) -> int:
    return math.prod(tensor.dims) * onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type).itemsize
