"""Everything there is to say about one model before any work: size, cost, memory, latency, layer by layer."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from sartor.errors import InputError
from sartor.graph.capture import Inputs, arguments
from sartor.measure.counts import Counts, counts_of
from sartor.measure.device import versions
from sartor.measure.energy.energy import energy
from sartor.measure.feeds import inputs as inputs_of
from sartor.measure.file_of import exported, exported_with, onnx_file
from sartor.measure.graph_counts import graph_counts
from sartor.measure.kept import kept
from sartor.measure.layers.measured import explained
from sartor.measure.lint.lint import lint_model
from sartor.measure.plan.onnx_file import plan_file
from sartor.measure.targets.local import Local
from sartor.measure.targets.named import open_target
from sartor.measure.targets.target import Bounded, Patching, Target, device_of, memory_of
from sartor.measure.trial import admit
from sartor.measure.units.model import LatencyModel, read_latency_model


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
    makes of activations that are too large (peak_activation_bytes, overhead in MACs, latency_ms, fits, cuts).
    With ``lint``: lint, what :func:`sartor.measure.lint.lint.lint_model` found, which takes some minutes.
    Raises InputError when the model cannot be found, built, exported or run.
    """
    if lint and latency_model is not None:
        raise InputError("what is linted is timed: leave out --latency-model or --lint")
    runner = open_target(target, threads)
    predicting = None if latency_model is None else read_latency_model(latency_model, target, threads)
    if batch is not None and batch < 1:
        raise InputError(f"a batch holds one example at least, not {batch}")
    with _subject(model, inputs, batch) as found:
        if predicting is None:
            timed = _timed(found.file, runner=runner, runs=runs, batch=found.batch, fresh=fresh)
        elif found.batch > 1:
            raise InputError("a latency model predicts one example at a time: leave out --batch")
        else:
            timed = _predicted(found.file, runner=runner, model=predicting)
        report = _report(found, runner, timed)
    if lint:
        images = _images(inputs) if isinstance(model, nn.Module) and inputs is not None else None
        shape = None if images is None else (images.shape[1], images.shape[2], images.shape[3])
        named = model if isinstance(model, nn.Module) else str(model)
        report["lint"] = lint_model(named, shape, target=target, threads=threads)
    return report


@dataclass(frozen=True)
class _Subject:
    """What is measured: its name, the file that is timed, what was counted of it, and how many examples a call has."""

    name: str
    file: Path
    counted: Counts
    batch: int


@contextlib.contextmanager
def _subject(model: str | Path | nn.Module, inputs: Inputs | None, batch: int | None) -> Iterator[_Subject]:
    """A module's file is gone afterwards."""
    if not isinstance(model, (str, Path, nn.Module)):
        raise InputError(f"a model is its name, a file or an nn.Module, not {type(model).__name__}")
    file = None if isinstance(model, nn.Module) else onnx_file(str(model))
    if file is not None:
        if inputs is not None:
            raise InputError(f"{file} has inputs of its own: leave out the example")
        admit(file)  # what is counted below is counted by running it
        yield _Subject(str(model), file, graph_counts(file), batch or 1)
        return
    name, module, example = _opened(model, inputs)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "model.onnx"
        images = _images(example)
        if images is None:
            if (batch or 1) > 1:
                raise InputError(
                    f"{name} is timed with inputs of the example's own sizes: leave out the batch, "
                    f"or give an example of {batch} rows"
                )
            counted = counts_of(module, example)  # first: it says best why a module does not take an example
            yield _Subject(name, exported_with(module, example, file), counted, 1)
            return
        rows = batch or len(images)
        counted = counts_of(module, images[:1], f"images of {tuple(images.shape[1:])}")
        yield _Subject(name, _image_file(module, images, rows, file), counted, rows)


def _opened(model: str | Path | nn.Module, inputs: Inputs | None) -> tuple[str, nn.Module, Inputs]:
    if isinstance(model, nn.Module):
        if inputs is None:
            raise InputError(f"what {type(model).__name__} is called with must be told: give example inputs")
        return type(model).__name__, model, inputs
    # Imported late: a bare .onnx file needs no models.
    from sartor.models.zoo import open_model

    with torch.random.fork_rng(devices=[]):  # the same numbers for the same model each time, and nobody else's draws
        torch.manual_seed(0)
        opened = open_model(str(model))
    return str(model), opened.module, opened.inputs if inputs is None else inputs


def _images(example: Inputs) -> torch.Tensor | None:
    """The images, where ``example`` is one batch of them and nothing else. Raises InputError for an empty example."""
    args, kwargs = arguments(example)
    values = (*args, *kwargs.values())
    if any(isinstance(value, torch.Tensor) and not value.numel() for value in values):
        raise InputError("an example input is empty: give one of the sizes that the model is called with")
    first = values[0] if len(values) == 1 else None
    images = isinstance(first, torch.Tensor) and first.dim() == 4 and first.dtype == torch.float32
    return first if images else None


def _image_file(module: nn.Module, images: torch.Tensor, rows: int, file: Path) -> Path:
    """With any batch; where a network returns more than one tensor, or takes one image only, with that."""
    channels, height, width = images.shape[1:]
    try:
        return exported(module, (channels, height, width), file)
    except InputError:
        if rows > 1:
            raise
        return exported_with(module, images[:1], file)


def _report(found: _Subject, runner: Target, timed: dict[str, Any]) -> dict[str, Any]:
    file, counted = found.file, found.counted
    fed = list(inputs_of(file))
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
        "planned_activation_bytes": plan_file(file).arena_bytes,
        **timed["latency"],
        **{name: timed[name] for name in ("cached", "timed_at", "not_kept") if name in timed},
        "size_bytes": file.stat().st_size,
        "input_shape": list(fed[0][1]),
        "inputs": [{"name": name, "shape": list(shape), "dtype": str(dtype)} for name, shape, dtype in fed],
        "modules": [{**asdict(layer), "output_shape": list(layer.output_shape)} for layer in counted.layers],
        **timed["details"],
        **({"misfits": runner.misfits(file)} if isinstance(runner, Bounded) else {}),
        **({"patches": runner.patched(file)} if isinstance(runner, Patching) else {}),
        "device": device_of(runner),
        "versions": versions(),
    }


def _timed(file: Path, *, runner: Target, runs: int, batch: int, fresh: bool) -> dict[str, Any]:
    """Now, or before, where that is kept: only what this machine really timed."""

    def make() -> tuple[dict[str, Any], str | None]:
        latency = runner.latency_ms(file, runs=runs, batch=batch)
        found = {
            "latency_ms": latency.median_ms,
            "latency_p95_ms": latency.p95_ms,
            "latency_ci_ms": list(latency.ci_ms),
            "target": runner.name,
            "threads": runner.threads,
            "batch": batch,
        }
        timing = {**latency.to_dict(), "ci_ms": list(latency.ci_ms)}
        doubt = "the machine's pace changed on the way" if latency.unsteady else None
        doubt = "the machine never came to rest" if latency.disturbed else doubt
        details = {**_explained(file, runner), "timing": timing, "energy": energy(file, runner)}
        return {"latency": found, "details": details}, doubt

    if isinstance(runner, Local):
        return kept(file, runner, make, runs=runs, batch=batch, fresh=fresh)
    return {**make()[0], "cached": False}


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
    return {
        "latency": found,
        "details": {"profile": dict(model.profile.device), "energy": energy(file, runner, run=False)},
    }
