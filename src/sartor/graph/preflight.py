"""Before any cut: layer by layer, what can be cut, with what it goes together, and what stays and why."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from sartor.graph.graph import Graph

POSITIONS = "positions under a kernel"
"""The reason of dimensions nobody asks about: where under a 3x3 kernel a weight is."""


@dataclass(frozen=True)
class LayerCuts:
    """One layer: the groups that cut its tensors, and why what stays does. ``share`` of its entries can go with some
    group; ``shape`` is that of its first tensor."""

    name: str
    kind: str
    shape: tuple[int, ...]
    params: int
    share: float
    groups: tuple[str, ...]
    stays: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """JSON-able."""
        return {**vars(self), "shape": list(self.shape), "groups": list(self.groups), "stays": list(self.stays)}


def preflight(graph: Graph) -> list[LayerCuts]:
    """Every layer with parameters, in the model's order."""
    tied: dict[str, list[str]] = {}
    for group in graph.groups:
        for tie in group.ties:
            names = tied.setdefault(tie.tensor.rpartition(".")[0], [])
            if group.name not in names:
                names.append(group.name)
    found = []
    for name, module in graph.model.named_modules():
        own = dict(module.named_parameters(recurse=False))
        tensors = [f"{name}.{parameter}".lstrip(".") for parameter in own]
        if not own:
            continue
        sizes = [parameter.numel() for parameter in own.values()]
        free = sum(size * graph.cuttable(tensor) for tensor, size in zip(tensors, sizes, strict=True))
        reasons = [why for tensor in tensors for why in graph.why_kept(tensor) if not why.endswith(POSITIONS)]
        found.append(
            LayerCuts(
                name,
                type(module).__name__,
                tuple(next(iter(own.values())).shape),
                sum(sizes),
                float(free / max(1, sum(sizes))),
                tuple(tied.get(name, ())),
                tuple(dict.fromkeys(reasons)),
            )
        )
    return found


def totals(graph: Graph) -> dict[str, Any]:
    """What the network costs, and what is left when every group is cut to its least: the room there is."""
    least = {group.name: (0,) for group in graph.groups}
    return {
        "params": graph.params(),
        "macs": graph.macs(),
        "least_params": graph.params(least),
        "least_macs": graph.macs(least),
        "groups": [
            {
                "name": group.name,
                "size": group.size,
                "granularity": group.granularity,
                "params": graph.params() - graph.params(_without_one(group.name, group.size)),
                "macs": graph.macs() - graph.macs(_without_one(group.name, group.size)),
                "tensors": len({tie.tensor for tie in group.ties}),
            }
            for group in graph.groups
        ],
        "blocks": [block.path for block in graph.blocks],
        "frozen": [str(frozen) for frozen in graph.frozen],
    }


def _without_one(name: str, size: int) -> dict[str, list[int]]:
    return {name: np.arange(size - 1).tolist()}
