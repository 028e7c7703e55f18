"""Tables: published ones as they are known, anyone's own, whatever is in the file; and contests on them."""

from __future__ import annotations

import csv
import json
import random
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

from sartor.errors import InputError
from sartor.records import Arch
from sartor.search import run, strategies
from sartor.search.contest import contest, summary
from sartor.search.objective import Objective
from sartor.search.tables import NAMES, Table, open_csv, open_known, open_table
from sartor.space import Space
from sartor.space.listed import Listed

ACC, MS = Objective("acc", maximise=True), Objective("ms")


def write(file: Path, rows: list[dict[str, object]]) -> Path:
    with file.open("w", newline="") as held:
        writer = csv.DictWriter(held, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    return file


def rows() -> list[dict[str, object]]:
    """All of 3 × 4 × 2 archs: what is deeper is better and slower, what is wide is slower."""
    return [
        {"depth": d, "width": w, "op": op, "acc": d + w / 100 + (op == "conv"), "ms": d * w, "test": 10 * d}
        for d in (1, 2, 10)
        for w in (8, 16, 24, 32)
        for op in ("conv", "pool")
    ]


@pytest.fixture
def own(tmp_path: Path) -> Table:
    return open_csv(write(tmp_path / "mine.csv", rows()), ["depth", "width", "op"], [ACC, MS])


def test_a_table_of_ones_own(own: Table) -> None:
    assert type(own.space) is Space
    assert own.space.count() == 24
    options = {c.name: c.options for c in own.space.choices}
    assert options == {"depth": (1, 2, 10), "width": (8, 16, 24, 32), "op": ("conv", "pool")}, "numbers in their order"
    arch = Arch({"depth": 10, "width": 32, "op": "conv"})
    assert own.evaluate(arch) == {"acc": 11.32, "ms": 320.0}
    assert own.judge(arch) == own.best == 11.32
    assert not own.note


def test_rows_without_numbers_are_left_out_and_counted(tmp_path: Path) -> None:
    held = rows()
    held[0]["acc"], held[1]["ms"], held[2]["width"], held[3]["acc"] = "nan", "", "", "inf"
    table = open_csv(write(tmp_path / "holes.csv", held), ["depth", "width", "op"], [ACC, MS])
    assert table.note.startswith("4 of 24 rows")
    assert isinstance(table.space, Listed)
    assert table.space.count() == 20
    found = run(table.space, table.evaluate, "evolution", 99, objectives=table.objectives)
    assert {r.arch for r in found} == set(table.rows)


def test_rows_of_one_arch_are_averaged(tmp_path: Path) -> None:
    held = rows()
    again = dict(held[0]) | {"acc": held[0]["acc"] + 1}  # type: ignore[operator]
    table = open_csv(write(tmp_path / "twice.csv", [*held, again]), ["depth", "width", "op"], [ACC])
    assert "1 rows of archs that were there already" in table.note
    assert table.evaluate(Arch({"depth": 1, "width": 8, "op": "conv"}))["acc"] == pytest.approx(2.58)


@pytest.mark.parametrize(
    ("columns", "objectives", "said"),
    [
        (["depth", "height"], [ACC], "no column height: it has depth, width"),
        (["depth"], [Objective("error")], "no column error"),
        ([], [ACC], "--columns"),
        (["depth"], [], "maximise or minimise"),
        (["depth", "acc"], [ACC], "acc cannot be a choice and an objective"),
    ],
)
def test_columns_that_are_not_there(tmp_path: Path, columns: list[str], objectives: list[Objective], said: str) -> None:
    with pytest.raises(InputError, match=said):
        open_csv(write(tmp_path / "mine.csv", rows()), columns, objectives)


def test_files_that_are_no_tables(tmp_path: Path) -> None:
    (tmp_path / "empty.csv").write_text("")
    (tmp_path / "header.csv").write_text("depth,acc\n")
    (tmp_path / "bytes.csv").write_bytes(bytes(range(128, 256)))
    (tmp_path / "broken.csv.gz").write_bytes(b"\x1f\x8b no more")
    (tmp_path / "nothing.csv").write_text("depth,acc\n1,nan\n")
    for name in ("empty", "header", "bytes", "nothing", "absent"):
        with pytest.raises(InputError):
            open_csv(tmp_path / f"{name}.csv", ["depth"], [ACC])
    with pytest.raises(InputError, match="cannot read"):
        open_csv(tmp_path / "broken.csv.gz", ["depth"], [ACC])
    with pytest.raises(InputError, match="cannot read"):
        open_csv(tmp_path, ["depth"], [ACC])


def test_what_no_search_sees_judges_it(tmp_path: Path) -> None:
    file = write(tmp_path / "mine.csv", rows())
    table = open_table(
        str(file), columns=["depth", "width", "op"], maximise=["acc"], minimise=["ms"], verdict="max:test"
    )
    assert table.verdict == Objective("test", maximise=True)
    for arch in table.rows:
        assert set(table.evaluate(arch)) == {"acc", "ms"}
    history = run(table.space, table.evaluate, "random", 24, 3, objectives=table.objectives)
    values = table.best_so_far(history)
    seen = [r.metrics["acc"] for r in history]
    assert values == [10 * history[int(np.argmax(seen[: i + 1]))].arch["depth"] for i in range(24)]


def test_published_tables_refuse_columns_and_unknown_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SARTOR_DATA", raising=False)
    with pytest.raises(InputError, match="SARTOR_DATA"):
        open_known("nb201:cifar10")
    with pytest.raises(InputError, match="unknown table"):
        open_known("nb301:cifar10", tmp_path)
    with pytest.raises(InputError, match="nb201:cifar10, nb201:cifar100"):
        open_known("nb201:svhn", tmp_path)
    with pytest.raises(InputError, match="cannot read"):
        open_known("macro", tmp_path)
    with pytest.raises(InputError, match="is no folder"):
        open_known("macro", tmp_path / "absent")
    with pytest.raises(InputError, match="own columns"):
        open_table("nb201:cifar10", columns=["edge0"], data=tmp_path)


SIZES = {
    "nb201:cifar10": 15_625,
    "nb201:cifar100": 15_625,
    "nb201:cifar10:epochs": 31_250,
    "nb201:cifar100:epochs": 31_250,
    "macro:cifar10": 6_561,
    "ofa:imagenet": 2162,
    "graph:cora": 26_206,
}
BEST = {
    "nb201:cifar10": 94.37,
    "nb201:cifar100": 73.51,
    "nb201:cifar10:epochs": 94.37,
    "nb201:cifar100:epochs": 73.51,
    "macro:cifar10": 93.13,
    "ofa:imagenet": 77.5,
    "graph:cora": 0.8313,
}


@pytest.mark.parametrize("name", NAMES)
def test_published_tables(data_dir: Path, name: str) -> None:
    table = open_known(name, data_dir)
    assert table.space.count() == SIZES[name]
    assert table.best == pytest.approx(BEST[name], rel=5e-4)
    values = sorted(row[table.verdict.metric] for row in table.rows.values())
    assert values[-len(values) // 5] < table.best - table.near, "what is good enough is rare"
    assert isinstance(table.space, Listed) == (name.partition(":")[0] in ("ofa", "graph"))
    for strategy in ("random", "evolution", "local", "nsga2", "grid"):
        history = run(table.space, table.evaluate, strategy, 40, 1, objectives=table.objectives)
        assert len({r.arch for r in history}) == 40
        assert all(r.arch in table.rows for r in history)


def test_a_latency_beside_the_accuracy(data_dir: Path) -> None:
    table = open_known("nb201:cifar10", data_dir, "lat_ms_pixel2")
    assert [o.metric for o in table.objectives] == ["acc12ep_cifar10_val", "lat_ms_pixel2"]
    for column in ("lat_ms_toaster", "arch_str", "unique_idx", "acc200ep_cifar10_test"):
        with pytest.raises(InputError, match=r"choose from .*lat_ms_fpga"):
            open_known("nb201:cifar10", data_dir, column)


def test_a_contest_is_what_each_search_alone_is(own: Table) -> None:
    runs = list(contest(own, ["random", "evolution"], 20, 3))
    assert [(r["seed"], r["strategy"]) for r in runs] == [(s, n) for s in range(3) for n in ("random", "evolution")]
    for entry in runs:
        alone = run(own.space, own.evaluate, entry["strategy"], 20, entry["seed"], objectives=own.objectives)
        assert entry["best_so_far"] == own.best_so_far(alone)
        assert entry["evaluations"] == 20
        assert entry["hypervolume"] == sorted(entry["hypervolume"])
    assert json.loads(json.dumps(runs)) == runs
    (everything,) = contest(own, ["random"], 24, 1)
    assert everything["hypervolume"][-1] == pytest.approx(1)
    assert everything["best_so_far"][-1] == own.best


def test_what_is_said_of_a_contest(own: Table) -> None:
    runs = [
        {"strategy": "a", "seed": s, "evaluations": 4, "best_so_far": values, "seconds": 0.02}
        for s, values in enumerate(([1.0, 11.3, 11.32, 11.32], [11.0, 11.0, 11.0, 11.25], [5.0, 5.0, 5.0, 5.0]))
    ]
    (line,) = summary(replace(own, near=0.1), runs)
    assert line["near"] == {"median": 4, "low": 2, "high": None, "reached": 2}
    assert line["mean_of_reached"] == 3
    (turned,) = summary(replace(own, near=0.1), [runs[0] | {"best_so_far": [11.32, 11.32, 5.0, 11.32]}])
    assert turned["near"]["median"] == 4, "where it stays near"
    assert line["regret"][4] == pytest.approx((0 + 0.07 + 6.32) / 3)
    assert line["ms_an_evaluation"] == pytest.approx(5.0)


@pytest.mark.parametrize("asked", [{"budget": 0, "seeds": 1}, {"budget": 1, "seeds": 0}])
def test_a_contest_of_nothing(own: Table, asked: dict[str, int]) -> None:
    with pytest.raises(InputError):
        contest(own, ["random"], **asked)
    with pytest.raises(InputError, match="choose from random"):
        contest(own, ["best"], 1, 1)


ELSEWHERE = {
    "optuna-gp": pytest.mark.heavy,
    "optuna-cmaes": pytest.mark.skipif(find_spec("cmaes") is None, reason="the package cmaes is not installed"),
}
"""Strategies that cannot be tried here every time."""


@pytest.mark.parametrize("name", [pytest.param(n, marks=ELSEWHERE.get(n, ())) for n in strategies])
def test_every_strategy_on_a_table_with_holes(tmp_path: Path, name: str) -> None:
    """In a space of which only some archs exist, past the random beginning, one objective or two."""
    rng = random.Random(0)
    held = [r | {"depth": d} for d in range(1, 9) for r in rows() if rng.random() < 0.7]
    for place, row in enumerate(held):
        row["acc"] = float(str(row["depth"])) * (place % 7)
    table = open_csv(write(tmp_path / "holes.csv", held), ["depth", "width", "op"], [ACC, MS])
    assert isinstance(table.space, Listed)
    budget = 16 if name == "optuna-gp" else 36  # fits for each arch that it proposes
    for objectives in (table.objectives, table.objectives[:1]):
        found = run(table.space, table.evaluate, name, budget, 5, objectives=objectives, batch=4)
        assert len({r.arch for r in found}) == budget
        again = run(table.space, table.evaluate, strategies[name], budget, 5, objectives=objectives, batch=4)
        assert [r.arch for r in found] == [r.arch for r in again]


def test_an_objective_that_nobody_returns(own: Table) -> None:
    with pytest.raises(InputError, match=r"returns acc, ms, and not accuracy_val"):
        run(own.space, own.evaluate, "evolution", 9)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("depth,acc\n1,93,5\n", "line 2: 3 fields for 2 columns"),
        ("depth,acc,acc\n1,93,5\n", "acc more than once"),
        ("depth,acc\n1,93.1%\n2,94.2%\n", "2 of 2 rows lack"),
    ],
)
def test_rows_that_would_be_read_wrongly(tmp_path: Path, text: str, said: str) -> None:
    (tmp_path / "mine.csv").write_text(text)
    with pytest.raises(InputError, match=said):
        open_csv(tmp_path / "mine.csv", ["depth"], [ACC])


