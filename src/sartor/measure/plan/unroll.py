"""A stretch of a graph written out patch by patch, as plain nodes: any runtime gives the same outputs.

Patch-based inference (Lin et al., MCUNetV2, arXiv 2110.15352, section 3.1): a stretch that begins at one tensor and
ends at another is run for one part of its result after the other. Each patch reads its window of the entry with the
halo that its kernels reach for, so that what overlaps is computed again: memory for work. Products, norms and
activations of tokens reach for nothing but their own token, and cost no more (MCUFormer's operator integration, arXiv
2310.16898).
Rejected: a Loop node, whose body few runtimes for small machines know and our own checks refuse.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import product

import numpy as np
import onnx

from sartor.errors import InputError
from sartor.measure.plan.onnx_file import computing_nodes, constant_names, reads
from sartor.measure.plan.regions import Box, Needs, cut_axes, needs, whole

_SLICE_WITH_INPUTS = 10
"""The version of ONNX's operators since which slices take their bounds as inputs."""


@dataclass(frozen=True)
class Cut:
    """The stretch from tensor ``entry`` to tensor ``exit``, and into how many parts each axis of ``exit`` is cut."""

    entry: str
    exit: str
    grid: tuple[int, ...]


@dataclass(frozen=True)
class Unrolled:
    """``values``: an array as large as each tensor; ``origin``: of the nodes' outputs, the tensor each is a part of;
    ``moved``: outputs of the slices and concatenations that were added."""

    proto: onnx.ModelProto
    values: dict[str, np.ndarray]
    origin: dict[str, str]
    moved: frozenset[str]


