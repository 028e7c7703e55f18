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
from sartor.measure.plan.kernels import part_axis
from sartor.measure.plan.onnx_file import computing_nodes, constant_values
from sartor.measure.plan.plan import Plan
from sartor.measure.plan.steps import scratch_of
from sartor.measure.runnable import tensors

_UNTOUCHED = 0xA5


@dataclass(frozen=True)
class Replayed:
    """``outputs`` by name; ``high_water_bytes``: the end of the last byte that was written."""

    outputs: dict[str, np.ndarray]
    high_water_bytes: int


def replay(proto: onnx.ModelProto, plan: Plan, feeds: Mapping[str, np.ndarray], file: Path) -> Replayed:
    """Run ``proto``'s nodes in ``plan``'s order, one session each, every activation at its address and nowhere else.

    What the plan writes over its input part by part is computed so: a channel or a row is read, computed into the
    scratch memory, and copied to where it came from, before the next is read. Windows and parts are read and written
    where they stand. ``file`` names it in errors. Raises InputError where an input does not fit its place.
    """
    arena = _Arena(proto, plan, file)
    stored = constant_values(proto, file)
    for name, value in feeds.items():
        arena.write(name, value)
    nodes = computing_nodes(proto)
    for number in plan.order:
        node = nodes[number]
        if arena.moves_nothing(node):
            continue
        if scratch_of(node.output[0]) in arena.room:
            _by_part(node, arena, stored, proto)
            continue
        given = dict.fromkeys(name for name in node.input if name)
        inputs = {name: arena.read(name) for name in given if name not in stored}
        weights = {name: stored[name] for name in given if name in stored}
        names = [name for name in node.output if name]
        for name, value in zip(names, _run(node, inputs, weights, names, proto), strict=True):
            arena.write(name, value)
    outputs = [value.name for value in proto.graph.output]
    return Replayed({n: stored[n] if n in stored else arena.read(n) for n in outputs}, arena.high_water_bytes)


class _Arena:
    """The block: every tensor an array over its bytes, and which bytes were ever written."""

    def __init__(self, proto: onnx.ModelProto, plan: Plan, file: Path) -> None:
        self.file = file
        self.room = {tensor: buffer for buffer in plan.buffers for tensor in buffer.tensors}
        self.bytes = np.full(plan.arena_bytes, _UNTOUCHED, np.uint8)
        self.written = np.zeros(plan.arena_bytes, np.uint8)
        self.like = tensors(proto, file)
        self.inside: dict[str, tuple[str, tuple[slice, ...]]] = {}
        """Tensors that stand in another one: which, and where."""
        stored = constant_values(proto, file)
        for node in computing_nodes(proto):
            if node.op_type == "Slice" and self._together(node):
                self.inside[node.output[0]] = node.input[0], _window(node, stored, self.like[node.input[0]].ndim)
            elif node.op_type == "Concat" and self._together(node):
                axis, first = node.attribute[0].i, 0
                for name in node.input:
                    last = first + self.like[name].shape[axis]
                    where = [slice(None)] * self.like[name].ndim
                    where[axis] = slice(first, last)
                    self.inside[name], first = (node.output[0], tuple(where)), last

    def _together(self, node: onnx.NodeProto) -> bool:
        out = self.room.get(node.output[0])
        read = node.input if node.op_type == "Concat" else node.input[:1]
        return out is not None and all(self.room.get(name) is out for name in read)

    def moves_nothing(self, node: onnx.NodeProto) -> bool:
        """Of slices and concatenations that the plan has as views."""
        return node.op_type in ("Slice", "Concat") and self._together(node)

    def _over(self, block: np.ndarray, name: str) -> np.ndarray:
        if name in self.inside:
            other, where = self.inside[name]
            return self._over(block, other)[where]
        if name not in self.room:
            raise InputError(f"{self.file}: the plan has no place for {name!r}: it is not this file's")
        like, room = self.like[name], self.room[name]
        if like.nbytes > room.size:
            raise InputError(f"{self.file}: {name!r} has {like.nbytes} bytes, and its place {room.size}")
        return block[room.offset : room.offset + like.nbytes].view(like.dtype).reshape(like.shape)

    def write(self, name: str, value: np.ndarray, where: tuple[slice, ...] = ()) -> None:
        """To all of ``name``, or to ``where`` of it."""
        place = self._over(self.bytes, name)[where or ...]
        if place.shape != value.shape or place.dtype != value.dtype:
            raise InputError(
                f"{self.file}: {name!r} has {value.nbytes} bytes ({value.dtype}, {value.shape}), and its place "
                f"{place.nbytes} ({place.dtype}, {place.shape})"
            )
        place[...] = value
        self._over(self.written, name)[where or ...] = np.frombuffer(b"\xff" * value.itemsize, value.dtype)[0]

    def read(self, name: str, where: tuple[slice, ...] = ()) -> np.ndarray:
        return self._over(self.bytes, name)[where or ...].copy()

    def through(self, scratch: str, value: np.ndarray) -> np.ndarray:
        """``value`` written to ``scratch`` and read again."""
        room = self.room[scratch]
        place = slice(room.offset, room.offset + value.nbytes)
        if value.nbytes > room.size:
            raise InputError(f"{self.file}: {scratch!r} has {value.nbytes} bytes, and its place {room.size}")
        self.bytes[place] = np.ascontiguousarray(value).reshape(-1).view(np.uint8)
        self.written[place] = 0xFF
        return self.bytes[place].view(value.dtype).reshape(value.shape).copy()

    @property
    def high_water_bytes(self) -> int:
        return int(self.written.nonzero()[0][-1]) + 1 if self.written.any() else 0


