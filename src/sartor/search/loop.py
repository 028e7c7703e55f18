"""The search loop: propose, evaluate, append. Resuming is replaying the history."""

from __future__ import annotations

import math
import random
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

from sartor.errors import InputError
from sartor.records import Arch, Record
from sartor.search.strategy import Strategy
from sartor.space.space import Space


class Records(Protocol):
    """Where records are kept: ``sartor.search.store.Store``, or anything that appends and returns them."""

    def records(self) -> list[Record]: ...

    def append(self, record: Record) -> None: ...


def search(
    space: Space,
    evaluate: Callable[[Arch], Mapping[str, float]],
    strategy: Strategy,
    *,
    evaluations: int,
    seed: int,
    store: Records | None = None,
    batch: int = 8,
    initial: Sequence[Arch] = (),
    provenance: Mapping[str, Any] | None = None,
    on_record: Callable[[Record], None] | None = None,
    should_stop: Callable[[], bool] | None = None,
) -> list[Record]:
    """Evaluate archs until ``evaluations`` are in the history, and return the history, oldest first.

    ``initial`` archs are evaluated first, then batches of ``batch`` that ``strategy`` proposes. What ``store`` already
    holds counts. The randomness of a proposal comes from ``seed`` and the length of the history it was made from, and
    records carry that length, so a search that was killed anywhere, or is given more evaluations, goes through the
    same archs as one that was not.

    Metrics that are not finite are left out of the record and named in its provenance. ``should_stop`` is asked before
    each evaluation; the loop also ends when the space has nothing new. Raises InputError when a strategy proposes
    an arch outside the space, or the history is of another space.
    """
    if evaluations < 0 or batch < 1:
        raise InputError(f"a search needs evaluations >= 0 and batch >= 1, not {evaluations} and {batch}")
    history = store.records() if store is not None else []
    for record in history:
        if not space.contains(record.arch):
            raise InputError(f"the history holds {record.name}, which is not of this space: choose another --out")
    start = _batch_start(history)  # below len(history) when the last batch was interrupted: its rest comes first
    while len(history) < evaluations:
        done = {record.arch for record in history}
        todo = [a for a in _propose(space, strategy, history[:start], initial, seed, batch) if a not in done]
        if not todo and start == len(history):
            return history
        for arch in todo[: evaluations - len(history)]:
            if should_stop is not None and should_stop():
                return history
            record = _evaluated(
                arch, evaluate, len(history), {**(provenance or {}), "seed": seed, "batch_start": start}
            )
            if store is not None:
                store.append(record)
            history.append(record)
            if on_record is not None:
                on_record(record)
        start = len(history)
    return history


def _batch_start(history: Sequence[Record]) -> int:
    """The length of the history from which the last record's batch was proposed."""
    return int(history[-1].provenance.get("batch_start", len(history))) if history else 0


def _propose(
    space: Space, strategy: Strategy, history: Sequence[Record], initial: Sequence[Arch], seed: int, batch: int
) -> list[Arch]:
    """The next archs. Always a whole batch, even where fewer are wanted, so that the last batch of a short search is
    the beginning of the same batch of a longer one."""
    done = {record.arch for record in history}
    archs = [arch for arch in dict.fromkeys(initial) if arch not in done]
    if not archs:
        archs = strategy(space, tuple(history), random.Random(f"{seed}:{len(history)}"), batch)
    for arch in archs:
        if not space.contains(arch):
            raise InputError(f"{arch} is not in the space: the strategy or the initial archs are of another space")
    return [arch for arch in dict.fromkeys(archs) if arch not in done]


def _evaluated(
    arch: Arch, evaluate: Callable[[Arch], Mapping[str, float]], index: int, provenance: dict[str, Any]
) -> Record:
    started = time.perf_counter()
    metrics = {name: float(value) for name, value in evaluate(arch).items()}
    provenance["seconds"] = time.perf_counter() - started
    lost = sorted(name for name, value in metrics.items() if not math.isfinite(value))
    if lost:
        provenance["not_finite"] = lost
    kept = {name: value for name, value in metrics.items() if name not in lost}
    return Record(name=f"a{index}", arch=arch, metrics=kept, provenance=provenance)
