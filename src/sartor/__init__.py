"""Sartor cuts neural networks to fit: bring images and a budget, get a measured front of exported networks.

    import sartor

    run = sartor.fit("photos/", max_latency_ms=2, time_s=1800, out="run")
    member = run.pick(max_latency_ms=1)
    member.predict(["cat.jpg"])

The names are loaded on first use (PEP 562), so ``import sartor`` does not import torch. ``sartor.measure`` is what
``sartor measure`` does, ``sartor.measure(model, inputs)``, and the package that it lives in.
"""

from __future__ import annotations

import importlib
import os
from typing import TYPE_CHECKING, Any

# ONNX Runtime, from 1.32 on, writes down what it is asked to run and sends it to its vendor, unless this is set before
# it is imported. Nothing of Sartor's leaves the machine; who wants to send it sets the variable to 0.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

if TYPE_CHECKING:
    from sartor.compress.prune import prune
    from sartor.data import open_data
    from sartor.errors import BudgetError, InputError, SartorError, Stopped
    from sartor.measure import Measure
    from sartor.measure.compare import compare_models
    from sartor.measure.model import measure_model
    from sartor.models.elastic import elastify
    from sartor.recipes.fit import fit
    from sartor.recipes.run import Member, Run, open_run

    measure: Measure

__version__ = "0.1.0"

__all__ = [
    "BudgetError",
    "InputError",
    "Member",
    "Run",
    "SartorError",
    "Stopped",
    "__version__",
    "compare_models",
    "elastify",
    "fit",
    "measure",
    "measure_model",
    "open_data",
    "open_run",
    "prune",
]

_HOME = {
    "BudgetError": "sartor.errors",
    "InputError": "sartor.errors",
    "Member": "sartor.recipes.run",
    "Run": "sartor.recipes.run",
    "SartorError": "sartor.errors",
    "Stopped": "sartor.errors",
    "compare_models": "sartor.measure.compare",
    "elastify": "sartor.models.elastic",
    "fit": "sartor.recipes.fit",
    "measure_model": "sartor.measure.model",
    "open_data": "sartor.data",
    "open_run": "sartor.recipes.run",
    "prune": "sartor.compress.prune",
}


def __getattr__(name: str) -> Any:
    if name == "measure":
        return importlib.import_module("sartor.measure")  # which is the function, and sets the name
    if name not in _HOME:
        raise AttributeError(f"module 'sartor' has no attribute {name!r}; it has {', '.join(__all__)}")
    value = getattr(importlib.import_module(_HOME[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
