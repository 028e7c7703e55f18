"""The plan adds up, whatever the time, and leaves every stage what it needs."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sartor.recipes.journal import Journal
from sartor.recipes.plan import MOST_FOR_LEAST, MOST_TO_PROVE, STAGES, Clock, plan, provable, split


def test_the_shares_are_shares():
    assert sum(stage.share for stage in STAGES.values()) == pytest.approx(1)


@given(
    st.floats(0, 1e6),
    st.integers(0, len(STAGES) - 1),
    st.dictionaries(st.sampled_from(list(STAGES)), st.floats(0, 500)),
)
def test_what_is_left_is_all_given_out(seconds: float, begin: int, needs: dict[str, float]):
    names = list(STAGES)[begin:]
    given_out = split(seconds, names, needs)
    assert list(given_out) == names
    assert sum(given_out.values()) == pytest.approx(seconds)
    least = {n: max(STAGES[n].least_s, needs.get(n, 0.0)) for n in names}
    claimed = sum(least.values())
    scale = min(1.0, MOST_FOR_LEAST * seconds / claimed) if claimed else 1.0
    assert all(given_out[n] >= least[n] * scale - 1e-6 for n in names)


@given(st.floats(10, 1e5), st.floats(0.01, 100), st.integers(1, 2), st.integers(2, 9))
def test_members_are_as_many_as_can_be_written(time_s: float, each: float, files: int, most: int):
    n, seconds = provable(time_s, each, files, most)
    assert 2 <= n <= most
    assert seconds == pytest.approx(n * files * each)
    assert n == 2 or seconds <= MOST_TO_PROVE * time_s + 1e-9
    assert n == most or (n + 1) * files * each > MOST_TO_PROVE * time_s, "one more would not have fitted"


def test_with_time_enough_the_shares_decide():
    hour = plan(3600)
    assert hour.seconds == pytest.approx({name: 3600 * stage.share for name, stage in STAGES.items()})
    assert [line.split()[0] for line in hour.lines()] == list(STAGES)


def test_the_work_of_a_killed_process_counts(tmp_path: Path):
    """Up to its last decision: a stage that is gone on with has what was left of it, not all of it again."""
    path = tmp_path / "journal.jsonl"
    killed = Journal(path)
    clock = Clock(killed)
    first = clock.begin("supernet", 1000.0)
    time.sleep(0.05)
    before = clock.elapsed
    killed.once("supernet.100", lambda: {"elapsed": 0.05})
    after = clock.elapsed
    journal = Journal(path)
    assert before - 0.01 <= journal.worked <= after + 0.01  # it is written down to hundredths
    resumed = Clock(journal)
    assert resumed.begin("supernet", 1000.0) == first
    assert resumed.elapsed >= journal.worked
    assert resumed.end("supernet") >= 0.04


def test_a_stage_that_ends_early_leaves_its_time_to_the_others(tmp_path: Path):
    clock = Clock(Journal(tmp_path / "journal.jsonl"))
    first = clock.begin("probe", 1000.0)
    clock.end("probe")
    assert first == pytest.approx(STAGES["probe"].share * 1000, rel=0.01)
    later = sum(stage.share for name, stage in STAGES.items() if name != "probe")
    assert clock.begin("supernet", 1000.0) == pytest.approx(1000 * STAGES["supernet"].share / later, rel=0.01)
