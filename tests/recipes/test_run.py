"""A run in Python: the pick is what brute force picks, limits are promises, damage is refused."""

from __future__ import annotations

import builtins
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from report.fabricated import COLOURS, fabricate_run, front_records
from sartor.disk import read_json, write_json
from sartor.errors import BudgetError, InputError
from sartor.recipes.run import Run, open_run
from sartor.records import FRONT_COLUMNS, column
from sartor.report.files import MODEL_FILES

LIMITS = {
    "max_latency_ms": "latency_ms",
    "max_size_bytes": "size_bytes",
    "max_macs": "macs",
    "max_memory_bytes": "peak_memory_bytes",
}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return open_run(fabricate_run(tmp_path_factory.mktemp("runs") / "run"))


def test_the_front_is_fastest_first(run: Run) -> None:
    latencies = column(run.front, "latency_ms")
    assert latencies == sorted(latencies)
    assert run.info["data"]["name"] == "cifar10"
    assert run.picked.record.name == "m4-int8"


def test_the_frame_is_the_csv(run: Run) -> None:
    frame = run.front_frame()
    assert list(frame.columns[: len(FRONT_COLUMNS)]) == list(FRONT_COLUMNS)
    for name in FRONT_COLUMNS:
        assert frame[name].tolist() == column(run.front, name)
    assert (run.path / "front.csv").read_text().splitlines()[0] == ",".join(frame.columns)


def test_without_pandas_the_frame_says_how_to_get_it(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def without_pandas(name: str, *rest: Any) -> Any:
        if name == "pandas":
            raise ImportError(name)
        return real(name, *rest)

    monkeypatch.setattr(builtins, "__import__", without_pandas)
    with pytest.raises(InputError, match="pip install"):
        run.front_frame()


# Limits around what the front's members have, so that every number of them from none to all is within.
_limits = st.fixed_dictionaries(
    {},
    optional={
        argument: st.sampled_from([float(r.metrics[metric]) * s for r in front_records() for s in (0.999, 1.0, 1.001)])
        for argument, metric in LIMITS.items()
    }
    | {
        "min_accuracy": st.sampled_from(
            [r.metrics["accuracy_val"] + d for r in front_records() for d in (-1e-4, 0, 1e-4)]
        )
    },
)


@given(_limits)
def test_pick_is_brute_force(run: Run, limits: dict[str, float]) -> None:
    fitting = [
        r
        for r in run.front
        if all(r.metrics[LIMITS[a]] <= limit for a, limit in limits.items() if a in LIMITS)
        and r.metrics["accuracy_val"] >= limits.get("min_accuracy", 0)
    ]
    if not fitting:
        with pytest.raises(BudgetError) as caught:
            run.pick(**limits)
        assert any(f"the nearest is {r.name}: " in str(caught.value) for r in run.front)
        return
    picked = run.pick(**limits).record
    assert picked in fitting
    if set(limits) == {"min_accuracy"}:
        assert picked.metrics["latency_ms"] == min(r.metrics["latency_ms"] for r in fitting)
    else:
        assert picked.metrics["accuracy_val"] == max(r.metrics["accuracy_val"] for r in fitting)


def test_the_nearest_miss_is_told_with_its_distance(run: Run) -> None:
    with pytest.raises(BudgetError, match=r"the nearest is m1-int8: latency 0.0710 ms, 42.0% over 0.0500 ms") as caught:
        run.pick(max_latency_ms=0.05)
    assert caught.value.exit_code == 3
    with pytest.raises(BudgetError, match=r"validation accuracy 88.6%, below 89.0%"):
        run.pick(min_accuracy=0.89, max_latency_ms=0.4021)


@pytest.mark.parametrize(
    "limits", [{"max_latency_ms": 0}, {"max_macs": -1}, {"max_size_bytes": float("nan")}, {"min_accuracy": 85}], ids=str
)
def test_senseless_limits_are_refused(run: Run, limits: dict[str, Any]) -> None:
    with pytest.raises(InputError):
        run.pick(**limits)


def test_what_was_not_measured_does_not_fit(tmp_path: Path) -> None:
    path = fabricate_run(tmp_path / "run")
    front = read_json(path / "front.json")
    for value in front["front"]:
        del value["metrics"]["peak_memory_bytes"]
    write_json(path / "front.json", front)
    with pytest.raises(BudgetError, match="peak activation memory was not measured"):
        open_run(path).pick(max_memory_bytes=10**9)


def test_a_pick_is_copied_whole_and_predicts(run: Run, tmp_path: Path) -> None:
    member = run.pick(max_latency_ms=0.2, out=tmp_path / "model")
    assert member.record.name == "m3-int8"
    assert member.path == tmp_path / "model"
    for name in MODEL_FILES:
        assert (member.path / name).read_bytes() == (run.path / "models" / "m3-int8" / name).read_bytes()
    images = np.zeros((3, 8, 8, 3), np.uint8)
    images[[0, 1, 2], :, :, [0, 1, 2]] = 255
    assert [p.class_name for p in member.predict(images)] == list(COLOURS)


def test_a_second_pick_replaces_the_first_and_nothing_else(run: Run, tmp_path: Path) -> None:
    out = tmp_path / "model"
    run.pick(max_latency_ms=0.2, out=out)
    assert json.loads((run.pick(out=out).path / "arch.json").read_text()) == dict(run.pick().record.arch)
    (out / "thesis.txt").write_text("do not touch")
    with pytest.raises(InputError, match=r"holds other files \(thesis.txt"):
        run.pick(out=out)
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="cannot write"):
        run.pick(out=tmp_path / "file")
    inside = run.pick().path
    assert run.pick(out=inside).path == inside


def test_an_unfinished_run_opens_and_says_how_to_finish(tmp_path: Path) -> None:
    path = fabricate_run(tmp_path / "run", status="stopped")
    (path / "front.json").unlink()
    unfinished = open_run(path)
    assert unfinished.front == []
    for ask in (unfinished.pick, lambda: unfinished.picked):
        with pytest.raises(InputError, match=r"no front yet \(it is stopped\).*--resume"):
            ask()


def test_damage_is_refused(tmp_path: Path) -> None:
    path = fabricate_run(tmp_path / "run")
    (path / "models" / "m1" / "model.onnx").unlink()
    with pytest.raises(InputError, match="is missing; run the same fit again"):
        open_run(path).pick(max_latency_ms=0.12, min_accuracy=0.808)
    front = read_json(path / "front.json")
    front["front"][-1]["name"] = "../../elsewhere"
    write_json(path / "front.json", front)
    with pytest.raises(InputError, match="is no name of a model"):
        open_run(path).pick()
    with pytest.raises(InputError, match="is not a directory"):
        open_run(tmp_path / "nothing")
