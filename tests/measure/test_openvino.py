"""OpenVINO keeps the target contract, reading the same files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest

from contracts.target import SHAPE, TargetSuite, network
from sartor.errors import InputError
from sartor.export.onnx import export_onnx
from sartor.measure.targets.named import open_target

pytest.importorskip("openvino", reason="OpenVINO is not installed: pip install 'sartor[openvino]'")


class TestOpenVino(TargetSuite):
    target = open_target("openvino")


def test_bf16_is_near_and_not_the_same(tmp_path: Path) -> None:
    export_onnx(network(16), SHAPE, tmp_path / "m.onnx", draft=True)
    images = np.random.default_rng(0).standard_normal((4, *SHAPE), np.float32)
    try:
        target = open_target("openvino:precision=bf16")
    except InputError as error:
        pytest.skip(str(error))
    assert open_target(target.name) == target
    (half,), (whole,) = (t.run(tmp_path / "m.onnx", [images]) for t in (target, open_target("openvino")))
    assert 0 < np.abs(half - whole).max() < 0.05 * np.abs(whole).max()


def test_an_operator_that_it_lacks_is_named_with_its_node(tmp_path: Path) -> None:
    value, kind = onnx.helper.make_tensor_value_info, onnx.TensorProto.FLOAT
    node = onnx.helper.make_node("Fancy", ["x"], ["y"], "the_layer", domain="com.mine")
    graph = onnx.helper.make_graph([node], "g", [value("x", kind, [1, 4])], [value("y", kind, [1, 4])])
    file = tmp_path / "m.onnx"
    opsets = [onnx.helper.make_opsetid("", 18), onnx.helper.make_opsetid("com.mine", 1)]
    onnx.save(onnx.helper.make_model(graph, opset_imports=opsets, ir_version=8), file)
    with pytest.raises(InputError, match=r"OpenVINO has no operator com\.mine\.Fancy, which node the_layer"):
        open_target("openvino").latency_ms(file)
