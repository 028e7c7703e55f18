"""Networks run patch by patch, beside the same networks as they were."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper
from torch import nn

from sartor import terminal
from sartor.compress.quantize import quantize_int8
from sartor.errors import InputError
from sartor.export.onnx import export_onnx
from sartor.measure.graph_counts import graph_counts, node_macs, shapes
from sartor.measure.model import measure_model
from sartor.measure.plan.kernels import Kernels
from sartor.measure.plan.onnx_file import problem_of
from sartor.measure.plan.patches import schedule, write_patched
from sartor.measure.plan.plan import make_plan
from sartor.measure.plan.replay import replay
from sartor.measure.plan.steps import buffers, most_at_once
from sartor.measure.plan.unroll import Cut, Graph, unrolled
from sartor.measure.runnable import load, tensors
from sartor.measure.targets.mcu.graph import board_graph
from sartor.measure.targets.mcu.target import Mcu
from sartor.measure.targets.work import work_in, work_of
from sartor.models.vit import build_vit
from sartor.records import Arch
from sartor.search.loop import search
from sartor.search.methods.random import random_search
from sartor.space.choice import Choice
from sartor.space.space import Space
from sartor.space.vit import vit_space


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


# --- what is chosen ---------------------------------------------------------------------------------------------------


class Conv(nn.Module):
    """Convolution, norm, activation."""

    def __init__(self, c_in: int, c_out: int, kernel: int, stride: int = 1, groups: int = 1) -> None:
        super().__init__()
        self.conv = nn.Conv2d(c_in, c_out, kernel, stride, kernel // 2, groups=groups)
        self.norm = nn.BatchNorm2d(c_out)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.relu(self.norm(self.conv(x)))


class Inverted(nn.Module):
    def __init__(self, c_in: int, c_out: int, stride: int) -> None:
        super().__init__()
        wide = 4 * c_in
        self.body = nn.Sequential(Conv(c_in, wide, 1), Conv(wide, wide, 3, stride, wide), nn.Conv2d(wide, c_out, 1))
        self.residual = stride == 1 and c_in == c_out

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x + self.body(x) if self.residual else self.body(x)


def mobile(side: int) -> tuple[nn.Module, tuple[int, int, int]]:
    blocks = [Inverted(8, 8, 1), Inverted(8, 8, 2), Inverted(8, 16, 2), Inverted(16, 16, 1)]
    head = [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, 5)]
    return nn.Sequential(Conv(3, 8, 3, 2), *blocks, *head).eval(), (3, side, side)


def vit(side: int, patch: int = 8, **choices: int) -> tuple[nn.Module, tuple[int, int, int]]:
    largest = {c.name: c.options[-1] for c in vit_space(side, width=32, depth=1, stages=1).choices}
    arch = largest | {f"s0.{name}": value for name, value in choices.items()}
    return build_vit(arch, channels=3, classes=5, patch=patch).eval(), (3, side, side)


def int8(module: nn.Module, shape: tuple[int, int, int], folder: Path) -> Path:
    torch.manual_seed(0)
    export_onnx(module, shape, folder / "wide.onnx", draft=True)
    images = np.random.default_rng(0).standard_normal((2, *shape)).astype(np.float32)
    quantize_int8(folder / "wide.onnx", folder / "m.onnx", [images], method="minmax")
    return folder / "m.onnx"


BOTH = Kernels(by_part=True, windows=True)


@pytest.mark.parametrize(("name", "times"), [("mobile", 0.5), ("vit", 0.8)])
def test_scheduled_int8_execution_matches_and_touches_what_is_predicted(
    name: str, times: float, tmp_path: Path
) -> None:
    """One arena: depthwise channels and tokens over their input, patches with halos, perceptrons by tokens."""
    module, shape = mobile(40) if name == "mobile" else vit(48, heads=1)
    file = int8(module, shape, tmp_path)
    proto = board_graph(file)
    plain = schedule(proto, file)
    limit = int(times * plain.plan.arena_bytes)
    made = schedule(proto, file, limit=limit, kernels=BOTH)
    assert made.cuts
    assert made.plan.arena_bytes <= limit
    x = np.random.default_rng(1).integers(0, 256, (1, *shape), np.uint8)
    done = replay(made.proto, made.plan, {proto.graph.input[0].name: x}, file)
    assert done.high_water_bytes == made.plan.arena_bytes
    assert np.array_equal(done.outputs[proto.graph.output[0].name], run(proto, x))
    known = shapes(made.proto, tensors(made.proto, file))
    assert made.macs == sum(node_macs(node, known) for node in made.proto.graph.node)
    if name == "vit":
        assert made.overhead == 0.0  # tokens do not overlap


@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_the_written_file_computes_the_same_on_the_runtime(precision: str, tmp_path: Path) -> None:
    module, shape = mobile(40)
    file = int8(module, shape, tmp_path)
    if precision == "fp32":
        file = tmp_path / "wide.onnx"
    limit = schedule(board_graph(file), file, kernels=BOTH).plan.arena_bytes * 3 // 4
    cuts = schedule(board_graph(file), file, limit=limit, kernels=BOTH, source=graph_of(file)).cuts
    assert cuts
    write_patched(file, tmp_path / "patched.onnx", cuts)
    onnx.checker.check_model(str(tmp_path / "patched.onnx"))
    x = np.random.default_rng(1).standard_normal((3, *shape)).astype(np.float32)
    close(run(load(tmp_path / "patched.onnx"), x), run(load(file), x))


def graph_of(file: Path) -> Graph:
    return Graph(load(file), tensors(load(file), file))


def wide_stack(between: str) -> onnx.ModelProto:
    """Too wide for a board in its middle, where there is what fusing takes away."""
    stack = Stack((1, 96, 96))
    stack.add("Conv", stack.store(16, 1, 3, 3), shape=(16, 96, 96), pads=[1] * 4)
    margin = 1
    if between == "pad":
        stack.stored.append(numpy_helper.from_array(np.array([0, 0, 1, 1, 0, 0, 1, 1]), "margin"))
        stack.add("Pad", "margin", shape=(16, 98, 98))
        margin = 0
    elif between == "dropout":
        stack.add("Dropout")
    wide = stack.last
    stack.add("Conv", stack.store(4, 16, 3, 3), shape=(4, 48, 48), pads=[margin] * 4, strides=[2, 2])
    stack.add("Relu")
    stack.add("Conv", stack.store(1, 4, 3, 3), shape=(1, 48, 48), pads=[1] * 4)
    if between == "shape":  # as exporters write a flattening of an open batch
        for number in (0, 1, -1):
            stack.stored.append(numpy_helper.from_array(np.array([number]), f"i{number}"))
        stack.nodes.append(helper.make_node("Shape", [wide], ["sizes"]))
        stack.nodes.append(helper.make_node("Slice", ["sizes", "i0", "i1"], ["batch"]))
        stack.nodes.append(helper.make_node("Concat", ["batch", "i-1"], ["flat"], axis=0))
        stack.add("Reshape", "flat")
    proto = stack.model()
    if between == "shape":
        del proto.graph.output[0].type.tensor_type.shape.dim[2:]
        proto.graph.output[0].type.tensor_type.shape.dim[1].dim_value = 48 * 48
        proto.graph.input[0].type.tensor_type.shape.dim[0].dim_param = "batch"
        proto.graph.output[0].type.tensor_type.shape.dim[0].dim_param = "batch"
    if between == "old":
        proto.opset_import[0].version = 9
    return proto


@pytest.mark.parametrize("between", ["nothing", "pad", "dropout", "shape", "old"])
def test_what_fusing_hides_is_not_cut_through(between: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Stretches are chosen where fused operators run, and cut in the file, which has more of them."""
    file = tmp_path / "m.onnx"
    onnx.save(wide_stack(between), file)
    board = Mcu("stm32f746", 1, 2.16e8)
    assert board.peak_bytes(file) > board.max_memory_bytes
    found = board.patched(file)
    assert found is not None
    cuts = [Cut(**cut) for cut in found["cuts"]]
    if between == "old":
        assert "version 10 at least, not 9" in found["because"]
        assert not found["fits"]
        terminal.print_measured(measure_model(str(file), target="mcu:stm32f746"), as_json=False)
        assert f"not: {found['because']}" in capsys.readouterr().out
        return
    assert found["fits"] == bool(cuts) == (between == "nothing")
    write_patched(file, tmp_path / "p.onnx", cuts)
    x = np.random.default_rng(1).standard_normal((1, 1, 96, 96)).astype(np.float32)
    close(run(load(tmp_path / "p.onnx"), x), run(load(file), x))


