"""Searches that were written down: as the contest wrote them, as Optuna did, and whatever else is in a file."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import optuna
import pytest

from contracts.strategy import CONDITIONAL, FLAT, evaluate
from sartor.disk import write_json
from sartor.errors import InputError
from sartor.search.audit.judge import audit
from sartor.search.audit.read import joined, read_searches_of, traces_of
from sartor.search.contest import contest
from sartor.search.named import run
from sartor.search.objective import ACCURACY_LATENCY, Objective
from sartor.search.store import Store
from sartor.search.tables import Table
from sartor.search.tables.table import table_of
from sartor.space import Choice, Space

optuna.logging.set_verbosity(optuna.logging.WARNING)


def small(name: str = "mine", shift: float = 0.0) -> Table:
    space = Space((Choice("x", tuple(range(12))), Choice("y", tuple(range(5)))))
    rows = [
        ({"x": x, "y": y}, {"val": x + shift - 0.1 * y, "test": 2.0 * x - y * y}) for x in range(12) for y in range(5)
    ]
    return table_of(name, space, rows, [Objective("val", maximise=True)], Objective("test", maximise=True))


@pytest.fixture(scope="module")
def runs() -> list[dict[str, Any]]:
    return list(contest(small(), ["random", "local"], 12, 2, batch=4))


def test_a_contest_reads_back_as_it_was(runs, tmp_path: Path):
    write_json(tmp_path / "runs.json", runs)
    problem, traces = read_searches_of(tmp_path / "runs.json")
    assert problem == small().problem
    assert [(t.strategy, t.seed) for t in traces] == [(r["strategy"], r["seed"]) for r in runs]
    for trace, entry in zip(traces, runs, strict=True):
        assert trace.results(problem) == entry["best_so_far"] == trace.told
    assert audit(problem, traces) == audit(*traces_of(runs))


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("", "cannot be read as JSON"),
        ("{}", "no list of searches"),
        ("[]", "holds no search"),
        ("[1]", "no list of searches"),
        ('[{"strategy": "a", "seed": 0, "best_so_far": [1]}]', "'problem' is missing"),
        ('[{"strategy": "a", "seed": 0, "problem": {}, "values": {}}]', "cannot be audited"),
        ('[{"strategy": "a", "seed": 0, "problem": 3, "values": {}}]', "cannot be audited"),
    ],
)
def test_files_that_hold_no_searches(tmp_path: Path, content: str, said: str):
    (tmp_path / "runs.json").write_text(content)
    with pytest.raises(InputError, match=said) as error:
        read_searches_of(tmp_path / "runs.json")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    "change",
    [
        {"values": {}},
        {"values": {"val": [], "test": []}},
        {"values": {"val": [1.0], "test": [1.0, 2.0]}},
        {"values": {"val": ["a"] * 12, "test": [1.0] * 12}},
        {"values": [1, 2]},
        {"best_so_far": [1.0]},
        {"best_so_far": 3},
        {"seed": "first"},
        {"seed": None},
        {"seed": float("inf")},
        {"problem": {"name": "x"}},
        {"problem": None},
    ],
)
def test_damaged_searches_are_refused_in_one_line(runs, tmp_path: Path, change: dict[str, Any]):
    (tmp_path / "runs.json").write_text(json.dumps([runs[0] | change]))  # with what is no JSON, as others write it
    with pytest.raises(InputError, match="cannot be audited") as error:
        read_searches_of(tmp_path / "runs.json")
    assert "\n" not in str(error.value)


def test_what_could_not_be_measured_is_null(runs, tmp_path: Path):
    values = {name: [None, *column[1:]] for name, column in runs[0]["values"].items()}
    write_json(tmp_path / "runs.json", [{k: v for k, v in runs[0].items() if k != "best_so_far"} | {"values": values}])
    problem, (trace,) = read_searches_of(tmp_path / "runs.json")
    assert math.isnan(trace.values["val"][0])
    assert math.isfinite(trace.results(problem)[-1])


def test_searches_of_two_problems_are_not_mixed(runs, tmp_path: Path):
    other = list(contest(small("other"), ["random"], 12, 1))
    write_json(tmp_path / "both.json", [*runs, *other])
    with pytest.raises(InputError, match="two problems: name"):
        read_searches_of(tmp_path / "both.json")
    paths = (tmp_path / "one.json", tmp_path / "two.json")
    for path, content in zip(paths, (runs, other), strict=True):
        write_json(path, content)
    with pytest.raises(InputError, match="not of one problem"):
        joined([(p, read_searches_of(p)) for p in paths])
    with pytest.raises(InputError, match="in it twice"):
        traces_of([runs[0], runs[0]])
    with pytest.raises(InputError, match="and again in"):
        joined([(p, read_searches_of(paths[0])) for p in paths])
    with pytest.raises(InputError, match="name what to audit"):
        joined([])


def test_files_of_seeds_are_read_together(runs, tmp_path: Path):
    for seed in (0, 1):
        write_json(tmp_path / f"{seed}.json", [r for r in runs if r["seed"] == seed])
    sources = [(p, read_searches_of(p)) for p in sorted(tmp_path.glob("*.json"))]
    assert audit(*joined(sources)) == audit(*traces_of(runs))


# --- studies ----------------------------------------------------------------------------------------------------------


def study(path: Path, name: str, sampler: optuna.samplers.BaseSampler, *, trials: int = 12, low: float = -3.0) -> None:
    def objective(trial: optuna.Trial) -> float:
        if trial.number == 2:
            raise optuna.TrialPruned
        x = trial.suggest_float("x", low, 3.0)
        return (x - 1) ** 2

    made = optuna.create_study(storage=f"sqlite:///{path}", study_name=name, sampler=sampler)
    made.optimize(objective, n_trials=trials)


def test_studies_of_anyone(tmp_path: Path):
    path = tmp_path / "any.db"
    for seed in (0, 1):
        study(path, f"random-{seed}", optuna.samplers.RandomSampler(seed=seed))
        study(path, f"tpe {seed}", optuna.samplers.TPESampler(seed=seed, n_startup_trials=4))
    before = path.read_bytes()
    problem, traces = read_searches_of(path)
    assert path.read_bytes() == before, "an audit does not write to what it reads"
    assert list(tmp_path.iterdir()) == [path]
    assert sorted((t.strategy, t.seed) for t in traces) == [("random", 0), ("random", 1), ("tpe", 0), ("tpe", 1)]
    assert problem.objectives == (Objective("value 0"),)
    assert problem.verdict is None
    for trace in traces:
        assert len(trace) == 12
        assert math.isnan(trace.values["value 0"][2]), "what was pruned cost an evaluation and gave nothing"
        assert trace.results(problem)[-1] == min(v for v in trace.values["value 0"] if math.isfinite(v))
    found = audit(problem, traces)
    assert found["baseline"] == "random"
    json.dumps(found, allow_nan=False)
    renamed = audit(problem, traces, baseline="tpe")
    assert renamed["baseline"] == "tpe"


def test_studies_of_two_spaces_or_of_nothing(tmp_path: Path):
    study(tmp_path / "two.db", "random-0", optuna.samplers.RandomSampler(seed=0))
    study(tmp_path / "two.db", "random-1", optuna.samplers.RandomSampler(seed=0), low=-9.0)
    with pytest.raises(InputError, match="two problems"):
        read_searches_of(tmp_path / "two.db")
    optuna.create_study(storage=f"sqlite:///{tmp_path / 'none.db'}")
    with pytest.raises(InputError, match="no study with a finished trial"):
        read_searches_of(tmp_path / "none.db")


def test_files_that_are_no_studies(tmp_path: Path):
    import sqlite3

    with sqlite3.connect(tmp_path / "other.db") as connection:
        connection.execute("create table cats (name text)")
    whole = tmp_path / "whole.db"
    study(whole, "random-0", optuna.samplers.RandomSampler(seed=0), trials=3)
    (tmp_path / "cut.db").write_bytes(whole.read_bytes()[:5000])
    for name in ("other.db", "cut.db"):
        with pytest.raises(InputError) as error:
            read_searches_of(tmp_path / name)
        assert "\n" not in str(error.value)
    (tmp_path / "empty.db").write_bytes(b"")
    for name in ("absent.db", "empty.db", "."):
        with pytest.raises(InputError):
            read_searches_of(tmp_path / name)


@pytest.mark.parametrize("space", [FLAT, CONDITIONAL], ids=["flat", "conditional"])
def test_stores_of_our_own(tmp_path: Path, space: Space):
    """Two searches of one file, archs that could not be measured among them; of a space with conditions, too."""
    path = tmp_path / "study.db"

    def sometimes(arch):
        return {**evaluate(arch), "accuracy_val": math.nan} if arch.key[0] == "0" else evaluate(arch)

    histories = {}
    for name in ("nsga2", "random"):
        with Store(path, name=name, choices=space.choices) as store:
            histories[name] = run(space, sometimes, name, 20, 3, store=store)
    before = path.read_bytes()
    problem, traces = read_searches_of(path)
    assert path.read_bytes() == before
    assert problem.objectives == ACCURACY_LATENCY
    for trace in traces:
        assert trace.seed == 3
        expected = [r.metrics.get("accuracy_val", math.nan) for r in histories[trace.strategy]]
        assert trace.values["accuracy_val"] == pytest.approx(expected, nan_ok=True)
        assert trace.evaluation_seconds is not None
    found = audit(problem, traces)
    (line,) = (entry for entry in found["strategies"] if entry["strategy"] == "nsga2")
    assert 0 < line["hypervolume"]["mean"] <= 1
