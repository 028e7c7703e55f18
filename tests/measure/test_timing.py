"""Timing against calls whose duration is known, because they wait for the clock themselves."""

from __future__ import annotations

import os
import time
from collections.abc import Callable

import pytest

from sartor.measure.timing import Latency, interleaved, pinned


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
    short, long = timed(spinning(100), spinning(800))
    assert 0.1 <= short.median_ms < 0.11
    assert 0.8 <= long.median_ms < 0.82
    assert short.n >= 50
    assert long.n >= 50


def test_disturbed_rounds_are_measured_again() -> None:
    """A machine that runs at half speed for a while, three calls of four at the worst: the reference shows it."""
    calls = 0

    def slowdown() -> float:
        return 2.0 if 150 < calls < 400 else 1.0

    def work() -> None:
        nonlocal calls
        calls += 1
        spinning(200 * slowdown())()

    (latency,) = timed(work, reference=lambda: spinning(50 * slowdown())())
    assert calls > 400, "the slow rounds were not repeated"
    assert not latency.disturbed
    assert 0.2 <= latency.median_ms < 0.22
    assert latency.p95_ms < 0.3


def test_a_machine_that_never_rests_is_reported() -> None:
    """The reference takes another time each round; the samples are kept, and said to be disturbed."""
    clock = [0]

    def restless() -> None:
        clock[0] += 1
        spinning(40 * (1 + (clock[0] // 24) % 9))()

    (latency,) = timed(spinning(100), reference=restless)
    assert latency.disturbed
    assert latency.n >= 100
    assert 0.1 <= latency.median_ms < 0.11


def test_the_budget_bounds_the_time_spent() -> None:
    start = time.perf_counter()
    (latency,) = timed(spinning(20_000), budget_s=0.4)
    assert time.perf_counter() - start < 1.2
    assert latency.n >= 5


@pytest.mark.skipif(not hasattr(os, "sched_getaffinity"), reason="this system has no CPU affinities")
def test_pinning_holds_inside_only() -> None:
    before = os.sched_getaffinity(0)
    with pytest.raises(KeyError), pinned(1) as cpu:
        assert os.sched_getaffinity(0) == {cpu}
        raise KeyError
    assert os.sched_getaffinity(0) == before
