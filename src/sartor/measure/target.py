"""What runs an exported file and times it. ONNX Runtime on this machine's CPU is the first target."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import onnx
import onnxruntime as ort

from sartor.errors import InputError
from sartor.machine import cores
from sartor.measure.timing import Call, Latency, interleaved, pinned

__all__ = ["TARGETS", "Latency", "OnnxRuntime", "Target", "open_target"]

_DTYPES = {
    "tensor(float)": np.float32,
    "tensor(float16)": np.float16,
    "tensor(double)": np.float64,
    "tensor(uint8)": np.uint8,
    "tensor(int8)": np.int8,
    "tensor(int32)": np.int32,
    "tensor(int64)": np.int64,
    "tensor(bool)": np.bool_,
}


class Target(Protocol):
    """Runs exported files and times them. The suite in tests/contracts/target.py says what a target must keep."""

    @property
    def name(self) -> str: ...

    def latency_ms(
        self, file: Path, *, runs: int = 200, min_time_s: float = 0.3, budget_s: float | None = None
    ) -> Latency: ...

    def latencies(
        self, files: Sequence[Path], *, runs: int = 200, min_time_s: float = 0.3, budget_s: float | None = None
    ) -> list[Latency]: ...

    def run(self, file: Path, batches: Iterable[np.ndarray]) -> Iterator[np.ndarray]: ...


@dataclass(frozen=True)
class OnnxRuntime:
    """ONNX Runtime's CPU provider with ``threads`` intra-op threads and all graph optimisations, as it is deployed."""

    threads: int = 1
    name = "onnxruntime"

    def __post_init__(self) -> None:
        if not isinstance(self.threads, int) or not 1 <= self.threads <= cores():
            raise InputError(f"threads must be from 1 to {cores()}, the cores of this machine, not {self.threads!r}")

    def session(self, file: Path) -> ort.InferenceSession:
        """Load ``file``. Raises InputError when it is missing or ONNX Runtime refuses it."""
        if not file.is_file():
            raise InputError(f"{file} is missing")
        return _session(str(file), self.threads, str(file))

    def latency_ms(
        self, file: Path, *, runs: int = 200, min_time_s: float = 0.3, budget_s: float | None = None
    ) -> Latency:
        """Time batch-1 calls of ``file`` on random input of its shape: ``runs`` calls and ``min_time_s`` at least.

        ``budget_s`` bounds the seconds spent. Raises InputError for a file that cannot be run.
        """
        return self.latencies([file], runs=runs, min_time_s=min_time_s, budget_s=budget_s)[0]

    def latencies(
        self, files: Sequence[Path], *, runs: int = 200, min_time_s: float = 0.3, budget_s: float | None = None
    ) -> list[Latency]:
        """As :meth:`latency_ms` for several files, in interleaved rounds, so that their ratios are fair.

        ``budget_s`` bounds the seconds spent on each file.
        """
        if runs < 1 or (budget_s is not None and budget_s <= 0):
            raise InputError("latency needs at least one run and a positive time budget")
        if not files:
            return []
        with pinned(self.threads) as cpu:  # sessions start their threads inside, so that these are pinned too
            calls = [self._call(file) for file in files]
            return interleaved(
                calls,
                _reference(),
                threads=self.threads,
                cpu=cpu,
                runs=runs,
                min_time_s=min_time_s,
                budget_s=budget_s,
            )

    def run(self, file: Path, batches: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
        """The first output of ``file`` for each batch. Raises InputError when a batch does not fit the file."""
        session = self.session(file)
        feed = session.get_inputs()[0]
        output = session.get_outputs()[0].name
        for batch in batches:
            try:
                yield session.run([output], {feed.name: batch})[0]
            except Exception as error:  # ORT raises its own untyped exceptions, all about shapes and types here
                raise InputError(
                    f"{file} takes {feed.type} {feed.shape}, not {batch.dtype} {list(batch.shape)}"
                ) from error

    def _call(self, file: Path) -> Call:
        session = self.session(file)
        rng = np.random.default_rng(0)
        feeds = {value.name: _random_input(file, value, rng) for value in session.get_inputs()}
        try:
            session.run(None, feeds)
        except Exception as error:
            raise InputError(f"{file} fails on batch-1 input: {str(error).strip().splitlines()[0]}") from error
        return functools.partial(session.run, None, feeds)


def _session(source: str | bytes, threads: int, label: str) -> ort.InferenceSession:
    options = ort.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    # One thread has nobody to wait for. More spin while they wait, as in deployment, but stop between calls: the pool
    # of one network must not take time from the next one in an interleaved round.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0" if threads == 1 else "1")
    options.add_session_config_entry("session.force_spinning_stop", "1")
    try:
        return ort.InferenceSession(source, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # ORT raises its own untyped exceptions
        raise InputError(f"{label} is no ONNX file that ONNX Runtime can run ({_reason(error)})") from error


def _reason(error: Exception) -> str:
    return str(error).strip().splitlines()[0][:200] if str(error).strip() else type(error).__name__


def _random_input(file: Path, value: Any, rng: np.random.Generator) -> np.ndarray:
    if value.type not in _DTYPES:
        raise InputError(f"{file}: input {value.name} has type {value.type}, which cannot be filled with numbers")
    shape = [size if isinstance(size, int) else 1 if axis == 0 else 0 for axis, size in enumerate(value.shape)]
    if 0 in shape:
        raise InputError(f"{file}: input {value.name} is {value.shape}: export it with every size but the batch fixed")
    dtype = _DTYPES[value.type]
    if np.issubdtype(dtype, np.floating):
        return rng.standard_normal(shape).astype(dtype)
    return np.zeros(shape, dtype)


@functools.lru_cache(maxsize=1)
def _reference_file() -> bytes:
    """A fixed 3x3 convolution, 32 channels on 16x16: some tens of microseconds in the runtime that is being timed."""
    weight = np.random.default_rng(0).standard_normal((32, 32, 3, 3)).astype(np.float32)
    graph = onnx.helper.make_graph(
        [onnx.helper.make_node("Conv", ["x", "w"], ["y"], pads=[1, 1, 1, 1])],
        "reference",
        [onnx.helper.make_tensor_value_info("x", onnx.TensorProto.FLOAT, [1, 32, 16, 16])],
        [onnx.helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, [1, 32, 16, 16])],
        [onnx.numpy_helper.from_array(weight, "w")],
    )
    opset = [onnx.helper.make_opsetid("", 18)]
    return onnx.helper.make_model(graph, opset_imports=opset, ir_version=8).SerializeToString()


def _reference() -> Call:
    session = _session(_reference_file(), 1, "the reference")
    x = np.random.default_rng(1).standard_normal((1, 32, 16, 16)).astype(np.float32)
    return functools.partial(session.run, None, {"x": x})


TARGETS = {"onnxruntime": OnnxRuntime}


def open_target(name: str, threads: int = 1) -> OnnxRuntime:
    """The target called ``name``. Raises InputError naming the known ones."""
    if name not in TARGETS:
        raise InputError(f"no target is called {name!r}: choose one of {', '.join(TARGETS)}")
    return TARGETS[name](threads)
