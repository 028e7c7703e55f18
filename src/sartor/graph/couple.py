"""Follow every dimension of every tensor through a captured graph."""

from __future__ import annotations

import inspect
import operator
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor, fx

from sartor.graph.atoms import Atoms, Label, unlabelled
from sartor.graph.call import Call, Value
from sartor.graph.capture import Captured
from sartor.graph.rules import RULES, Rule
from sartor.graph.rules.elementwise import elementwise


@dataclass(frozen=True)
class Frozen:
    """What could not be followed: dimensions that meet ``operator`` in module ``where`` are not cut."""

    operator: str
    where: str
    reason: str

    def __str__(self) -> str:
        return f"{self.operator} in {self.where or 'the model'}: {self.reason}"


@dataclass(eq=False)
class Coupled:
    """Labels of every tensor of a graph. ``values``: what each node returns; ``calls``: how each operator was called;
    ``tensors``: parameters, buffers and constants by name; ``inner``: graphs that operators run, by their node."""

    atoms: Atoms
    values: dict[fx.Node, Any] = field(default_factory=dict)
    calls: dict[fx.Node, Call] = field(default_factory=dict)
    tensors: dict[str, Value] = field(default_factory=dict)
    frozen: list[Frozen] = field(default_factory=list)
    _resolved: dict[int, tuple[Label, Label]] = field(default_factory=dict)

    def resolved(self, label: Label) -> Label:
        """``label`` in its final atoms, each found once: after coupling nothing is tied any more."""
        held = self._resolved.get(id(label))
        if held is None or held[0] is not label:
            held = self._resolved[id(label)] = (label, self.atoms.resolve(label))
        return held[1]


def couple(captured: Captured, rules: Mapping[str, Rule] | None = None) -> Coupled:
    """Labels for every tensor of ``captured``. ``rules`` add to, or replace, those of :data:`RULES`."""
    held = Coupled(Atoms())
    table = {**RULES, **(rules or {})}
    graph = captured.program.graph_module
    given: dict[str, Value] = {}
    shared: dict[tuple[Any, ...], Value] = {}
    for placeholder, name in captured.sources.items():
        tensor = captured.tensors[name]
        key = (tensor.data_ptr(), tuple(tensor.shape), tensor.stride()) if tensor.numel() else (name,)
        if key not in shared:  # tied weights are one tensor
            shared[key] = Value(tuple(_free(held.atoms, size) for size in tensor.shape), tensor.dtype == torch.bool)
        given[placeholder] = held.tensors[name] = shared[key]
    _run(graph, held, table, lambda node: given.get(node.name))
    outputs = next(node for node in graph.graph.nodes if node.op == "output")
    for value in _flat(fx.node.map_arg(outputs.args, lambda n: held.values[n])):
        for label in value.dims:
            held.atoms.freeze(label, "the model's output")
    _keep_unread(captured, held)
    _keep_every_dimension(held)
    return held


def _keep_unread(captured: Captured, held: Coupled) -> None:
    """Freeze positions of parameters and buffers that no operator reads: heads for training only, positions beyond the
    example's. What a cut of them does, nothing here could tell."""
    read: dict[int, tuple[Value, list[np.ndarray]]] = {}
    for node in captured.program.graph_module.graph.nodes:
        if node.op != "placeholder" or node.name not in captured.sources:
            continue
        value = held.tensors[captured.sources[node.name]]
        _, marks = read.setdefault(id(value), (value, [np.zeros(size, bool) for size in value.shape]))
        for user in node.users:
            axis, rows = _part_read(held.calls.get(user), value)
            for i, mark in enumerate(marks):
                mark[rows if i == axis else slice(None)] = True
    for value, marks in read.values():
        for label, mark in zip(value.dims, marks, strict=True):
            held.atoms.freeze(label[~mark], "not read by the graph")


def _part_read(call: Call | None, value: Value) -> tuple[int, Any]:
    """The dimension, and the positions along it, that ``call`` reads of ``value``; all of it where it is no slice."""
    if call is None or call.op not in PARTS or call["self"] is not value:
        return -1, slice(None)
    axis = call["dim"] % value.rank
    if call.op == "aten.select.int":
        return axis, [call["index"]]
    if "length" in call.arguments:
        start = call["start"] % max(1, value.shape[axis])
        return axis, slice(start, start + call["length"])
    return axis, slice(call["start"], call["end"], call["step"])


