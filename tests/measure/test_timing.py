"""Timing against calls whose duration is known, because they wait for the clock themselves."""

from __future__ import annotations

import os
import time
from collections.abc import Callable

import numpy as np
import pytest

from sartor.measure.timing import Latency, _latency, _Samples, interleaved, pinned


def spinning(microseconds: float) -> Callable[[], None]:
    def call() -> None:
        end = time.perf_counter_ns() + int(microseconds * 1000)
        while time.perf_counter_ns() < end:
            pass

    return call


def timed(
    *calls: Callable[[], object], reference: Callable[[], object] | None = None, budget_s: float | None = None
) -> list[Latency]:
    with pinned(1) as cpu:
        return interleaved(
            calls,
            reference or spinning(50),
            threads=1,
            cpu=cpu,
            runs=100,
            min_time_s=0.05,
            budget_s=budget_s,
        )


def test_the_median_is_the_duration() -> None:
    """Never less; and not more, unless the machine that runs this test is so busy that the record says so itself."""
    for latency, duration in zip(timed(spinning(100), spinning(800)), (0.1, 0.8), strict=True):
        assert latency.median_ms >= duration
        assert latency.disturbed or latency.median_ms < 1.1 * duration
        assert latency.disturbed or latency.n >= 75


def test_disturbed_rounds_are_measured_again() -> None:
    """A machine that runs at half speed for a while: the reference shows it, and the slow rounds do not count."""
    calls = 0

    def slowdown() -> float:
        return 2.0 if 150 < calls < 400 else 1.0

    def work() -> None:
        nonlocal calls
        calls += 1
        spinning(200 * slowdown())()

    (latency,) = timed(work, reference=lambda: spinning(50 * slowdown())())
    assert calls > 250 + 250, "the 250 slow samples were not taken again"
    assert latency.median_ms >= 0.2
    assert latency.disturbed or latency.median_ms < 0.22


def test_only_quiet_rounds_count() -> None:
    """The rule on made-up rounds: a slow reference and a lost core each disqualify their round, and only theirs."""
    samples = _Samples(per_round=10, planned=30, warmup=5, seconds=0.002)
    for _ in range(3):
        samples.rounds.append((np.full(10, 0.002), 1.0, 50e-6))
    samples.rounds.append((np.full(10, 0.004), 1.0, 100e-6))
    samples.rounds.append((np.full(10, 0.004), 0.5, 50e-6))
    assert [float(s[0]) for s in samples.quiet(50e-6)] == [0.002] * 3
    latency = _latency(samples, 50e-6, threads=1, cpu=0)
    assert (latency.n, latency.disturbed) == (30, False)
    assert latency.median_ms == latency.p95_ms == pytest.approx(2.0)

    samples.rounds[:2] = []  # ten quiet samples of thirty are too few: all count, and the record says so
    latency = _latency(samples, 50e-6, threads=1, cpu=0)
    assert (latency.n, latency.disturbed) == (30, True)
    assert latency.median_ms == pytest.approx(4.0)


def test_a_machine_that_never_rests_is_reported() -> None:
    """The reference takes another time each round; the samples are kept, and said to be disturbed."""
    clock = [0]

    def restless() -> None:
        clock[0] += 1
        spinning(10 * (1 + (clock[0] // 24) % 29))()

    (latency,) = timed(spinning(100), reference=restless)
    assert latency.disturbed
    assert latency.n >= 100
    assert latency.median_ms >= 0.1


def test_the_budget_bounds_the_time_spent() -> None:
    start = time.perf_counter()
    (latency,) = timed(spinning(50_000), budget_s=0.5)  # a hundred runs would take five seconds
    assert time.perf_counter() - start < 2.5
    assert latency.n >= 5


@pytest.mark.skipif(not hasattr(os, "sched_getaffinity"), reason="this system has no CPU affinities")
def test_pinning_holds_inside_only() -> None:
    before = os.sched_getaffinity(0)
    with pinned(1) as cpu:
        assert os.sched_getaffinity(0) == {cpu}
    assert os.sched_getaffinity(0) == before
