"""Which kernels of ONNX Runtime write over their input: asked of its profiler, operator by operator."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx import TensorProto, helper

from sartor.measure.plan.onnx_file import OVERWRITING, RUNTIME_OVERWRITING

SHAPE = [1, 4, 8, 8]
EXTRA: dict[str, list[np.ndarray]] = {
    "Clip": [np.float32(0).reshape(()), np.float32(6).reshape(())],
    **{name: [np.ones((4, 1, 1), np.float32)] for name in ("Add", "Mul", "Max")},
    "LayerNormalization": [np.ones(8, np.float32)],
}
ASKED = sorted(RUNTIME_OVERWRITING | {"Add", "Mul", "Max", "Gelu", "Erf", "Sqrt", "LayerNormalization"})


@pytest.mark.parametrize("operator", ASKED)
def test_what_a_kernel_overwrites(operator: str, tmp_path: Path) -> None:
    extra = EXTRA.get(operator, [])
    stored = [onnx.numpy_helper.from_array(value, f"c{i}") for i, value in enumerate(extra)]
    swap = {"perm": [0, 1, 3, 2]}
    nodes = [
        helper.make_node("Transpose", ["x"], ["a"], **swap),
        helper.make_node(
            operator,
            ["a", *(tensor.name for tensor in stored)],
            ["b"],
            name="asked",
            **({"to": TensorProto.FLOAT} if operator == "Cast" else {}),
        ),
        helper.make_node("Transpose", ["b"], ["y"], **swap),
    ]
    ends = [helper.make_tensor_value_info(name, TensorProto.FLOAT, SHAPE) for name in "xy"]
    graph = helper.make_graph(nodes, "one", ends[:1], ends[1:], stored)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9)
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.enable_profiling = True
    options.profile_file_prefix = str(tmp_path / "p")
    session = ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    session.run(None, {"x": np.ones(SHAPE, np.float32)})
    events = json.loads(Path(session.end_profiling()).read_text())
    (asked,) = (e["args"] for e in events if e.get("cat") == "Node" and e["name"].startswith("asked"))
    taken = int(asked["mem_requested_in_use_delta"])
    assert taken == (0 if operator in RUNTIME_OVERWRITING else 4 * 4 * 64)
    assert operator in OVERWRITING