def _window(node: onnx.NodeProto, stored: Mapping[str, np.ndarray], ndim: int) -> tuple[slice, ...]:
    starts, ends, *more = (stored[name].tolist() for name in node.input[1:])
    axes = more[0] if more else range(len(starts))
    steps = more[1] if len(more) > 1 else [1] * len(starts)
    where = [slice(None)] * ndim
    for axis, start, end, step in zip(axes, starts, ends, steps, strict=True):
        where[axis] = slice(start, end, step)
    return tuple(where)


def _by_part(node: onnx.NodeProto, arena: _Arena, stored: Mapping[str, np.ndarray], proto: onnx.ModelProto) -> None:
    """``node`` over its input: a channel with its own filter at a time, or a row at a time."""
    image, out = node.input[0], node.output[0]
    shapes = {name: value.shape for name, value in (*arena.like.items(), *stored.items())}
    axis = part_axis(node, shapes)
    shape = arena.like[image].shape
    weights = {name: stored[name] for name in node.input[1:] if name}
    rows = None if axis else _session(node, {image: arena.like[image][..., :1, :]}, weights, [out], proto)
    for part in np.ndindex(shape[:2] if axis else shape[:-1]):
        where = tuple(slice(i, i + 1) for i in part)
        read = arena.read(image, where)
        if rows is None:
            channels, channel = shape[1], slice(part[1], part[1] + 1)
            own = {n: v[channel] if v.ndim and len(v) == channels else v for n, v in weights.items()}
            one = onnx.NodeProto()
            one.CopyFrom(node)
            next(a for a in one.attribute if a.name == "group").i = 1
            (made,) = _run(one, {image: read}, own, [out], proto)
        else:
            (made,) = rows.run([out], {image: read})
        arena.write(out, arena.through(scratch_of(out), made), where)


def _run(
    node: onnx.NodeProto,
    inputs: Mapping[str, np.ndarray],
    weights: Mapping[str, np.ndarray],
    outputs: list[str],
    proto: onnx.ModelProto,
) -> list[np.ndarray]:
    return list(_session(node, inputs, weights, outputs, proto).run(outputs, dict(inputs)))


def _session(
    node: onnx.NodeProto,
    inputs: Mapping[str, np.ndarray],
    weights: Mapping[str, np.ndarray],
    outputs: list[str],
    proto: onnx.ModelProto,
) -> ort.InferenceSession:
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
    return ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
