"""Networks side by side: measured in turns, so that their ratio is fair."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from sartor.errors import InputError
from sartor.measure.model import measure_models

RATIOS = (
    "latency_ms",
    "params",
    "macs",
    "elementwise",
    "peak_activation_bytes",
    "planned_activation_bytes",
    "size_bytes",
)
"""What is told of each network as a multiple of the first's."""


def compare_models(
    specs: Sequence[str],
    *,
    target: str = "onnxruntime",
    threads: int = 1,
    runs: int = 200,
    batch: int | None = None,
    latency_model: str | Path | None = None,
) -> dict[str, Any]:
    """Measure several models side by side; a JSON-able dict. Arguments are those of
    :func:`sartor.measure.model.measure_model`.

    Keys: ``models``, what ``measure_model`` says of each, timed in interleaved rounds; ``ratios``, of each but the
    first to the first: ``model``, RATIOS (None where the first has none of it) and ``latency_ci``, between what the
    ratio of the medians lies when each median lies in its own interval, which is wider than 95 % confidence needs.
    Raises InputError for fewer than two models, and where one of them cannot be measured.
    """
    if len(specs) < 2:
        raise InputError("a comparison needs two models or more: name another one")
    models = measure_models(specs, target=target, threads=threads, runs=runs, batch=batch, latency_model=latency_model)
    return {"models": models, "ratios": [ratios(models[0], model) for model in models[1:]]}


def ratios(first: Mapping[str, Any], other: Mapping[str, Any]) -> dict[str, Any]:
    """Of ``other`` to ``first``, two dicts of ``measure_model``."""
    (low, high), (least, most) = first["latency_ci_ms"], other["latency_ci_ms"]
    return {
        "model": other["model"],
        **{name: other[name] / first[name] if first[name] else None for name in RATIOS},
        "latency_ci": [least / high, most / low] if low > 0 else None,
    }