def test_patches_work_in_as_many_bits(tmp_path: Path) -> None:
    """A residual reads two windows of what came out of 8 bits once."""
    x = helper.make_tensor_value_info("x", TensorProto.INT8, [1, 4, 16, 16])
    numbers = np.random.default_rng(0).integers(-9, 9, (4, 4, 3, 3)).astype(np.int8)
    stored = [numpy_helper.from_array(value, name) for name, value in
              (("w", numbers), ("scale", np.float32(0.5)), ("zero", np.int8(0)))]  # fmt: skip
    nodes = [
        helper.make_node("DequantizeLinear", ["w", "scale", "zero"], ["wide"]),
        helper.make_node("DequantizeLinear", ["x", "scale", "zero"], ["in"]),
        helper.make_node("Relu", ["in"], ["positive"]),
        helper.make_node("QuantizeLinear", ["positive", "scale", "zero"], ["q"]),
        helper.make_node("DequantizeLinear", ["q", "scale", "zero"], ["again"]),
        helper.make_node("Conv", ["again", "wide"], ["conv"], pads=[1] * 4),
        helper.make_node("QuantizeLinear", ["conv", "scale", "zero"], ["conv_q"]),
        helper.make_node("DequantizeLinear", ["conv_q", "scale", "zero"], ["conv_in"]),
        helper.make_node("Add", ["again", "conv_in"], ["y"]),
    ]
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 4, 16, 16])
    graph = helper.make_graph(nodes, "residual", [x], [y], stored)
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    values = tensors(proto, tmp_path)
    made = unrolled(proto, [Cut("x", "y", (2, 2))], values)
    assert {work.bits for work in work_in(proto, values)} == {8}
    assert {work.bits for work in work_in(made.proto, made.values, made.moved)} == {8}


