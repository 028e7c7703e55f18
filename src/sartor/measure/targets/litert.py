"""LiteRT (TensorFlow Lite) on this machine's CPU, through its XNNPACK delegate, as Android runs it."""

from __future__ import annotations

import contextlib
import io
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from sartor.measure.targets.optional import needed, quiet
from sartor.measure.targets.program import Program, Runner, Tensors
from sartor.measure.targets.settings import read_settings
from sartor.measure.timing import Call

INSTALL = "pip install 'sartor[litert]'"


@dataclass(frozen=True)
class LiteRt(Program):
    """Converted by litert-torch, which takes seconds a file."""

    threads: int = 1

    def __post_init__(self) -> None:
        super().__post_init__()
        with quiet():
            needed("ai_edge_litert.interpreter", "litert", INSTALL)
            needed("litert_torch", "litert", INSTALL)

    @classmethod
    def open(cls, settings: str, threads: int) -> LiteRt:
        """From what follows the target's name: see ``targets.named.open_target``."""
        read_settings("litert", settings, {})
        return cls(threads)

    @property
    def name(self) -> str:  # type: ignore[override]
        return "litert"

    @property
    def converts(self) -> bool:
        """See ``targets.local.Local``."""
        return True

    def built(self, module: nn.Module, images: Tensors) -> Runner:
        """See ``targets.program.Program``."""
        said = io.StringIO()  # its progress, step by step
        with torch.inference_mode(False), torch.no_grad(), contextlib.redirect_stdout(said), quiet():
            own = tuple(x.clone() for x in images)  # an export takes no tensors of inference mode
            converted = needed("litert_torch", "litert", INSTALL).convert(module, own)
            with tempfile.TemporaryDirectory() as folder:
                converted.export(str(Path(folder) / "model.tflite"))
                content = (Path(folder) / "model.tflite").read_bytes()
            return _Interpreter(content, self.threads)


class _Interpreter(Runner):
    def __init__(self, content: bytes, threads: int) -> None:
        runtime: Any = needed("ai_edge_litert.interpreter", "litert", INSTALL)
        self._interpreter = runtime.Interpreter(model_content=content, num_threads=threads)
        self._interpreter.allocate_tensors()

    def run(self, images: Tensors) -> np.ndarray:
        self.bound(images)()
        return self._interpreter.get_tensor(self._interpreter.get_output_details()[0]["index"])

    def bound(self, images: Tensors) -> Call:
        for detail, x in zip(self._interpreter.get_input_details(), images, strict=True):
            self._interpreter.set_tensor(detail["index"], x.numpy())
        return self._interpreter.invoke
