"""front.csv, front.json and the terminal's table hold what was measured and nothing else."""

from __future__ import annotations

import io
import json
import math
from pathlib import Path

import pytest
from rich.console import Console

from report.fabricated import fabricate_run, front_records, read_csv
from sartor.disk import write_json
from sartor.errors import InputError
from sartor.records import FRONT_COLUMNS, Arch, Record
from sartor.report.files import read_run
from sartor.report.table import front_csv, front_table, write_front


def test_csv_begins_with_the_promised_columns_and_reads_back() -> None:
    records = front_records()
    text = front_csv(records)
    assert text.splitlines()[0].split(",")[: len(FRONT_COLUMNS)] == list(FRONT_COLUMNS)
    for row, record in zip(read_csv(text), records, strict=True):
        assert (row["name"], row["precision"], row["arch"]) == (record.name, record.precision, record.arch.key)
        assert {name: float(row[name]) for name in record.metrics} == dict(record.metrics)


def test_csv_writes_counts_whole_and_leaves_gaps_empty() -> None:
    records = [
        Record("a", Arch({"d": 1}), metrics={"macs": 4_100_000.0, "latency_ms": 0.25, "parity": 1e-6}),
        Record('b, "quoted"', Arch({"d": 2}), metrics={"latency_ms": math.nan}),
    ]
    first, second = read_csv(front_csv(records))
    assert (first["macs"], first["latency_ms"], first["parity"]) == ("4100000", "0.25", "1e-06")
    assert (second["name"], second["macs"], second["latency_ms"]) == ('b, "quoted"', "", "")


def test_write_front_reads_back_fastest_first(tmp_path: Path) -> None:
    write_json(tmp_path / "run.json", {"format": 1, "status": "done"})
    records = front_records()
    dropped = [{"name": "x", "precision": "fp32", "reason": "too large"}]
    write_front(tmp_path, records[::-1], dropped, picked="m3")
    run = read_run(tmp_path)
    assert [r.to_dict() for r in run.records] == [r.to_dict() for r in records]
    assert list(run.dropped) == dropped
    assert run.picked_record is not None
    assert run.picked_record.name == "m3"


def test_a_metric_that_is_not_finite_is_left_out_of_json(tmp_path: Path) -> None:
    write_front(tmp_path, [Record("a", Arch({}), metrics={"latency_ms": 1.0, "macs": math.nan})], [])
    assert json.loads((tmp_path / "front.json").read_text())["front"][0]["metrics"] == {"latency_ms": 1.0}


def test_terminal_table_marks_the_picked_member() -> None:
    console = Console(file=io.StringIO(), width=200)
    console.print(front_table(front_records(), picked="m3-int8"))
    lines = console.file.getvalue().splitlines()  # type: ignore[attr-defined]
    (marked,) = [line for line in lines if "←" in line]
    assert marked.split()[0] == "m3-int8"
    assert "87.9%" in marked
    assert "0.198 ms" in marked
    assert "349 kB" in marked


def test_the_most_accurate_on_validation_stands_in_for_a_missing_pick(tmp_path: Path) -> None:
    run = read_run(fabricate_run(tmp_path / "run", picked=None))
    assert run.picked_record is not None
    assert run.picked_record.metrics["accuracy_val"] == max(r.metrics["accuracy_val"] for r in run.records)


@pytest.mark.parametrize(
    ("file", "text", "message"),
    [
        ("run.json", None, "is not a run"),
        ("run.json", "{", "cannot be read as JSON"),
        ("run.json", "[]", "should hold one JSON object"),
        ("run.json", '{"format": 2, "sartor": "9.1"}', r"use the version that wrote it \(9.1\)"),
        ("front.json", '{"format": 1, "front": 3}', "no list named front"),
        ("front.json", '{"format": 1, "front": [{"name": "a"}]}', "not a record"),
        ("front.json", None, "is done but front.json is missing"),
        ("evidence.json", "]", "cannot be read as JSON"),
    ],
)
def test_a_damaged_run_is_refused_in_one_line(tmp_path: Path, file: str, text: str | None, message: str) -> None:
    run = fabricate_run(tmp_path / "run")
    (run / file).unlink()
    if text is not None:
        (run / file).write_text(text)
    with pytest.raises(InputError, match=message) as caught:
        read_run(run)
    assert "\n" not in str(caught.value)
