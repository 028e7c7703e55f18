"""The ONNX file of any cut of a network, from the file of the whole one: its initialisers and constants are sliced.

Exporting takes PyTorch a second or more, slicing milliseconds. A file does not say what its constants stand for, so
that is learned by comparing: the network, with other weights, is cut at random a few times, exported whole and cut, and
each constant that differs is matched with the dimensions of the graph: a weight by which entries are left of it, a
whole number by how many. Blocks that can go are found by the values that enter and leave them. So neither the exporter
nor its optimiser, which folds, transposes and renames as it likes, has to be known.

Rejected: to follow the exporter's names and metadata, which folding loses; and to label the ONNX graph itself, which
would need every rule a second time.
"""

from __future__ import annotations

import copy
import random
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
import torch
from onnx import numpy_helper
from torch import Tensor, fx, nn

from sartor.errors import InputError
from sartor.export.matching import Counted, Matcher, Rule
from sartor.export.onnx import INPUT, onnx_of
from sartor.graph import Cut, Graph, trace
from sartor.graph.sliced import outputs_of

Place = tuple[int, int | str]
"""Of a constant: the index of its node, and which input, or the name of the attribute."""

CUTS, MOST_CUTS = 4, 8
"""Random cuts that are compared; more where many groups are of one size and could be taken for each other."""

IMAGINED = 12
"""Random cuts that are not exported, but must not tell apart dimensions that a constant could stand for."""

CLOSE = 1e-4
"""Of a tensor's largest value: what the runtime's and PyTorch's may differ by and be one."""


class OnnxSlicer:
    """``cut(...)``: the ONNX of any cut of ``graph``'s model, for images of ``shape`` (C, H, W), by slicing.

    Learns from a few exports: with ``draft`` by the fast exporter where that knows the network, which the attribute of
    that name tells, else by the one that ships (:func:`sartor.export.onnx.export_onnx`). With ``weights`` the files
    hold the model's weights as they are now; without, random ones, for timing. Raises InputError where the files of
    cuts differ from the whole one's by more than sizes: export those anew.
    """

    def __init__(self, graph: Graph, shape: tuple[int, int, int], *, draft: bool = False, weights: bool = True):
        twin = _with_other_weights(graph.model)
        images = torch.randn(2, *shape, generator=torch.Generator().manual_seed(0))
        self._graph = trace(twin, images, rules=graph.rules)
        if [(g.name, g.size) for g in self._graph.groups] != [(g.name, g.size) for g in graph.groups]:
            raise InputError(f"on images of {shape} other entries go together: export its cuts anew")
        cuts = _random_cuts(self._graph)
        imagined = [_uneven_cut(self._graph, random.Random(seed)) for seed in range(IMAGINED)]
        modules = [self._graph.slice(cut) for cut in cuts]
        as_graph = any(isinstance(module, fx.GraphModule) for module in modules)
        modules = [self._graph.as_graph(cut) for cut in cuts] if as_graph else modules
        uncut = self._graph.as_graph({}) if as_graph else twin
        try:
            whole = _File(onnx_of(uncut, shape, draft=draft))
        except InputError:  # the draft exporter knows fewer operators
            if not draft:
                raise
            draft = False
            whole = _File(onnx_of(uncut, shape))
        self.draft = draft
        others = [_File(onnx_of(module, shape, draft=draft)) for module in modules]
        for other in others:
            whole.check_like(other)
        self._rules = _rules(Matcher(self._graph, cuts, imagined), whole, others)
        self._ends = {} if as_graph else _ends(self._graph, whole, images)
        if weights:
            held = _File(onnx_of(graph.as_graph({}) if as_graph else graph.model, shape, draft=draft))
            names = whole.check_like(held, without_biases=True)
            self._ends = {path: (names[start], names[end]) for path, (start, end) in self._ends.items()}
            whole = held
        self._bare, self._constants = _apart(whole, self._rules)

    def cut(self, cut: Cut | Mapping[str, Iterable[int]]) -> onnx.ModelProto:
        """The ONNX of the network after ``cut``.

        Raises InputError for cuts that make no sense, and blocks to go without that are not known in the file.
        """
        kept = self._graph.kept(cut)
        proto = onnx.ModelProto()
        proto.CopyFrom(self._bare)
        for index, name in self._attributes():
            rule = self._rules[index, name]
            assert isinstance(rule, Counted)
            _set_ints(proto.graph.node[index], name, rule.of(kept))
        bypassed = {}
        for path in cut.without if isinstance(cut, Cut) else ():
            if path not in self._ends:
                raise InputError(f"{path} is no block of the file that can go: export the network anew")
            start, end = self._ends[path]
            bypassed[end] = start
        if bypassed:
            _bypass(proto.graph, bypassed)
        read = {name for node in proto.graph.node for name in node.input}
        for constant in self._constants:
            if constant.name in read:
                proto.graph.initializer.append(constant.of(kept))
        return proto

    def _attributes(self) -> list[tuple[int, str]]:
        return [(index, place) for index, place in self._rules if isinstance(place, str)]


