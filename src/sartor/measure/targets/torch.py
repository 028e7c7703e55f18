"""PyTorch on this machine's CPU, eager or compiled, running the file's graph operator by operator."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from sartor.errors import InputError
from sartor.measure.targets.program import Eager, Program, Runner, Tensors
from sartor.measure.targets.settings import read_settings, with_settings

SETTINGS = {"mode": ("eager", "compiled"), "precision": ("fp32", "bf16")}


@dataclass(frozen=True)
class Torch(Program):
    """``mode``: ``eager``, or ``compiled`` by ``torch.compile``, which needs a C++ compiler and takes its time for each
    file. ``precision``: ``bf16`` computes everything in it; the output is fp32 either way.
    """

    threads: int = 1
    mode: str = "eager"
    precision: str = "fp32"

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.mode == "compiled" and not any(map(shutil.which, (os.environ.get("CXX") or "g++", "c++", "clang++"))):
            raise InputError(
                "torch:mode=compiled needs a C++ compiler: install one (apt install g++), or name it in CXX"
            )

    @classmethod
    def open(cls, settings: str, threads: int) -> Torch:
        """From what follows the target's name: see ``targets.named.open_target``."""
        return cls(threads, **read_settings("torch", settings, SETTINGS))

    @property
    def name(self) -> str:  # type: ignore[override]
        """With the settings that are not the default."""
        return with_settings("torch", {key: getattr(self, key) for key in SETTINGS}, SETTINGS)

    @property
    def converts(self) -> bool:
        """See ``targets.local.Local``."""
        return self.mode == "compiled"

    def built(self, module: nn.Module, images: Tensors) -> Runner:
        """See ``targets.program.Program``."""
        if self.precision == "bf16":
            module = _Bf16(module)
        if self.mode == "eager":
            return Eager(module)
        import torch._inductor.config as config

        compiled: Callable[..., Any] = torch.compile(module, fullgraph=True, dynamic=False)
        with config.patch(compile_threads=1):  # no pool of processes that outlives the timing
            compiled(*images)
        return Eager(compiled)


class _Bf16(nn.Module):
    """Takes and gives fp32, as the others do."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module.to(torch.bfloat16)

    def forward(self, *images: torch.Tensor) -> torch.Tensor:
        return self.module(*(x.to(torch.bfloat16) if x.is_floating_point() else x for x in images)).float()
