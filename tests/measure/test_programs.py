"""Targets that run torch programs keep the target contract; a file's torch module computes what ONNX Runtime does."""

from __future__ import annotations

import contextlib
import shutil
import sys
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
import torch

from contracts.target import SHAPE, TargetSuite, network
from sartor.compress.quantize import quantize_int8
from sartor.errors import InputError
from sartor.export.onnx import export_onnx
from sartor.measure.feeds import random_feeds
from sartor.measure.targets import executorch, openvino
from sartor.measure.targets.aten import aten
from sartor.measure.targets.named import open_target
from sartor.models.zoo import open_model


class TestEager(TargetSuite):
    target = open_target("torch")


@pytest.mark.heavy
@pytest.mark.skipif(not shutil.which("g++"), reason="no C++ compiler: apt install g++")
def test_compiled_computes_the_same(tmp_path: Path) -> None:
    """Once: a whole suite would compile ten files, minutes of it."""
    export_onnx(network(8), SHAPE, tmp_path / "m.onnx", draft=True)
    images = np.random.default_rng(0).standard_normal((1, *SHAPE), np.float32)
    target = open_target("torch:mode=compiled")
    assert open_target(target.name) == target
    (compiled,) = target.run(tmp_path / "m.onnx", [images])
    (eager,) = open_target("torch").run(tmp_path / "m.onnx", [images])
    np.testing.assert_allclose(compiled, eager, atol=1e-5)


def saved(file: Path, nodes: list[onnx.NodeProto], weights: dict[str, np.ndarray], shape: list[object]) -> Path:
    """A file of these nodes from ``x`` to ``y``."""
    value, kind = onnx.helper.make_tensor_value_info, onnx.TensorProto.FLOAT
    stored = [onnx.numpy_helper.from_array(array, name) for name, array in weights.items()]
    graph = onnx.helper.make_graph(nodes, "g", [value("x", kind, shape)], [value("y", kind, None)], stored)
    opset = [onnx.helper.make_opsetid("", 18)]
    onnx.save(onnx.helper.make_model(graph, opset_imports=opset, ir_version=8), file)
    return file


def test_a_quantised_file_is_computed_too(tmp_path: Path) -> None:
    export_onnx(network(16), SHAPE, tmp_path / "m.onnx", draft=True)
    images = np.random.default_rng(0).standard_normal((16, *SHAPE), np.float32)
    quantize_int8(tmp_path / "m.onnx", tmp_path / "q.onnx", [images])
    (eager,) = open_target("torch").run(tmp_path / "q.onnx", [images])
    (expected,) = open_target("onnxruntime").run(tmp_path / "q.onnx", [images])
    assert np.abs(eager - expected).max() <= 0.05 * np.abs(expected).max()
    assert (eager.argmax(1) == expected.argmax(1)).mean() > 0.8


def test_bf16_is_near_and_not_the_same(tmp_path: Path) -> None:
    export_onnx(network(16), SHAPE, tmp_path / "m.onnx", draft=True)
    images = np.random.default_rng(0).standard_normal((4, *SHAPE), np.float32)
    (half,) = open_target("torch:precision=bf16").run(tmp_path / "m.onnx", [images])
    (whole,) = open_target("torch").run(tmp_path / "m.onnx", [images])
    assert half.dtype == np.float32
    assert 0 < np.abs(half - whole).max() < 0.03 * np.abs(whole).max()


def test_torch_has_its_threads_back(tmp_path: Path) -> None:
    export_onnx(network(8), SHAPE, tmp_path / "m.onnx", draft=True)
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        open_target("torch", 1).latency_ms(tmp_path / "m.onnx", runs=10, min_time_s=0.01)
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)
    assert not torch.is_inference_mode_enabled()


@pytest.mark.parametrize("model", ["timm:vit_tiny_patch16_224", "torchvision:shufflenet_v2_x0_5", "timm:convnext_atto"])
def test_real_networks(model: str, tmp_path: Path) -> None:
    """Attention, shuffled channels, layer norm and GELU; ``aten`` holds the outputs to ONNX Runtime's."""
    opened = open_model(model)
    export_onnx(opened.module, opened.image_shape, tmp_path / "m.onnx", draft=True)
    module = aten(tmp_path / "m.onnx", "torch", random_feeds(tmp_path / "m.onnx", 2))
    assert sum(1 for node in module.graph.nodes if node.op == "call_function") > 10  # type: ignore[union-attr]


