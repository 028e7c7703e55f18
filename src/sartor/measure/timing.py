"""Timing short calls on a shared machine so that the number means something tomorrow.

Calls are timed in interleaved rounds (A B C A B C …), so that a slow minute hits all of them alike and ratios stay
fair. Beside them runs a small reference call of fixed cost: a round in which the reference was slow, or in which the
thread did not have its core to itself, is disturbed and is measured again, a bounded number of times. What is
reported is the plain median and 95th percentile of the undisturbed samples. Rejected: the minimum, or the median of
the fastest rounds, which flatter the network and cannot be reproduced.
"""

from __future__ import annotations

import contextlib
import gc
import os
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from sartor.measure.device import cpu_mhz, cpu_model

Call = Callable[[], object]

_CHUNK_S = 0.005  # about a scheduler slice: longer rounds are seldom undisturbed on a shared machine
_ROUNDS = 40
_FEWEST_ROUNDS = 10
_TRIES = 3
_SLOW = 1.08
_CPU_SHARE = 0.97
_LEAST = 5
# A fifth of all rounds is at rest by definition, at most 3/5 of the planned: what needs more shows a machine at rest.
_QUIET_SHARE = 0.8


@dataclass(frozen=True)
class Clock:
    """Wall time and this thread's CPU time, in nanoseconds. An argument, so that tests can run on a made-up machine."""

    wall: Callable[[], int] = time.perf_counter_ns
    cpu: Callable[[], int] = time.thread_time_ns


@dataclass(frozen=True)
class Latency:
    """The latency of one call, in milliseconds.

    median_ms, p95_ms, mad_ms (median absolute deviation): over ``n`` samples after ``warmup`` calls. ``reference_ms``:
    the reference call's median at the time, which tells a slower machine from a slower network. ``disturbed``: the
    machine never came to rest, so the samples are all there were. ``load`` is the one-minute load average, ``cpu_mhz``
    the core's clock where the kernel says it. ``ci_ms``: between these the median lies, with 95 % confidence.
    ``drift``: the reference's time at the end over that at the beginning; far from 1 the clock changed on the way.
    ``source``: ``measured``, or ``simulated`` by a model of the machine.
    """

    median_ms: float
    p95_ms: float
    mad_ms: float
    n: int
    warmup: int
    threads: int
    device: str
    reference_ms: float
    disturbed: bool
    load: float
    cpu_mhz: float | None
    ci_ms: tuple[float, float]
    drift: float = 1.0
    source: str = "measured"

    @property
    def unsteady(self) -> bool:
        """Whether the machine became slower or faster while it was timed."""
        return not 1 / _SLOW <= self.drift <= _SLOW

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