@dataclass(frozen=True)
class _Constant:
    """A constant of the file and what a cut makes of it."""

    name: str
    value: np.ndarray
    whole: onnx.TensorProto
    rule: Rule | None

    def of(self, kept: Any) -> onnx.TensorProto:
        value = self.value if self.rule is None else self.rule.apply(self.value, kept)
        return self.whole if value is self.value else numpy_helper.from_array(np.asarray(value, order="C"), self.name)


class _File:
    """An ONNX graph with its constants, whether initialisers or nodes, apart from the nodes that compute."""

    def __init__(self, proto: onnx.ModelProto):
        self.proto = proto
        graph = proto.graph
        self.nodes = [node for node in graph.node if node.op_type != "Constant"]
        self.held = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
        for node in graph.node:
            if node.op_type == "Constant":
                value = onnx.helper.get_attribute_value(node.attribute[0])
                floats = node.attribute[0].type in (onnx.AttributeProto.FLOAT, onnx.AttributeProto.FLOATS)
                array = (
                    np.array(value, np.float32 if floats else None) if not isinstance(value, onnx.TensorProto) else None
                )
                self.held[node.output[0]] = numpy_helper.to_array(value) if array is None else array
        if any(a.type in (a.GRAPH, a.GRAPHS) for node in self.nodes for a in node.attribute):
            raise InputError("the file has branches: its cuts are exported anew")

    def places(self) -> Iterable[tuple[Place, np.ndarray]]:
        """Every use of a constant, and every attribute of whole numbers."""
        for index, node in enumerate(self.nodes):
            for at, name in enumerate(node.input):
                if name in self.held:
                    yield (index, at), self.held[name]
            for attribute in node.attribute:
                if attribute.type in (attribute.INT, attribute.INTS):
                    yield (index, attribute.name), np.array(onnx.helper.get_attribute_value(attribute))

    def check_like(self, other: _File, *, without_biases: bool = False) -> dict[str, str]:
        """The names of this file's tensors in ``other``. Raises InputError where ``other`` has other nodes, or wires
        them otherwise. ``without_biases``: biases may be missing there, as the optimiser drops those that are zero."""
        if [n.op_type for n in self.nodes] != [n.op_type for n in other.nodes]:
            raise InputError("a cut network's file has other operators than the whole one's: cuts are exported anew")
        names = {value.name: value.name for value in self.proto.graph.input} | {"": ""}
        for mine, theirs in zip(self.nodes, other.nodes, strict=True):
            dropped = mine.input[len(theirs.input) :]
            may_drop = without_biases and mine.op_type in BIASED and all(name in self.held for name in dropped)
            same = (not dropped or may_drop) and len(mine.input) >= len(theirs.input)
            same = same and len(mine.output) == len(theirs.output)
            for a, b in zip(mine.input, theirs.input, strict=False):
                same = same and (b in other.held if a in self.held else names.get(a) == b)
            same = same and [_fixed(a) for a in mine.attribute] == [_fixed(a) for a in theirs.attribute]
            if not same:
                raise InputError(f"a cut network's file differs in its {mine.op_type} nodes: cuts are exported anew")
            names |= dict(zip(mine.output, theirs.output, strict=True))
        return names


