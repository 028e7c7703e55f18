"""Blocks that can go: modules that add something to what they take, and could as well pass it on."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
import torch
from torch import fx, nn

from sartor.graph.call import Value
from sartor.graph.capture import Captured
from sartor.graph.couple import Coupled

ADDS = ("aten.add.Tensor", "aten.add_.Tensor")


@dataclass(frozen=True)
class Block:
    """The module ``path`` returns its input plus something: without it the shapes of all tensors stay. ``taken`` and
    ``given`` name these two in the graph: of consecutive blocks one's is the other's. ``last`` are the
    parameters it ends with on the way to that sum, which is nothing where they are zero and what follows leaves zeros
    alone (whoever uses them checks); none where something else ends it."""

    path: str
    taken: str = ""
    given: str = ""
    last: tuple[str, ...] = ()


def removable(captured: Captured, coupled: Coupled) -> tuple[Block, ...]:
    """Modules called once, on one tensor, that return one tensor with the same labels, to which the input was added.

    A module that is a mere chain of such modules is not one of them, its links are; inside a block that can go, none is
    listed.
    """
    nodes = [node for node in captured.program.graph.nodes if node.op == "call_function"]
    inside: dict[str, list[fx.Node]] = {}
    for node in nodes:
        for path in _paths(node):
            inside.setdefault(path, []).append(node)
    weights = set(captured.sources)
    found: dict[str, tuple[fx.Node, fx.Node]] = {}
    for path, own in sorted(inside.items(), key=lambda item: len(item[1])):  # what is inside a module comes before it
        mine = set(own)
        taken = {a for node in own for a in node.all_input_nodes if a not in mine and a.name not in weights}
        given = [node for node in own if any(user not in mine for user in node.users)]
        if not path or len(taken) != 1 or len(given) != 1:
            continue
        (source,), (result,) = taken, given
        links = {end: start for block, (start, end) in found.items() if block.startswith(f"{path}.")}
        if _alike(coupled, source, result) and _passes_on(result, source, mine, links):
            found = {block: ends for block, ends in found.items() if not block.startswith(f"{path}.")}
            found[path] = (source, result)
    return tuple(
        Block(path, source.name, result.name, _last(result, source, set(inside[path]), captured))
        for path in inside
        if path in found
        for source, result in [found[path]]
    )


def _paths(node: fx.Node) -> Iterable[str]:
    for path, _ in (node.meta.get("nn_module_stack") or {}).values():
        yield str(path).removeprefix("L['self']").lstrip(".")


def _alike(coupled: Coupled, one: fx.Node, other: fx.Node) -> bool:
    a, b = coupled.values.get(one), coupled.values.get(other)
    if not isinstance(a, Value) or not isinstance(b, Value) or a.shape != b.shape:
        return False
    return all(
        np.array_equal(coupled.atoms.resolve(x), coupled.atoms.resolve(y)) for x, y in zip(a.dims, b.dims, strict=True)
    )


def _passes_on(result: fx.Node, source: fx.Node, mine: set[fx.Node], links: Mapping[fx.Node, fx.Node]) -> bool:
    """Whether ``result`` is ``source`` plus something, maybe more than once, maybe through an activation at the end.
    What blocks that can go add, from their input to their result (``links``), does not count."""
    seen: set[fx.Node] = set()
    todo, added = [result], False
    while todo:
        node = todo.pop()
        if node is source:
            if added:
                return True
            continue
        if node in seen or node not in mine:
            continue
        seen.add(node)
        if node in links:
            todo.append(links[node])
        elif str(node.target) in ADDS:
            added = True
            todo += [a for a in node.args[:2] if isinstance(a, fx.Node)]
        elif torch.Tag.pointwise in getattr(node.target, "tags", ()) and len(node.all_input_nodes) == 1:
            todo += node.all_input_nodes
        elif str(node.target) in ("aten.dropout.default", "aten.contiguous.default", "aten.clone.default"):
            todo += node.all_input_nodes[:1]
    return False


def _last(result: fx.Node, source: fx.Node, mine: set[fx.Node], captured: Captured) -> tuple[str, ...]:
    """The parameters last met on the way to an addition to ``source``."""
    names: list[str] = []
    todo = [result]
    while todo:
        node = todo.pop()
        if node is source:
            continue
        if node not in mine:
            return ()
        operands = [captured.sources.get(a.name) for a in node.all_input_nodes]
        own = [name for name in operands if name and isinstance(captured.tensors[name], nn.Parameter)]
        if str(node.target) in ADDS:
            if own:
                return ()
            todo += [a for a in node.args[:2] if isinstance(a, fx.Node)]
        elif own:
            names += own
        elif node.all_input_nodes:
            todo += node.all_input_nodes[:1]
        else:
            return ()
    return tuple(dict.fromkeys(names))
