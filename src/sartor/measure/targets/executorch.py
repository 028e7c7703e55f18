"""ExecuTorch on this machine's CPU: the file's program, lowered to XNNPACK, as phones run it."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from sartor.errors import InputError
from sartor.measure.targets.optional import needed, quiet
from sartor.measure.targets.program import Program, Runner, Tensors
from sartor.measure.targets.settings import read_settings
from sartor.measure.timing import Call

INSTALL = "pip install 'sartor[executorch]'"


@dataclass(frozen=True)
class ExecuTorch(Program):
    """What XNNPACK has no operator for runs on ExecuTorch's portable kernels, which are slow."""

    threads: int = 1

    def __post_init__(self) -> None:
        super().__post_init__()
        _part("runtime")

    @classmethod
    def open(cls, settings: str, threads: int) -> ExecuTorch:
        """From what follows the target's name: see ``targets.named.open_target``."""
        read_settings("executorch", settings, {})
        return cls(threads)

    @property
    def name(self) -> str:  # type: ignore[override]
        return "executorch"

    def call(self, file: Path, batch: int) -> Call:
        """See ``targets.local.Local``. Raises InputError where this process has run ExecuTorch on other threads."""
        if _pool(self.threads) != self.threads:
            raise InputError(
                f"ExecuTorch has one pool of threads in a process, and this one's has {_pool(self.threads)}: time with "
                f"{self.threads} in a process of its own"
            )
        return super().call(file, batch)

    def outputs(self, file: Path, batches: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
        """See ``targets.program.Program``; on as many threads as there are already."""
        _pool(self.threads)
        return super().outputs(file, batches)

    @property
    def converts(self) -> bool:
        """See ``targets.local.Local``."""
        return True

    def built(self, module: nn.Module, images: Tensors) -> Runner:
        """See ``targets.program.Program``."""
        partition = _part("backends.xnnpack.partition.xnnpack_partitioner")
        with torch.inference_mode(False), torch.no_grad(), quiet():
            own = tuple(x.clone() for x in images)  # an export takes no tensors of inference mode
            exported = torch.export.export(module, own)
            lowered = _part("exir").to_edge_transform_and_lower(exported, partitioner=[partition.XnnpackPartitioner()])
            program = lowered.to_executorch().buffer
            return _Method(program)


class _Method(Runner):
    def __init__(self, program: bytes) -> None:
        self._bytes = program  # neither the program nor its method copies what it was loaded from
        self._program = _part("runtime").Runtime.get().load_program(program)
        self._method = self._program.load_method("forward")

    def run(self, images: Tensors) -> np.ndarray:
        return self._execute(list(images))[0].numpy().copy()

    def bound(self, images: Tensors) -> Call:
        return functools.partial(self._execute, list(images))  # of this object, which keeps the program alive

    def _execute(self, images: list[torch.Tensor]) -> list[torch.Tensor]:
        return self._method.execute(images)


@functools.lru_cache
def _part(name: str) -> Any:
    with quiet():
        return needed(f"executorch.{name}", "executorch", INSTALL)


_set: list[int] = []


def _pool(threads: int) -> int:
    """The threads of this process's pool, made with ``threads`` where there is none. Made anew under programs that are
    loaded, it takes the process down."""
    if not _set:
        with quiet():
            _part("extension.pybindings.portable_lib")._unsafe_reset_threadpool(threads)
        _set.append(threads)
    return _set[0]
