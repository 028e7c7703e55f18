"""What of a model could be cut, before anything is."""

from __future__ import annotations

from typing import Any

from sartor.graph import trace
from sartor.graph.preflight import preflight, totals
from sartor.models.zoo import open_model


def possible_cuts(spec: str) -> dict[str, Any]:
    """Layers, groups, blocks and what could not be followed, of the model that ``spec`` names; JSON-able.

    Keys: model, params, macs, least_params and least_macs (all groups at one entry), layers, groups, blocks, frozen.
    Raises InputError where the model cannot be opened or captured.
    """
    opened = open_model(spec)
    graph = trace(opened.module.eval(), opened.inputs)
    return {"model": spec, **totals(graph), "layers": [layer.to_dict() for layer in preflight(graph)]}