def test_an_operator_that_torch_lacks_is_named_with_its_node(tmp_path: Path) -> None:
    node = onnx.helper.make_node("TopK", ["x", "k"], ["y", "where"], "the_best")
    saved(tmp_path / "m.onnx", [node], {"k": np.array([3])}, [1, 10])
    with pytest.raises(InputError, match=r"torch has no operator TopK, which node the_best of .*m\.onnx needs"):
        open_target("torch").latency_ms(tmp_path / "m.onnx")


@pytest.mark.parametrize(
    ("kind", "attributes"),
    [
        ("AveragePool", {"kernel_shape": [2, 2], "pads": [1, 1, 1, 1], "strides": [2, 2], "ceil_mode": 1}),
        ("MaxPool", {"kernel_shape": [3, 3], "pads": [0, 0, 1, 1], "strides": [2, 2]}),
        ("AveragePool", {"kernel_shape": [3, 3], "pads": [0, 1, 1, 0], "count_include_pad": 1}),
        ("MaxPool", {"kernel_shape": [3, 3], "auto_pad": "SAME_LOWER"}),
        ("DepthToSpace", {"blocksize": 2, "mode": "CRD"}),
        ("DepthToSpace", {"blocksize": 2, "mode": "DCR"}),
        ("Softmax", {"axis": 1}),
        ("HardSigmoid", {"alpha": 0.3, "beta": 0.1}),
        ("Gelu", {}),
        ("LpNormalization", {"axis": 1}),
    ],
)
def test_an_attribute_is_kept_or_refused(kind: str, attributes: dict[str, object], tmp_path: Path) -> None:
    """Never computed otherwise: what is not known is told in one line."""
    file = saved(tmp_path / "m.onnx", [onnx.helper.make_node(kind, ["x"], ["y"], "it", **attributes)], {}, [2, 4, 7, 7])
    x = np.random.default_rng(0).standard_normal((2, 4, 7, 7)).astype(np.float32)
    with contextlib.suppress(InputError):
        (said,) = open_target("torch").run(file, [x])
        (expected,) = open_target("onnxruntime").run(file, [x])
        np.testing.assert_allclose(said, expected, atol=1e-5)


@pytest.mark.parametrize(
    ("name", "package"), [("openvino", "openvino"), ("executorch", "executorch"), ("litert", "litert")]
)
def test_what_is_not_installed_is_told_how_to(name: str, package: str, monkeypatch: pytest.MonkeyPatch) -> None:
    roots = {"openvino", "executorch", "ai_edge_litert", "litert_torch"}
    for module in {*roots, *(m for m in sys.modules if m.split(".")[0] in roots)}:
        monkeypatch.setitem(sys.modules, module, None)  # as Python marks what cannot be imported
    remembered = (openvino._core, executorch._part)
    for found in remembered:
        found.cache_clear()
    with pytest.raises(InputError, match=rf"pip install 'sartor\[{package}\]'"):
        open_target(name)
    for found in remembered:
        found.cache_clear()


@pytest.mark.parametrize("name", ["cuda", "tensorrt"])
def test_a_gpu_that_is_not_there(name: str) -> None:
    if any(provider.startswith(("CUDA", "Tensorrt")) for provider in ort.get_available_providers()):
        pytest.skip("this ONNX Runtime is built for GPUs")
    with pytest.raises(InputError, match="pip install onnxruntime-gpu"):
        open_target(name)


for _name in ("executorch", "litert"):
    try:
        _target = open_target(_name)
    except InputError as _error:
        _mark = pytest.mark.skip(reason=str(_error))
        _target = None  # type: ignore[assignment]
    else:
        _mark = pytest.mark.heavy
    globals()[f"Test{_name.title()}"] = _mark(type(f"Test{_name.title()}", (TargetSuite,), {"target": _target}))
