"""Everything there is to say about one model before any work: size, cost, memory, latency, layer by layer."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

from sartor.errors import InputError
from sartor.measure.counts import Counts, counts
from sartor.measure.device import versions
from sartor.measure.feeds import inputs
from sartor.measure.file_of import exported, onnx_file
from sartor.measure.graph_counts import graph_counts
from sartor.measure.layers.measured import explained
from sartor.measure.lint.lint import lint_model
from sartor.measure.plan.onnx_file import plan_file
from sartor.measure.targets.local import Local
from sartor.measure.targets.named import open_target
from sartor.measure.targets.target import Bounded, Target, device_of, memory_of
from sartor.measure.trial import admit
from sartor.measure.units.model import LatencyModel, read_latency_model


def measure_model(
    spec: str,
    *,
    target: str = "onnxruntime",
    threads: int = 1,
    runs: int = 200,
    batch: int = 1,
    latency_model: str | Path | None = None,
    lint: bool = False,
) -> dict[str, Any]:
    """Measure the model that ``spec`` names; a JSON-able dict.

    An ``.onnx`` file, a directory that holds ``model.onnx``, or a model of :func:`sartor.models.zoo.open_model`
    (``timm:NAME``, ``torchvision:NAME``, ``file.py:function``) that takes images.

    Keys: model, params, macs, elementwise, read_bytes, written_bytes, weight_read_bytes, weight_bytes (by dtype) and
    unknown (see :mod:`sartor.measure.counts`), peak_activation_bytes (the target's; ONNX Runtime's as it orders and
    holds them, see :mod:`sartor.measure.memory`), planned_activation_bytes (one block that holds the best order found),
    latency_ms, latency_p95_ms, latency_ci_ms (its median's, with 95 % confidence), target, threads, batch, size_bytes,
    input_shape, modules (what computes, moves numbers or has parameters, with its counts), layers (where the time goes
    and what bounds it: :class:`sartor.measure.layers.layer.Layer`), roof (the target's best rates), nodes (what the
    target ran for which layer), untold (why there are no layers), timing, device, versions. Counts and layers are of
    one example; ``batch`` is what is timed. With ``latency_model``, a file of ``sartor profile-device``, nothing is
    timed: latency_ms and latency_ci_ms are predicted, ``known`` is the share of it that is made of parts which were
    timed by themselves, and there are no layers. A target on which only so much fits adds misfits: what is too large.
    With ``lint``: lint, what :func:`sartor.measure.lint.lint.lint_model` found, which takes some minutes.
    Raises InputError when the model cannot be found, built, exported or run.
    """
    runner = open_target(target, threads)
    if latency_model is None:
        time = partial(_timed, runner=runner, runs=runs, batch=batch)
    elif batch > 1:
        raise InputError("a latency model predicts one example at a time: leave out --batch")
    else:
        time = partial(_predicted, runner=runner, model=read_latency_model(latency_model, target, threads))
    if lint and latency_model is not None:
        raise InputError("what is linted is timed: leave out --latency-model or --lint")
    if lint:
        found = measure_model(spec, target=target, threads=threads, runs=runs, batch=batch)
        return {**found, "lint": lint_model(spec, target=target, threads=threads)}
    file = onnx_file(spec)
    if file is not None:
        admit(file)  # what is counted below is counted by running it
        return _report(spec, file, graph_counts(file), runner, time)
    # Imported late: a bare .onnx file needs no torch.
    from sartor.models.zoo import open_model

    opened = open_model(spec)
    module, shape = opened.module, opened.image_shape
    counted = counts(module, shape)
    with tempfile.TemporaryDirectory() as folder:
        file = exported(module, shape, Path(folder) / "model.onnx")
        return _report(spec, file, counted, runner, time)


def _report(
    spec: str, file: Path, counted: Counts, runner: Target, time: Callable[[Path], dict[str, dict[str, Any]]]
) -> dict[str, Any]:
    timed = time(file)
    return {
        "model": spec,
        "params": counted.params,
        "macs": counted.macs,
        "elementwise": counted.elementwise,
        "read_bytes": counted.read_bytes,
        "written_bytes": counted.written_bytes,
        "weight_read_bytes": counted.weight_read_bytes,
        "weight_bytes": counted.weight_bytes,
        "unknown": list(counted.unknown),
        "peak_activation_bytes": memory_of(runner, file),
        "planned_activation_bytes": plan_file(file).arena_bytes,
        **timed["latency"],
        "size_bytes": file.stat().st_size,
        "input_shape": list(next(inputs(file))[1]),
        "modules": [{**asdict(layer), "output_shape": list(layer.output_shape)} for layer in counted.layers],
        **timed["details"],
        **({"misfits": runner.misfits(file)} if isinstance(runner, Bounded) else {}),
        "device": device_of(runner),
        "versions": versions(),
    }


def _timed(file: Path, *, runner: Target, runs: int, batch: int) -> dict[str, dict[str, Any]]:
    latency = runner.latency_ms(file, runs=runs, batch=batch)
    found = {
        "latency_ms": latency.median_ms,
        "latency_p95_ms": latency.p95_ms,
        "latency_ci_ms": list(latency.ci_ms),
        "target": runner.name,
        "threads": runner.threads,
        "batch": batch,
    }
    return {"latency": found, "details": {**_explained(file, runner), "timing": latency.to_dict()}}


def _explained(file: Path, runner: Target) -> dict[str, Any]:
    if isinstance(runner, Local) and runner.converts:
        why = f"{runner.name} takes seconds to convert each file: its layers were not timed one by one"
        return {"layers": [], "untold": why}
    return explained(file, runner).to_dict()


def _predicted(file: Path, *, runner: Target, model: LatencyModel) -> dict[str, dict[str, Any]]:
    (said,) = model.predict([file])
    found = {
        "latency_ms": said.ms,
        "latency_ci_ms": [said.low_ms, said.high_ms],
        "known": said.known,
        "target": runner.name,
        "threads": runner.threads,
    }
    return {"latency": found, "details": {"profile": dict(model.profile.device)}}
