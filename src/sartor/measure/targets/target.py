"""The contract of whatever runs an exported file and times it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import numpy as np

from sartor.errors import InputError
from sartor.measure.device import fingerprint
from sartor.measure.memory import peak_activation_bytes
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


class OneByOne:
    """For classes with ``latencies``: one file is several, of which there is one."""

    def latency_ms(
        self: Target,
        file: Path,
        *,
        runs: int = 200,
        min_time_s: float = 0.3,
        budget_s: float | None = None,
        batch: int = 1,
    ) -> Latency:
        """Time calls of ``file`` on random input of its shape: ``runs`` calls and ``min_time_s`` at least.

        ``budget_s`` bounds the seconds spent. Raises InputError for a file that cannot be run.
        """
        return self.latencies([file], runs=runs, min_time_s=min_time_s, budget_s=budget_s, batch=batch)[0]


def refuse_nonsense(runs: int, batch: int, budget_s: float | None) -> None:
    """Raises InputError where nothing can be timed so."""
    if runs < 1 or batch < 1 or (budget_s is not None and budget_s <= 0):
        raise InputError("latency needs at least one run, a batch of at least one and a positive time budget")


@runtime_checkable
class Bounded(Protocol):
    """A target on which only so much fits."""

    @property
    def max_memory_bytes(self) -> int:
        """For activations."""
        ...

    @property
    def max_size_bytes(self) -> int:
        """For the network."""
        ...

    def peak_bytes(self, file: Path) -> int:
        """Of activations, as this target holds them. Raises InputError."""
        ...

    def misfits(self, file: Path) -> list[str]:
        """What of ``file`` is too large, and by how much; none where it fits. Raises InputError."""
        ...


@runtime_checkable
class Patching(Protocol):
    """A target that can run stretches of a network patch by patch."""

    def patched(self, file: Path) -> dict[str, Any] | None:
        """What patches make of ``file`` where it does not fit without them; None where it does. Raises InputError."""
        ...


def device_of(target: Target) -> dict[str, Any]:
    """The fingerprint of the machine whose times ``target`` tells: this one, unless it says another."""
    return dict(getattr(target, "device", None) or fingerprint())


def memory_of(target: Target, file: Path) -> int:
    """The peak memory of ``file``'s activations on ``target``. Raises InputError."""
    return target.peak_bytes(file) if isinstance(target, Bounded) else peak_activation_bytes(file)
