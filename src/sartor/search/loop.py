"""The search loop: propose, evaluate, append. Resuming is replaying the history."""

from __future__ import annotations

import math
import random
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from sartor.errors import InputError, SartorError
from sartor.records import Arch, Record
from sartor.search.strategy import Strategy
from sartor.space.space import Space


class Records(Protocol):
    """Where records are kept: ``sartor.search.store.Store``, or anything that appends and returns them."""

    def records(self) -> list[Record]: ...

    def append(self, record: Record) -> None: ...


class NotMeasured(SartorError):
    """Raised by an evaluator that cannot measure an arch. The search goes on: the arch has a record without metrics,
    whose provenance has the message as ``failed``."""


@dataclass(frozen=True)
class Batch:
    """Archs that were proposed together and are not evaluated yet: what is left of ``size`` that the strategy proposed
    when it had seen ``start`` records."""

    start: int
    archs: tuple[Arch, ...]
    size: int

    def provenance(self, seed: int) -> dict[str, Any]:
        """What a record of this batch says about it, so that the next process knows where the search was."""
        return {"seed": seed, "batch_start": self.start, "batch_size": self.size}


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
    """Evaluate archs until ``evaluations`` are in the history, and return the history, oldest first. For one process
    that has ``store`` for itself; :func:`sartor.search.workers.work` is for many.

    ``initial`` archs are evaluated first, then batches of ``batch`` that ``strategy`` proposes. What ``store`` already
    holds counts. The randomness of a proposal comes from ``seed`` and the length of the history it was made from, and
    records carry that length, so a search that was killed anywhere, or is given more evaluations, goes through the
    same archs as one that was not.

    Metrics that are not finite are left out of the record and named in its provenance. ``should_stop`` is asked before
    each evaluation; the loop also ends when the space has nothing new. Raises InputError when a strategy proposes
    an arch outside the space, an evaluator returns anything but names and numbers, or the history is of another space.
    """
    check_counts(evaluations, batch)
    history = store.records() if store is not None else []
    check_history(space, history)
    while len(history) < evaluations:
        found = next_batch(space, strategy, history, initial, seed, batch)
        if not found.archs:
            return history
        for arch in found.archs[: evaluations - len(history)]:
            if should_stop is not None and should_stop():
                return history
            record = evaluated(f"a{len(history)}", arch, evaluate, {**(provenance or {}), **found.provenance(seed)})
            if store is not None:
                store.append(record)
            history.append(record)
            if on_record is not None:
                on_record(record)
    return history


def check_counts(evaluations: int, batch: int) -> None:
    """Raises InputError for fewer than no evaluations, and for batches of none."""
    if evaluations < 0 or batch < 1:
        raise InputError(f"a search needs evaluations >= 0 and batch >= 1, not {evaluations} and {batch}")


def check_history(space: Space, history: Sequence[Record]) -> None:
    """Raises InputError where a record is of another space."""
    for record in history:
        if not space.contains(record.arch):
            raise InputError(f"the history holds {record.name}, which is not of this space: choose another --out")


def next_batch(
    space: Space, strategy: Strategy, history: Sequence[Record], initial: Sequence[Arch], seed: int, batch: int
) -> Batch:
    """What is to be evaluated when all of ``history`` has been: the rest of the last batch, where that was interrupted
    or cut short, or else a new one. Without archs only where there is nothing new."""
    start = int(history[-1].provenance.get("batch_start", len(history))) if history else 0
    size = history[-1].provenance.get("batch_size") if history else 0  # files of before have none
    if start < len(history) and (size is None or len(history) < start + int(size)):
        done = {record.arch for record in history}
        whole = _propose(space, strategy, history[:start], initial, seed, batch)
        if rest := tuple(arch for arch in whole if arch not in done):
            return Batch(start, rest, len(whole))
    found = _propose(space, strategy, history, initial, seed, batch)
    return Batch(len(history), tuple(found), len(found))


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


def evaluated(
    name: str, arch: Arch, evaluate: Callable[[Arch], Mapping[str, float]], provenance: Mapping[str, Any]
) -> Record:
    """The record of ``arch`` under ``name``, once it has been evaluated. Raises what the evaluator raises, but
    NotMeasured, and InputError where it returns anything but names and numbers."""
    notes = dict(provenance)
    started = time.perf_counter()
    try:
        metrics = numbers(evaluate(arch))
    except NotMeasured as error:
        metrics, notes["failed"] = {}, " ".join(str(error).split())
    notes["seconds"] = time.perf_counter() - started
    lost = sorted(metric for metric, value in metrics.items() if not math.isfinite(value))
    if lost:
        notes["not_finite"] = lost
    kept = {metric: value for metric, value in metrics.items() if metric not in lost}
    return Record(name=name, arch=arch, metrics=kept, provenance=notes)


def numbers(found: object) -> dict[str, float]:
    """What an evaluator returned, as floats. Raises InputError where it is anything but names and numbers."""
    if not isinstance(found, Mapping) or not all(isinstance(name, str) for name in found):
        raise InputError(f"the evaluator returns {_brief(found)}: return names and numbers, such as {{'ms': 1.5}}")
    metrics = {}
    for name, value in found.items():
        try:
            if isinstance(value, (str, bytes)):  # float would read them
                raise TypeError
            metrics[name] = float(value)
        except (TypeError, ValueError, OverflowError, RuntimeError) as error:  # RuntimeError: a tensor of many
            raise InputError(f"the evaluator returns {name} = {_brief(value)}, which is no number") from error
    return metrics


def _brief(value: object) -> str:
    text = " ".join(repr(value).split())
    return text if len(text) <= 80 else f"{text[:77]}..."
