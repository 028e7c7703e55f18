"""Depthwise and pointwise convolutions beside the one full convolution that they could be, timed.

A depthwise layer and the pointwise one next to it have a fraction of the multiply-accumulates of a full convolution,
and often take longer: on small channel counts what they save in arithmetic they lose in memory traffic and calls
(LowFormer, P289, arXiv:2409.03460 §3.2, who fuse the expansion and the depthwise layer of mobile blocks where that
measured faster). By which channels and pixels it does depends on the target, so every such pair of a file is timed,
both ways, and then the whole file with the fused layers that paid.

The fused layer's weights are the product of the two: what the pair computes where nothing stands between them. With an
activation between them it is another function, which has to be trained: this tells what it would take.
"""

from __future__ import annotations

import copy
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import numpy_helper

from sartor.measure.runnable import load, tensors
from sartor.measure.targets.target import Target
from sartor.measure.timing import Latency

_ENTRYWISE = "Relu LeakyRelu PRelu Elu Sigmoid HardSigmoid HardSwish Swish Mish Clip Mul BatchNormalization"
ACTIVATIONS = frozenset(_ENTRYWISE.split())
"""What may stand between the two; ``Mul`` as the second half of a SiLU."""
TOGETHER = 8
RUNS, MIN_TIME_S, BUDGET_S = 60, 0.1, 1.0


@dataclass(frozen=True)
class Pair:
    """Two convolutions of a file, one depthwise and one pointwise, the second of which alone reads the first. ``first``
    and ``last``: what the pair reads and makes; ``between``: the nodes from one to the other, both included.
    ``exact``: the fused layer is the same function, as nothing stands between the two and no bias meets a border."""

    between: tuple[onnx.NodeProto, ...]
    channels: tuple[int, int]
    pixels: tuple[int, int]
    kernel: int
    macs: int
    fused_macs: int
    exact: bool

    @property
    def name(self) -> str:
        return f"{_name(self.between[0])} + {_name(self.between[-1])}"


@dataclass(frozen=True)
class Fused:
    """A pair timed by itself, both ways. ``channels``: that it reads and makes; ``pixels``: of what it reads;
    ``exact``: the fused layer can take its place as it is, else it has to be trained."""

    name: str
    channels: tuple[int, int]
    pixels: tuple[int, int]
    kernel: int
    macs: int
    fused_macs: int
    pair_ms: float
    fused_ms: float
    faster: bool
    exact: bool

    def to_dict(self) -> dict[str, Any]:
        return {**asdict(self), "channels": list(self.channels), "pixels": list(self.pixels)}


@dataclass(frozen=True)
class Fusing:
    """``pairs``: all of the file. ``latency_ms``: of the file with those fused that were faster alone, beside
    ``before_ms``, timed in turns; None where no pair was. ``pays``: it is less, beyond both intervals."""

    pairs: tuple[Fused, ...]
    before_ms: float | None
    latency_ms: float | None
    pays: bool

    def to_dict(self) -> dict[str, Any]:
        return {**asdict(self), "pairs": [pair.to_dict() for pair in self.pairs]}


def lint_fusing(file: Path, target: Target) -> Fusing:
    """Every pair of ``file`` that could be one convolution, and whether that would be faster on ``target``. Raises
    InputError for a file that does not run."""
    proto = load(file)
    values = tensors(proto, file)
    held = constants(proto, values)
    found = pairs(proto, values)
    timed: list[Fused] = []
    with tempfile.TemporaryDirectory() as folder:
        for start in range(0, len(found), TOGETHER):
            part = found[start : start + TOGETHER]
            files = []
            for place, pair in enumerate(part):
                for way, nodes in (("pair", pair.between), ("fused", (fused(pair, held)[0],))):
                    files.append(Path(folder) / f"{place}.{way}.onnx")
                    onnx.save(_alone(pair, nodes, held, proto), files[-1])
            times = target.latencies(files, runs=RUNS, min_time_s=MIN_TIME_S, budget_s=BUDGET_S)
            timed += [_told(pair, *times[2 * place : 2 * place + 2]) for place, pair in enumerate(part)]
        faster = [pair for pair, told in zip(found, timed, strict=True) if told.faster]
        if not faster:
            return Fusing(tuple(timed), None, None, False)
        whole = Path(folder) / "fused.onnx"
        onnx.save(with_fused(proto, faster, held), whole)
        before, after = target.latencies([file, whole], runs=RUNS, min_time_s=2 * MIN_TIME_S, budget_s=2 * BUDGET_S)
    return Fusing(tuple(timed), before.median_ms, after.median_ms, _below(after, before))


def _told(pair: Pair, before: Latency, after: Latency) -> Fused:
    said = {
        name: getattr(pair, name) for name in ("name", "channels", "pixels", "kernel", "macs", "fused_macs", "exact")
    }
    return Fused(**said, pair_ms=before.median_ms, fused_ms=after.median_ms, faster=_below(after, before))