def test_parts_of_stored_halves_are_halves(tmp_path: Path) -> None:
    x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT16, [1, 2, 8, 8]) for name in "xy")
    stored = numpy_helper.from_array(np.ones((1, 2, 8, 8), np.float16), "w")
    graph = helper.make_graph([helper.make_node("Mul", ["x", "w"], ["y"])], "half", [x], [y], [stored])
    proto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    made = unrolled(proto, [Cut("x", "y", (2, 1))], tensors(proto, tmp_path))
    assert [work.bits for work in work_in(made.proto, made.values, made.moved)] == [16, 16]


def test_a_product_of_two_vectors_is_one_number(tmp_path: Path) -> None:
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, [7])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, [])
    weight = numpy_helper.from_array(np.ones(7, np.float32), "w")
    graph = helper.make_graph([helper.make_node("MatMul", ["x", "w"], ["y"])], "dot", [x], [y], [weight])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), tmp_path / "m.onnx")
    (work,) = work_of(tmp_path / "m.onnx")
    assert (work.rows, work.depth, work.columns, work.macs) == (1, 7, 1, 7)


def test_constants_are_joined_and_added_by_parts(tmp_path: Path) -> None:
    """Coordinates beside an image's channels (CoordConv), and a fused summand that is stored."""
    stack = Stack((2, 12, 10))
    stack.add("Concat", stack.store(1, 2, 12, 10), shape=(4, 12, 10), axis=1)
    stack.add("Conv", stack.store(3, 4, 3, 3), shape=(3, 12, 10), pads=[1] * 4)
    weight, bias, summand = stack.store(3, 3, 3, 3), stack.store(3), stack.store(1, 3, 12, 10)
    stack.nodes.append(
        helper.make_node(
            "FusedConv",
            [stack.last, weight, bias, summand],
            ["fused"],
            domain="com.microsoft",
            pads=[1] * 4,
            activation="Relu",
        )
    )
    stack.last = "fused"
    proto = stack.model()
    proto.opset_import.append(helper.make_opsetid("com.microsoft", 1))
    cut = unrolled(proto, [Cut("x", "fused", (3, 2))], tensors(proto, tmp_path))
    x = stack.rng.standard_normal((1, 2, 12, 10)).astype(np.float32)
    close(run(cut.proto, x), run(proto, x))


def test_gaps_are_a_reason_for_patches() -> None:
    """What is there at once may fit while addresses, multiples of 16, leave gaps: then less is to be there at once."""
    stack = Stack((1, 17, 17))
    for filters, channels in ((3, 1), (3, 3), (1, 3)):
        stack.add("Conv", stack.store(filters, channels, 3, 3), shape=(filters, 17, 17), pads=[1] * 4)
    proto, file = stack.model(), Path("m.onnx")
    room = most_at_once(buffers(problem_of(proto, file)))
    assert room == 2 * 3 * 17 * 17 * 4 < schedule(proto, file).plan.arena_bytes
    made = schedule(proto, file, limit=room)
    assert made.cuts
    assert made.plan.arena_bytes <= room


