"""Static 8-bit quantisation of an exported file: unsigned activations, signed per-channel weights, QDQ form.

ONNX Runtime's CPU kernels are fast for exactly this combination. Its quantiser places the QDQ nodes; the calibration
is ours, because ORT's histogram calibrators keep every activation of every batch in memory, refuse a ragged last
batch, print, and clip on 128 bins.

Source: Jacob et al. (arXiv 1712.05877) for the scheme; Krishnamoorthi (arXiv 1806.08342) for per-channel weights;
Banner et al. (arXiv 1810.05723) and Wu et al. (arXiv 2004.09602) for clipping by mean squared error and percentile.
"""

from __future__ import annotations

import contextlib
import errno
import io
import logging
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Literal

import numpy as np
import onnx
import onnxruntime as ort

from sartor.compress.isa import needs_reduced_range
from sartor.disk import explain, write_atomic
from sartor.errors import InputError

Method = Literal["minmax", "percentile", "mse"]
METHODS: tuple[Method, ...] = ("minmax", "percentile", "mse")

_BINS = 2048
_PERCENTILE = 99.99
_LEVELS = 255
_SEEN = 2**17
"""At most about this many values of a tensor a batch go into its histogram."""


def quantize_int8(
    file: Path,
    out: Path,
    calibration: Iterable[np.ndarray],
    *,
    method: Method = "mse",
    exclude: Iterable[str] = (),
) -> None:
    """Write ``file``'s 8-bit version to ``out``; batch, input and metadata_props stay as they are.

    ``calibration``: float32 [n, C, H, W] batches, already normalised as the model expects; it is read twice when it
    is a list, and kept in memory when it is an iterator (100 to 500 images are enough). ``method`` sets each
    activation's range: ``minmax`` keeps every value, ``percentile`` cuts 0.01%, ``mse`` takes the clipping with the
    least squared error. ``exclude`` names nodes to leave in fp32. Raises InputError.
    """
    if method not in METHODS:
        raise InputError(f"{method!r} is no calibration method: choose one of {', '.join(METHODS)}")
    batches = [_checked(batch) for batch in calibration]
    if not batches:
        raise InputError("calibration needs at least one batch of images")
    with quiet(), tempfile.TemporaryDirectory() as folder:
        prepared = _prepared(file, Path(folder))
        ranges = _ranges(prepared, batches, method)
        proto = _quantized(prepared, ranges, tuple(exclude))
    del proto.metadata_props[:]
    onnx.helper.set_model_props(proto, {p.key: p.value for p in onnx.load(str(file)).metadata_props})
    write_atomic(out, proto.SerializeToString())


def _checked(batch: np.ndarray) -> np.ndarray:
    if batch.dtype != np.float32 or batch.ndim != 4:
        raise InputError(f"calibration needs float32 batches of [n, C, H, W], not {batch.dtype} {list(batch.shape)}")
    if not np.isfinite(batch).all():
        raise InputError("calibration images hold NaN or infinity")
    return batch


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """ORT's quantiser logs advice on the root logger, prints, and opens sessions that warn."""
    disabled = logging.root.manager.disable
    logging.disable(logging.WARNING)
    ort.set_default_logger_severity(3)
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            yield
    finally:
        logging.disable(disabled)
        ort.set_default_logger_severity(2)  # ORT's own default; it cannot be read


def _prepared(file: Path, folder: Path) -> onnx.ModelProto:
    """ORT's pre-processing: constants and batch norms folded, shapes inferred."""
    from onnxruntime.quantization import quant_pre_process

    done = folder / "prepared.onnx"
    try:
        quant_pre_process(str(file), str(done), skip_symbolic_shape=True)
        proto = onnx.load(str(done))
    except Exception as error:
        if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise explain(error, done) from error
        raise InputError(f"{file} cannot be prepared for quantisation: {str(error).strip().splitlines()[0]}") from error
    if any(node.op_type in ("QuantizeLinear", "DequantizeLinear", "QLinearConv") for node in proto.graph.node):
        raise InputError(f"{file} is already quantised: give the fp32 file")
    return proto


def _activations(proto: onnx.ModelProto) -> list[str]:
    """Names of every float tensor that a node computes, in the file's order."""
    known = {v.name: v.type.tensor_type.elem_type for v in (*proto.graph.value_info, *proto.graph.output)}
    names = [name for node in proto.graph.node for name in node.output]
    return [name for name in names if known.get(name) == onnx.TensorProto.FLOAT]


def _observed(proto: onnx.ModelProto, batches: list[np.ndarray]) -> Iterator[tuple[str, np.ndarray]]:
    """(name, values) of the input and of every activation, one batch in memory at a time."""
    names = _activations(proto)
    exposing = onnx.ModelProto()
    exposing.CopyFrom(proto)
    there = {value.name for value in proto.graph.output}
    exposing.graph.output.extend(onnx.helper.make_tensor_value_info(n, 1, None) for n in names if n not in there)
    options = ort.SessionOptions()
    options.log_severity_level = 3
    try:
        session = ort.InferenceSession(exposing.SerializeToString(), options, providers=["CPUExecutionProvider"])
        fed = session.get_inputs()[0].name
        for batch in batches:
            values = session.run(names, {fed: batch})
            yield fed, batch
            yield from zip(names, values, strict=True)
    except Exception as error:  # ORT's own types: a batch of another shape, no memory for all activations
        raise InputError(f"calibration failed: {(str(error) or repr(error)).strip().splitlines()[0]}") from error


