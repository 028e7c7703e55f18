"""Processes that a search starts itself: replaced when they die, stopped when one fails, gone when it ends."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import time
from functools import partial
from pathlib import Path

import pytest

from contracts.strategy import CONDITIONAL, evaluate
from sartor.errors import InputError
from sartor.search import run
from sartor.search.loop import search
from sartor.search.named import strategies
from sartor.search.objective import ACCURACY_LATENCY
from sartor.search.store import Store
from search.workers.noted import Deadly, Noted, Raising, notes, plain, until

random_search = partial(strategies["random"], objectives=ACCURACY_LATENCY)


def alone(budget: int = 12):
    return search(CONDITIONAL, evaluate, random_search, evaluations=budget, seed=1, batch=4)


def test_two_workers_make_the_history_of_one(new_url, tmp_path):
    file = tmp_path / "notes"
    found = run(CONDITIONAL, Noted(file, 0.1), "random", 12, 1, batch=4, store=new_url(), workers=2)
    assert plain(found) == plain(alone())
    ends = [line["arch"] for line in notes(file, "ended")]
    assert len(ends) == len(set(ends)) == 12
    pids = {line["pid"] for line in notes(file)}
    assert len(pids) <= 2
    assert os.getpid() not in pids


@pytest.mark.heavy
def test_an_evaluation_that_kills_its_workers_is_given_up_and_said(tmp_path):
    """Each worker that dies is replaced, until so many have died of one arch that it is recorded as the reason."""
    file, bad = tmp_path / "notes", alone()[2].arch
    found = run(CONDITIONAL, Deadly(file, bad), "random", 12, 1, batch=4, store=tmp_path / "study.db", workers=2)
    assert [r.arch for r in found] == [r.arch for r in alone()], "random search does not care what was measured"
    assert [r.metrics for r in found if r.arch == bad] == [{}]
    assert [r.provenance.get("failed") for r in found if r.arch == bad] == ["5 workers died evaluating it"]
    ends = [line["arch"] for line in notes(file, "ended")]
    assert len(ends) == len(set(ends)) == 11


def test_what_an_evaluator_raises_is_one_line_and_nothing_is_lost(tmp_path):
    file, path = tmp_path / "notes", tmp_path / "study.db"
    with pytest.raises(InputError, match="raised RuntimeError: out of memory") as caught:
        run(CONDITIONAL, Raising(file, 10), "random", 12, 1, batch=4, store=path, workers=2)
    assert "\n" not in str(caught.value)
    assert "in __call__" in str(caught.value.__cause__), "where it was raised"
    with Store(path, choices=CONDITIONAL.choices) as store:
        assert 1 <= len(store) < 12
        assert all(row.value["worker"] is None for row in store.look()), "what was begun was given back"
    found = run(CONDITIONAL, Noted(file), "random", 12, 1, batch=4, store=path)
    assert plain(found) == plain(alone())


@pytest.mark.parametrize(
    ("workers", "evaluator", "reason"),
    [
        (2, lambda arch: {}, "not lambdas"),
        (5, evaluate, "5 workers need batch >= 5, not 4"),
        (0, evaluate, "0 workers need batch >= 1"),
    ],
)
def test_what_cannot_be_done_by_many_is_said_before_it_begins(tmp_path, workers, evaluator, reason):
    with pytest.raises(InputError, match=reason):
        run(CONDITIONAL, evaluator, "random", 12, 1, batch=4, store=tmp_path / "study.db", workers=workers)


SCRIPT = """
from pathlib import Path
from contracts.strategy import CONDITIONAL
from sartor.search import run
from search.workers.noted import Noted, plain

def main():
    run(CONDITIONAL, Noted(Path({file!r}), {seconds}), "random", 12, 1, batch=4, store={store!r}, workers=2)
"""


def script(tmp_path: Path, seconds: float, call: str) -> subprocess.Popen[str]:
    """A program of somebody's own that searches with two workers; ``call`` is its last line."""
    text = SCRIPT.format(file=str(tmp_path / "notes"), seconds=seconds, store=str(tmp_path / "study.db"))
    (tmp_path / "program.py").write_text(text + "\n" + textwrap.dedent(call))
    return subprocess.Popen(
        [sys.executable, str(tmp_path / "program.py")],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)},
        stderr=subprocess.PIPE,
        text=True,
    )


GUARDED = 'if __name__ == "__main__":\n    main()\n'


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL])
def test_workers_end_with_the_process_that_started_them(tmp_path, how):
    """Ctrl-C and a kill, in the middle of evaluations; another process goes on at once."""
    program = script(tmp_path, 100, GUARDED)
    pids = until(lambda: {n["pid"] for n in notes(tmp_path / "notes")} if len(notes(tmp_path / "notes")) == 2 else None)
    program.send_signal(how)
    _, errors = program.communicate(timeout=60)
    assert program.returncode != 0
    until(lambda: not any(Path(f"/proc/{pid}/cmdline").exists() for pid in pids))
    assert errors.count("Traceback") == (how == signal.SIGINT), "one, the program's own"
    begun = time.monotonic()
    found = run(CONDITIONAL, evaluate, "random", 12, 1, batch=4, store=tmp_path / "study.db")
    assert plain(found) == plain(alone())
    assert time.monotonic() - begun < 50, "without waiting for heartbeats"


@pytest.mark.heavy
def test_a_program_without_a_guard_is_told_of_it(tmp_path):
    _, errors = script(tmp_path, 0, "main()").communicate(timeout=120)
    last = errors.strip().splitlines()[-1]
    assert 'call this below `if __name__ == "__main__":`' in last
