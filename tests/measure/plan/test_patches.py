"""Networks run patch by patch, beside the same networks as they were."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper

from sartor.errors import InputError
from sartor.measure.plan.kernels import Kernels
from sartor.measure.plan.onnx_file import problem_of
from sartor.measure.plan.plan import make_plan
from sartor.measure.plan.replay import replay
from sartor.measure.plan.unroll import Cut, Graph, unrolled
from sartor.measure.runnable import tensors


@dataclass
class Stack:
    """An ONNX graph as it grows. ``shape``: of the last tensor; all tensors by shape are what a residual can add."""

    shape: tuple[int, int, int]
    nodes: list[onnx.NodeProto] = field(default_factory=list)
    stored: list[onnx.TensorProto] = field(default_factory=list)
    last: str = "x"
    rng: np.random.Generator = field(default_factory=lambda: np.random.default_rng(0))
    image: tuple[int, int, int] = (0, 0, 0)
    shapes: dict[str, tuple[int, int, int]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.image = self.shape
        self.shapes["x"] = self.shape

    def add(self, op: str, *inputs: str, shape: tuple[int, int, int] | None = None, **attributes: object) -> None:
        name = f"t{len(self.nodes)}"
        self.nodes.append(helper.make_node(op, [self.last, *inputs], [name], name=name, **attributes))
        self.last, self.shape = name, shape or self.shape
        self.shapes[name] = self.shape

    def store(self, *shape: int) -> str:
        name = f"w{len(self.stored)}"
        value = self.rng.standard_normal(shape) / np.sqrt(max(1, np.prod(shape[1:])))
        self.stored.append(numpy_helper.from_array(value.astype(np.float32), name))
        return name

    def model(self) -> onnx.ModelProto:
        graph = helper.make_graph(
            self.nodes,
            "stack",
            [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, *self.image])],
            [helper.make_tensor_value_info(self.last, TensorProto.FLOAT, [1, *self.shape])],
            self.stored,
        )
        return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)


def _window(draw: st.DrawFn, sides: tuple[int, int], *, pool: bool) -> dict[str, list[int]] | None:
    """Kernel, strides, dilations and pads (each side its own) that leave something; None where they do not."""
    kernel = [draw(st.integers(1, 4)) for _ in sides]
    strides = [draw(st.integers(1, 3)) for _ in sides]
    dilations = [1 if pool else draw(st.integers(1, 2)) for _ in sides]
    pads = [draw(st.integers(0, k - 1)) for k in kernel * 2]
    out = [
        (side + pads[i] + pads[i + 2] - (kernel[i] - 1) * dilations[i] - 1) // strides[i] + 1
        for i, side in enumerate(sides)
    ]
    if min(out) < 1:
        return None
    return {"kernel_shape": kernel, "strides": strides, "dilations": dilations, "pads": pads, "out": out}


@st.composite
def stacks(draw: st.DrawFn) -> Stack:
    """Convolutions, poolings, activations, residuals, positions: what a prefix is made of."""
    stack = Stack((draw(st.integers(1, 3)), draw(st.integers(5, 17)), draw(st.integers(5, 17))))
    stack.rng = np.random.default_rng(draw(st.integers(0, 2**16)))
    for _ in range(draw(st.integers(1, 6))):
        kind = draw(st.sampled_from(["conv", "depthwise", "max", "mean", "same", "relu", "add", "position", "join"]))
        channels, *sides = stack.shape
        if kind in ("conv", "depthwise", "max", "mean"):
            window = _window(draw, (sides[0], sides[1]), pool=kind in ("max", "mean"))
            if window is None:
                continue
            out = window.pop("out")
            if kind in ("max", "mean"):
                del window["dilations"]
                inside = {"count_include_pad": draw(st.integers(0, 1))} if kind == "mean" else {}
                op = "MaxPool" if kind == "max" else "AveragePool"
                stack.add(op, shape=(channels, out[0], out[1]), **window, **inside)
                continue
            groups = channels if kind == "depthwise" else 1
            filters = channels if kind == "depthwise" else draw(st.integers(1, 4))
            weight = stack.store(filters, channels // groups, *window["kernel_shape"])
            bias = stack.store(filters)
            stack.add("Conv", weight, bias, shape=(filters, out[0], out[1]), group=groups, **window)
        elif kind == "same":
            kernel, stride = draw(st.integers(1, 4)), draw(st.integers(1, 3))
            auto = draw(st.sampled_from(["SAME_UPPER", "SAME_LOWER"]))
            weight = stack.store(2, channels, kernel, kernel)
            stack.add(
                "Conv",
                weight,
                shape=(2, -(-sides[0] // stride), -(-sides[1] // stride)),
                strides=[stride] * 2,
                auto_pad=auto,
            )
        elif kind == "relu":
            stack.add("Relu")
        elif kind == "position":
            stack.add("Add", stack.store(*draw(st.sampled_from([(1, *stack.shape), (channels, 1, 1), (sides[1],)]))))
        elif kind == "add":
            others = [n for n, shape in stack.shapes.items() if shape == stack.shape and n != stack.last]
            if others:
                stack.add("Add", draw(st.sampled_from(others)))
        else:
            others = [n for n, s in stack.shapes.items() if s[1:] == stack.shape[1:] and n != stack.last]
            if others and channels < 8:
                other = draw(st.sampled_from(others))
                more = stack.shapes[other][0]
                stack.add("Concat", other, shape=(channels + more, sides[0], sides[1]), axis=1)
    if stack.last == "x":
        stack.add("Relu")
    return stack


def run(proto: onnx.ModelProto, x: np.ndarray) -> np.ndarray:
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 3
    return ort.InferenceSession(proto.SerializeToString(), options).run(None, {proto.graph.input[0].name: x})[0]


def close(one: np.ndarray, other: np.ndarray) -> None:
    assert one.shape == other.shape
    assert np.abs(one - other).max() <= 1e-5 * max(1.0, float(np.abs(other).max()))


@settings(max_examples=120, deadline=None)
@given(stacks(), st.data())
def test_patches_compute_the_same(stack: Stack, data: st.DataObject) -> None:
    """Any stretch, any grid: borders, halos, residuals whose windows differ."""
    proto = stack.model()
    values = tensors(proto, Path("stack.onnx"))
    graph = Graph(proto, values)
    ends = [name for name in stack.shapes if name != "x" and list(graph.stretches(name))]
    exit = data.draw(st.sampled_from(ends))
    entry = data.draw(st.sampled_from([entry for entry, _ in graph.stretches(exit)]))
    _, height, width = stack.shapes[exit]
    grid = data.draw(st.integers(1, min(4, height))), data.draw(st.integers(1, min(4, width)))
    cut = unrolled(proto, [Cut(entry, exit, grid)], values)
    onnx.checker.check_model(cut.proto)
    x = stack.rng.standard_normal((1, *stack.image)).astype(np.float32)
    close(run(cut.proto, x), run(proto, x))
    really = tensors(cut.proto, Path("cut.onnx"))
    said = {name: value.shape for name, value in cut.values.items() if name in cut.origin}
    assert said == {name: really[name].shape for name in said}
    kernels = Kernels(by_part=True, windows=True)
    plan = make_plan(problem_of(cut.proto, Path("cut.onnx"), kernels=kernels), search=False)
    done = replay(cut.proto, plan, {"x": x}, Path("cut.onnx"))
    close(done.outputs[stack.last], run(proto, x))
    assert done.high_water_bytes == plan.arena_bytes
