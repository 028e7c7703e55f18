"""ONNX Runtime on this machine's CPU."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnxruntime as ort

from sartor.errors import InputError
from sartor.measure.feeds import random_feeds
from sartor.measure.targets.local import Local
from sartor.measure.targets.settings import read_settings
from sartor.measure.timing import Call

_LEVELS = {
    "all": ort.GraphOptimizationLevel.ORT_ENABLE_ALL,
    "extended": ort.GraphOptimizationLevel.ORT_ENABLE_EXTENDED,
    "basic": ort.GraphOptimizationLevel.ORT_ENABLE_BASIC,
    "off": ort.GraphOptimizationLevel.ORT_DISABLE_ALL,
}
SETTINGS = {"optimisation": tuple(_LEVELS), "arena": ("on", "off")}


@dataclass(frozen=True)
class OnnxRuntime(Local):
    """ONNX Runtime's CPU provider with ``threads`` intra-op threads.

    ``optimisation``: of the graph, ``all`` as it is deployed, ``extended``, ``basic`` or ``off``. ``arena``: whether
    activations come from an arena, which keeps what it took.
    """

    threads: int = 1
    optimisation: str = "all"
    arena: str = "on"

    @classmethod
    def open(cls, settings: str, threads: int) -> OnnxRuntime:
        """From what follows the target's name: see ``targets.named.open_target``."""
        return cls(threads, **read_settings("onnxruntime", settings, SETTINGS))

    @property
    def name(self) -> str:  # type: ignore[override]
        """With the settings that are not the default."""
        own = {"optimisation": self.optimisation, "arena": self.arena}
        changed = ",".join(f"{key}={value}" for key, value in own.items() if value != SETTINGS[key][0])
        return f"onnxruntime:{changed}" if changed else "onnxruntime"

    def session(self, file: Path) -> ort.InferenceSession:
        """Load ``file``. Raises InputError when it is missing or ONNX Runtime refuses it."""
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
        try:
            return ort.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])
        except Exception as error:  # ORT raises its own untyped exceptions
            raise InputError(f"{file} is no ONNX file that ONNX Runtime can run ({_reason(error)})") from error

    def call(self, file: Path, batch: int) -> Call:
        """See ``targets.local.Local``."""
        session, feeds = self.session(file), random_feeds(file, batch)
        try:
            session.run(None, feeds)
        except Exception as error:
            raise InputError(f"{file} fails on batch-{batch} input: {_reason(error)}") from error
        return functools.partial(session.run, None, feeds)

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


def _reason(error: Exception) -> str:
    return str(error).strip().splitlines()[0][:200] if str(error).strip() else type(error).__name__