PARTS = ("aten.slice.Tensor", "aten.narrow.default", "aten.select.int")


def _run(module: fx.GraphModule, held: Coupled, table: Mapping[str, Rule], given: Callable[[fx.Node], Any]) -> Any:
    """Label every node of ``module``; return what its output node holds."""
    for node in module.graph.nodes:
        if node.op == "placeholder":
            value = given(node)
            held.values[node] = _like(node) if value is None else value
        elif node.op == "get_attr":
            held.values[node] = _attribute(module, str(node.target), held)
        elif node.op == "call_function":
            held.values[node] = _call(node, held, table)
        elif node.op == "output":
            return _filled(node.args[0], held)
    return None


def _filled(value: Any, held: Coupled) -> Any:
    """``value`` with what nodes return in their places."""
    return fx.node.map_aggregate(value, lambda a: held.values[a] if isinstance(a, fx.Node) else a)


def _call(node: fx.Node, held: Coupled, table: Mapping[str, Rule]) -> Any:
    args, kwargs = _filled(node.args, held), _filled(node.kwargs, held)
    if node.target is operator.getitem:
        return args[0][args[1]]
    inner = [a for a in args if isinstance(a, fx.GraphModule)]
    if len(inner) == 1 and str(node.target).startswith("wrap_with"):  # a context manager around a part of the graph
        rest = iter(args[args.index(inner[0]) + 1 :])
        return _run(inner[0], held, table, lambda _: next(rest))
    example = node.meta.get("val")
    shapes = [shape_of(value) for value in (example if isinstance(example, (list, tuple)) else [example])]
    if all(shape is None for shape in shapes) and not inner and not _acts(node.target):
        return _numbers(example)
    call = Call(str(node.target), _bind(node.target, args, kwargs), shapes, where_of(node), _used(node))
    held.calls[node] = call
    labels = _apply(node, call, held, table)
    flags = [
        getattr(v, "dtype", None) == torch.bool for v in (example if isinstance(example, (list, tuple)) else [example])
    ]
    values = [None if dims is None else Value(tuple(dims), flag) for dims, flag in zip(labels, flags, strict=True)]
    return values if isinstance(example, (list, tuple)) else values[0]


def _used(node: fx.Node) -> frozenset[int] | None:
    """The numbers of the results that something reads; None where it reads them all as one."""
    parts = [user for user in node.users if user.target is operator.getitem]
    whole = len(parts) < len(node.users)
    return None if whole else frozenset(int(part.args[1]) for part in parts if part.users)  # type: ignore[arg-type]


def _acts(target: Any) -> bool:
    """Whether an operator returns nothing and so does something to what it takes; assertions do not."""
    schema = getattr(target, "_schema", None)
    return schema is not None and not schema.returns and "assert" not in str(target)


def _apply(node: fx.Node, call: Call, held: Coupled, table: Mapping[str, Rule]) -> list[Any]:
    """The labels of each tensor ``call`` returns; frozen and unlabelled where there is no rule, or it does not fit."""
    rule = table.get(call.op) or table.get(call.op.replace("_.", ".", 1))
    if rule is None and torch.Tag.pointwise in getattr(node.target, "tags", ()):
        rule = elementwise
    reason = "Sartor has no rule for it"
    if rule is not None:
        try:
            found = rule(held.atoms, call)
            labels = found if isinstance(found, list) else [found]
            if [None if d is None else tuple(len(label) for label in d) for d in labels] == list(call.shapes):
                return labels
            reason = "its rule does not fit this call"
        except (ArithmeticError, AssertionError, LookupError, NotImplementedError, TypeError, ValueError) as error:
            reason = f"its rule does not fit this call ({error})" if str(error) else "its rule does not fit this call"
    frozen = Frozen(call.op, call.where, reason)
    if any(held.atoms.resolve(label).size for value in call.tensors() for label in value.dims):
        held.frozen.append(frozen)
        for value in call.tensors():
            for label in value.dims:
                held.atoms.freeze(label, str(frozen))
    return [None if shape is None else tuple(unlabelled(size) for size in shape) for shape in call.shapes]


