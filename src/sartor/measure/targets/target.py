"""The contract of whatever runs an exported file and times it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Protocol

import numpy as np

from sartor.measure.timing import Latency


class Target(Protocol):
    """Runs exported files and times them. The suite in tests/contracts/target.py says what a target must keep."""

    @property
    def name(self) -> str:
        """As ``--target`` takes it."""
        ...

    @property
    def threads(self) -> int: ...

    def latency_ms(
        self, file: Path, *, runs: int = 200, min_time_s: float = 0.3, budget_s: float | None = None, batch: int = 1
    ) -> Latency:
        """Of one call on ``batch`` random examples. Raises InputError for a file that cannot run."""
        ...

    def latencies(
        self,
        files: Sequence[Path],
        *,
        runs: int = 200,
        min_time_s: float = 0.3,
        budget_s: float | None = None,
        batch: int = 1,
    ) -> list[Latency]:
        """As :meth:`latency_ms` of several files, measured so that their ratios are fair."""
        ...

    def run(self, file: Path, batches: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
        """The first output of ``file`` for each batch. Raises InputError for one that does not fit."""
        ...
