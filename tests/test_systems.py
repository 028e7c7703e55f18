"""The table of systems keeps its word: what is said to work can be imported, and its test exists and is not skipped."""

from __future__ import annotations

import ast
import importlib
import json
import subprocess
import sys
from pathlib import Path

import pytest

from sartor.errors import InputError
from sartor.systems import System, select, systems

WORKING = [system for system in systems() if system.works]

# Prints node id → names of its marks, for the files given: collected in a process of its own, because pytest within
# pytest would import every test module a second time here.
COLLECT = """
import json, sys, pytest
class Collected:
    def pytest_collection_finish(self, session):
        self.marks = {item.nodeid: [mark.name for mark in item.iter_markers()] for item in session.items}
collected = Collected()
pytest.main(["--collect-only", "-qq", "-p", "no:cacheprovider", *sys.argv[1:]], plugins=[collected])
print("COLLECTED" + json.dumps(collected.marks))
"""


@pytest.fixture(scope="module")
def collected(project: Path) -> dict[str, list[str]]:
    files = sorted({system.test.split("::")[0] for system in WORKING})
    missing = [file for file in files if not (project / file).is_file()]
    assert not missing, f"systems.tsv names test files that do not exist: {missing}"
    command = [sys.executable, "-c", COLLECT, *files]
    out = subprocess.run(command, cwd=project, capture_output=True, text=True, check=True).stdout
    return json.loads(out.rpartition("COLLECTED")[2])


def test_rows_are_sound() -> None:
    ids = [system.id for system in systems()]
    assert ids == sorted(set(ids))
    for system in systems():
        assert system.status in ("open", "works"), system
        assert system.title
        assert system.kind
        assert bool(system.where) == bool(system.test) == system.works, f"{system.id}: where and test, or neither"


@pytest.mark.parametrize("system", WORKING, ids=lambda system: system.id)
def test_import_path_resolves(system: System) -> None:
    module, _, name = system.where.partition(":")
    assert getattr(importlib.import_module(module), name) is not None


@pytest.mark.parametrize("system", WORKING, ids=lambda system: system.id)
def test_named_test_exists_and_runs(system: System, collected: dict[str, list[str]], project: Path) -> None:
    items = {
        node: marks for node, marks in collected.items() if node == system.test or node.startswith(system.test + "[")
    }
    assert items, f"{system.test} is not collected"
    for node, marks in items.items():
        assert not {"skip", "skipif", "xfail"} & set(marks), f"{node} is marked {marks}"
    file, *_, function = system.test.split("::")
    (definition,) = (
        node
        for node in ast.walk(ast.parse((project / file).read_text()))
        if isinstance(node, ast.FunctionDef) and node.name == function
    )
    calls = {ast.unparse(node.func) for node in ast.walk(definition) if isinstance(node, ast.Call)}
    assert not {"pytest.skip", "pytest.importorskip", "pytest.xfail"} & calls, f"{system.test} skips itself"


def test_select() -> None:
    assert select() == list(systems())
    assert {s.id for s in select(missing=True)} == {s.id for s in systems()} - {s.id for s in WORKING}
    assert {s.kind for s in select(kind="pruning")} == {"pruning"}
    with pytest.raises(InputError, match="pruning"):
        select(kind="no such kind")