class Graph:
    """A file's computing nodes with what is needed to cut them. ``values``: arrays as large as its tensors."""

    def __init__(self, proto: onnx.ModelProto, values: Mapping[str, np.ndarray]) -> None:
        self.proto, self.values = proto, dict(values)
        self.constants = constant_names(proto)
        self.nodes = computing_nodes(proto)
        self.shapes: dict[str, tuple[int, ...]] = {t.name: tuple(t.dims) for t in proto.graph.initializer}
        self.shapes |= {name: tuple(value.shape) for name, value in values.items()}
        self.outputs = {value.name for value in proto.graph.output}
        self._asked: dict[tuple[int, Box], Needs] = {}  # stretches that end alike ask alike
        self._stretches: dict[str, list[tuple[str, frozenset[int]]]] = {}

    @cached_property
    def maker(self) -> dict[str, int]:
        return {name: number for number, node in enumerate(self.nodes) for name in node.output if name}

    @cached_property
    def readers(self) -> dict[str, set[int]]:
        found: dict[str, set[int]] = {}
        for number, node in enumerate(self.nodes):
            for name in reads(node):
                found.setdefault(name, set()).add(number)
        return found

    @cached_property
    def patchable(self) -> list[bool]:
        """Of each node, whether a part of its output needs a part of its inputs that can be said."""
        return [
            bool(self.shapes[node.output[0]])
            and needs(node, whole(self.shapes[node.output[0]]), self.shapes, self.constants) is not None
            for node in self.nodes
        ]

    def stretches(self, exit: str) -> list[tuple[str, frozenset[int]]]:
        """Every entry from which a stretch ends at ``exit``, the nearest first, with the numbers of its nodes."""
        if exit not in self._stretches:
            self._stretches[exit] = list(self._stretches_to(exit)) if exit in self.maker else []
        return self._stretches[exit]

    def _stretches_to(self, exit: str) -> Iterator[tuple[str, frozenset[int]]]:
        inside: set[int] = set()
        front = {exit}
        while front:
            name = max(front, key=lambda n: self.maker.get(n, -1))
            number = self.maker.get(name, -1)
            if number < 0 or not self.patchable[number]:
                return
            inside.add(number)
            front -= {*self.nodes[number].output}
            front |= {read for read in self.nodes[number].input if read and read not in self.constants}
            if len(front) == 1 and self._closed(inside, next(iter(front)), exit):
                yield next(iter(front)), frozenset(inside)

    def _closed(self, inside: set[int], entry: str, exit: str) -> bool:
        """Nobody else reads what is made inside, but for the entry's numbers out of 8 bits, which others make again."""
        own = [number for number in inside if not self.again(number, entry)]
        made = {name for number in own for name in self.nodes[number].output if name and name != exit}
        return not made & self.outputs and all(self.readers.get(name, set()) <= inside for name in made)

    def again(self, number: int, entry: str) -> bool:
        """Whether the node only takes ``entry`` out of 8 bits: in a file of quantiser pairs that is no work."""
        node = self.nodes[number]
        return node.op_type == "DequantizeLinear" and node.input[0] == entry and node.output[0] not in self.outputs

    def needed_outside(self, number: int, cut: Cut) -> bool:
        """Whether nodes outside of ``cut`` read what its node ``number`` makes."""
        inside = set(self.stretch(cut))
        return cut.exit not in self.nodes[number].output and any(
            self.readers.get(name, set()) - inside for name in self.nodes[number].output
        )

    def stretch(self, cut: Cut) -> list[int]:
        """The numbers of the nodes from ``cut``'s entry to its exit. Raises InputError."""
        for entry, inside in self.stretches(cut.exit):
            if entry == cut.entry:
                return sorted(inside)
        raise InputError(
            f"the nodes from {cut.entry!r} to {cut.exit!r} cannot run patch by patch: the stretch must begin and end "
            "at one tensor and hold convolutions, poolings and elementwise operators, or products of tokens"
        )

    def parts(self, cut: Cut) -> list[Box]:
        """The boxes of ``cut``'s exit, row by row. Raises InputError for a grid that it has no room for."""
        shape = self.shapes.get(cut.exit, ())
        sizes = [shape[axis] for axis in cut_axes(shape)]
        if len(cut.grid) != len(sizes) or any(not 1 <= n <= s for n, s in zip(cut.grid, sizes, strict=False)):
            raise InputError(f"{cut.exit!r} of shape {shape} cannot be cut into {cut.grid} parts")
        edges = [
            [(i * size // n, (i + 1) * size // n) for i in range(n)] for n, size in zip(cut.grid, sizes, strict=True)
        ]
        return list(product(*edges))

    def reach(self, inside: Sequence[int], exit: str, part: Box) -> tuple[dict[str, Box], dict[int, Needs]]:
        """The box of every tensor, and the needs of every node, for one ``part`` of ``exit``."""
        boxes: dict[str, Box] = {exit: part}
        asked: dict[int, Needs] = {}
        for number in reversed(inside):
            node = self.nodes[number]
            wanted = [boxes[name] for name in node.output if name in boxes]
            if not wanted:
                continue
            box = _hull(wanted)
            found = self._asked.get((number, box)) or needs(node, box, self.shapes, self.constants)
            assert found is not None, "stretches() asked before"
            asked[number] = self._asked[number, box] = found
            boxes |= dict.fromkeys((name for name in node.output if name), box)
            for name, need in found.boxes.items():
                boxes[name] = _hull([need, *([boxes[name]] if name in boxes else [])])
        return boxes, asked


def _hull(boxes: Sequence[Box]) -> Box:
    return tuple((min(a for a, _ in sides), max(b for _, b in sides)) for sides in zip(*boxes, strict=True))


def unrolled(proto: onnx.ModelProto, cuts: Sequence[Cut], values: Mapping[str, np.ndarray]) -> Unrolled:
    """``proto`` with each stretch of ``cuts`` patch after patch; ``values``: arrays as large as its tensors.

    Raises InputError for a stretch that cannot be cut so.
    """
    version = next((o.version for o in proto.opset_import if o.domain in ("", "ai.onnx")), 1)
    if cuts and version < _SLICE_WITH_INPUTS:
        raise InputError(f"patches need ONNX operators of version {_SLICE_WITH_INPUTS} at least, not {version}")
    graph = Graph(proto, values)
    writer = _Writer(graph)
    taken: dict[int, Cut] = {}
    ends: dict[int, Cut] = {}
    for cut in cuts:
        inside = graph.stretch(cut)
        other = next((taken[n].exit for n in inside if n in taken and not graph.again(n, cut.entry)), None)
        if other is not None:
            raise InputError(f"the stretch to {cut.exit!r} overlaps the one to {other!r}")
        taken |= dict.fromkeys(inside, cut)
        ends[graph.maker[cut.exit]] = cut
    numbers = {id(node): number for number, node in enumerate(graph.nodes)}
    for node in proto.graph.node:
        number = numbers.get(id(node), -1)
        if number in ends:
            writer.cut(ends[number], graph.stretch(ends[number]))
        elif number not in taken or graph.needed_outside(number, taken[number]):
            writer.nodes.append(node)
    return writer.written()


class _Writer:
    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.nodes: list[onnx.NodeProto] = []
        self.stored: dict[str, np.ndarray] = {}
        self.values = dict(graph.values)
        self.origin: dict[str, str] = {}
        self.moved: set[str] = set()

    def cut(self, cut: Cut, inside: Sequence[int]) -> None:
        made: list[str] = []
        parts = self.graph.parts(cut)
        for place, part in enumerate(parts):
            tag = f"{cut.exit}/{place}"
            name = self._patch(cut, inside, part, tag)
            made.append(name)
        axes = cut_axes(self.graph.shapes[cut.exit])
        for axis, count in reversed(list(zip(axes, cut.grid, strict=True))):
            rows = [made[i : i + count] for i in range(0, len(made), count)]
            made = [self._join(row, axis, cut.exit, f"{cut.exit}/{axis}.{i}") for i, row in enumerate(rows)]
        self._rename(made[0], cut.exit)

    def _patch(self, cut: Cut, inside: Sequence[int], part: Box, tag: str) -> str:
        graph = self.graph
        boxes, asked = graph.reach(inside, cut.exit, part)
        there = {cut.entry: (cut.entry, whole(graph.shapes[cut.entry]))}
        if cut.entry in boxes:
            there[cut.entry] = self._window(cut.entry, cut.entry, there[cut.entry][1], boxes[cut.entry], tag)
        for number in inside:
            if number not in asked:
                continue
            node, needed = onnx.NodeProto(), asked[number]
            node.CopyFrom(graph.nodes[number])
            names = {
                name: self._window(name, *there[name], box, f"{tag}/{number}")[0] for name, box in needed.boxes.items()
            }
            names |= {name: self._crop(name, where, f"{tag}/{number}") for name, where in needed.crops.items()}
            node.input[:] = [names.get(name, name) for name in node.input]
            node.output[:] = [name and f"{name}~{tag}" for name in node.output]
            node.name = f"{node.name or graph.nodes[number].output[0]}~{tag}"
            if needed.pads is not None:
                kept = [a for a in node.attribute if a.name not in ("pads", "auto_pad")]
                del node.attribute[:]
                node.attribute.extend([*kept, onnx.helper.make_attribute("pads", list(needed.pads))])
            self.nodes.append(node)
            for old, new in zip(graph.nodes[number].output, node.output, strict=True):
                if old:
                    there[old] = new, boxes[old]
                    self._like(new, old, boxes[old])
        return there[cut.exit][0]

    def _like(self, name: str, old: str, box: Box) -> None:
        like = self.graph.values[old]
        shape = list(like.shape)
        for axis, (first, last) in zip(cut_axes(like.shape), box, strict=True):
            shape[axis] = last - first
        self.values[name] = np.broadcast_to(np.zeros((), like.dtype), shape)
        self.origin[name] = old

    def _window(self, old: str, name: str, has: Box, box: Box, tag: str) -> tuple[str, Box]:
        """The node input that is ``box`` of tensor ``old``, of which ``name`` is ``has``."""
        if box == has:
            return name, box
        axes = cut_axes(self.graph.shapes[old])
        bounds = [(a - h, b - h) for (a, b), (h, _) in zip(box, has, strict=True)]
        made = self._slice(name, f"{old}~{tag}/window", dict(zip(axes, bounds, strict=True)))
        self._like(made, old, box)
        return made, box

    def _crop(self, name: str, where: Mapping[int, tuple[int, int]], tag: str) -> str:
        """A constant's part; sliced by the runtime as it loads the file, so that it is stored once."""
        if all(part == (0, self.graph.shapes[name][axis]) for axis, part in where.items()):
            return name
        made = self._slice(name, f"{name}~{tag}/crop", where)
        like = self.graph.values.get(name)
        shape = list(self.graph.shapes[name])
        for axis, (first, last) in where.items():
            shape[axis] = last - first
        self.values[made] = np.broadcast_to(np.zeros((), np.float32 if like is None else like.dtype), shape)
        return made

    def _slice(self, name: str, made: str, where: Mapping[int, tuple[int, int]]) -> str:
        starts = self._store([first for first, _ in where.values()])
        ends = self._store([last for _, last in where.values()])
        axes = self._store(list(where))
        self.moved.add(made)
        self.nodes.append(onnx.helper.make_node("Slice", [name, starts, ends, axes], [made], name=made))
        return made

    def _store(self, numbers: list[int]) -> str:
        name = f"patches/{'_'.join(map(str, numbers))}"
        self.stored[name] = np.array(numbers, np.int64)
        return name

    def _join(self, names: Sequence[str], axis: int, exit: str, made: str) -> str:
        if len(names) == 1:
            return names[0]
        self.moved.add(made)
        self.nodes.append(onnx.helper.make_node("Concat", list(names), [made], name=made, axis=axis))
        shape = list(self.values[names[0]].shape)
        shape[axis] = sum(self.values[name].shape[axis] for name in names)
        self.values[made] = np.broadcast_to(np.zeros((), self.values[names[0]].dtype), shape)
        self.origin[made] = exit
        return made

    def _rename(self, made: str, exit: str) -> None:
        """The last node's output is ``exit`` itself, so that what reads it stays as it is."""
        last = self.nodes[-1]
        last.output[:] = [exit if name == made else name for name in last.output]
        self.values.pop(made)
        if made in self.moved:
            self.moved.add(exit)

    def written(self) -> Unrolled:
        copy = onnx.ModelProto()
        copy.CopyFrom(self.graph.proto)
        del copy.graph.node[:]
        copy.graph.node.extend(self.nodes)
        made = {name for node in self.nodes for name in node.output}
        kept = [value for value in copy.graph.value_info if value.name in made]
        del copy.graph.value_info[:]
        copy.graph.value_info.extend(kept)
        there = {tensor.name for tensor in copy.graph.initializer}
        copy.graph.initializer.extend(
            onnx.numpy_helper.from_array(value, name) for name, value in self.stored.items() if name not in there
        )
        values = {name: value for name, value in self.values.items() if name in made or name not in self.graph.maker}
        return Unrolled(
            copy, values, {new: old for new, old in self.origin.items() if new in made}, frozenset(self.moved)
        )