def _ranges(proto: onnx.ModelProto, batches: list[np.ndarray], method: Method) -> dict[str, tuple[float, float]]:
    """(low, high) of each activation: one pass for the extremes, a second one for the histograms between them."""
    extremes: dict[str, tuple[float, float]] = {}
    for name, value in _observed(proto, batches):
        if not np.isfinite(value).all():
            raise InputError(f"the model computes NaN or infinity on calibration images (tensor {name})")
        low, high = extremes.get(name, (np.inf, -np.inf))
        extremes[name] = (min(low, float(value.min())), max(high, float(value.max())))
    if method == "minmax":
        return extremes
    counts = {name: np.zeros(_BINS, np.int64) for name in extremes}
    for name, value in _observed(proto, batches):
        counts[name] += _histogram(value, *extremes[name])
    clip = _by_percentile if method == "percentile" else _by_mse
    return {name: clip(counts[name], *extremes[name]) for name in extremes}


def _histogram(value: np.ndarray, low: float, high: float) -> np.ndarray:
    """Counts of the non-zero values in equal bins between low and high.

    Zeros are exact in 8 bits whatever the range, and half of what a ReLU gives. Every k-th value is enough: odd k
    walks through all channels and places.
    """
    flat = value.reshape(-1)[:: len(value.reshape(-1)) // _SEEN | 1]
    flat = flat[flat != 0]
    if high <= low:
        return np.zeros(_BINS, np.int64)
    index = ((flat - np.float32(low)) * np.float32(_BINS / (high - low))).astype(np.int32)
    return np.bincount(np.clip(index, 0, _BINS - 1), minlength=_BINS)


def _by_percentile(counts: np.ndarray, low: float, high: float) -> tuple[float, float]:
    """The range that leaves (100 - percentile) / 2 per cent of the values out on either side."""
    if not counts.any():
        return low, high
    edges = np.linspace(low, high, _BINS + 1)
    share = np.cumsum(counts) / counts.sum()
    cut = (100 - _PERCENTILE) / 200
    first = int(np.searchsorted(share, cut))
    last = int(np.searchsorted(share, 1 - cut))
    return float(edges[min(first, _BINS - 1)]), float(edges[min(last + 1, _BINS)])


def _by_mse(counts: np.ndarray, low: float, high: float) -> tuple[float, float]:
    """The range with the least squared error, rounding and clipping together, over a grid of clippings.

    Both ends shrink towards zero by the same factor: after a ReLU one of them is zero, which stays.
    """
    edges = np.linspace(low, high, _BINS + 1)
    centres = (edges[:-1] + edges[1:]) / 2
    best, least = (low, high), np.inf
    for factor in np.linspace(1.0, 0.3, 36):
        a, b = min(low * factor, 0.0), max(high * factor, 0.0)
        step = (b - a) / _LEVELS
        error = float((counts * (centres - np.clip(centres, a, b)) ** 2).sum()) + counts.sum() * step**2 / 12
        if error < least:
            best, least = (a, b), error
    return best


def _quantized(
    proto: onnx.ModelProto, ranges: dict[str, tuple[float, float]], exclude: tuple[str, ...]
) -> onnx.ModelProto:
    from onnxruntime.quantization import CalibrationMethod, QuantType
    from onnxruntime.quantization.calibrate import TensorsData
    from onnxruntime.quantization.qdq_quantizer import QDQQuantizer
    from onnxruntime.quantization.registry import QDQRegistry, QLinearOpsRegistry

    unknown = set(exclude) - {node.name for node in proto.graph.node}
    if unknown:
        raise InputError(f"no node named {', '.join(sorted(unknown))} to leave in fp32")
    data = {name: (np.float32(low), np.float32(high)) for name, (low, high) in ranges.items()}
    quantizer = QDQQuantizer(
        proto,
        per_channel=True,
        reduce_range=needs_reduced_range(),
        weight_qType=QuantType.QInt8,
        activation_qType=QuantType.QUInt8,
        tensors_range=TensorsData(CalibrationMethod.MinMax, data),
        nodes_to_quantize=[],
        nodes_to_exclude=list(exclude),
        op_types_to_quantize=sorted({*QLinearOpsRegistry, *QDQRegistry}),
        extra_options={},
    )
    try:
        quantizer.quantize_model()
    except Exception as error:  # ORT's quantiser raises plain ValueErrors and KeyErrors
        raise InputError(f"the file cannot be quantised: {(str(error) or repr(error)).splitlines()[0]}") from error
    quantizer.model.topological_sort()  # it appends nodes; ONNX Runtime sorts for itself, the ONNX checker refuses
    return _compact(quantizer.model.model)


def _compact(proto: onnx.ModelProto) -> onnx.ModelProto:
    """Numbers for tensors' names and no stored shapes: they are much of a small network's file, and size has a budget.
    Nodes that compute keep their names, by which they are found in a profile."""
    graph = proto.graph
    graph.ClearField("value_info")
    numbers = {value.name: value.name for value in (*graph.input, *graph.output)} | {"": ""}
    width = len(numbers)

    def short(name: str) -> str:
        return numbers.setdefault(name, f"t{len(numbers) - width}")

    for tensor in graph.initializer:
        tensor.name = short(tensor.name)
    for node in graph.node:
        if node.op_type in ("QuantizeLinear", "DequantizeLinear"):
            node.ClearField("name")
        node.input[:] = [short(name) for name in node.input]
        node.output[:] = [short(name) for name in node.output]
    return proto