def _bind(target: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> dict[str, Any]:
    """Arguments by name, defaults filled in."""
    schema = getattr(target, "_schema", None)
    if schema is None:
        try:
            bound = inspect.signature(target).bind(*args, **kwargs)
            return dict(bound.arguments)
        except (TypeError, ValueError):
            return {**{str(i): value for i, value in enumerate(args)}, **kwargs}
    named: dict[str, Any] = {}
    for i, argument in enumerate(schema.arguments):
        if i < len(args):
            named[argument.name] = args[i]
        elif argument.name in kwargs:
            named[argument.name] = kwargs[argument.name]
        elif argument.has_default_value():
            named[argument.name] = argument.default_value
    return named


def _keep_every_dimension(held: Coupled) -> None:
    """Freeze atoms that would take all of a dimension with them."""
    seen: set[int] = set()
    for value in [*held.tensors.values(), *_flat(list(held.values.values()))]:
        for label in value.dims:
            if not len(label) or id(label) in seen:
                continue
            seen.add(id(label))
            rows = held.atoms.resolve(label)
            if rows.size:
                first = rows[0][rows[0] >= 0]
                everywhere = [atom for atom in first if (rows == atom).any(axis=1).all()]
                for atom in everywhere:
                    held.atoms.freeze(rows[:1] * 0 + atom, "nothing of the dimension would be left")


def where_of(node: fx.Node) -> str:
    """The path of the module a node was written in."""
    stack = node.meta.get("nn_module_stack") or {}
    paths = [path for path, _ in stack.values()]
    return str(paths[-1]).removeprefix("L['self']").lstrip(".") if paths else ""


def shape_of(value: Any) -> tuple[int, ...] | None:
    """The shape of an example tensor; symbolic sizes by their example."""
    return tuple(_numbers(list(value.shape))) if isinstance(value, Tensor) else None


def _numbers(value: Any) -> Any:
    """Symbolic numbers as those of the example."""
    if isinstance(value, (list, tuple)):
        return [_numbers(v) for v in value]
    if isinstance(value, (torch.SymInt, torch.SymFloat, torch.SymBool)):
        hint = value.node.hint
        return _stand_in(value) if hint is None else hint
    return value


def _stand_in(value: Any) -> Any:
    """A number for a size that depends on the data: one of its own for each, so that no two look alike."""
    filled = value.node.expr
    for symbol in filled.free_symbols:
        filled = filled.subs(symbol, _FIRST + 2 * int(symbol.name.lstrip("zuf")))
    if isinstance(value, torch.SymBool):
        return bool(filled)
    return int(filled) if isinstance(value, torch.SymInt) else float(filled)


_FIRST = 113
"""Above most numbers of heads and groups, and small enough to have labels made of it."""


def _like(node: fx.Node) -> Any:
    """An input of the model: nothing of it is cut."""

    def labelled(value: Any) -> Any:
        if isinstance(value, Tensor):
            return Value(tuple(unlabelled(size) for size in shape_of(value) or ()), value.dtype == torch.bool)
        return _numbers(value)

    return fx.node.map_aggregate(node.meta.get("val"), labelled)


def _attribute(module: torch.nn.Module, path: str, held: Coupled) -> Any:
    found: Any = module
    for part in path.split("."):
        found = getattr(found, part)
    if isinstance(found, Tensor):
        return Value(tuple(unlabelled(size) for size in found.shape), found.dtype == torch.bool)
    return found


def _free(atoms: Atoms, size: int) -> Label:
    return atoms.fresh(size) if size > 1 else unlabelled(size)


def _flat(values: Any) -> list[Value]:
    if isinstance(values, Value):
        return [values]
    if isinstance(values, Mapping):
        return _flat(list(values.values()))
    if isinstance(values, (list, tuple)):
        return [found for value in values for found in _flat(value)]
    return []
