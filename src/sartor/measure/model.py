"""Everything there is to say about a model before any work: size, cost, memory, latency, layer by layer."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from torch import nn

from sartor.errors import InputError
from sartor.graph.capture import Inputs
from sartor.measure.device import versions
from sartor.measure.energy.energy import energy
from sartor.measure.feeds import inputs as inputs_of
from sartor.measure.file_of import onnx_file
from sartor.measure.kept import kept
from sartor.measure.layers.layer import Roof
from sartor.measure.layers.measured import explained
from sartor.measure.lint.lint import lint_model
from sartor.measure.plan.buffers_of import buffers_of
from sartor.measure.plan.onnx_file import plan_file
from sartor.measure.subject import Subject, images_of, opened, subject
from sartor.measure.targets.local import Local
from sartor.measure.targets.named import open_target
from sartor.measure.targets.target import Bounded, Patching, Target, device_of, memory_of
from sartor.measure.timing import Latency
from sartor.measure.units.model import LatencyModel, Predicted, read_latency_model

Timed = dict[str, Any]
"""``latency`` and ``details``: what stands before the counts in a report, and what after; what ``kept`` adds."""


def measure_model(
    model: str | Path | nn.Module,
    inputs: Inputs | None = None,
    *,
    target: str = "onnxruntime",
    threads: int = 1,
    runs: int = 200,
    batch: int | None = None,
    latency_model: str | Path | None = None,
    fresh: bool = False,
    lint: bool = False,
    memory_plan: bool = False,
) -> dict[str, Any]:
    """Measure ``model``; a JSON-able dict, what ``sartor measure --json`` prints. ``sartor.measure`` calls this.

    ``model``: an ``nn.Module``; an ``.onnx`` file or a directory that holds ``model.onnx``; or a model of
    :func:`sartor.models.zoo.open_model` (``timm:NAME``, ``torchvision:NAME``, ``file.py:function``), whose fresh
    weights are drawn alike each time. ``inputs``: an example of what it is called with, a tensor, a tuple (positional)
    or a dict (by name) of tensors of any type; a module needs one, a named model has its own, a file takes none.

    One fp32 tensor of four dimensions is images: counts are of one image and ``batch`` of them are timed, without
    ``batch`` as many as the example has. Any other inputs are the example as they are: counts and times are of one call
    with inputs of their shapes, and ``batch`` stays 1. What is timed is fed random numbers, and zeros for integers.

    Keys: model, params, macs, elementwise, read_bytes, written_bytes, weight_read_bytes, weight_bytes (by dtype) and
    unknown (see :mod:`sartor.measure.counts`), peak_activation_bytes (the target's; ONNX Runtime's as it orders and
    holds them, see :mod:`sartor.measure.memory`), planned_activation_bytes (one block that holds the best order found),
    latency_ms, latency_p95_ms, latency_ci_ms (its median's, with 95 % confidence), target, threads, batch, cached,
    timed_at and not_kept (see :mod:`sartor.measure.kept`; ``fresh`` times anew what was timed before), size_bytes,
    input_shape (the first input's), inputs (name, shape and dtype of each), modules (what computes, moves numbers or
    has parameters, with its counts), layers (where the time goes and what bounds it:
    :class:`sartor.measure.layers.layer.Layer`), roof (the target's best rates), nodes (what the target ran for which
    layer), untold (why there are no layers), timing, energy (see :mod:`sartor.measure.energy.energy`), device,
    versions. Counts and layers are of one example; ``batch`` is what is timed. With ``latency_model``, a file of
    ``sartor profile-device``, nothing is timed: latency_ms and latency_ci_ms are predicted, ``known`` is the share of
    it that is made of parts which were timed by themselves, and there are no layers. A target on which only so much
    fits adds misfits: what is too large; a microcontroller also patches: None, or what running stretches patch by patch
    makes of activations that are too large (peak_activation_bytes, overhead in MACs, latency_ms, fits, cuts; or, as
    because, why there is nothing to say).
    With ``lint``: lint, what :func:`sartor.measure.lint.lint.lint_model` found, which takes some minutes.
    With ``memory_plan``: memory_plan, :func:`sartor.measure.plan.buffers_of.buffers_of`.
    Raises InputError when the model cannot be found, built, exported or run.
    """
    if lint and latency_model is not None:
        raise InputError("what is linted is timed: leave out --latency-model or --lint")
    runner, predicting = _opened(target, threads, latency_model, batch)
    linted = _linted(model, inputs) if lint else None
    with subject(model, inputs, _rows(batch, predicting)) as found:
        if predicting is not None:
            (timed,) = _predicted([found], runner, predicting)
        elif isinstance(runner, Local):
            timed = kept(
                found.file, runner, lambda: _timed(found, runner, runs), runs=runs, batch=found.batch, fresh=fresh
            )
        else:
            timed = {**_timed(found, runner, runs)[0], "cached": False}
        report = _report(found, runner, timed, memory_plan)
    if linted is not None:
        report["lint"] = lint_model(*linted, target=target, threads=threads)
    return report


def _linted(
    model: str | Path | nn.Module, inputs: Inputs | None
) -> tuple[str | nn.Module, tuple[int, int, int] | None]:
    """What :func:`lint_model` takes: before anything is timed, it shows that there is nothing to lint."""
    if not isinstance(model, nn.Module) and onnx_file(str(model)) is not None:
        return str(model), None
    name, module, example = opened(model, inputs)
    images = images_of(module, example)
    if images is None:
        raise InputError(f"{name} takes no images: linted are networks of images")
    return module, (images.shape[1], images.shape[2], images.shape[3])


def measure_models(
    models: Sequence[str | Path],
    *,
    target: str = "onnxruntime",
    threads: int = 1,
    runs: int = 200,
    batch: int | None = None,
    latency_model: str | Path | None = None,
    memory_plan: bool = False,
) -> list[dict[str, Any]]:
    """As :func:`measure_model` of each of ``models``, timed anew in interleaved rounds, so that the ratios are fair.

    Raises InputError also where their examples are of several batches: give one then.
    """
    runner, predicting = _opened(target, threads, latency_model, batch)
    with contextlib.ExitStack() as stack:
        rows_asked = _rows(batch, predicting)
        found = [stack.enter_context(subject(model, None, rows_asked)) for model in models]
        if predicting is not None:
            timed = _predicted(found, runner, predicting)
        else:
            rows = {one.batch for one in found}
            if len(rows) > 1:
                raise InputError("the examples of these models are of several batches: give one with --batch")
            latencies = runner.latencies([one.file for one in found], runs=runs, batch=rows.pop())
            timed, under = [], None
            for one, latency in zip(found, latencies, strict=True):
                told, under = _told(one, runner, latency, under)  # one machine has one roof
                timed.append({**told, "cached": False})
        return [_report(one, runner, said, memory_plan) for one, said in zip(found, timed, strict=True)]


def _opened(
    target: str, threads: int, latency_model: str | Path | None, batch: int | None
) -> tuple[Target, LatencyModel | None]:
    if batch is not None and batch < 1:
        raise InputError(f"a batch holds one example at least, not {batch}")
    runner = open_target(target, threads)
    return runner, None if latency_model is None else read_latency_model(latency_model, target, threads)


def _rows(batch: int | None, predicting: LatencyModel | None) -> int | None:
    """A latency model predicts one example, however many the model's own have."""
    return 1 if batch is None and predicting is not None else batch


def _report(found: Subject, runner: Target, timed: Timed, memory_plan: bool) -> dict[str, Any]:
    file, counted = found.file, found.counted
    fed = list(inputs_of(file))
    plan = buffers_of(file) if memory_plan else None
    return {
        "model": found.name,
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
        **{name: timed[name] for name in ("cached", "timed_at", "not_kept") if name in timed},
        "size_bytes": file.stat().st_size,
        "input_shape": list(fed[0][1]),
        "inputs": [{"name": name, "shape": list(shape), "dtype": str(dtype)} for name, shape, dtype in fed],
        "modules": [{**asdict(layer), "output_shape": list(layer.output_shape)} for layer in counted.layers],
        **timed["details"],
        "energy": energy(file, runner, run="known" not in timed["latency"]),
        **({"misfits": runner.misfits(file)} if isinstance(runner, Bounded) else {}),
        **({"patches": runner.patched(file)} if isinstance(runner, Patching) else {}),
        **({"memory_plan": plan} if plan else {}),
        "device": device_of(runner),
        "versions": versions(),
    }


def _timed(found: Subject, runner: Target, runs: int) -> tuple[Timed, str | None]:
    """Now, and why not to keep it."""
    latency = runner.latency_ms(found.file, runs=runs, batch=found.batch)
    doubt = "the machine's pace changed on the way" if latency.unsteady else None
    doubt = "the machine never came to rest" if latency.disturbed else doubt
    return _told(found, runner, latency, None)[0], doubt


def _told(found: Subject, runner: Target, latency: Latency, under: Roof | None) -> tuple[Timed, Roof | None]:
    """What was timed, layer by layer; and the roof, which is measured where there is none yet."""
    said = {
        "latency_ms": latency.median_ms,
        "latency_p95_ms": latency.p95_ms,
        "latency_ci_ms": list(latency.ci_ms),
        "target": runner.name,
        "threads": runner.threads,
        "batch": found.batch,
    }
    if isinstance(runner, Local) and runner.converts:
        why = f"{runner.name} takes seconds to convert each file: its layers were not timed one by one"
        layers: dict[str, Any] = {"layers": [], "untold": why}
    else:
        parts = explained(found.file, runner, under=under)
        under, layers = parts.roof, parts.to_dict()
    timing = {**latency.to_dict(), "ci_ms": list(latency.ci_ms)}
    return {"latency": said, "details": {**layers, "timing": timing}}, under


def _predicted(found: Sequence[Subject], runner: Target, model: LatencyModel) -> list[Timed]:
    if any(one.batch > 1 for one in found):
        raise InputError("a latency model predicts one example at a time: leave out --batch")

    def told(said: Predicted) -> Timed:
        latency = {
            "latency_ms": said.ms,
            "latency_ci_ms": [said.low_ms, said.high_ms],
            "known": said.known,
            "target": runner.name,
            "threads": runner.threads,
        }
        return {"latency": latency, "details": {"profile": dict(model.profile.device)}}

    return [told(said) for said in model.predict([one.file for one in found])]
