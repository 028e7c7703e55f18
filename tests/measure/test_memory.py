"""The memory plan against brute force, against closed forms, and against what ONNX Runtime really allocates."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnxruntime as ort
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from sartor.compress.quantize import quantize_int8
from sartor.errors import InputError
from sartor.export.onnx import export_onnx
from sartor.measure.memory import peak_activation_bytes
from sartor.measure.plan.steps import Problem, Step, peak


@st.composite
def plans(draw: st.DrawFn) -> tuple[list[Step], dict[str, int], list[str]]:
    """Random graphs in order: each step reads one or two earlier tensors and writes one."""
    sizes = {"t0": draw(st.integers(1, 9))}
    steps = []
    for number in range(1, draw(st.integers(2, 8))):
        reads = draw(st.lists(st.sampled_from(sorted(sizes)), min_size=1, max_size=2, unique=True))
        name = f"t{number}"
        sizes[name] = draw(st.integers(1, 9))
        steps.append(Step(tuple(reads), (name,)))
    return steps, sizes, [steps[-1].outputs[0]]


def plan_peak(steps: list[Step], sizes: dict[str, int], inputs: list[str], outputs: list[str]) -> int:
    return peak(Problem(tuple(steps), sizes, tuple(inputs), tuple(outputs)))


@given(plans())
def test_the_plan_is_what_brute_force_says(plan: tuple[list[Step], dict[str, int], list[str]]) -> None:
    """While step i runs, a tensor is alive if it exists by then and i or a later step (or the caller) reads it."""
    steps, sizes, outputs = plan
    born = {"t0": -1} | {step.outputs[0]: number for number, step in enumerate(steps)}
    peak = 0
    for now in range(-1, len(steps)):
        alive = 0
        for name, size in sizes.items():
            reads = [number for number, step in enumerate(steps) if name in step.inputs] + [born[name]]
            dies = len(steps) if name in outputs else max(reads)
            alive += size if born[name] <= now <= dies else 0
        peak = max(peak, alive)
    assert plan_peak(steps, sizes, ["t0"], outputs) == peak


@given(plans())
def test_working_in_place_never_costs_more(plan: tuple[list[Step], dict[str, int], list[str]]) -> None:
    steps, sizes, outputs = plan
    in_place = [Step(step.inputs, step.outputs, overwrites=step.inputs) for step in steps]
    sizes = dict.fromkeys(sizes, 4)
    assert plan_peak(in_place, sizes, ["t0"], outputs) <= plan_peak(steps, sizes, ["t0"], outputs)


def test_views_take_nothing_and_keep_their_buffer_alive() -> None:
    steps = [Step(("x",), ("view",), view=True), Step(("view",), ("y",)), Step(("y", "view"), ("z",), ("y",))]
    assert plan_peak(steps, {"x": 10, "view": 10, "y": 3, "z": 3}, ["x"], ["z"]) == 13


def conv(a: int, b: int) -> nn.Conv2d:
    return nn.Conv2d(a, b, 3, padding=1)


class Residual(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.stem, self.a, self.b = conv(16, width), conv(width, width), conv(width, width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.stem(x).relu()
        return (x + self.b(self.a(x).relu())).relu().mean((2, 3))


# Widths are multiples of 16, the widest channel block any CPU's layout pads to.
PLANE = 12 * 12 * 4


def test_a_chain_needs_its_widest_pair(tmp_path: Path) -> None:
    model = nn.Sequential(conv(16, 32), nn.ReLU(), conv(32, 64), nn.ReLU(), conv(64, 32), nn.ReLU())
    export_onnx(model, (16, 12, 12), tmp_path / "m.onnx", draft=True)
    assert peak_activation_bytes(tmp_path / "m.onnx") == (32 + 64) * PLANE


def measured_peak(file: Path, shape: tuple[int, int, int], folder: Path) -> int:
    """Bytes that ONNX Runtime's allocator held at most, beyond those held before the first node."""
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    options.enable_profiling = True
    options.profile_file_prefix = str(folder / "profile")
    session = ort.InferenceSession(str(file), options, providers=["CPUExecutionProvider"])
    session.run(None, {"images": np.zeros((1, *shape), np.float32)})
    events = [e for e in json.loads(Path(session.end_profiling()).read_text()) if e.get("cat") == "Node"]
    if "mem_in_use_peak" not in events[0]["args"]:
        pytest.skip("this ONNX Runtime's profiler does not report its allocator")
    first = events[0]["args"]
    before = int(first["mem_bytes_in_use"]) - int(first["mem_in_use_delta"])
    return max(int(e["args"]["mem_in_use_peak"]) for e in events) - before


@pytest.mark.parametrize("width", [16, 32, 64])
def test_the_runtime_allocates_what_the_plan_says(tmp_path: Path, width: int) -> None:
    """The input is the caller's array and no allocation of the runtime's; it is dead by the residual block."""
    export_onnx(Residual(width), (16, 12, 12), tmp_path / "m.onnx", draft=True)
    planned = peak_activation_bytes(tmp_path / "m.onnx")
    assert planned == max(2 * width, 16 + width) * PLANE
    assert measured_peak(tmp_path / "m.onnx", (16, 12, 12), tmp_path) == pytest.approx(2 * width * PLANE, rel=0.05)


def test_an_8_bit_file_needs_a_quarter(tmp_path: Path) -> None:
    """Of the activations inside; the input itself stays float32. Three planes: here the addition is not fused."""
    width = 64
    export_onnx(Residual(width), (16, 12, 12), tmp_path / "m.onnx", draft=True)
    images = np.random.default_rng(0).standard_normal((8, 16, 12, 12), np.float32)
    quantize_int8(tmp_path / "m.onnx", tmp_path / "q.onnx", [images])
    assert peak_activation_bytes(tmp_path / "q.onnx") == 3 * width * PLANE // 4


def test_a_file_that_is_no_model(tmp_path: Path) -> None:
    (tmp_path / "m.onnx").write_text("text")
    with pytest.raises(InputError, match="no ONNX file"):
        peak_activation_bytes(tmp_path / "m.onnx")
