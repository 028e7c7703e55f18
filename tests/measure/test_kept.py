"""Timings are kept by all that decides them; a damaged, full or forbidden cache costs a new timing and nothing else."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import sartor
from contracts.target import SHAPE, network
from sartor.errors import WriteError
from sartor.export.onnx import export_onnx
from sartor.measure import kept as home
from sartor.measure.caches import cache_folder, make_room, sha256_of
from sartor.measure.kept import Timing, kept
from sartor.measure.targets.onnxruntime import OnnxRuntime

ONE = OnnxRuntime(1)


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "sartor" / "timings"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    (tmp_path / "m.onnx").write_bytes(relu("x"))
    return tmp_path / "m.onnx"


def relu(name: str) -> bytes:
    value = onnx.helper.make_tensor_value_info
    made, taken = value("y", onnx.TensorProto.FLOAT, [1, 4]), value(name, onnx.TensorProto.FLOAT, [1, 4])
    graph = onnx.helper.make_graph([onnx.helper.make_node("Relu", [name], ["y"])], "relu", [taken], [made])
    return onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 18)]).SerializeToString()


class Clock:
    """Makes timings, and counts them."""

    def __init__(self, doubt: str | None = None) -> None:
        self.made, self.doubt = 0, doubt

    def __call__(self) -> tuple[Timing, str | None]:
        self.made += 1
        return {"latency": {"latency_ms": float(self.made)}, "nodes": [{"name": "ä\n"}]}, self.doubt


def ask(
    file: Path, clock: Clock, *, target: OnnxRuntime = ONE, runs: int = 5, batch: int = 1, fresh: bool = False
) -> Timing:
    return kept(file, target, clock, runs=runs, batch=batch, fresh=fresh)


def test_the_same_is_timed_once_and_told(file: Path, folder: Path) -> None:
    clock = Clock()
    first, again = ask(file, clock), ask(file, clock)
    assert clock.made == 1
    assert (first["cached"], again["cached"]) == (False, True)
    assert {**first, "cached": True} == again
    assert abs(time.time() - np.datetime64(again["timed_at"].removesuffix("+00:00"), "s").astype(int)) < 60
    assert ask(file, clock, fresh=True)["latency"] == {"latency_ms": 2.0}
    assert ask(file, clock)["latency"] == {"latency_ms": 2.0}, "the newer one is kept"
    assert len(list(folder.iterdir())) == 1


CHANGES: dict[str, Callable[[Path, Clock], Timing]] = {
    "runs": lambda file, clock: ask(file, clock, runs=6),
    "batch": lambda file, clock: ask(file, clock, batch=2),
    "settings": lambda file, clock: ask(file, clock, target=OnnxRuntime(1, "basic")),
    "content": lambda file, clock: (file.write_bytes(relu("other")), ask(file, clock))[1],
}


@pytest.mark.parametrize("change", CHANGES)
def test_whatever_decides_a_timing_makes_it_another(file: Path, change: str) -> None:
    clock = Clock()
    ask(file, clock)
    assert not CHANGES[change](file, clock)["cached"]
    assert clock.made == 2


@pytest.mark.parametrize("what", ["fingerprint", "versions"])
def test_another_machine_or_another_runtime_times_anew(file: Path, monkeypatch: pytest.MonkeyPatch, what: str) -> None:
    clock = Clock()
    ask(file, clock)
    if what == "versions":
        monkeypatch.setattr(home, "versions", lambda: {"onnxruntime": "9.9"})
    else:
        monkeypatch.setattr(home, "device_of", lambda target: {"cpu": "another"})
    assert not ask(file, clock)["cached"]


def test_a_copy_elsewhere_is_the_same_network(file: Path, tmp_path: Path) -> None:
    clock = Clock()
    ask(file, clock)
    (tmp_path / "copy.onnx").write_bytes(file.read_bytes())
    assert ask(tmp_path / "copy.onnx", clock)["cached"]


@settings(max_examples=30)
@given(data=st.data())
def test_a_damaged_timing_is_none(tmp_path_factory: pytest.TempPathFactory, data: st.DataObject) -> None:
    place = tmp_path_factory.mktemp("kept")
    file, clock = place / "m.onnx", Clock()
    file.write_bytes(relu("x"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(place))
        first = ask(file, clock)
        (entry,) = (place / "sartor" / "timings").iterdir()
        whole = entry.read_bytes()
        at = data.draw(st.integers(0, len(whole) - 1))
        byte = data.draw(st.one_of(st.none(), st.binary(max_size=4)))
        entry.write_bytes(whole[:at] if byte is None else whole[:at] + byte + whole[at + 1 :])
        again = ask(file, clock)
    if again["cached"]:
        assert again == {**first, "cached": True}, "JSON may be written in more than one way; it says the same"
    else:
        assert clock.made == 2


@pytest.mark.parametrize("text", ["", "[]", "null", '{"sha256": 1, "entry": 2}', "[" * 100_000, "\x00"])
def test_what_is_no_timing_is_timed(file: Path, folder: Path, text: str) -> None:
    clock = Clock()
    ask(file, clock)
    (entry,) = folder.iterdir()
    entry.write_text(text)
    assert not ask(file, clock)["cached"]
    assert ask(file, clock)["cached"], "and written again"


@pytest.mark.parametrize("in_the_way", ["folder", "entry"])
def test_a_cache_that_cannot_be_written_is_told(file: Path, folder: Path, in_the_way: str) -> None:
    clock = Clock()
    if in_the_way == "folder":
        folder.parent.parent.mkdir()
        folder.parent.write_text("a file where the folder should be")
    else:
        ask(file, clock)
        (entry,) = folder.iterdir()
        entry.unlink()
        entry.mkdir()
    told = ask(file, clock)
    assert told["latency"]
    assert not told["cached"]
    assert "cannot write" in told["not_kept"]


def test_a_full_disk_is_told(file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """/dev/full answers every write as a full disk does."""
    full = os.open("/dev/full", os.O_WRONLY)
    monkeypatch.setattr("tempfile.mkstemp", lambda **_: (full, str(tmp_path / "part")))
    assert "the disk is full" in ask(file, Clock())["not_kept"]


def test_a_user_without_a_home(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", "not/absolute")
    assert cache_folder("timings") == Path.home() / ".cache" / "sartor" / "timings"
    monkeypatch.setattr("pathlib.Path.home", _homeless)
    with pytest.raises(WriteError, match="set XDG_CACHE_HOME"):
        cache_folder("timings")
    assert "set XDG_CACHE_HOME" in ask(file, Clock())["not_kept"]


def _homeless() -> Path:
    raise RuntimeError("Could not determine home directory.")


def test_what_is_doubted_or_changes_meanwhile_is_not_kept(file: Path, folder: Path) -> None:
    assert ask(file, Clock("the machine never came to rest"))["not_kept"] == "the machine never came to rest"

    class Changing(Clock):
        def __call__(self) -> tuple[Timing, str | None]:
            file.write_bytes(relu("meanwhile"))
            return super().__call__()

    assert "changed while it was timed" in ask(file, Changing())["not_kept"]
    assert not folder.exists()


def test_weights_in_other_files_are_not_in_the_hash(tmp_path: Path) -> None:
    export_onnx(network(8), SHAPE, tmp_path / "m.onnx", draft=True)
    proto = onnx.load(str(tmp_path / "m.onnx"))
    onnx.save(proto, str(tmp_path / "m.onnx"), save_as_external_data=True, location="m.data", size_threshold=0)
    assert ask(tmp_path / "m.onnx", Clock())["not_kept"] == "its weights lie in other files"


def test_those_longest_unused_go_first(tmp_path: Path) -> None:
    for age, name in enumerate(["new", "old", "oldest"]):
        (tmp_path / f"{name}.json").write_bytes(b"x" * 10)
        os.utime(tmp_path / f"{name}.json", (1e9 - age, 1e9 - age))
    (tmp_path / "dead.part").touch()
    os.utime(tmp_path / "dead.part", (1e9, 1e9))
    (tmp_path / "alive.part").touch()
    make_room(tmp_path, ".json", 5, 25)
    assert {path.name for path in tmp_path.iterdir()} == {"new.json", "old.json", "alive.part"}


WRITER = """
import sys
from pathlib import Path
from sartor.measure import kept as home
from sartor.measure.targets.onnxruntime import OnnxRuntime

