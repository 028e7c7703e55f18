"""`sartor measure` from end to end, on each kind of model it takes."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from contracts.target import SHAPE, network
from sartor.errors import InputError
from sartor.export.onnx import export_onnx
from sartor.measure.counts import counts
from sartor.measure.model import measure_model

NETS = """
import torch
from torch import nn

def small():
    return nn.Sequential(nn.Conv2d(1, 16, 3), nn.ReLU(), nn.Flatten(), nn.Linear(16 * 36, 10)), (1, 8, 8)

def attributed():
    return nn.Sequential(nn.Conv2d(1, 4, 3), nn.Flatten(), nn.Linear(4 * 36, 2))

attributed.input_shape = (1, 8, 8)

def text():
    return "no module"

def broken():
    return torch.nothing_like_this
"""


@pytest.fixture
def nets(tmp_path: Path) -> Path:
    (tmp_path / "nets.py").write_text(NETS)
    return tmp_path / "nets.py"


def checked(report: dict[str, Any]) -> dict[str, Any]:
    """What holds for every model; returns the report as a program would read it."""
    assert {"params", "macs", "peak_activation_bytes", "latency_ms", "latency_p95_ms", "target", "size_bytes"} <= set(
        report
    )
    assert sum(module["macs"] for module in report["modules"]) == report["macs"]
    assert sum(module["params"] for module in report["modules"]) == report["params"]
    assert {"name", "operator", "macs", "bytes", "time_ms", "bound"} <= set(report["layers"][0])
    assert sum(layer["macs"] for layer in report["layers"]) == report["macs"]
    assert sum(layer["share"] for layer in report["layers"]) == pytest.approx(1)
    assert {layer["bound"] for layer in report["layers"]} <= {"compute", "memory", "overhead"}
    if report["nodes"]:
        assert sum(n["time_ms"] for n in report["nodes"]) == pytest.approx(sum(x["time_ms"] for x in report["layers"]))
        assert {node["layer"] for node in report["nodes"]} <= {layer["name"] for layer in report["layers"]}
    assert min(report["roof"].values()) > 0
    assert report["latency_ms"] <= report["latency_p95_ms"]
    return json.loads(json.dumps(report, allow_nan=False))


def test_a_file_and_its_directory(tmp_path: Path) -> None:
    export_onnx(network(16), SHAPE, tmp_path / "model.onnx", draft=True)
    found = counts(network(16), SHAPE)
    for spec in (tmp_path, tmp_path / "model.onnx"):
        report = checked(measure_model(str(spec), runs=20))
        assert (report["params"], report["macs"]) == (found.params, found.macs)
        assert report["size_bytes"] == (tmp_path / "model.onnx").stat().st_size
        assert report["input_shape"] == [1, *SHAPE]


def test_a_function(nets: Path) -> None:
    report = checked(measure_model(f"{nets}:small", runs=20))
    assert report["macs"] == 36 * 16 * 9 + 16 * 36 * 10
    assert report["target"] == "onnxruntime"
    assert measure_model(f"{nets}:attributed", runs=20)["input_shape"] == [1, 1, 8, 8]


def test_a_timm_model_without_its_weights() -> None:
    report = checked(measure_model("timm:resnet18", runs=5))
    assert report["params"] == 11_689_512  # as published: timm's results tables say 11.69 M
    assert round(report["macs"] / 1e9, 2) == 1.81  # likewise, at 224 x 224
    assert report["size_bytes"] >= 4 * (report["params"] - 9600), "each weight once; 9,600 batch-norm values fold away"


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("timm:resnet81", "did you mean"),
        ("timm:resnet18.no_such_tag", "timm cannot build"),
        ("nowhere.onnx", "nowhere.onnx is missing"),
        ("nowhere.py:f", "nowhere.py is missing"),
        ("resnet18", "write timm:NAME"),
        ("{nets}:absent", "has no function absent"),
        ("{nets}:text", "returns str"),
        ("{nets}:broken", "fails: AttributeError"),
        ("{folder}", "holds no model.onnx"),
    ],
)
def test_bad_specs_are_one_line(nets: Path, spec: str, message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        measure_model(spec.format(nets=nets, folder=nets.parent))
    assert "\n" not in str(caught.value)


def test_torchvision_loads_beside_this_torch() -> None:
    """In a fresh process: with or without torchvision's compiled operators, timm imports; real ones stay in place."""
    code = (
        "import torch\n"
        "from sartor.models.torchvision_ops import define_missing_ops, _declared\n"
        "define_missing_ops(); define_missing_ops()\n"
        "import timm, torchvision\n"
        "assert bool(_declared) != torchvision.extension._has_ops()\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