def test_what_spreadsheets_write(tmp_path: Path) -> None:
    """A mark of the encoding, spaces, a last line that ends early, capital letters in the name."""
    text = "depth, width ,acc\n 1, 8,0.5\n 2, 16,0.6\n\n2,8,0.7\n1,16\n"
    (tmp_path / "MINE.CSV").write_bytes(b"\xef\xbb\xbf" + text.encode())
    table = open_table(str(tmp_path / "MINE.CSV"), columns=["depth", "width"], maximise=["acc"])
    assert table.space.count() == 3
    assert table.note.startswith("1 of 4 rows")


def options_of(tmp_path: Path, *texts: str) -> tuple[object, ...]:
    (tmp_path / "mine.csv").write_text("\n".join(["x,acc", *(f"{t},{i}" for i, t in enumerate(texts))]))
    return open_csv(tmp_path / "mine.csv", ["x"], [ACC]).space.choices[0].options


def test_options_that_look_alike_stay_apart(tmp_path: Path) -> None:
    assert options_of(tmp_path, "9007199254740993", "9007199254740992") == (9007199254740992, 9007199254740993)
    assert set(options_of(tmp_path, "01", "1")) == {"01", "1"}
    assert options_of(tmp_path, "16", "auto", "8", "128") == ("8", "16", "128", "auto")
    assert options_of(tmp_path, "16", "nan", "8") == (8, 16)
    assert options_of(tmp_path, "0.1", "1e-3", "1") == (0.001, 0.1, 1.0)


