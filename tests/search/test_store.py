"""The store: what was appended is there, whatever happens next."""

from __future__ import annotations

import contextlib
import os
import random
import re
import shutil
import signal
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from contracts.strategy import CONDITIONAL, FLAT, evaluate, history_of
from sartor.errors import InputError
from sartor.records import Arch, Record
from sartor.search import run
from sartor.search.loop import search
from sartor.search.methods.random import random_search
from sartor.search.store import Store
from sartor.search.workers import work


def as_dicts(records):
    return [record.to_dict() for record in records]


def test_records_come_back_as_they_were(tmp_path):
    path = tmp_path / "run" / "study.db"
    records = [
        Record(r.name, r.arch, precision, r.metrics, {"seed": 3, "device": {"cpu": "x"}, "text": "µ 'quoted'"})
        for precision in ("fp32", "int8")
        for r in history_of(CONDITIONAL, 6)
    ]
    with Store(path, choices=CONDITIONAL.choices) as store:
        for record in records:
            store.append(record)
        assert as_dicts(store.records()) == as_dicts(records)
    with Store(path, choices=CONDITIONAL.choices) as store:
        assert as_dicts(store.records()) == as_dicts(records)
        assert len(store) == len(records)
    assert [p.name for p in path.parent.iterdir()] == ["study.db"], "closing leaves one file, which alone can be copied"


def test_optuna_reads_it(tmp_path):
    """Values are the objectives, parameters the choices, and its best trials are our front."""
    import optuna

    from sartor.records import front

    records = history_of(CONDITIONAL, 12)
    with Store(tmp_path / "study.db", choices=CONDITIONAL.choices) as store:
        for record in records:
            store.append(record)
    study = optuna.load_study(study_name="search", storage=f"sqlite:///{tmp_path / 'study.db'}")
    assert [d.name for d in study.directions] == ["MAXIMIZE", "MINIMIZE"]
    assert [Arch(t.params) for t in study.trials] == [r.arch for r in records]
    best = {(t.values[1], t.values[0]) for t in study.best_trials}
    assert best == {(r.metrics["latency_ms"], r.metrics["accuracy_val"]) for r in front(records)}


def by_optuna(path: Path, records, choices) -> None:
    """The same study as Optuna itself writes it, which is how files of before came to be."""
    import optuna

    study = optuna.create_study(
        storage=f"sqlite:///{path}", study_name="search", directions=["maximize", "minimize"], load_if_exists=True
    )
    identity = {
        "format": 1,
        "objectives": [["accuracy_val", True], ["latency_ms", False]],
        "choices": [[c.name, list(c.options), c.when] for c in choices],
    }
    study.set_user_attr("sartor.identity", identity)
    kinds = {c.name: optuna.distributions.CategoricalDistribution(c.options) for c in choices}
    for record in records:
        complete = len(record.metrics) == 2
        study.add_trial(
            optuna.trial.create_trial(
                state=optuna.trial.TrialState.COMPLETE if complete else optuna.trial.TrialState.FAIL,
                values=[record.metrics["accuracy_val"], record.metrics["latency_ms"]] if complete else None,
                params=dict(record.arch),
                distributions={name: kinds[name] for name in record.arch},
                user_attrs={"sartor.record": record.to_dict()},
            )
        )


def tables(path: Path) -> dict[str, list[tuple]]:
    """Every row of every table, as it lies in the file; of times, only whether there is one and how it is written."""
    found = {}
    with contextlib.closing(sqlite3.connect(path)) as database:
        names = [n for (n,) in database.execute("select name from sqlite_master where type = 'table' order by name")]
        for name in names:
            rows = database.execute(f"select * from {name}").fetchall()
            found[name] = [tuple(re.sub(r"\d", "0", v) if is_time(v) else v for v in row) for row in rows]
    return found


