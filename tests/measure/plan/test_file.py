"""Plans of real files: replayed byte by byte in one block of memory, reordered, and beside ONNX Runtime's arena."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from sartor.compress.quantize import quantize_int8
from sartor.errors import InputError
from sartor.export.onnx import export_onnx
from sartor.measure.memory import peak_activation_bytes
from sartor.measure.plan.onnx_file import plan_file, problem_of, reordered, runtime_plan, write_planned
from sartor.measure.plan.plan import make_plan
from sartor.measure.plan.replay import replay
from sartor.measure.plan.steps import most_at_once
from sartor.measure.runnable import load, optimised

SHAPE = (3, 16, 16)


class Branches(nn.Module):
    """Branches that widen, a residual, views, attention over pixels: in the order a careless author writes them."""

    def __init__(self, width: int, branches: int) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 3, padding=1)
        self.wide = nn.ModuleList(nn.Conv2d(8, width, 1) for _ in range(branches))
        self.narrow = nn.ModuleList(nn.Conv2d(width, 2, 4, stride=4) for _ in range(branches))
        self.attention = nn.MultiheadAttention(2 * branches, 1, batch_first=True)
        self.head = nn.Linear(2 * branches, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = torch.relu(self.stem(x))
        wide = [torch.nn.functional.gelu(layer(x)) for layer in self.wide]
        tokens = torch.cat([layer(y) for layer, y in zip(self.narrow, wide, strict=True)], 1).flatten(2).transpose(1, 2)
        tokens = tokens + self.attention(tokens, tokens, tokens, need_weights=False)[0]
        return self.head(tokens.mean(1))


def exported(folder: Path, width: int = 24, branches: int = 2) -> Path:
    torch.manual_seed(0)
    export_onnx(Branches(width, branches), SHAPE, folder / "m.onnx", draft=True)
    return folder / "m.onnx"


def images(n: int = 1) -> np.ndarray:
    return np.random.default_rng(0).standard_normal((n, *SHAPE)).astype(np.float32)


def run(proto: onnx.ModelProto, x: np.ndarray) -> np.ndarray:
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    return ort.InferenceSession(proto.SerializeToString(), options).run(None, {"images": x})[0]


@pytest.mark.parametrize("search", [True, False])
@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_a_plan_carried_out_computes_the_same_and_touches_what_it_says(
    tmp_path: Path, precision: str, search: bool
) -> None:
    file = exported(tmp_path)
    if precision == "int8":
        quantize_int8(file, tmp_path / "q.onnx", [images(8)])
        file = tmp_path / "q.onnx"
    proto = optimised(file)
    plan = make_plan(problem_of(proto, file), search=search)
    done = replay(proto, plan, {"images": images()}, file)
    assert np.array_equal(done.outputs["logits"], run(proto, images()))
    assert done.high_water_bytes == plan.arena_bytes >= plan.peak_bytes


def test_branches_run_one_after_the_other(tmp_path: Path) -> None:
    plan = plan_file(exported(tmp_path, 64, 4), fused=False)
    assert plan.exact
    assert plan.peak_bytes < 0.5 * plan.given_peak_bytes


@settings(max_examples=5)
@given(width=st.integers(4, 40), branches=st.integers(1, 4))
def test_a_file_in_planned_order_computes_the_same(
    tmp_path_factory: pytest.TempPathFactory, width: int, branches: int
) -> None:
    folder = tmp_path_factory.mktemp("order")
    file = exported(folder, width, branches)
    plan = write_planned(file, folder / "planned.onnx")
    planned = load(folder / "planned.onnx")
    onnx.checker.check_model(planned)
    assert np.array_equal(run(planned, images(3)), run(load(file), images(3)))
    again = problem_of(planned, folder / "planned.onnx")
    assert make_plan(again, search=False).peak_bytes == plan.peak_bytes <= plan.given_peak_bytes


def test_an_order_that_does_not_work_is_one_line(tmp_path: Path) -> None:
    proto = load(exported(tmp_path))
    steps = len(problem_of(proto, tmp_path).steps)
    with pytest.raises(InputError, match="before the one that makes its input"):
        reordered(proto, list(reversed(range(steps))))
    with pytest.raises(InputError, match="each of the file's"):
        reordered(proto, [0])


MEASURE = Path(__file__).parents[3] / "benchmarks" / "peak_memory.py"


@pytest.mark.parametrize("model", ["branches", "dense", "repeated"])
def test_the_runtimes_arena_holds_what_is_predicted(tmp_path: Path, model: str) -> None:
    """In a process of its own, whose arena nobody else uses. Packing weights is none of the activations' business."""
    made = {
        "branches": lambda: Branches(24, 3),
        "dense": lambda: Dense(),
        "repeated": lambda: nn.Sequential(
            nn.Conv2d(3, 16, 3, padding=1), *(nn.Conv2d(16, 16, 3, padding=1) for _ in range(3)), nn.Conv2d(16, 64, 1)
        ),
    }
    file = tmp_path / "m.onnx"
    export_onnx(made[model](), SHAPE, file, draft=True)
    command = [sys.executable, str(MEASURE), "--measure", str(file)]
    found = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    buffers = runtime_plan(optimised(file), file)
    predicted = most_at_once([buffer for buffer in buffers if buffer.first >= 0])  # the input is the caller's
    assert predicted == pytest.approx(found["arena"], rel=0.05)
    assert predicted <= peak_activation_bytes(file)


class Dense(nn.Module):
    """Every layer reads all before it: tensors of one shape die far apart, and the runtime keeps their buffers."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList(nn.Conv2d(3 + 8 * i, 8, 3, padding=1) for i in range(4))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for layer in self.layers:
            x = torch.cat([x, torch.relu(layer(x))], 1)
        return x.mean((2, 3))
