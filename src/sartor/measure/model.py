"""Everything there is to say about one model before any work: size, cost, memory, latency, layer by layer."""

from __future__ import annotations

import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import Any

from sartor.errors import InputError
from sartor.measure.device import fingerprint, versions
from sartor.measure.feeds import inputs
from sartor.measure.graph_counts import graph_counts
from sartor.measure.memory import peak_activation_bytes
from sartor.measure.profile import profile
from sartor.measure.targets.named import open_target


def measure_model(spec: str, *, target: str = "onnxruntime", threads: int = 1, runs: int = 200) -> dict[str, Any]:
    """Measure the model that ``spec`` names; a JSON-able dict.

    An ``.onnx`` file, a directory that holds ``model.onnx``, or a model of :func:`sartor.models.zoo.open_model`
    (``timm:NAME``, ``torchvision:NAME``, ``file.py:function``) that takes images.

    Keys: model, params, macs, peak_activation_bytes, latency_ms, latency_p95_ms, target, threads, size_bytes,
    input_shape, layers (what computes or has parameters), nodes (where the time goes), timing, device, versions.
    Raises InputError when the model cannot be found, built, exported or run.
    """
    runner = open_target(target, threads)
    file = _onnx_file(spec)
    if file is not None:
        return _report(spec, file, asdict(graph_counts(file)), runner, runs)
    # Imported late: a bare .onnx file needs no torch.
    from sartor.export.onnx import export_onnx
    from sartor.measure.counts import counts
    from sartor.models.zoo import open_model

    opened = open_model(spec)
    module, shape = opened.module, opened.image_shape
    counted = counts(module, shape)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "model.onnx"
        try:
            export_onnx(module, shape, file, draft=True)
        except InputError:  # the draft exporter knows fewer operators; what neither knows raises here
            export_onnx(module, shape, file)
        return _report(spec, file, asdict(counted), runner, runs)


def _report(spec: str, file: Path, counted: dict[str, Any], runner: Any, runs: int) -> dict[str, Any]:
    latency = runner.latency_ms(file, runs=runs)
    return {
        "model": spec,
        "params": counted["params"],
        "macs": counted["macs"],
        "peak_activation_bytes": peak_activation_bytes(file),
        "latency_ms": latency.median_ms,
        "latency_p95_ms": latency.p95_ms,
        "target": runner.name,
        "threads": runner.threads,
        "size_bytes": file.stat().st_size,
        "input_shape": list(next(inputs(file))[1]),
        "layers": [{**layer, "output_shape": list(layer["output_shape"])} for layer in counted["layers"]],
        "nodes": [node.to_dict() for node in profile(file, threads=runner.threads)],
        "timing": latency.to_dict(),
        "device": fingerprint(),
        "versions": versions(),
    }


def _onnx_file(spec: str) -> Path | None:
    path = Path(spec)
    if path.is_dir():
        if not (path / "model.onnx").is_file():
            raise InputError(f"{path} holds no model.onnx: give a model directory (RUN/models/NAME) or an .onnx file")
        return path / "model.onnx"
    if path.suffix == ".onnx":
        return path
    return None