def test_directions_are_said(tmp_path: Path) -> None:
    file = str(write(tmp_path / "mine.csv", rows()))
    asked = {"columns": ["depth", "width", "op"], "minimise": ["ms"]}
    with pytest.raises(InputError, match="max:test or min:test"):
        open_table(file, verdict="test", **asked)
    assert open_table(file, verdict="ms", **asked).verdict == MS
    assert open_table(file, verdict="max:test", **asked).best == 100
    with pytest.raises(InputError, match="once"):
        open_table(file, maximise=["ms"], **asked)


@pytest.mark.parametrize("kept", [1, 2])
def test_tables_without_volume(tmp_path: Path, kept: int) -> None:
    held = [{"x": i, "acc": 1.0, "ms": 2.0} for i in range(kept)]
    table = open_csv(write(tmp_path / "flat.csv", held), ["x"], [ACC, MS])
    (entry,) = contest(table, ["random"], 5, 1)
    assert entry["evaluations"] == kept
    assert "hypervolume" not in entry
    assert summary(table, [entry])[0]["near"]["median"] == 1


def test_the_best_counts_in_the_volume(own: Table) -> None:
    (entry,) = contest(own, ["grid"], 24, 1)
    history = run(own.space, own.evaluate, "grid", 24, 0, objectives=own.objectives)
    best = max(own.rows, key=lambda arch: own.rows[arch]["acc"])
    place = next(i for i, record in enumerate(history) if record.arch == best)
    before = entry["hypervolume"][place - 1] if place else 0
    assert entry["hypervolume"][place] > before
    assert [r.arch for r in history] != [r.arch for r in run(own.space, own.evaluate, "grid", 24, 1, objectives=[ACC])]