@dataclass
class _Samples:
    per_round: int
    planned: int
    warmup: int
    seconds: float
    rounds: list[tuple[np.ndarray, float, float]] = field(default_factory=list)  # samples, CPU share, reference
    """Each round's samples in seconds, the share of wall time the thread had the CPU, the reference's time."""

    def quiet(self, rest: float) -> list[np.ndarray]:
        return [s for s, share, reference in self.rounds if share >= _CPU_SHARE and reference <= _SLOW * rest]

    def lacking(self, rest: float) -> bool:
        """True while quiet samples are missing and rounds are left: three times those that the samples need."""
        needed = -(-self.planned // self.per_round)
        return len(self.rounds) < _TRIES * needed and sum(map(len, self.quiet(rest))) < self.planned


@contextlib.contextmanager
def pinned(threads: int) -> Iterator[int]:
    """Keep the calling thread, and threads it starts, on the ``threads`` least busy cores; yields one of them.

    The affinity is restored afterwards. Where the system has no affinities the body runs unpinned.
    """
    if not hasattr(os, "sched_getaffinity"):
        yield 0
        return
    before = os.sched_getaffinity(0)
    chosen = _idlest(sorted(before))[:threads]
    os.sched_setaffinity(0, chosen)
    try:
        yield chosen[0]
    finally:
        os.sched_setaffinity(0, before)


def _idlest(cpus: list[int]) -> list[int]:
    """``cpus`` by the busy time they collect in 30 ms, least first."""
    if len(cpus) == 1:
        return cpus
    first = _busy()
    time.sleep(0.03)
    second = _busy()
    return sorted(cpus, key=lambda cpu: (second.get(cpu, 0) - first.get(cpu, 0), cpu))


def _busy() -> dict[int, int]:
    busy = {}
    with contextlib.suppress(OSError), open("/proc/stat") as file:
        for line in file:
            if line.startswith("cpu") and line[3].isdigit():
                name, *ticks = line.split()
                busy[int(name[3:])] = sum(map(int, ticks)) - int(ticks[3]) - int(ticks[4])  # without idle, iowait
    return busy


def _timed(call: Call, n: int, clock: Clock) -> np.ndarray:
    wall = clock.wall
    stamps = [wall()]
    for _ in range(n):
        call()
        stamps.append(wall())
    return np.diff(stamps) / 1e9


def _warmed(call: Call, limit_s: float, clock: Clock) -> tuple[int, float]:
    """Call until two chunks in a row agree within 2%, or ``limit_s`` is used up: (calls made, seconds a call)."""
    end = clock.wall() + limit_s * 1e9
    _timed(call, 2, clock)
    made, last, size = 2, np.inf, 3
    while True:
        now = float(np.median(_timed(call, size, clock)))
        made += size
        if abs(now - last) <= 0.02 * now or clock.wall() > end:
            return made, max(now, 1e-7)
        last, size = now, max(3, min(50, int(0.005 / max(now, 1e-7))))


def interleaved(
    calls: Sequence[Call],
    reference: Call,
    *,
    threads: int,
    cpu: int,
    runs: int,
    min_time_s: float,
    budget_s: float | None,
    clock: Clock = Clock(),
) -> list[Latency]:
    """Time ``calls`` in interleaved rounds: each at least ``runs`` times and for ``min_time_s`` in total.

    ``budget_s`` bounds the seconds spent on each call, warm-up and repeats included (without it: four times what the
    samples need, and a second); at least 5 samples are taken whatever it says. ``cpu`` is the core to which the caller
    pinned the thread.
    """
    begin = clock.wall()
    collecting = gc.isenabled()
    gc.disable()
    try:
        _warmed(reference, 0.1, clock)
        table = [_plan(call, runs, min_time_s, budget_s, clock) for call in calls]
        if budget_s is not None:
            end = begin + budget_s * len(calls) * 1e9
        else:  # a machine so busy that a round takes ten times its samples must not hold up everything
            end = clock.wall() + sum(1 + 4 * row.planned * row.seconds for row in table) * 1e9
        while True:
            rest = _rest(table)
            pending = [i for i, row in enumerate(table) if row.lacking(rest)]
            enough = all(sum(len(samples) for samples, _, _ in row.rounds) >= _LEAST for row in table)
            if not pending or (enough and clock.wall() > end):
                break
            for i in pending:
                table[i].rounds.append(_round(calls[i], reference, table[i].per_round, threads, clock))
    finally:
        if collecting:
            gc.enable()
    rest = _rest(table)
    return [_latency(row, rest, threads, cpu) for row in table]


def _rest(table: Sequence[_Samples]) -> float:
    """The reference's time when nothing disturbs: its lower quintile, because the minimum is one lucky round."""
    references = [reference for row in table for _, _, reference in row.rounds]
    return float(np.percentile(references, 20)) if references else np.inf


def _plan(call: Call, runs: int, min_time_s: float, budget_s: float | None, clock: Clock) -> _Samples:
    warmup, seconds = _warmed(call, 1.0 if budget_s is None else min(1.0, budget_s / 4), clock)
    wanted = max(runs, int(np.ceil(min_time_s / seconds)))
    if budget_s is not None:
        wanted = min(wanted, int(budget_s / 2 / seconds))
    wanted = max(wanted, _LEAST)
    per_round = max(-(-wanted // _ROUNDS), min(wanted // _FEWEST_ROUNDS, int(_CHUNK_S / seconds)), 1)
    return _Samples(per_round, wanted, warmup, seconds)


def _round(call: Call, reference: Call, n: int, threads: int, clock: Clock) -> tuple[np.ndarray, float, float]:
    # The slower reference counts: a round that begins or ends in a disturbance is disturbed.
    before = _timed(reference, 12, clock)[2:]
    _timed(call, 1, clock)  # the caches still hold the previous network: not a sample
    wall, cpu = clock.wall(), clock.cpu()
    samples = _timed(call, n, clock)
    wall, cpu = clock.wall() - wall, clock.cpu() - cpu
    after = _timed(reference, 12, clock)[2:]
    # With several threads the caller waits for the others, so its own CPU share says nothing.
    share = cpu / wall if threads == 1 else 1.0
    return samples, share, float(max(np.median(before), np.median(after)))


def _latency(row: _Samples, rest: float, threads: int, cpu: int) -> Latency:
    quiet = row.quiet(rest)
    disturbed = sum(map(len, quiet)) < max(_LEAST, _QUIET_SHARE * row.planned)
    samples = np.concatenate([s for s, _, _ in row.rounds] if disturbed else quiet) * 1e3
    median = float(np.median(samples))
    return Latency(
        median_ms=median,
        p95_ms=float(np.percentile(samples, 95)),
        mad_ms=float(np.median(np.abs(samples - median))),
        n=len(samples),
        warmup=row.warmup,
        threads=threads,
        device=f"{cpu_model()}, {os.cpu_count()} cores",
        reference_ms=float(np.median([r for _, _, r in row.rounds])) * 1e3,
        disturbed=disturbed,
        load=os.getloadavg()[0],
        cpu_mhz=cpu_mhz(cpu),
        ci_ms=median_interval([s for s, _, _ in row.rounds] if disturbed else quiet, median),
        drift=_drift([r for _, _, r in row.rounds]),
    )


def median_interval(rounds: Sequence[np.ndarray], median_ms: float) -> tuple[float, float]:
    """Between what the median of samples in ``rounds`` (seconds) lies, with 95 % confidence, in milliseconds.

    The order statistics of the rounds' medians whose ranks a fair coin's count of heads stays between: nothing is said
    of the distribution. Of rounds, because the samples of one resemble each other: an interval from all samples as if
    they were independent was too narrow by far. With fewer than six rounds, from the least to the largest.
    """
    middles = np.sort([np.median(samples) for samples in rounds]) * 1e3
    n, outside, below = len(middles), 0, 0.5 ** len(middles)
    chance = below
    while chance <= 0.025:
        outside += 1
        below *= (n - outside + 1) / outside
        chance += below
    outside = max(0, outside - 1)
    return min(float(middles[outside]), median_ms), max(float(middles[n - 1 - outside]), median_ms)


def _drift(references: Sequence[float]) -> float:
    """The last third's median over the first's, which a third of the rounds in a disturbance does not move."""
    third = len(references) // 3
    return float(np.median(references[-third:]) / np.median(references[:third])) if third else 1.0
