"""What a network can grow by, layer by layer: one list for every search that grows networks."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal, get_args

from torch import nn

from sartor.errors import InputError
from sartor.graph.graph import Graph
from sartor.graph.groups import Group
from sartor.graph.grow.branch import branch
from sartor.graph.grow.deepen import deepen, repeat
from sartor.graph.grow.widen import widen
from sartor.graph.sliced import agree, outputs_of

Kind = Literal["widen", "deepen", "repeat", "add", "concat"]
KINDS: tuple[Kind, ...] = get_args(Kind)
WIDER = 1.5
"""Entries of a group that is widened over those it has: about the steps of arXiv:1707.04873 §4.1 (16, 32, 64, 96)."""
NOISE = 1e-2
"""Of a weight's standard deviation, by which copies differ from the start. A choice."""


@dataclass(frozen=True)
class Layer:
    """A convolution or linear layer, and where it can grow: its group, the activation behind it, the block that it
    ends, itself. Whether that place allows it is known when it is tried."""

    path: str
    kind: Literal["linear", "conv", "grouped"]
    inputs: int
    outputs: int
    kernel: int
    stride: int
    grows: Mapping[Kind, str]


def layers(graph: Graph) -> tuple[Layer, ...]:
    """The layers of a traced network that are called once, in the order of the calls. A group is at its first layer."""
    modules = dict(graph.model.named_modules())
    calls = [call for call in graph.calls if call.where in modules]
    times = Counter((call.where, call.op) for call in calls)
    groups = {tie.tensor: group for group in reversed(graph.groups) for tie in group.ties if tie.dim == 0}
    known: set[str] = set()
    found: list[Layer] = []
    for call in calls:
        module: Any = modules[call.where]
        if times[call.where, call.op] > 1 or any(True for _ in module.children()):
            continue
        if isinstance(module, nn.Linear | nn.modules.conv._ConvNd):
            found.append(_layer(call.where, module, groups.get(f"{call.where}.weight"), known))
        elif found and next(module.parameters(), None) is None and _is_activation(call.op):
            found[-1].grows.setdefault("deepen", call.where)  # type: ignore[attr-defined]
    for block in graph.blocks:
        inside = [layer for layer in found if layer.path.startswith(f"{block.path}.")]
        if inside and block.last:
            inside[-1].grows["repeat"] = block.path  # type: ignore[index]
    return tuple(found)


def grown(graph: Graph, kind: Kind, place: str, *, seed: int = 0) -> nn.Module:
    """The graph's model grown at ``place``, one of those in ``Layer.grows``, computing the same; what is copied
    differs by ``NOISE``.

    Raises InputError where the network does not allow it.
    """
    args, kwargs = graph.inputs
    if kind == "widen":
        group = next((g for g in graph.groups if g.name == place), None)
        size = round(WIDER * group.size) if group else 0
        return widen(graph, {place: size}, seed=seed, noise=NOISE)
    if kind == "deepen":
        return deepen(graph.model, place, args or kwargs)
    if kind == "repeat":
        return repeat(graph, place)
    if kind not in ("add", "concat"):
        raise InputError(f"a network grows by {', '.join(KINDS)}, not {kind!r}")
    larger = branch(graph.model, place, merge=kind, noise=NOISE, seed=seed)
    if not agree(outputs_of(larger, args, kwargs), outputs_of(graph.model, args, kwargs)):
        raise InputError(f"{place} cannot be several layers: the model's code reads its weights")  # torch's encoders
    return larger


def _layer(path: str, module: Any, group: Group | None, known: set[str]) -> Layer:
    grows: dict[Kind, str] = {}
    if group is not None and group.name not in known:
        known.add(group.name)
        grows["widen"] = group.name
    if isinstance(module, nn.Linear):
        kind, sizes = "linear", (module.in_features, module.out_features, 1, 1)
    else:
        kind = "grouped" if module.groups > 1 else "conv"
        sizes = (module.in_channels, module.out_channels, max(module.kernel_size), max(module.stride))
    grows["add"] = path
    if kind != "grouped" and not getattr(module, "transposed", False) and sizes[1] > 1:
        grows["concat"] = path
    return Layer(path, kind, *sizes, grows)  # type: ignore[arg-type]


def _is_activation(op: str) -> bool:
    return op.split(".")[1].rstrip("_") in ("relu", "relu6", "hardtanh", "clamp")
