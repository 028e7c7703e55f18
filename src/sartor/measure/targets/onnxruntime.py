"""ONNX Runtime on this machine's CPU."""

from __future__ import annotations

import functools
import platform
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnxruntime as ort

from sartor.errors import InputError
from sartor.measure.feeds import random_feeds
from sartor.measure.targets.local import Local, lacking, reason
from sartor.measure.targets.settings import read_settings, with_settings
from sartor.measure.timing import Call

_LEVELS = {
    "all": ort.GraphOptimizationLevel.ORT_ENABLE_ALL,
    "extended": ort.GraphOptimizationLevel.ORT_ENABLE_EXTENDED,
    "basic": ort.GraphOptimizationLevel.ORT_ENABLE_BASIC,
    "off": ort.GraphOptimizationLevel.ORT_DISABLE_ALL,
}
SETTINGS = {
    "optimisation": tuple(_LEVELS),
    "arena": ("on", "off"),
    "precision": ("fp32", "bf16"),
    "denormals": ("keep", "zero"),
}


@dataclass(frozen=True)
class OnnxRuntime(Local):
    """ONNX Runtime's CPU provider with ``threads`` intra-op threads.

    ``optimisation``: of the graph, ``all`` as it is deployed, ``extended``, ``basic`` or ``off``. ``arena``: whether
    activations come from an arena, which keeps what it took. ``precision``: ``bf16`` multiplies fp32 matrices in bf16,
    which the provider can do on ARM only. ``denormals``: whether numbers below 1e-38 are computed with or taken for
    zero; they are slow on some CPUs.
    """

    threads: int = 1
    optimisation: str = "all"
    arena: str = "on"
    precision: str = "fp32"
    denormals: str = "keep"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.precision == "bf16" and platform.machine() not in ("aarch64", "arm64"):
            raise InputError(
                f"onnxruntime:precision=bf16 is for ARM: on {platform.machine()} its CPU provider multiplies in the "
                "file's own precision; openvino:precision=bf16 may be what you look for"
            )

    @classmethod
    def open(cls, settings: str, threads: int) -> OnnxRuntime:
        """From what follows the target's name: see ``targets.named.open_target``."""
        return cls(threads, **read_settings("onnxruntime", settings, SETTINGS))

    @property
    def name(self) -> str:  # type: ignore[override]
        """With the settings that are not the default."""
        return with_settings("onnxruntime", {key: getattr(self, key) for key in SETTINGS}, SETTINGS)

    def session(
        self, file: Path, *, profile: Path | None = None, optimised: Path | None = None
    ) -> ort.InferenceSession:
        """Load ``file``. Raises InputError when it is missing or ONNX Runtime refuses it.

        ``profile``: how the name of the file begins into which each call's kernels are written, once profiling ends.
        ``optimised``: where the file that really runs is put.
        """
        if not file.is_file():
            raise InputError(f"{file} is missing")
        options = ort.SessionOptions()
        options.intra_op_num_threads = self.threads
        options.inter_op_num_threads = 1
        options.log_severity_level = 3
        options.graph_optimization_level = _LEVELS[self.optimisation]
        options.enable_cpu_mem_arena = self.arena == "on"
        # One thread has nobody to wait for. More spin while they wait, as in deployment, but stop between calls: the
        # pool of one network must not take time from the next one in an interleaved round.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0" if self.threads == 1 else "1")
        options.add_session_config_entry("session.force_spinning_stop", "1")
        options.add_session_config_entry("session.set_denormal_as_zero", "1" if self.denormals == "zero" else "0")
        if profile is not None:
            options.enable_profiling = True
            options.profile_file_prefix = str(profile)
        if optimised is not None:
            options.optimized_model_filepath = str(optimised)
        if self.precision == "bf16":
            options.add_session_config_entry("mlas.enable_gemm_fastmath_arm64_bfloat16", "1")
        try:
            return ort.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])
        except Exception as error:  # ORT raises its own untyped exceptions
            raise lacking("ONNX Runtime", file, error) or InputError(
                f"{file} is no ONNX file that ONNX Runtime can run ({reason(error)})"
            ) from error

    def call(self, file: Path, batch: int) -> Call:
        """See ``targets.local.Local``."""
        session, feeds = self.session(file), random_feeds(file, batch)
        try:
            session.run(None, feeds)
        except Exception as error:
            raise InputError(f"{file} fails on batch-{batch} input: {reason(error)}") from error
        return functools.partial(session.run, None, feeds)

    def outputs(self, file: Path, batches: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
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