BIASED = ("Conv", "ConvTranspose", "Gemm")


def _fixed(attribute: onnx.AttributeProto) -> Any:
    """What of an attribute no cut may change."""
    if attribute.type in (attribute.INT, attribute.INTS):
        return attribute.name, attribute.type, len(attribute.ints)
    return attribute.SerializeToString()


def _rules(matcher: Matcher, whole: _File, others: Sequence[_File]) -> dict[Place, Rule]:
    """What cuts make of every constant that they change."""
    found = [dict(other.places()) for other in others]
    rules = {}
    for place, value in whole.places():
        rule = matcher.rule(value, [other[place] for other in found])
        if rule is not None:
            rules[place] = rule
    return rules


def _apart(file: _File, rules: Mapping[Place, Rule]) -> tuple[onnx.ModelProto, list[_Constant]]:
    """The file without its constants, and these: one for each name and rule."""
    bare = onnx.ModelProto()
    bare.CopyFrom(file.proto)
    del bare.graph.node[:]
    del bare.graph.initializer[:]
    bare.graph.node.extend(file.nodes)
    first = {tensor.name: tensor for tensor in file.proto.graph.initializer}
    constants: dict[tuple[str, Any], _Constant] = {}
    taken: set[str] = set()
    for index, node in enumerate(bare.graph.node):
        for at, name in enumerate(node.input):
            if name not in file.held:
                continue
            rule = rules.get((index, at))
            key = (name, None if rule is None else rule.key)
            if key not in constants:
                own = name if name not in taken else f"{name}/{index}.{at}"
                taken.add(own)
                value = file.held[name]
                whole = first[name] if own in first else numpy_helper.from_array(np.asarray(value, order="C"), own)
                constants[key] = _Constant(own, value, whole, rule)
            node.input[at] = constants[key].name
    return bare, list(constants.values())


def _set_ints(node: onnx.NodeProto, name: str, value: np.ndarray) -> None:
    attribute = next(a for a in node.attribute if a.name == name)
    if attribute.type == attribute.INT:
        attribute.i = int(value)
    else:
        attribute.ints[:] = [int(v) for v in value]


def _bypass(graph: onnx.GraphProto, bypassed: Mapping[str, str]) -> None:
    """Read what entered a block instead of what left it, and drop what nobody reads then."""

    def source(name: str) -> str:
        while name in bypassed:
            name = bypassed[name]
        return name

    for value in graph.output:
        if value.name in bypassed:
            raise InputError(f"the file's last block cannot go, it makes {value.name}: export the network anew")
    for node in graph.node:
        node.input[:] = [source(name) for name in node.input]
    needed = {value.name for value in graph.output}
    kept = []
    for node in reversed(graph.node):
        if needed.intersection(node.output):
            needed.update(node.input)
            kept.append(node)
    nodes = [onnx.NodeProto.FromString(node.SerializeToString()) for node in reversed(kept)]
    del graph.node[:]
    graph.node.extend(nodes)


def _with_other_weights(model: nn.Module) -> nn.Module:
    """A copy whose weights are random and nowhere equal, so that a slice of them tells which entries it has."""
    twin = copy.deepcopy(model).cpu().float().eval()
    draw = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, tensor in (*twin.named_parameters(), *twin.named_buffers()):
            if not tensor.is_floating_point():
                continue
            noise = torch.randn(tensor.shape, generator=draw)
            if tensor.dim() > 1:
                tensor.copy_(noise / max(1.0, tensor[0].numel()) ** 0.5)
            elif name.endswith(("weight", "running_var")):  # gains and variances: around one, and above zero
                tensor.copy_(1 + 0.25 * noise.tanh())
            else:
                tensor.copy_(0.1 * noise)
    return twin


