"""Auditing fits, tables on the spot, and several sources together."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from contracts.strategy import FLAT, evaluate
from report.fabricated import fabricate_run
from sartor.disk import read_json, write_json
from sartor.errors import InputError
from sartor.recipes.audit import audit_files, audit_table
from sartor.search.named import run
from sartor.search.objective import Objective
from sartor.search.store import Store
from sartor.search.tables.table import Table, table_of
from sartor.space import Choice, Space


def searched(path: Path, seed: int, *, evaluations: int = 8, data: str = "abc", precision: str = "fp32") -> Path:
    """A run whose study.db holds real searches, with the seeds that a fit gives them."""
    fabricate_run(path, seed=seed)
    info = read_json(path / "run.json")
    info["arguments"] = {**info["arguments"], "precision": [precision]}
    write_json(path / "run.json", info)
    for name, strategy, its in (("search", "nsga2", seed), ("random", "random", seed + 1)):
        identity = {"data": data, "seed": seed}
        with Store(path / "study.db", name=name, choices=FLAT.choices, identity=identity) as store:
            run(FLAT, evaluate, strategy, evaluations, its, batch=4, store=store)
    return path


def checks(found: dict[str, Any]) -> dict[str, str]:
    return {e["check"].partition(": ")[2] or e["check"]: e["verdict"] for e in found["hygiene"]}


def test_a_fit_is_audited_from_its_folder(tmp_path: Path):
    found, problem, traces = audit_files([searched(tmp_path / "run", 4)])
    assert sorted((t.strategy, t.seed) for t in traces) == [("random", 4), ("search", 4)]
    limit = read_json(tmp_path / "run" / "run.json")["arguments"]["budget"]["max_latency_ms"]
    assert problem.limits == {"latency_ms": limit}
    assert found["tau"]["all"] == read_json(tmp_path / "run" / "evidence.json")["tau"]
    assert checks(found)["test images are none of those searched with"] in ("clean", "cannot tell")
    assert "one seed only" in " ".join(found["notes"])
    assert json.loads(json.dumps(found, allow_nan=False)) == found
    both = audit_files([searched(tmp_path / "int8", 4, precision="int8")])[1]
    assert both.limits == {}, "a search for 8 bits may go over what 8 bits save"


def test_fits_of_several_seeds_are_seeds_of_one_audit(tmp_path: Path):
    runs = [searched(tmp_path / f"run{seed}", seed) for seed in range(2)]
    found, _, traces = audit_files(runs)
    assert len(traces) == 4
    (line,) = (entry for entry in found["strategies"] if entry["strategy"] == "search")
    assert (line["seeds"], line["hypervolume"]["n"]) == (2, 2)
    with pytest.raises(InputError, match="and again in"):
        audit_files([runs[0], runs[0]])
    with pytest.raises(InputError, match="not of one problem"):
        audit_files([runs[0], searched(tmp_path / "other", 9, data="other images")])


def test_a_fit_that_chose_by_test_is_found_out(tmp_path: Path):
    path = searched(tmp_path / "run", 0)
    front = read_json(path / "front.json")
    front["picked"] = max(front["front"], key=lambda entry: entry["metrics"]["accuracy_val"])["name"]
    write_json(path / "front.json", front)
    assert checks(audit_files([path])[0])["test accuracy did not choose the network"] == "clean"
    for place, entry in enumerate(front["front"]):
        entry["metrics"] |= {"accuracy_val": 0.5 + 0.01 * place, "accuracy_test": 0.9 - 0.01 * place}
    front["picked"] = front["front"][0]["name"]
    write_json(path / "front.json", front)
    assert checks(audit_files([path])[0])["test accuracy did not choose the network"] == "not clean"
    info = read_json(path / "run.json")
    for split in info["data"]["splits"].values():
        split["sha256"] = "same"
    write_json(path / "run.json", info)
    assert checks(audit_files([path])[0])["test images are none of those searched with"] == "not clean"


def test_folders_that_are_no_searched_runs(tmp_path: Path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="not a run"):
        audit_files([tmp_path / "empty"])
    with pytest.raises(InputError, match=r"no study\.db"):
        audit_files([fabricate_run(tmp_path / "run")])
    with pytest.raises(InputError, match="name what to audit"):
        audit_files([])
    with pytest.raises(InputError, match="cannot read"):
        audit_files([tmp_path / "absent.json"])


def own() -> Table:
    space = Space((Choice("depth", (1, 2, 3)), *(Choice(f"x{i}", tuple(range(4))) for i in range(3))))
    rows = []
    for arch in space.every():
        good = sum(float(arch[f"x{i}"]) for i in range(3)) * float(arch["depth"])
        rows.append((dict(arch), {"val": good % 7.3, "test": good}))
    return table_of("own", space, rows, [Objective("val", maximise=True)], Objective("test", maximise=True))


def test_a_table_is_audited_on_the_spot():
    seen = []

    def progress(items):
        for item in items:
            seen.append(item)
            yield item

    found, problem, traces = audit_table(
        own(), ["local"], 20, 3, batch=4, poison=[1], kind="worst", setting="depth", progress=progress
    )
    assert len(seen) == len(traces) == 6, "random search runs beside what was named"
    assert problem == own().problem
    assert [e["strategy"] for e in found["poison"]["robustness"]] == ["random", "local"]
    assert [e["options"] for e in found["gap"]] == [[1, 2], [2, 3], [1, 3]]
    assert json.loads(json.dumps(found, allow_nan=False)) == found


def test_what_a_table_does_not_have():
    with pytest.raises(InputError, match="choose from random"):
        audit_table(own(), ["best"], 5, 1)
    with pytest.raises(InputError, match="no choice 'width'"):
        audit_table(own(), ["local"], 5, 1, setting="width")
    with pytest.raises(InputError, match="poison-with is worst or copies"):
        audit_table(own(), ["local"], 5, 1, poison=[1], kind="arsenic")