home.MAX_BYTES = 2000  # a few entries: each of these processes removes what the others wrote
mine, files = int(sys.argv[1]), [Path(name) for name in sys.argv[2:]]
made = lambda: ({"latency": {"latency_ms": mine}, "nodes": ["x" * 300] * 2}, None)
for turn in range(20):
    for file in files:
        said = home.kept(file, OnnxRuntime(1), made, runs=1, batch=1, fresh=turn % 2 == 0)
        assert said["nodes"] == ["x" * 300] * 2 and "not_kept" not in said, said
"""


@pytest.mark.heavy
def test_several_processes_share_it(tmp_path: Path, folder: Path) -> None:
    files = [tmp_path / f"{name}.onnx" for name in "abcd"]
    for path in files:
        path.write_bytes(relu(path.stem))
    command = [sys.executable, "-c", WRITER]
    writers = [subprocess.Popen([*command, str(n), *map(str, files)], stderr=subprocess.PIPE) for n in range(3)]
    for writer in writers:
        _, said = writer.communicate(timeout=120)
        assert writer.returncode == 0, said.decode()
    for entry in folder.iterdir():
        assert entry.suffix == ".json", "no part of a file is left"
        json.loads(entry.read_text())
    assert sum(entry.stat().st_size for entry in folder.iterdir()) <= 2000


def test_measuring_asks_here_first(file: Path) -> None:
    kept(file, ONE, lambda: (PLANTED, None), runs=20, batch=1, fresh=False)
    known = sartor.measure(file, runs=20)
    assert (known["latency_ms"], known["cached"]) == (123.0, True)
    assert sartor.measure(file, runs=20, batch=1)["cached"]
    anew = sartor.measure(file, runs=20, fresh=True)
    assert anew["latency_ms"] < 123
    assert not anew["cached"]


PLANTED: Timing = {"latency": {"latency_ms": 123.0}, "details": {"nodes": [], "timing": {}}}


def test_a_named_model_is_the_same_file_each_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """So that it is found again, although its weights are drawn."""
    nets = "from torch import nn\ndef net():\n    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU()), (3, 8, 8)\n"
    (tmp_path / "nets.py").write_text(nets)
    seen: list[str] = []

    def spy(file: Path, *args: Any, **how: Any) -> Timing:
        seen.append(sha256_of(file))
        return PLANTED

    monkeypatch.setattr("sartor.measure.model.kept", spy)
    for _ in range(2):
        sartor.measure(f"{tmp_path}/nets.py:net")
    assert len(seen) == 2
    assert seen[0] == seen[1]
