"""What targets that calculate instead of timing have in common: deterministic, at once, and they say so.

A subclass says how many seconds each piece of work takes on the machine that it is a model of. Outputs are computed
by ONNX Runtime here: a model of time has no arithmetic of its own.
"""

from __future__ import annotations

import abc
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from sartor.errors import InputError
from sartor.measure.layers.node import Node
from sartor.measure.targets.onnxruntime import OnnxRuntime
from sartor.measure.targets.target import OneByOne, refuse_nonsense
from sartor.measure.targets.work import Work, work_of
from sartor.measure.timing import Latency


class Simulated(OneByOne, abc.ABC):
    """See ``targets.target.Target``."""

    threads: int
    name: str
    clock_hz: float
    most_threads = 1

    @property
    @abc.abstractmethod
    def device(self) -> dict[str, Any]:
        """What the latencies are a model of, for the record."""

    @abc.abstractmethod
    def cycles(self, work: Work, batch: int = 1) -> tuple[float, str]:
        """The cycles of one node, and what bounds it: ``compute``, ``memory`` or ``overhead``."""

    def work(self, file: Path) -> tuple[Work, ...]:
        """What ``file`` makes this machine do. Raises InputError."""
        return work_of(file)

    def latencies(
        self,
        files: Sequence[Path],
        *,
        runs: int = 200,
        min_time_s: float = 0.3,
        budget_s: float | None = None,
        batch: int = 1,
    ) -> list[Latency]:
        """See ``targets.target.Target``. Nothing is timed: however many runs are asked for, one says all."""
        refuse_nonsense(runs, batch, budget_s)
        if self.threads != 1:
            raise InputError(f"{self.name} has one thread, not {self.threads}: leave out --threads")
        return [self._latency(sum(self.cycles(work, batch)[0] for work in self.work(file))) for file in files]

    def nodes(self, file: Path) -> tuple[Node, ...]:
        """Where the time goes at batch 1."""
        found = [(work, *self.cycles(work)) for work in self.work(file)]
        return tuple(
            Node(work.name, work.op, cycles / self.clock_hz * 1e3, (work.made,), bound) for work, cycles, bound in found
        )

    def run(self, file: Path, batches: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
        """See ``targets.target.Target``."""
        return OnnxRuntime(1).run(file, batches)

    def _latency(self, cycles: float) -> Latency:
        ms = max(cycles, 1.0) / self.clock_hz * 1e3
        return Latency(
            median_ms=ms,
            p95_ms=ms,
            mad_ms=0.0,
            n=1,
            warmup=0,
            threads=1,
            device=self.name,
            reference_ms=0.0,
            disturbed=False,
            load=0.0,
            cpu_mhz=self.clock_hz / 1e6,
            ci_ms=(ms, ms),
            source="simulated",
        )
