"""What was asked for: the arguments of a fit, checked before any work starts."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from sartor.errors import InputError
from sartor.measure.targets.named import open_target
from sartor.measure.targets.target import Bounded
from sartor.measure.units.model import read_latency_model
from sartor.records import Budget

PRECISIONS = ("fp32", "int8")


@dataclass(frozen=True)
class Job:
    """The arguments of :func:`sartor.fit`, as they are written into run.json and compared when a run goes on.

    What a target has room for is a limit of the budget where none is given."""

    data: str
    budget: Budget
    time_s: float
    target: str
    threads: int
    precision: tuple[str, ...]
    seed: int
    schedule: str
    model: str | None = None
    latency_model: str | None = None

    def __post_init__(self) -> None:
        if not (isinstance(self.time_s, (int, float)) and math.isfinite(self.time_s) and self.time_s >= 10):
            raise InputError(f"time must be at least 10 seconds, not {self.time_s!r}")
        unknown = [p for p in self.precision if p not in PRECISIONS]
        if unknown or not self.precision:
            raise InputError(f"precision must name some of {', '.join(PRECISIONS)}, not {', '.join(unknown) or 'none'}")
        if not isinstance(self.seed, int) or not 0 <= self.seed < 2**31:
            raise InputError(f"seed must be a whole number from 0 to 2147483647, not {self.seed!r}")
        from sartor.train.schedule import SCHEDULES

        if self.schedule not in SCHEDULES:
            raise InputError(f"no schedule is called {self.schedule!r}: choose one of {', '.join(SCHEDULES)}")
        target = open_target(self.target, self.threads)
        if self.threads > (most := getattr(target, "most_threads", self.threads)):
            raise InputError(f"{self.target} has {most} threads, not {self.threads}: lower --threads")
        if isinstance(target, Bounded):
            object.__setattr__(self, "budget", _within(target, self.budget))
        if self.latency_model is not None:
            read_latency_model(self.latency_model, self.target, self.threads)

    def to_dict(self) -> dict[str, Any]:
        return {**asdict(self), "precision": list(self.precision)}

    def differences(self, other: dict[str, Any]) -> list[str]:
        """Names of the arguments in which ``other`` (a ``to_dict``) asks for something else."""
        mine = self.to_dict()
        return sorted(k for k in mine if mine[k] != other.get(k))


def _within(target: Bounded, budget: Budget) -> Budget:
    """``budget`` with the target's own limits where it has none. Raises InputError for more than the target has."""
    limits = {"max_memory_bytes": target.max_memory_bytes, "max_size_bytes": target.max_size_bytes}
    for name, limit in limits.items():
        asked = getattr(budget, name)
        if asked is not None and asked > limit:
            option = name.removesuffix("_bytes").replace("_", "-")
            raise InputError(
                f"--{option} {asked} is more than the target has, {limit} bytes: lower it, or leave it out"
            )
    return replace(budget, **{name: limit for name, limit in limits.items() if getattr(budget, name) is None})


def data_name(data: Any) -> str:
    """How a data argument is written down: its absolute path, the built-in name, or what it is."""
    if isinstance(data, (str, Path)):
        return str(data) if str(data) == "digits" else str(Path(data).resolve())
    return getattr(data, "name", None) or "arrays"