def test_less_room_is_more_work_and_never_less_memory_than_asked_for(tmp_path: Path) -> None:
    module, shape = mobile(64)
    file = int8(module, shape, tmp_path)
    proto = board_graph(file)
    plain = schedule(proto, file, kernels=BOTH)
    done = [schedule(proto, file, limit=plain.plan.arena_bytes * part // 10, kernels=BOTH) for part in (10, 8, 6)]
    assert not done[0].cuts
    assert [
        made.plan.arena_bytes <= plain.plan.arena_bytes * part // 10
        for made, part in zip(done, (10, 8, 6), strict=True)
    ]
    assert done[0].overhead == 0 < done[1].overhead <= done[2].overhead


def test_what_cannot_be_cut_is_one_line(tmp_path: Path) -> None:
    module, shape = mobile(40)
    export_onnx(module, shape, tmp_path / "m.onnx", draft=True)
    for cut, told in [
        (Cut("images", "logits", (2, 2)), "cannot run patch by patch"),
        (Cut("images", "nothing", (2, 2)), "cannot run patch by patch"),
    ]:
        with pytest.raises(InputError, match=told):
            write_patched(tmp_path / "m.onnx", tmp_path / "p.onnx", [cut])
    graph = Graph(load(tmp_path / "m.onnx"), tensors(load(tmp_path / "m.onnx"), tmp_path))
    first = graph.nodes[1].output[0]
    for grid in ((0, 1), (21, 1), (2,)):
        with pytest.raises(InputError, match="cannot be cut into"):
            write_patched(tmp_path / "m.onnx", tmp_path / "p.onnx", [Cut("images", first, grid)])
    with pytest.raises(InputError, match="overlaps"):
        write_patched(tmp_path / "m.onnx", tmp_path / "p.onnx", [Cut("images", first, (2, 2))] * 2)
    assert not (tmp_path / "p.onnx").exists()


def test_a_searched_transformer_fits_320_kb_scheduled_and_not_as_it_was(tmp_path: Path) -> None:
    """MCUFormer: tokens' size and the transformer's shape are searched under the board's memory, as it is scheduled.

    MACs stand for accuracy here, whose training is none of a planner's.
    """
    largest = vit_space(96, width=64, depth=1, stages=1)
    offered = {"s0.width": (48, 64), "s0.heads": (1, 2), "s0.expand": (2, 4)}
    choices = [Choice(choice.name, offered.get(choice.name, choice.options)) for choice in largest.choices]
    space = Space((*choices, Choice("patch", (6, 8))))
    room = Mcu("stm32f746", 1, 2.16e8).max_memory_bytes
    boards = {"scheduled": Mcu("stm32f746", 1, 2.16e8, patches=True), "whole": Mcu("stm32f746", 1, 2.16e8, "cmsis-nn")}

    def evaluate(arch: Arch) -> dict[str, float]:
        module = build_vit(arch, channels=3, classes=5, patch=int(arch["patch"])).eval()
        file = int8(module, (3, 96, 96), tmp_path)
        found = {name: float(board.peak_bytes(file)) for name, board in boards.items()}
        return {**found, "macs": float(graph_counts(file).macs)}

    records = search(space, evaluate, random_search, evaluations=6, seed=0)
    fitting = [record for record in records if record.metrics["scheduled"] <= room]
    best = max(fitting, key=lambda record: record.metrics["macs"])
    assert best.metrics["whole"] > 320 * 1024 > room >= best.metrics["scheduled"]
    assert best.metrics["macs"] > max(r.metrics["macs"] for r in fitting if r.metrics["whole"] <= room)

    file = int8(
        build_vit(best.arch, channels=3, classes=5, patch=int(best.arch["patch"])).eval(), (3, 96, 96), tmp_path
    )
    made, proto = boards["scheduled"].schedule(file), board_graph(file)
    x = np.random.default_rng(1).integers(0, 256, (1, 3, 96, 96), np.uint8)
    done = replay(made.proto, made.plan, {proto.graph.input[0].name: x}, file)
    assert done.high_water_bytes == made.plan.arena_bytes == boards["scheduled"].peak_bytes(file)
    assert np.array_equal(done.outputs[proto.graph.output[0].name], run(proto, x))
