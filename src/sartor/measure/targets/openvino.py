"""OpenVINO on this machine's CPU, reading the ONNX file as it is."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from sartor.errors import InputError
from sartor.measure.feeds import random_feeds
from sartor.measure.targets.local import Local, lacking, reason
from sartor.measure.targets.optional import needed
from sartor.measure.targets.settings import read_settings, with_settings
from sartor.measure.timing import Call

SETTINGS = {"precision": ("fp32", "bf16")}
_HINTS = {"fp32": "f32", "bf16": "bf16"}


@dataclass(frozen=True)
class OpenVino(Local):
    """OpenVINO's CPU plugin with ``threads`` threads and one stream: the latency of one request.

    ``precision``: what convolutions and matrix products are computed in, ``fp32``, or ``bf16`` where the CPU has
    instructions for it. Left to itself OpenVINO takes bf16 wherever it can, which is not what was trained.
    """

    threads: int = 1
    precision: str = "fp32"

    def __post_init__(self) -> None:
        super().__post_init__()
        able = self.core().get_property("CPU", "OPTIMIZATION_CAPABILITIES")
        if self.precision == "bf16" and "BF16" not in able:
            raise InputError("openvino:precision=bf16 needs a CPU with bf16 instructions: this one computes in fp32")

    @classmethod
    def open(cls, settings: str, threads: int) -> OpenVino:
        """From what follows the target's name: see ``targets.named.open_target``."""
        return cls(threads, **read_settings("openvino", settings, SETTINGS))

    @property
    def name(self) -> str:  # type: ignore[override]
        """With the settings that are not the default."""
        return with_settings("openvino", {"precision": self.precision}, SETTINGS)

    @staticmethod
    def core() -> Any:
        """OpenVINO's device. Raises InputError where it is not installed."""
        return _core()

    def compiled(self, file: Path, shapes: dict[str, tuple[int, ...]] | None = None) -> Any:
        """Load ``file``, for inputs of these shapes only where they are given. Raises InputError."""
        try:
            model = self.core().read_model(str(file))
            if shapes:
                model.reshape({name: list(shape) for name, shape in shapes.items()})
            return self.core().compile_model(
                model,
                "CPU",
                {
                    "PERFORMANCE_HINT": "LATENCY",
                    "NUM_STREAMS": "1",
                    "INFERENCE_NUM_THREADS": str(self.threads),
                    "INFERENCE_PRECISION_HINT": _HINTS[self.precision],
                    # ``timing.pinned`` chose the cores already; OpenVINO would pin to the first.
                    "ENABLE_CPU_PINNING": "NO",
                },
            )
        except Exception as error:  # OpenVINO's own, a RuntimeError mostly
            raise lacking("OpenVINO", file, error) or InputError(
                f"{file} is no ONNX file that OpenVINO can run ({reason(error)})"
            ) from error

    def call(self, file: Path, batch: int) -> Call:
        """See ``targets.local.Local``. The input lies in OpenVINO's hands already, and the output is not copied."""
        feeds = random_feeds(file, batch)
        request = self.compiled(file, {name: array.shape for name, array in feeds.items()}).create_infer_request()
        openvino = needed("openvino", "openvino", INSTALL)
        try:
            for name, array in feeds.items():
                request.set_tensor(name, openvino.Tensor(array, shared_memory=True))
            call = functools.partial(request.infer, share_outputs=True)
            call()
        except Exception as error:
            raise InputError(f"{file} fails on batch-{batch} input: {reason(error)}") from error
        return _Holding(call, feeds)

    def outputs(self, file: Path, batches: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
        """The first output of ``file`` for each batch. Raises InputError when a batch does not fit the file."""
        compiled = self.compiled(file)
        feed = compiled.inputs[0]
        request = compiled.create_infer_request()
        takes, shape = np.dtype(feed.element_type.to_dtype()), feed.partial_shape
        for batch in batches:
            # OpenVINO itself converts other types, and computes with other shapes what memory happens to hold.
            fits = batch.dtype == takes and shape.compatible(type(shape)(list(batch.shape)))
            if not fits:
                raise InputError(f"{file} takes {takes} {shape}, not {batch.dtype} {list(batch.shape)}")
            try:
                yield np.array(request.infer({feed: batch})[compiled.outputs[0]])
            except Exception as error:
                raise InputError(f"{file} fails on {list(batch.shape)} input: {reason(error)}") from error


class _Holding:
    """A call that keeps alive the memory its input lies in."""

    def __init__(self, call: Call, feeds: dict[str, np.ndarray]) -> None:
        self._call, self._feeds = call, feeds

    def __call__(self) -> object:
        return self._call()


INSTALL = "pip install 'sartor[openvino]'"


@functools.lru_cache(maxsize=1)
def _core() -> Any:
    return needed("openvino", "openvino", INSTALL).Core()
