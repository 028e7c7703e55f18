"""A real device in a small way: profiled, killed, gone on with, shared, and used by the verbs."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import onnx
import pytest

from sartor.errors import InputError
from sartor.measure.units.rows import read_profile
from sartor.recipes.profile_device import profile_device

pytestmark = pytest.mark.heavy
COMMAND = [sys.executable, "-m", "sartor.cli"]


@pytest.fixture(scope="module")
def profile(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Of six networks for images of 8 pixels, by the command, killed once half of their parts were timed."""
    out = tmp_path_factory.mktemp("profile") / "here.json"
    command = [*COMMAND, "profile-device", "--out", str(out), "--networks", "6", "--size", "8", "--classes", "3"]
    with subprocess.Popen(command, stderr=subprocess.DEVNULL) as process:
        until = time.monotonic() + 120
        while time.monotonic() < until and process.poll() is None:
            if out.exists() and any(row.ms is not None for row in read_profile(out).units.values()):
                os.kill(process.pid, signal.SIGKILL)
                break
            time.sleep(0.05)
        process.wait()
    before = read_profile(out)  # never half a file
    done = subprocess.run([*command, "--json"], capture_output=True, text=True, check=True, timeout=300)
    after = read_profile(out)
    assert after.networks[: len(before.networks)] == before.networks
    timed = {key: row for key, row in before.units.items() if row.ms is not None}
    assert timed
    assert {key: after.units[key] for key in timed} == timed, "what is there is not timed again"
    found = json.loads(done.stdout)
    assert (found["networks"], found["target"]) == (6, "onnxruntime")
    assert found["units"] == len(after.units)
    return out


def test_a_prediction_has_an_interval_and_the_measured_lies_near(profile: Path) -> None:
    def measured(*more: str) -> dict:
        command = [*COMMAND, "measure", "timm:test_resnet", "--json", *more]
        return json.loads(subprocess.run(command, capture_output=True, text=True, check=True, timeout=300).stdout)

    said, true = measured("--latency-model", str(profile)), measured()
    low, high = said["latency_ci_ms"]
    assert low <= said["latency_ms"] <= high
    assert 0 <= said["known"] <= 1
    assert true["latency_ci_ms"][0] <= true["latency_ms"] <= true["latency_ci_ms"][1]


def test_of_another_device_a_few_networks_do(profile: Path, tmp_path: Path) -> None:
    moved = profile_device(tmp_path / "moved.json", networks=5, size=8, elsewhere=profile, verbosity=0)
    assert moved.elsewhere
    assert len(moved.networks) == 5
    there = read_profile(profile)
    assert all(moved.units[key] == row for key, row in there.units.items())


def test_a_search_by_predictions_ships_what_was_measured(profile: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    command = [*COMMAND, "fit", "digits", "--time", "30s", "--precision", "fp32", "--quiet", "--out", str(out)]
    subprocess.run([*command, "--latency-model", str(profile)], check=True, timeout=300, capture_output=True)
    assert str(profile) in (out / "run.json").read_text()
    shown = subprocess.run([*COMMAND, "show", str(out), "--json"], capture_output=True, text=True, check=True)
    for member in json.loads(shown.stdout)["front"]:
        assert member["metrics"]["latency_ms"] > 0


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"networks": 4}, "at least 5 networks"),
        ({"out": "."}, "name a file"),
        ({"out": "nowhere/x.json"}, "a folder that is there"),
        ({"target": "abacus"}, "no target is called"),
        ({"size": 8, "networks": 10**9}, "has .* networks"),
        ({"elsewhere": "nothing.json"}, "is missing"),
        ({"like": ["timm:no_such_net"]}, "timm"),
    ],
)
def test_what_makes_no_sense_is_told_before_anything_is_timed(tmp_path: Path, monkeypatch, arguments, words) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(InputError, match=words):
        profile_device(**{"out": "x.json", "networks": 5, "size": 8, "verbosity": 0, **arguments})
    assert not Path("x.json").exists()


def test_a_file_from_elsewhere_is_looked_at_before_its_parts_are_told(tmp_path: Path) -> None:
    value = onnx.helper.make_tensor_value_info
    weight = onnx.TensorProto(name="w", dims=[1], data_type=1, data_location=onnx.TensorProto.EXTERNAL)
    weight.external_data.add(key="location", value="../secret")
    graph = onnx.helper.make_graph(
        [onnx.helper.make_node("Add", ["x", "w"], ["y"])],
        "reaching",
        [value("x", onnx.TensorProto.FLOAT, [1])],
        [value("y", onnx.TensorProto.FLOAT, [1])],
        [weight],
    )
    (tmp_path / "in").mkdir()
    (tmp_path / "secret").write_bytes(bytes(4))
    file = tmp_path / "in" / "reaching.onnx"
    file.write_bytes(onnx.helper.make_model(graph).SerializeToString())
    with pytest.raises(InputError, match="outside of its folder"):
        profile_device(tmp_path / "x.json", networks=5, size=8, like=[str(file)], verbosity=0)


def test_the_profile_of_something_else_is_left_alone(profile: Path, tmp_path: Path) -> None:
    content = profile.read_bytes()
    with pytest.raises(InputError, match="name a new file"):
        profile_device(profile, threads=2, networks=6, size=8, verbosity=0)
    (tmp_path / "text.json").write_text("mine")
    with pytest.raises(InputError, match="no device profile"):
        profile_device(tmp_path / "text.json", networks=6, size=8, verbosity=0)
    assert profile.read_bytes() == content
    assert (tmp_path / "text.json").read_text() == "mine"
