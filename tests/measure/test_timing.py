"""Timing on a made-up machine, whose every disturbance is known, and once on this one."""

from __future__ import annotations

import os
import time
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sartor.measure.timing import Clock, Latency, _latency, _Samples, interleaved, median_interval, pinned


class Machine:
    """A clock that only calls move. ``slowdown``: now in seconds -> how much longer everything takes at that moment.

    ``stolen``: now -> the share of that longer time in which another process has the core.
    """

    def __init__(
        self, slowdown: Callable[[float], float] = lambda now: 1.0, stolen: Callable[[float], float] = lambda now: 0.0
    ) -> None:
        self.slowdown, self.stolen = slowdown, stolen
        self.wall = self.cpu = 0.0

    def call(self, microseconds: float) -> Callable[[], None]:
        def run() -> None:
            seconds = microseconds * 1e-6 * self.slowdown(self.wall)
            self.cpu += seconds * (1 - self.stolen(self.wall))
            self.wall += seconds

        return run

    def time(
        self, *microseconds: float, runs: int = 100, min_time_s: float = 0.05, budget_s: float | None = None
    ) -> list[Latency]:
        clock = Clock(lambda: round(self.wall * 1e9), lambda: round(self.cpu * 1e9))
        calls = [self.call(duration) for duration in microseconds]
        return interleaved(
            calls, self.call(50), threads=1, cpu=0, runs=runs, min_time_s=min_time_s, budget_s=budget_s, clock=clock
        )


@given(st.lists(st.floats(5, 50_000), min_size=1, max_size=4), st.integers(1, 300))
def test_at_rest_the_median_is_the_duration(durations: list[float], runs: int) -> None:
    for latency, duration in zip(Machine().time(*durations, runs=runs), durations, strict=True):
        assert latency.median_ms == pytest.approx(duration / 1e3, rel=1e-3)
        assert latency.p95_ms == pytest.approx(duration / 1e3, rel=1e-3)
        assert not latency.disturbed
        assert latency.n >= runs
        assert latency.n * latency.median_ms >= 0.999 * 50, "the least total time, in ms"


@given(begin=st.floats(0.0, 0.04), length=st.floats(0.0, 0.03), factor=st.floats(1.2, 5))
def test_a_slow_while_does_not_count(begin: float, length: float, factor: float) -> None:
    """Slower for up to half of the time that the samples need, whenever: what is reported is the machine at rest."""
    machine = Machine(lambda now: factor if begin < now < begin + length else 1.0)
    for latency, duration in zip(machine.time(200, 300), (0.2, 0.3), strict=True):
        assert latency.median_ms == pytest.approx(duration)
        assert not latency.disturbed


def test_rounds_without_the_core_are_measured_again() -> None:
    """The reference runs between the thefts and sees nothing; the thread's own CPU time shows them."""

    def theft(now: float) -> bool:
        return 0.02 < now < 0.05

    machine = Machine(lambda now: 3.0 if theft(now) else 1.0, lambda now: 0.6 if theft(now) else 0.0)
    (latency,) = machine.time(1000, min_time_s=0.1)
    assert latency.median_ms == latency.p95_ms == pytest.approx(1.0)
    assert not latency.disturbed


def test_a_machine_that_never_rests_is_reported() -> None:
    """Slower and slower without end: tries are bounded, all samples count, and the record says so."""
    machine = Machine(lambda now: 1 + now / 0.01)
    (latency,) = machine.time(100)
    assert latency.disturbed
    assert latency.n >= 5
    assert latency.median_ms > 0.1


def test_ratios_are_fair_while_the_machine_slows_down() -> None:
    """Twice as slow every 0.2 s: one call after the other the ratio would be wrong, interleaved it holds."""
    machine = Machine(lambda now: 1 + now / 0.2)
    one, other = machine.time(200, 400, min_time_s=0.1)
    assert other.median_ms / one.median_ms == pytest.approx(2, rel=0.05)
    assert one.unsteady
    assert other.unsteady


def test_a_clock_that_throttles_half_way_is_told_and_a_short_disturbance_is_not() -> None:
    (steady,) = Machine(lambda now: 3 if 0.02 < now < 0.03 else 1.0).time(200, min_time_s=0.1)
    (throttled,) = Machine(lambda now: 1.5 if now > 0.1 else 1.0).time(200, min_time_s=0.1)
    assert not steady.unsteady
    assert throttled.unsteady
    assert throttled.drift == pytest.approx(1.5, rel=0.01)


@pytest.mark.parametrize("rounds", [6, 10, 40])
def test_the_interval_holds_the_median_as_often_as_it_says(rounds: int) -> None:
    """Samples that share what their round adds to all of them, as on a machine: the true median is 1 ms."""
    rng = np.random.default_rng(rounds)
    held = 0
    for _ in range(1000):
        shared = rng.normal(0, 0.02, rounds)
        samples = [1e-3 * (1 + add + rng.normal(0, 0.01, 20)) for add in shared]
        low, high = median_interval(samples, float(np.median(np.concatenate(samples))) * 1e3)
        assert low <= np.median(np.concatenate(samples)) * 1e3 <= high
        held += low <= 1.0 <= high
    assert held >= 940  # 950 less what a thousand tries may lack by chance, 1.5 deviations


def test_with_few_rounds_the_interval_is_all_of_them() -> None:
    rounds = [np.array([0.002]), np.array([0.001]), np.array([0.004])]
    assert median_interval(rounds, 2.0) == (1.0, 4.0)


@given(duration=st.floats(10, 100_000), budget=st.floats(0.1, 2), slow=st.floats(1, 20))
def test_the_budget_bounds_the_time_spent(duration: float, budget: float, slow: float) -> None:
    """Up to the calls that are made whatever it says: warm-up, a round, and five samples."""
    machine = Machine(lambda now: slow if now > 0.01 else 1.0)
    (latency,) = machine.time(duration, runs=10_000, min_time_s=10, budget_s=budget)
    assert latency.n >= 5
    assert machine.wall <= budget + slow * (30 * duration * 1e-6 + 0.15)


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


def spinning(microseconds: float) -> Callable[[], None]:
    def call() -> None:
        end = time.perf_counter_ns() + int(microseconds * 1000)
        while time.perf_counter_ns() < end:
            pass

    return call


@pytest.mark.alone
def test_on_this_machine_the_median_is_the_duration() -> None:
    """Never less; and not more, unless this machine is so busy that the record says so itself."""
    with pinned(1) as cpu:
        (latency,) = interleaved(
            [spinning(300)], spinning(50), threads=1, cpu=cpu, runs=50, min_time_s=0.02, budget_s=None
        )
    assert latency.median_ms >= 0.3
    assert latency.disturbed or latency.median_ms < 0.33


@pytest.mark.skipif(not hasattr(os, "sched_getaffinity"), reason="this system has no CPU affinities")
def test_pinning_holds_inside_only() -> None:
    before = os.sched_getaffinity(0)
    with pinned(1) as cpu:
        assert os.sched_getaffinity(0) == {cpu}
    assert os.sched_getaffinity(0) == before
