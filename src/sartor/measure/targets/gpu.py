"""ONNX Runtime on an NVIDIA GPU, by its own kernels or by TensorRT.

Input and output stay in the GPU's memory (IO binding): what is timed is the network, from the call to the result being
there, and no copy over the bus. ``device`` of a latency names the GPU. The reference beside which it is timed is the
CPU's, as for every target, because the CPU is what issues the work.
"""

from __future__ import annotations

import dataclasses
import functools
import os
import subprocess
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import onnxruntime as ort

from sartor.errors import InputError
from sartor.measure.device import fingerprint
from sartor.measure.feeds import random_feeds
from sartor.measure.targets.local import Local, lacking, reason
from sartor.measure.targets.settings import read_settings, with_settings
from sartor.measure.timing import Call, Latency

INSTALL = "pip uninstall onnxruntime; pip install onnxruntime-gpu"


@dataclass(frozen=True)
class Cuda(Local):
    """ONNX Runtime's CUDA provider on the first GPU. ``precision``: ``tf32`` lets fp32 products round to 10 bits."""

    threads: int = 1
    precision: str = "fp32"

    on_cpu: ClassVar[bool] = False
    KIND: ClassVar[str] = "cuda"
    PROVIDER: ClassVar[str] = "CUDAExecutionProvider"
    SETTINGS: ClassVar[dict[str, tuple[str, ...]]] = {"precision": ("fp32", "tf32")}

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.PROVIDER not in ort.get_available_providers():
            raise InputError(
                f"--target {self.KIND} needs an ONNX Runtime with the {self.PROVIDER}, and an NVIDIA GPU: {INSTALL}"
            )

    @classmethod
    def open(cls, settings: str, threads: int) -> Cuda:
        """From what follows the target's name: see ``targets.named.open_target``."""
        return cls(threads, **read_settings(cls.KIND, settings, cls.SETTINGS))

    @property
    def name(self) -> str:  # type: ignore[override]
        """With the settings that are not the default."""
        return with_settings(self.KIND, {"precision": self.precision}, self.SETTINGS)

    @property
    def device(self) -> dict[str, Any]:
        """The fingerprint of the machine and its GPU."""
        return {**fingerprint(), "gpu": _gpu()}

    def options(self) -> dict[str, Any]:
        """The provider's."""
        return {"device_id": 0, "use_tf32": int(self.precision == "tf32")}

    def session(self, file: Path) -> ort.InferenceSession:
        """Load ``file``; what the provider has no kernel for runs on the CPU. Raises InputError."""
        options = ort.SessionOptions()
        options.intra_op_num_threads = self.threads
        options.log_severity_level = 3
        # TensorRT leaves nodes to CUDA's kernels, and both leave some to the CPU.
        others = [p for p in ("CUDAExecutionProvider",) if p != self.PROVIDER]
        try:
            session = ort.InferenceSession(
                str(file), options, providers=[(self.PROVIDER, self.options()), *others, "CPUExecutionProvider"]
            )
        except Exception as error:  # ORT raises its own untyped exceptions
            raise lacking("ONNX Runtime", file, error) or InputError(
                f"{file} is no ONNX file that ONNX Runtime can run ({reason(error)})"
            ) from error
        if self.PROVIDER not in session.get_providers():
            raise InputError(f"the {self.PROVIDER} is installed but does not start: check the GPU's driver and CUDA")
        return session

    def call(self, file: Path, batch: int) -> Call:
        """See ``targets.local.Local``."""
        session, feeds = self.session(file), random_feeds(file, batch)
        binding = session.io_binding()
        try:
            for name, array in feeds.items():
                binding.bind_ortvalue_input(name, ort.OrtValue.ortvalue_from_numpy(array, "cuda", 0))
            for output in session.get_outputs():
                binding.bind_output(output.name, "cuda", 0)
            call = functools.partial(_bound, session, binding)
            call()
        except Exception as error:
            raise InputError(f"{file} fails on batch-{batch} input: {reason(error)}") from error
        return call

    def outputs(self, file: Path, batches: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
        """The first output of ``file`` for each batch. Raises InputError when a batch does not fit the file."""
        session = self.session(file)
        feed, output = session.get_inputs()[0], session.get_outputs()[0].name
        for batch in batches:
            try:
                yield session.run([output], {feed.name: batch})[0]
            except Exception as error:
                raise InputError(
                    f"{file} takes {feed.type} {feed.shape}, not {batch.dtype} {list(batch.shape)}"
                ) from error

    def latencies(self, files: Sequence[Path], **how: Any) -> list[Latency]:
        """See ``targets.local.Local``; the device is the GPU."""
        return [
            dataclasses.replace(one, device=f"{_gpu()} beside {one.device}") for one in super().latencies(files, **how)
        ]


@dataclass(frozen=True)
class TensorRt(Cuda):
    """ONNX Runtime's TensorRT provider: it builds an engine for each file, which takes up to minutes. ``precision``:
    ``fp16`` lets it choose kernels that compute in half precision."""

    KIND: ClassVar[str] = "tensorrt"
    PROVIDER: ClassVar[str] = "TensorrtExecutionProvider"
    SETTINGS: ClassVar[dict[str, tuple[str, ...]]] = {"precision": ("fp32", "fp16")}

    @property
    def converts(self) -> bool:
        """See ``targets.local.Local``."""
        return True

    def options(self) -> dict[str, Any]:
        """The provider's."""
        return {"device_id": 0, "trt_fp16_enable": self.precision == "fp16"}


def _bound(session: ort.InferenceSession, binding: Any) -> None:
    session.run_with_iobinding(binding)
    binding.synchronize_outputs()


@functools.lru_cache(maxsize=1)
def _gpu() -> str:
    """The first that the process may see: its name, the card itself, and the driver. A timing is of all three."""
    first = os.environ.get("CUDA_VISIBLE_DEVICES", "0").partition(",")[0].strip() or "0"
    command = ["nvidia-smi", "--query-gpu=name,uuid,driver_version", "--format=csv,noheader", f"--id={first}"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=10).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return "an NVIDIA GPU"
