"""Which unit of a file each node that a target ran belongs to: none is lost, and no unit is without time but by being
a part of another one.

A node runs the operators of the file between the tensors that it makes and those that other nodes made before it. It
belongs to the unit of that of them with the most multiply-accumulates, else to the unit of what it makes. Units of
which no node is left (a product inside a fused attention, a slice that became a split) are one with the unit whose node
runs them.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence

import onnx

from sartor.measure.layers.node import Node
from sartor.measure.units.split import Unit, united


def homes(units: Sequence[Unit], nodes: Sequence[Node], results: frozenset[str]) -> list[tuple[Unit, tuple[Node, ...]]]:
    """Units, in the order of the file, and the ``nodes`` of each. ``results``: tensors that the file gives back."""
    makers = {name: (place, node) for place, unit in enumerate(units) for node in unit.nodes for name in node.output}
    made = {name for node in nodes for name in node.made}
    owned: dict[int, list[Node]] = defaultdict(list)
    runs: dict[int, set[int]] = defaultdict(set)  # a unit → units whose operators its nodes run
    waiting: list[Node] = []
    last = 0
    for node in nodes:
        inside = _inside(node, makers, made)
        if not inside:
            waiting.append(node)
            continue
        macs = {place: max(units[place].node_macs(n) for n in found) for place, found in inside.items()}
        last = max(macs, key=lambda place: macs[place]) if any(macs.values()) else makers[node.made[0]][0]
        owned[last] += [*waiting, node]
        runs[last] |= set(inside)
        waiting = []
    owned[last] += waiting
    joined: dict[int, list[int]] = defaultdict(list)
    for place in range(len(units)):
        home = place if owned.get(place) else next((other for other in runs if place in runs[other]), place)
        joined[home].append(place)
    groups = [(home, [units[place] for place in places]) for home, places in sorted(joined.items())]
    whole = united([group for _, group in groups], results)
    return [(unit, tuple(owned.get(home, ()))) for unit, (home, _) in zip(whole, groups, strict=True)]


def _inside(
    node: Node, makers: Mapping[str, tuple[int, onnx.NodeProto]], made: set[str]
) -> dict[int, list[onnx.NodeProto]]:
    """The operators of the file that ``node`` runs, by their unit."""
    found: dict[int, list[onnx.NodeProto]] = defaultdict(list)
    seen: set[str] = set()
    ahead = list(node.made)
    while ahead:
        name = ahead.pop()
        if name in seen or name not in makers:
            continue
        seen.add(name)
        place, origin = makers[name]
        found[place].append(origin)
        ahead += [read for read in origin.input if read not in made]
    return found