def _below(one: Latency, other: Latency) -> bool:
    return one.ci_ms[1] < other.ci_ms[0]


def pairs(proto: onnx.ModelProto, values: Mapping[str, np.ndarray]) -> list[Pair]:
    """Pairs of ``proto``, whose tensors have the shapes of ``values``, in the order of their first nodes. No layer is
    in two: of an expansion, a depthwise layer and a projection the first two are a pair, as in the paper."""
    held = constants(proto, values)
    readers: dict[str, list[onnx.NodeProto]] = {}
    for node in proto.graph.node:
        for name in node.input:
            readers.setdefault(name, []).append(node)
    results = {value.name for value in proto.graph.output}
    found: list[Pair] = []
    taken: set[str] = set()
    for node in proto.graph.node:
        if not _is_conv(node, held) or node.output[0] in taken:
            continue
        between = _run_from(node, readers, results, held)
        if len(between) < 2 or between[-1].output[0] in taken:
            continue
        pair = _pair(between, held, values)
        if pair is not None:
            found.append(pair)
            taken |= {between[0].output[0], between[-1].output[0]}
    return found


def _run_from(
    conv: onnx.NodeProto,
    readers: Mapping[str, Sequence[onnx.NodeProto]],
    results: set[str],
    held: Mapping[str, onnx.TensorProto],
) -> list[onnx.NodeProto]:
    """From ``conv`` over an activation, which may be of two nodes (x · sigmoid(x)), to the next convolution."""
    run, name = [conv], conv.output[0]
    for _ in range(3):
        next_ = list({node.output[0]: node for node in readers.get(name, ())}.values())
        if name in results or not next_:
            return []
        if len(next_) == 2:  # x and a gate of x, multiplied
            gate, product = sorted(next_, key=lambda node: node.op_type == "Mul")
            if product.op_type != "Mul" or gate.output[0] not in product.input or gate.op_type not in ACTIVATIONS:
                return []
            if len(readers.get(gate.output[0], ())) != 1 or gate.output[0] in results:
                return []
            run += [gate, product]
        elif len(next_) == 1 and _is_conv(next_[0], held) and next_[0].input[0] == name:
            return [*run, next_[0]]
        elif len(next_) == 1 and next_[0].op_type in ACTIVATIONS and _of_one(next_[0], name, held):
            run.append(next_[0])
        else:
            return []
        name = run[-1].output[0]
    return []


def _of_one(node: onnx.NodeProto, name: str, held: Mapping[str, onnx.TensorProto]) -> bool:
    return list(node.input).count(name) == 1 and all(not n or n == name or n in held for n in node.input)


def _pair(
    between: Sequence[onnx.NodeProto], held: Mapping[str, onnx.TensorProto], values: Mapping[str, np.ndarray]
) -> Pair | None:
    first, last = between[0], between[-1]
    kinds = [_sort(node, held) for node in (first, last)]
    if sorted(kinds) != ["depthwise", "pointwise"]:
        return None
    given, made = values[first.input[0]].shape, values[last.output[0]].shape
    middle = values[first.output[0]].shape
    wide = held[(first if kinds[0] == "depthwise" else last).input[1]].dims
    kernel = int(wide[2] * wide[3])
    point = (
        (given[1] * middle[1] * middle[2] * middle[3])
        if kinds[0] == "pointwise"
        else made[1] * middle[1] * made[2] * made[3]
    )
    depth = kernel * ((made if kinds[0] == "pointwise" else middle)[1]) * made[2] * made[3]
    fused_macs = kernel * given[1] * made[1] * made[2] * made[3]
    return Pair(
        tuple(between),
        (int(given[1]), int(made[1])),
        (int(given[2]), int(given[3])),
        int(wide[2]),
        int(point + depth),
        int(fused_macs),
        len(between) == 2 and not (kinds[0] == "pointwise" and _biased(first, held) and _padded(last)),
    )


def _biased(node: onnx.NodeProto, held: Mapping[str, onnx.TensorProto]) -> bool:
    return len(node.input) > 2 and bool(node.input[2]) and bool(numpy_helper.to_array(held[node.input[2]]).any())


def _padded(node: onnx.NodeProto) -> bool:
    return any(any(a.ints) for a in node.attribute if a.name == "pads") or any(
        a.s.startswith(b"SAME") for a in node.attribute if a.name == "auto_pad"
    )


