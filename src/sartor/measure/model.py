"""Everything there is to say about one model before any work: size, cost, memory, latency, layer by layer."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator, Sequence
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
from sartor.measure.plan.buffers_of import buffers_of
from sartor.measure.plan.onnx_file import plan_file
from sartor.measure.targets.local import Local
from sartor.measure.targets.named import open_target
from sartor.measure.targets.target import Bounded, Target, device_of, memory_of
from sartor.measure.trial import admit
from sartor.measure.units.model import LatencyModel, read_latency_model

Timed = dict[str, dict[str, Any]]
"""``latency`` and ``details``: what stands before the counts in a report, and what after."""


def measure_model(
    spec: str,
    *,
    target: str = "onnxruntime",
    threads: int = 1,
    runs: int = 200,
    batch: int = 1,
    latency_model: str | Path | None = None,
    memory_plan: bool = False,
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
    With ``memory_plan``, memory_plan: :func:`sartor.measure.plan.buffers_of.buffers_of`.
    Raises InputError when the model cannot be found, built, exported or run.
    """
    (found,) = measure_models(
        [spec],
        target=target,
        threads=threads,
        runs=runs,
        batch=batch,
        latency_model=latency_model,
        memory_plan=memory_plan,
    )
    return found


def measure_models(
    specs: Sequence[str],
    *,
    target: str = "onnxruntime",
    threads: int = 1,
    runs: int = 200,
    batch: int = 1,
    latency_model: str | Path | None = None,
    memory_plan: bool = False,
) -> list[dict[str, Any]]:
    """As :func:`measure_model` of each of ``specs``, timed in interleaved rounds, so that the ratios are fair."""
    runner = open_target(target, threads)
    if latency_model is None:
        time = partial(_timed, runner=runner, runs=runs, batch=batch)
    elif batch > 1:
        raise InputError("a latency model predicts one example at a time: leave out --batch")
    else:
        time = partial(_predicted, runner=runner, model=read_latency_model(latency_model, target, threads))
    with contextlib.ExitStack() as opened:
        counted = [opened.enter_context(_counted(spec)) for spec in specs]
        timed = time([file for file, _ in counted])
        return [
            _report(spec, file, found, runner, said, memory_plan)
            for spec, (file, found), said in zip(specs, counted, timed, strict=True)
        ]


@contextlib.contextmanager
def _counted(spec: str) -> Iterator[tuple[Path, Counts]]:
    """The file that ``spec`` names, or a draft of its model that is gone afterwards, and what there is in it."""
    file = onnx_file(spec)
    if file is not None:
        admit(file)  # what is counted below is counted by running it
        yield file, graph_counts(file)
        return
    # Imported late: a bare .onnx file needs no torch.
    from sartor.models.zoo import open_model

    opened = open_model(spec)
    counted = counts(opened.module, opened.image_shape)
    with tempfile.TemporaryDirectory() as folder:
        yield exported(opened.module, opened.image_shape, Path(folder) / "model.onnx"), counted


def _report(spec: str, file: Path, counted: Counts, runner: Target, timed: Timed, memory_plan: bool) -> dict[str, Any]:
    plan = buffers_of(file) if memory_plan else None
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
        "planned_activation_bytes": plan["arena_bytes"] if plan else plan_file(file).arena_bytes,
        **timed["latency"],
        "size_bytes": file.stat().st_size,
        "input_shape": list(next(inputs(file))[1]),
        "modules": [{**asdict(layer), "output_shape": list(layer.output_shape)} for layer in counted.layers],
        **timed["details"],
        **({"misfits": runner.misfits(file)} if isinstance(runner, Bounded) else {}),
        **({"memory_plan": plan} if plan else {}),
        "device": device_of(runner),
        "versions": versions(),
    }


def _timed(files: Sequence[Path], *, runner: Target, runs: int, batch: int) -> Iterator[Timed]:
    under = None
    for file, latency in zip(files, runner.latencies(files, runs=runs, batch=batch), strict=True):
        found = {
            "latency_ms": latency.median_ms,
            "latency_p95_ms": latency.p95_ms,
            "latency_ci_ms": list(latency.ci_ms),
            "target": runner.name,
            "threads": runner.threads,
            "batch": batch,
        }
        if isinstance(runner, Local) and runner.converts:
            why = f"{runner.name} takes seconds to convert each file: its layers were not timed one by one"
            layers: dict[str, Any] = {"layers": [], "untold": why}
        else:
            said = explained(file, runner, under=under)
            under, layers = said.roof, said.to_dict()  # one machine has one roof
        yield {"latency": found, "details": {**layers, "timing": latency.to_dict()}}


def _predicted(files: Sequence[Path], *, runner: Target, model: LatencyModel) -> Iterator[Timed]:
    for said in model.predict(files):
        found = {
            "latency_ms": said.ms,
            "latency_ci_ms": [said.low_ms, said.high_ms],
            "known": said.known,
            "target": runner.name,
            "threads": runner.threads,
        }
        yield {"latency": found, "details": {"profile": dict(model.profile.device)}}
