"""Evaluators that hang, crash and raise: the search goes on, and its records say what happened."""

from __future__ import annotations

import re
import time
from pathlib import Path

import pytest

from contracts.strategy import FLAT, evaluate
from sartor.errors import InputError
from sartor.records import Arch
from sartor.search import run
from sartor.search.evaluators import limited
from sartor.search.loop import NotMeasured
from search.workers.noted import Always, Once, notes, orphaned, until

ARCH = FLAT.smallest()


def test_what_is_well_is_as_it_was(tmp_path):
    with limited(evaluate, seconds=60) as evaluator:
        assert evaluator(ARCH) == evaluate(ARCH)
        assert run(FLAT, evaluator, "random", 3, 1) != []
        found = run(FLAT, evaluator, "random", 4, 1, batch=2, store=tmp_path / "study.db", workers=2)
    assert [r.metrics for r in found] == [r.metrics for r in run(FLAT, evaluate, "random", 4, 1, batch=2)]


@pytest.mark.parametrize(
    ("how", "reason"),
    [
        ("hangs", r"not done after 0\.3 s"),
        ("crashes", "the process it ran in was killed by signal 11"),
        ("exits", "the process it ran in ended with exit code 3"),
        ("raises", "ValueError: no such layer"),
        ("cannot", "the target is not there"),
        ("list", r"the evaluator returns \[0\.5, 1\.0\]: return names and numbers"),
    ],
)
def test_a_failure_is_a_record_with_its_reason(how, reason):
    with limited(Always(how), seconds=0.3 if how == "hangs" else 60) as evaluator:
        record = run(FLAT, evaluator, "random", 1)[0]
    assert record.metrics == {}
    assert record.provenance["failed"].splitlines() == [record.provenance["failed"]]
    assert re.match(reason, record.provenance["failed"])


def test_a_second_try_may_do(tmp_path):
    for how in ("hangs", "raises"):
        with limited(Once(tmp_path / how, how), seconds=3.0, retries=1) as evaluator:
            assert evaluator(ARCH) == evaluate(ARCH)
        assert len(notes(tmp_path / how)) == 2


def test_after_so_many_failures_in_a_row_the_search_stops_and_goes_on_when_mended(tmp_path):
    path = tmp_path / "study.db"
    reason = r"3 evaluations in a row failed, .*ValueError: no such layer; mend"
    with limited(Always("raises"), failures=3) as evaluator, pytest.raises(InputError, match=reason) as caught:
        run(FLAT, evaluator, "random", 9, store=path)
    assert "\n" not in str(caught.value)
    assert "in fail" in str(caught.value.__cause__)
    found = run(FLAT, evaluate, "random", 9, store=path)
    assert ["failed" in r.provenance for r in found] == [True] * 2 + [False] * 7
    assert [r.arch for r in found] == [r.arch for r in run(FLAT, evaluate, "random", 9)]


def test_a_success_between_failures_counts_from_the_beginning(tmp_path):
    evaluator = limited(Once(tmp_path / "notes", "raises"), failures=2)
    with evaluator:
        for arch in [FLAT.smallest(), FLAT.largest()]:
            with pytest.raises(NotMeasured):
                evaluator(arch)
            assert evaluator(arch) == evaluate(arch)


def test_what_an_evaluation_started_ends_with_it(tmp_path, monkeypatch):
    file = tmp_path / "pid"
    monkeypatch.setenv("SARTOR_TEST_PID", str(file))
    with limited(Always("hangs with a child"), seconds=5.0) as evaluator:
        with pytest.raises(NotMeasured):
            evaluator(ARCH)
        process = until(lambda: file.exists() and file.read_text())
        until(lambda: not _runs(int(process)))


def test_the_process_ends_when_it_is_closed_and_begins_again_when_it_is_needed():
    evaluator = limited(evaluate)
    evaluator(ARCH)
    assert evaluator._child is not None
    first = evaluator._child[0].pid
    evaluator.close()
    evaluator.close()
    assert not _runs(first)
    assert evaluator(ARCH) == evaluate(ARCH)
    evaluator.close()


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        ({"seconds": 0}, "positive number of seconds"),
        ({"seconds": float("nan")}, "positive number of seconds"),
        ({"retries": -1}, "retries >= 0"),
        ({"failures": 0}, "failures >= 1"),
    ],
)
def test_limits_that_make_no_sense(arguments, reason):
    with pytest.raises(InputError, match=reason):
        limited(evaluate, **arguments)


def test_a_lambda_cannot_be_sent():
    with pytest.raises(InputError, match="not a lambda"):
        limited(lambda arch: {})(ARCH)


def _runs(pid: int | None) -> bool:
    stat = Path(f"/proc/{pid}/stat")
    return stat.exists() and stat.read_text().rpartition(")")[2].split()[0] not in "ZX"


def test_a_death_is_noticed_though_a_descendant_lives_on():
    started = time.monotonic()
    with limited(orphaned, retries=0) as evaluate, pytest.raises(NotMeasured, match="killed by signal 11"):
        evaluate(Arch({"a": 1}))
    assert time.monotonic() - started < 15
