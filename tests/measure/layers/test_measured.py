"""Every kernel's time belongs to one layer, layers cover the file, and what bounds them follows from the roof."""

from __future__ import annotations

import functools
import math
import random
import tempfile
from collections import Counter
from itertools import pairwise
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper, numpy_helper
from torch import nn

from contracts.target import SHAPE, network
from sartor.compress.quantize import quantize_int8
from sartor.errors import InputError
from sartor.export.onnx import export_onnx, onnx_with, write_onnx
from sartor.measure.graph_counts import graph_counts
from sartor.measure.layers.homes import homes
from sartor.measure.layers.kernels import kernels
from sartor.measure.layers.layer import OVERHEAD, Layer, Roof
from sartor.measure.layers.measured import Explained, explained, layers
from sartor.measure.layers.node import Node
from sartor.measure.layers.roof import roof
from sartor.measure.targets.named import open_target
from sartor.measure.targets.onnxruntime import OnnxRuntime
from sartor.measure.units.split import Unit, units

ANY = Roof(5e10, 2e10, 1.5e11)
"""Where only sums matter."""


class Mixed(nn.Module):
    """Convolutions with a residual, squeeze and excite, a shuffle, normalisation over channels, attention."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(3, 16, 3, 2, 1), nn.BatchNorm2d(16), nn.Hardswish())
        self.depthwise = nn.Conv2d(16, 16, 3, 1, 1, groups=16)
        self.squeeze = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Conv2d(16, 4, 1), nn.ReLU(), nn.Conv2d(4, 16, 1))
        self.norm = nn.LayerNorm(16)
        self.qkv, self.out = nn.Linear(16, 48), nn.Linear(16, 16)
        self.head = nn.Linear(16, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.stem(x)
        y = self.depthwise(x)
        x = torch.relu(x + y * self.squeeze(y).sigmoid())
        n, c, h, w = x.shape
        x = x.reshape(n, 2, c // 2, h, w).transpose(1, 2).reshape(n, c, h, w)
        tokens = x.flatten(2).transpose(1, 2)
        q, k, v = self.qkv(self.norm(tokens)).reshape(n, h * w, 3, 2, 8).permute(2, 0, 3, 1, 4).unbind(0)
        mixed = nn.functional.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(n, h * w, c)
        return self.head((tokens + self.out(mixed)).mean(1))


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("layers") / "mixed.onnx"
    export_onnx(Mixed().eval(), (3, 24, 24), file)
    return file


def checked(file: Path, found: Explained) -> Explained:
    """What holds of every file."""
    counted = graph_counts(file)
    assert sum(layer.macs for layer in found.layers) == counted.macs
    times = [node.time_ms for node, _ in found.nodes]
    assert min(times) > 0
    assert math.isclose(sum(layer.time_ms for layer in found.layers), sum(times))
    assert math.isclose(sum(layer.share for layer in found.layers), 1)
    assert all(layer.time_ms > 0 for layer in found.layers), "no layer without a kernel"
    assert {name for _, name in found.nodes} == {layer.name for layer in found.layers}
    return found


@pytest.mark.parametrize("optimisation", ["all", "extended", "basic", "off"])
def test_every_kernel_is_of_a_layer(file: Path, optimisation: str) -> None:
    target = OnnxRuntime(1, optimisation=optimisation)
    found = checked(file, explained(file, target, under=ANY, runs=5))
    products = [layer for layer in found.layers if layer.macs]
    assert {"stem.0", "depthwise", "squeeze.1", "squeeze.3", "qkv", "out", "head"} <= {layer.name for layer in products}
    stem = next(layer for layer in products if layer.name == "stem.0")
    assert (stem.operator.split("+")[0], stem.output_shape) == ("Conv", (1, 16, 12, 12))
    # Alone: 16 filters of 27 weights and a bias, 3 channels of 24 x 24 read, 16 of 12 x 12 written, in fp32.
    assert stem.macs == 16 * 12 * 12 * 27
    assert stem.weight_bytes >= 4 * (16 * 27 + 16)
    assert stem.bytes == 4 * (3 * 24 * 24 + 16 * 12 * 12) + stem.weight_bytes


def test_a_file_of_8_bits(file: Path, tmp_path: Path) -> None:
    narrow = tmp_path / "int8.onnx"
    images = np.random.default_rng(0).standard_normal((4, 3, 24, 24), dtype=np.float32)
    quantize_int8(file, narrow, [images], method="minmax")
    found = checked(narrow, explained(narrow, OnnxRuntime(1), under=ANY, runs=5))
    wide = {layer.macs: layer for layer in layers(file, OnnxRuntime(1), under=ANY, runs=5) if layer.macs}
    convolutions = [layer for layer in found.layers if layer.operator.startswith("Conv")]
    assert [layer.bits for layer in convolutions] == [8] * 4
    for layer in convolutions:
        assert layer.weight_bytes < wide[layer.macs].weight_bytes
        assert layer.bytes < wide[layer.macs].bytes
    assert {layer.bits for layer in wide.values()} == {32}


def test_the_body_of_a_loop_is_a_part_of_its_time(tmp_path: Path) -> None:
    side, times = 128, 20
    weight = np.eye(side, dtype=np.float32)
    value = helper.make_tensor_value_info
    body = helper.make_graph(
        [helper.make_node("MatMul", ["x_in", "w"], ["x_out"]), helper.make_node("Identity", ["go"], ["still"])],
        "body",
        [value("i", TensorProto.INT64, []), value("go", TensorProto.BOOL, []), value("x_in", TensorProto.FLOAT, None)],
        [value("still", TensorProto.BOOL, []), value("x_out", TensorProto.FLOAT, None)],
    )
    graph = helper.make_graph(
        [helper.make_node("Loop", ["n", "", "x"], ["y"], body=body), helper.make_node("Relu", ["y"], ["z"])],
        "looping",
        [value("x", TensorProto.FLOAT, [side, side])],
        [value("z", TensorProto.FLOAT, [side, side])],
        [numpy_helper.from_array(weight, "w"), numpy_helper.from_array(np.int64(times), "n")],
    )
    file = tmp_path / "loop.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8), file)
    ran = kernels(file, OnnxRuntime(1), runs=5)
    assert [node.op for node in ran] == ["Loop", "Relu"]


def test_the_time_goes_to_the_layer_that_takes_it(tmp_path: Path) -> None:
    """One convolution of six has most of the arithmetic, and is found wherever it stands."""
    for heavy in (0, 3, 5):
        widths = [8] * 7
        convolutions = [nn.Conv2d(a, b, 3, padding=1) for a, b in pairwise(widths)]
        convolutions[heavy] = nn.Conv2d(8, 8, 31, padding=15)
        module = nn.Sequential(*(nn.Sequential(c, nn.ReLU()) for c in convolutions))
        file = tmp_path / f"{heavy}.onnx"
        export_onnx(module.eval(), (8, 32, 32), file, draft=True)
        slowest = max(layers(file, OnnxRuntime(1), under=ANY, runs=5), key=lambda layer: layer.time_ms)
        assert slowest.name == f"{heavy}.0"
        assert slowest.share > 0.5


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_no_node_is_lost_whatever_it_says_that_it_makes(data: st.DataObject) -> None:
    """Also where a runtime's names tell nothing: then the next node's unit has it."""
    split = _split()
    tensors = sorted({name for unit in split for node in unit.nodes for name in node.output})
    made = data.draw(st.lists(st.lists(st.sampled_from([*tensors, "unknown"]), max_size=2), min_size=1, max_size=30))
    nodes = [Node(f"n{i}", "Any", 1.0, tuple(names)) for i, names in enumerate(made)]
    found = homes(split, nodes, frozenset({"logits"}))
    assert Counter(node for _, owned in found for node in owned) == Counter(nodes)
    there = Counter(node.output[0] for unit, _ in found for node in unit.nodes)
    assert there == Counter(node.output[0] for unit in split for node in unit.nodes)


@functools.cache
def _split() -> tuple[Unit, ...]:
    with tempfile.TemporaryDirectory() as folder:
        export_onnx(Mixed().eval(), (3, 24, 24), Path(folder) / "m.onnx", draft=True)
        return units(Path(folder) / "m.onnx")


rates = st.floats(1e3, 1e13)


@given(rates, rates, st.integers(0, 10**12), st.integers(1, 10**12), st.floats(0.01, 100))
def test_a_layer_is_bound_by_what_takes_longer(
    peak: float, bandwidth: float, macs: int, moved: int, off: float
) -> None:
    under = Roof(peak, bandwidth)
    least = under.least_ms(macs, moved)
    assert math.isclose(least, 1e3 * max(macs / peak, moved / bandwidth))
    bound = under.bound(macs, moved, off * least)
    if off > OVERHEAD * 1.001:
        assert bound == "overhead"
    elif off < OVERHEAD * 0.999 and not math.isclose(macs / moved, under.ridge):
        assert bound == ("compute" if macs / moved > under.ridge else "memory")


@pytest.mark.parametrize("name", ["mcu:stm32f746", "systolic:16x16"])
def test_simulated_targets_tell_their_layers(file: Path, name: str) -> None:
    """To the cycle: what is calculated has no noise."""
    target = open_target(name)
    found = layers(file, target)
    assert math.isclose(sum(layer.time_ms for layer in found), target.latency_ms(file).median_ms)
    assert sum(layer.macs for layer in found) == graph_counts(file).macs


def test_other_targets_have_their_units_timed(tmp_path: Path) -> None:
    file = tmp_path / "m.onnx"
    export_onnx(network(16), SHAPE, file, draft=True)
    found = explained(file, open_target("torch"), under=ANY)
    assert not found.nodes
    assert sum(layer.macs for layer in found.layers) == graph_counts(file).macs
    assert all(layer.time_ms > 0 for layer in found.layers if layer.macs)


def test_a_roof_is_above_what_runs_under_it(tmp_path: Path) -> None:
    """Of a wide product and a wide addition, neither of which the roof was measured with."""
    under = roof(OnnxRuntime(1))
    assert under.int8_macs_per_s is not None
    file = tmp_path / "m.onnx"
    export_onnx(nn.Sequential(nn.Flatten(), nn.Linear(3 * 64 * 64, 512)).eval(), (3, 64, 64), file, draft=True)
    (product,) = (layer for layer in layers(file, OnnxRuntime(1), runs=10) if layer.macs)
    assert product.macs / product.time_ms * 1e3 < 1.5 * under.peak_macs_per_s
    assert product.bound == "memory", "each of 25 MB of weights is read for one multiplication"


class Words(nn.Module):
    """Looks words up in a table, and adds where they stand."""

    def __init__(self) -> None:
        super().__init__()
        self.words, self.places = nn.Embedding(5000, 16), nn.Parameter(torch.zeros(7, 16))

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        return self.words(tokens) + self.places


def test_a_table_is_not_read_whole_to_look_seven_words_up(tmp_path: Path) -> None:
    write_onnx(onnx_with(Words().eval(), (torch.zeros(1, 7, dtype=torch.int64),)), tmp_path / "words.onnx")
    (layer,) = layers(tmp_path / "words.onnx", open_target("systolic:16x16"))
    chosen = 7 * 16 * 4
    assert layer.bytes == 7 * 8 + chosen + chosen + chosen  # tokens, their words, places; what is written


def test_what_does_not_run_is_told(tmp_path: Path) -> None:
    (tmp_path / "broken.onnx").write_bytes(random.Random(0).randbytes(100))
    for name in ("broken.onnx", "missing.onnx"):
        with pytest.raises(InputError, match=name):
            layers(tmp_path / name, OnnxRuntime(1))


def test_a_layer_writes_itself() -> None:
    layer = Layer("conv", "Conv+Relu", (1, 2, 3, 3), 100, 50, 10, 2.0, 1.0, "compute", 1.0)
    assert (layer.intensity, layer.efficiency) == (2.0, 0.5)
    assert layer.to_dict()["output_shape"] == [1, 2, 3, 3]