def _random_cuts(graph: Graph) -> list[Cut]:
    """Cuts under which groups of one size are left with different numbers of entries: none is taken for another."""
    draw = random.Random(0)
    sizes = [group.size for group in graph.groups]
    n = CUTS
    while n < MOST_CUTS and any(2 * sizes.count(size) >= len(_counts(size)) ** n for size in set(sizes)):
        n += 1
    used: set[tuple[int, tuple[int, ...]]] = set()
    keep: list[dict[str, list[int]]] = [{} for _ in range(n)]
    for group in graph.groups:
        for _ in range(256):
            counts = tuple(draw.choice(_counts(group.size)) for _ in range(n))
            if (group.size, counts) not in used and any(count < group.size for count in counts):
                break
        used.add((group.size, counts))
        for entries, count in zip(keep, counts, strict=True):
            entries[group.name] = sorted(draw.sample(range(group.size), count))
    return [graph.completed(entries) for entries in keep]


def _counts(size: int) -> range:
    """How many entries may be left. One is often a special case of the exporter's, and left out where it can be."""
    return range(1 if size <= 3 else 2, size + (size <= 3))


def _uneven_cut(graph: Graph, draw: random.Random) -> Cut:
    keep = {g.name: sorted(draw.sample(range(g.size), draw.randint(1, g.size))) for g in graph.groups}
    return graph.completed(keep)


@torch.no_grad()
def _ends(graph: Graph, file: _File, images: Tensor) -> dict[str, tuple[str, str]]:
    """The tensors of the file that enter and leave each block that can go, found by their values."""
    paths = [block.path for block in graph.blocks]
    if not paths:
        return {}
    taken: dict[str, np.ndarray] = {}
    given: dict[str, np.ndarray] = {}

    def before(path: str) -> Any:  # copies: what stands behind the block may work in place
        def hook(_: nn.Module, args: Any) -> None:
            if len(args) == 1 and isinstance(args[0], Tensor):
                taken[path] = args[0].numpy().copy()

        return hook

    def after(path: str) -> Any:
        def hook(_: nn.Module, args: Any, said: Any) -> None:
            if isinstance(said, Tensor):
                given[path] = said.numpy().copy()

        return hook

    handles = [graph.model.get_submodule(path).register_forward_pre_hook(before(path)) for path in paths]
    handles += [graph.model.get_submodule(path).register_forward_hook(after(path)) for path in paths]
    try:
        outputs_of(graph.model, (images,), {})
    finally:
        for handle in handles:
            handle.remove()
    values = _values(file, images.numpy())
    ends = {}
    for path in paths:
        if path in taken and path in given:
            start, end = _named(values, taken[path]), _named(values, given[path])
            if start is not None and end is not None and start != end:
                ends[path] = (start, end)
    return ends


def _values(file: _File, images: np.ndarray) -> dict[str, np.ndarray]:
    """Every tensor that the file computes of ``images``, by name, in order; and the images."""
    import onnxruntime as ort

    proto = onnx.ModelProto()
    proto.CopyFrom(file.proto)
    given = {value.name for value in proto.graph.output}
    names = [name for node in file.nodes for name in node.output if name and name not in given]
    proto.graph.output.extend(onnx.ValueInfoProto(name=name) for name in names)
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 3
    session = ort.InferenceSession(proto.SerializeToString(), options, providers=["CPUExecutionProvider"])
    said = dict(zip((o.name for o in session.get_outputs()), session.run(None, {INPUT: images}), strict=True))
    said = {name: value for name, value in said.items() if isinstance(value, np.ndarray)}
    return {INPUT: images, **{name: said[name] for node in file.nodes for name in node.output if name in said}}


def _named(values: Mapping[str, np.ndarray], wanted: np.ndarray) -> str | None:
    """The first tensor that has these values: later ones may have them for these images only (a clip of the small)."""
    limit = CLOSE * max(1e-12, float(np.abs(wanted).max()))
    for name, value in values.items():
        if value.shape == wanted.shape and value.dtype == wanted.dtype and np.abs(value - wanted).max() <= limit:
            return name
    return None
