"""Everything there is to say about one model before any work: size, cost, memory, latency, layer by layer."""

from __future__ import annotations

import difflib
import importlib.util
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import Any

from sartor.errors import InputError
from sartor.measure.device import fingerprint, versions
from sartor.measure.graph_counts import graph_counts
from sartor.measure.memory import peak_activation_bytes
from sartor.measure.profile import profile
from sartor.measure.target import open_target

DEFAULT_SHAPE = (3, 224, 224)


def measure_model(spec: str, *, target: str = "onnxruntime", threads: int = 1, runs: int = 200) -> dict[str, Any]:
    """Measure the model that ``spec`` names; a JSON-able dict.

    ``timm:NAME`` (fresh weights, nothing is downloaded), an ``.onnx`` file, a directory that holds ``model.onnx``, or
    ``file.py:function`` whose function returns an ``nn.Module``, or a module and its image shape (C, H, W); without
    one, the function's or module's ``input_shape`` or 3x224x224 is taken. The function's file is executed.

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

    module, shape = _timm_module(spec[5:]) if spec.startswith("timm:") else _function_module(spec)
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
        "input_shape": runner.session(file).get_inputs()[0].shape,
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


def _timm_module(name: str) -> tuple[Any, tuple[int, int, int]]:
    from sartor.measure.torchvision_ops import define_missing_ops

    define_missing_ops()
    try:
        import timm
    except ModuleNotFoundError as error:
        raise InputError("timm: models need timm: pip install timm") from error
    if not timm.is_model(name.split(".")[0]):
        near = difflib.get_close_matches(name, timm.list_models(), n=3)
        raise InputError(f"timm has no model {name!r}" + (f": did you mean {', '.join(near)}?" if near else ""))
    try:
        module = timm.create_model(name, pretrained=False)
    except (RuntimeError, ValueError) as error:  # an unknown tag after the dot
        raise InputError(f"timm cannot build {name!r}: {(str(error) or repr(error)).splitlines()[0]}") from error
    _fill_zero_gains(module)
    return module, _shape(getattr(module, "pretrained_cfg", {}).get("input_size", DEFAULT_SHAPE))


def _fill_zero_gains(module: Any) -> None:
    """Residual branches that start at zero fold to all-zero convolutions, which the exporter stores only once: the
    file of a fresh resnet18 was a quarter too small. A trained one has no such zeros."""
    for name, parameter in module.named_parameters():
        if parameter.ndim == 1 and name.endswith("weight") and not parameter.detach().any():
            parameter.data.fill_(1.0)


def _function_module(spec: str) -> tuple[Any, tuple[int, int, int]]:
    source, _, name = spec.rpartition(":")
    if not source.endswith(".py") or not name:
        raise InputError(f"{spec!r} is no model: write timm:NAME, FILE.onnx, a model directory, or FILE.py:FUNCTION")
    if not Path(source).is_file():
        raise InputError(f"{source} is missing")
    found = importlib.util.spec_from_file_location("measured_model", source)
    if found is None or found.loader is None:
        raise InputError(f"{source} cannot be read as Python")
    namespace = importlib.util.module_from_spec(found)
    sys.modules[found.name] = namespace  # where dataclasses and typing look their module up
    try:
        found.loader.exec_module(namespace)
    except Exception as error:  # the user's own code
        raise InputError(f"{source} fails: {type(error).__name__}: {error}") from error
    function = getattr(namespace, name, None)
    if not callable(function):
        raise InputError(f"{source} has no function {name}")
    try:
        built = function()
    except Exception as error:
        raise InputError(f"{spec} fails: {type(error).__name__}: {error}") from error
    module, shape = built if isinstance(built, tuple) and len(built) == 2 else (built, None)
    shape = shape or getattr(function, "input_shape", None) or getattr(module, "input_shape", None) or DEFAULT_SHAPE
    from torch import nn

    if not isinstance(module, nn.Module):
        raise InputError(f"{spec} returns {type(module).__name__}: an nn.Module, or one and its shape, is needed")
    return module, _shape(shape)


def _shape(value: Any) -> tuple[int, int, int]:
    try:
        channels, height, width = (int(size) for size in value)
    except (TypeError, ValueError) as error:
        raise InputError(f"an image shape is three numbers (channels, height, width), not {value!r}") from error
    return channels, height, width