def is_time(value: object) -> bool:
    return isinstance(value, str) and re.fullmatch(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d+", value) is not None


def test_it_writes_what_optuna_writes(tmp_path):
    """Row by row what Optuna's own storage makes of the same trials, and as near in time."""
    import optuna

    records = [*history_of(CONDITIONAL, 6), Record("a6", CONDITIONAL.largest(), metrics={"latency_ms": 1.0})]
    with Store(tmp_path / "ours.db", choices=CONDITIONAL.choices) as store:
        for record in records:
            store.append(record)
    by_optuna(tmp_path / "theirs.db", records, CONDITIONAL.choices)
    assert tables(tmp_path / "ours.db") == tables(tmp_path / "theirs.db")
    ours, theirs = (
        optuna.load_study(study_name="search", storage=f"sqlite:///{tmp_path / file}").trials[0]
        for file in ("ours.db", "theirs.db")
    )
    for a, b in ((ours.datetime_start, theirs.datetime_start), (ours.datetime_complete, theirs.datetime_complete)):
        assert abs((a - b).total_seconds()) < 600, "in the same time zone"


def test_what_workers_have_finished_is_as_if_it_had_been_appended(tmp_path):
    with Store(tmp_path / "worked.db", choices=FLAT.choices) as store:
        found = work(FLAT, evaluate, random_search, store, evaluations=5, seed=0, batch=2)
    with Store(tmp_path / "appended.db", choices=FLAT.choices) as store:
        for record in found:
            store.append(record)
    worked, appended = tables(tmp_path / "worked.db"), tables(tmp_path / "appended.db")
    # Values and parameters are written at other moments, and so in another order.
    assert {name: sorted(rows, key=repr) for name, rows in worked.items()} == {
        name: sorted(rows, key=repr) for name, rows in appended.items()
    }


def test_a_file_of_before_goes_on(tmp_path):
    """Optuna wrote it, and its records do not say how many were proposed together."""
    path = tmp_path / "study.db"
    whole = search(FLAT, evaluate, random_search, evaluations=20, seed=5, batch=7)
    old = [
        Record(r.name, r.arch, r.precision, r.metrics, {k: v for k, v in r.provenance.items() if k != "batch_size"})
        for r in whole[:10]
    ]
    by_optuna(path, old, FLAT.choices)
    with Store(path, choices=FLAT.choices) as store:
        assert as_dicts(store.records()) == as_dicts(old)
        search(FLAT, evaluate, random_search, evaluations=12, seed=5, batch=7, store=store)
        found = work(FLAT, evaluate, random_search, store, evaluations=20, seed=5, batch=7)
    assert [(r.name, r.arch, r.metrics) for r in found] == [(r.name, r.arch, r.metrics) for r in whole]


FULL = """
import resource, signal, sys
from pathlib import Path
sys.path[:0] = sys.argv[2:]
from contracts.strategy import FLAT, evaluate
from sartor.errors import InputError
from sartor.search import run
from sartor.search.store import Store

with Store(Path(sys.argv[1]), choices=FLAT.choices) as store:
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, resource.RLIM_INFINITY))
    try:
        run(FLAT, evaluate, "random", 500, 5, batch=7, store=store)
    except InputError as error:
        print(error)
    resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
"""


def test_a_full_disk_is_one_line_and_loses_nothing(tmp_path, project: Path):
    """A file-size limit stands for the full disk. With room again, the search goes on."""
    path = tmp_path / "study.db"
    paths = [str(project / "src"), str(project / "tests")]
    done = subprocess.run([sys.executable, "-c", FULL, str(path), *paths], capture_output=True, text=True, timeout=300)
    lines = done.stdout.splitlines()
    assert len(lines) == 1, done
    assert re.fullmatch(r"cannot use .*study\.db \((disk I/O error|database or disk is full)\): .*free.*", lines[0])
    with Store(path, choices=FLAT.choices) as store:
        stored = len(store)
        assert stored > 0
        found = run(FLAT, evaluate, "random", stored + 20, 5, batch=7, store=store)
    whole = run(FLAT, evaluate, "random", stored + 20, 5, batch=7)
    assert [(r.name, r.arch, r.metrics) for r in found] == [(r.name, r.arch, r.metrics) for r in whole]


def test_a_record_without_an_objective_is_kept_as_a_failed_trial(tmp_path):
    record = Record("a0", FLAT.smallest(), metrics={"latency_ms": 1.0}, provenance={"not_finite": ["accuracy_val"]})
    with Store(tmp_path / "study.db") as store:
        store.append(record)
    with Store(tmp_path / "study.db") as store:
        assert as_dicts(store.records()) == [record.to_dict()]


def test_two_studies_share_a_file(tmp_path):
    found, random_ones = history_of(FLAT, 3), history_of(FLAT, 4, seed=1)
    for name, records in (("search", found), ("random", random_ones)):
        with Store(tmp_path / "study.db", name=name) as store:
            for record in records:
                store.append(record)
    with Store(tmp_path / "study.db", name="search") as a, Store(tmp_path / "study.db", name="random") as b:
        assert (as_dicts(a.records()), as_dicts(b.records())) == (as_dicts(found), as_dicts(random_ones))


def test_metrics_that_are_not_finite_are_refused(tmp_path):
    with Store(tmp_path / "study.db") as store, pytest.raises(InputError, match="latency_ms is not finite"):
        store.append(Record("a0", FLAT.smallest(), metrics={"latency_ms": float("nan")}))


def test_another_problem_is_refused_naming_what_differs(tmp_path):
    path = tmp_path / "study.db"
    Store(path, choices=FLAT.choices, identity={"data": "abc"}).close()
    Store(path, choices=FLAT.choices, identity={"data": "abc"}).close()
    with pytest.raises(InputError, match=r"another problem \(data differ\)"):
        Store(path, choices=FLAT.choices, identity={"data": "xyz"})
    with pytest.raises(InputError, match="choices"):
        Store(path, choices=CONDITIONAL.choices, identity={"data": "abc"})


def test_a_damaged_file_is_one_clear_line(tmp_path):
    path = tmp_path / "study.db"
    path.write_bytes(b"this is not a database" * 100)
    with pytest.raises(InputError, match=r"study\.db .*choose another --out") as caught:
        Store(path)
    assert "\n" not in str(caught.value)


def test_a_file_that_cannot_be_opened_is_one_clear_line(tmp_path):
    (tmp_path / "study.db").mkdir()
    with pytest.raises(InputError, match="fix the permissions or choose another --out") as caught:
        Store(tmp_path / "study.db")
    assert "\n" not in str(caught.value)


CHILD = """
import sys
from pathlib import Path
sys.path[:0] = sys.argv[3:]
from contracts.strategy import FLAT, evaluate
from sartor.search import run
from sartor.search.loop import search
from sartor.search.methods.random import random_search
from sartor.search.store import Store

store = Store(Path(sys.argv[1]), choices=FLAT.choices)
print("ready", flush=True)
search(FLAT, evaluate, random_search, evaluations=int(sys.argv[2]), seed=5, batch=7, store=store,
       on_record=lambda record: print(record.name, flush=True))
"""


@pytest.mark.heavy
def test_kill_9_at_random_moments_loses_nothing_finished(tmp_path, project: Path):
    """Four kills at random moments of one search. After each: every record whose end was announced is in the file, at
    most one more is, the database is sound, and in the end the archs are those of a search that nobody killed."""
    path, total, rng = tmp_path / "study.db", 400, random.Random(0)
    reference = search(FLAT, evaluate, random_search, evaluations=total, seed=5, batch=7)
    announced = 0
    paths = [str(project / "src"), str(project / "tests")]
    for _ in range(4):
        child = subprocess.Popen([sys.executable, "-c", CHILD, str(path), str(total), *paths], stdout=subprocess.PIPE)
        assert child.stdout is not None
        assert child.stdout.readline() == b"ready\n"
        for _ in range(rng.randrange(1, 60)):
            if child.stdout.readline():
                announced += 1
        os.kill(child.pid, signal.SIGKILL)
        announced += len(child.stdout.read().splitlines())
        child.wait()
        assert child.returncode == -signal.SIGKILL
        shutil.copytree(tmp_path, tmp_path.with_name("copy"), dirs_exist_ok=True)  # a run can be copied as it lies
        with Store(tmp_path.with_name("copy") / "study.db", choices=FLAT.choices) as copy:
            held = copy.records()
        assert announced <= len(held) <= announced + 1
        announced = len(held)
        assert [r.arch for r in held] == [r.arch for r in reference[: len(held)]]
        with contextlib.closing(sqlite3.connect(path)) as database:
            assert database.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    assert 4 <= announced < total, "the kills came while it was working"
    wanted = announced + 10
    with Store(path, choices=FLAT.choices) as store:
        found = search(FLAT, evaluate, random_search, evaluations=wanted, seed=5, batch=7, store=store)
    assert [(r.name, r.arch, r.metrics) for r in found] == [(r.name, r.arch, r.metrics) for r in reference[:wanted]]