def fused(pair: Pair, held: Mapping[str, onnx.TensorProto]) -> tuple[onnx.NodeProto, list[onnx.TensorProto]]:
    """The full convolution of ``pair``, and its weights: the product of the two's.

    A bias of the first layer goes through the second's weights; at a padded border it does not where the depthwise
    layer comes second, and the fused layer adds it there.
    """
    first, last = pair.between[0], pair.between[-1]
    a, b = (numpy_helper.to_array(held[node.input[1]]) for node in (first, last))
    bias_a, bias_b = (
        numpy_helper.to_array(held[node.input[2]]) if len(node.input) > 2 and node.input[2] else np.float32(0)
        for node in (first, last)
    )
    if a.shape[2:] == (1, 1) and _group(first) == 1:  # pointwise, then depthwise: [mid, in] and [mid, 1, k, k]
        weight = a * b
        bias = bias_b + bias_a * b.sum(axis=(1, 2, 3))
        source = last
    else:  # depthwise, then pointwise: [in, 1, k, k] and [out, in]
        weight = b * a[None, :, 0]
        bias = bias_b + b[:, :, 0, 0] @ np.broadcast_to(bias_a, b.shape[1])
        source = first
    node = onnx.NodeProto(op_type="Conv", name=f"{_name(first)}_fused")
    node.input.extend([first.input[0], f"{first.output[0]}_fused_weight", f"{first.output[0]}_fused_bias"])
    node.output.append(last.output[0])
    node.attribute.extend(copy.deepcopy(a) for a in source.attribute if a.name not in ("group", "kernel_shape"))
    tensors_ = [
        numpy_helper.from_array(np.ascontiguousarray(value, weight.dtype), name)
        for name, value in zip(node.input[1:], (weight, np.broadcast_to(bias, len(weight))), strict=True)
    ]
    return node, tensors_


def with_fused(proto: onnx.ModelProto, some: Sequence[Pair], held: Mapping[str, onnx.TensorProto]) -> onnx.ModelProto:
    """``proto``, whose constants are ``held``, with each pair of ``some`` as one convolution, and nothing between."""
    made = {pair.between[-1].output[0]: fused(pair, held) for pair in some}
    gone = {node.output[0] for pair in some for node in pair.between}
    other = onnx.ModelProto()
    other.CopyFrom(proto)
    del other.graph.node[:], other.graph.value_info[:]
    for node in proto.graph.node:
        name = node.output[0]
        if name in made:
            other.graph.node.append(made[name][0])
        elif name not in gone:
            other.graph.node.append(node)
    used = {name for node in other.graph.node for name in node.input}
    del other.graph.initializer[:]
    other.graph.initializer.extend(t for t in proto.graph.initializer if t.name in used)
    other.graph.initializer.extend(tensor for _, tensors_ in made.values() for tensor in tensors_)
    return other


def _alone(
    pair: Pair, nodes: Sequence[onnx.NodeProto], held: Mapping[str, onnx.TensorProto], proto: onnx.ModelProto
) -> onnx.ModelProto:
    """A file of ``nodes``, which are ``pair`` or what it could be."""
    known = {**held, **{tensor.name: tensor for tensor in fused(pair, held)[1]}}
    own = {name for node in nodes for name in node.output}
    kernel_rows = [1, pair.channels[0], *pair.pixels]
    value = onnx.helper.make_tensor_value_info
    kind = known[nodes[0].input[1]].data_type
    inputs = dict.fromkeys(n for node in nodes for n in node.input if n and n not in own and n in known)
    graph = onnx.helper.make_graph(
        list(nodes),
        "pair",
        [value(pair.between[0].input[0], kind, kernel_rows)],
        [value(pair.between[-1].output[0], kind, None)],
        [known[name] for name in inputs],
    )
    return onnx.helper.make_model(graph, opset_imports=list(proto.opset_import), ir_version=min(10, proto.ir_version))


def constants(proto: onnx.ModelProto, values: Mapping[str, np.ndarray]) -> dict[str, onnx.TensorProto]:
    """By name: what ``proto`` holds, and what it computes of that alone."""
    held = {tensor.name: tensor for tensor in proto.graph.initializer}
    fed = {value.name for value in proto.graph.input} - set(held)
    for node in proto.graph.node:
        if not any(name in fed for name in node.input):
            held |= {n: numpy_helper.from_array(np.asarray(values[n]), n) for n in node.output if n in values}
        else:
            fed.update(node.output)
    return held


def _is_conv(node: onnx.NodeProto, held: Mapping[str, onnx.TensorProto]) -> bool:
    if node.op_type != "Conv" or any(name and name not in held for name in node.input[1:]):
        return False
    return len(held[node.input[1]].dims) == 4


def _sort(node: onnx.NodeProto, held: Mapping[str, onnx.TensorProto]) -> str:
    out, of_group, *kernel = held[node.input[1]].dims
    groups = _group(node)
    if groups == out and of_group == 1 and groups > 1:
        return "depthwise"
    plain = all(
        v == (0 if a.name == "pads" else 1) for a in node.attribute if a.name in ("pads", "strides") for v in a.ints
    )
    return "pointwise" if groups == 1 and kernel == [1, 1] and plain else "full"


def _group(node: onnx.NodeProto) -> int:
    return next((int(a.i) for a in node.attribute if a.name == "group"), 1)


def _name(node: onnx.NodeProto) -> str:
    return node.name or node.output[0]
