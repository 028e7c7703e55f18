"""ONNX Runtime keeps the target contract; arguments that cannot be met are refused in one line."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import onnx
import onnxruntime
import pytest

from contracts.target import SHAPE, TargetSuite, network
from sartor.errors import InputError
from sartor.export.onnx import export_onnx
from sartor.machine import cores
from sartor.measure.targets.named import open_target
from sartor.measure.targets.onnxruntime import OnnxRuntime


class TestOneThread(TargetSuite):
    target = OnnxRuntime(1)


class TestAllThreads(TargetSuite):
    target = OnnxRuntime(cores())


def test_the_thread_count_reaches_the_session_and_the_record(tmp_path: Path) -> None:
    export_onnx(network(8), SHAPE, tmp_path / "m.onnx", draft=True)
    target = OnnxRuntime(1)
    assert target.session(tmp_path / "m.onnx").get_session_options().intra_op_num_threads == 1
    assert target.latency_ms(tmp_path / "m.onnx", runs=10, min_time_s=0.01).threads == 1


def test_affinity_is_given_back(tmp_path: Path) -> None:
    export_onnx(network(8), SHAPE, tmp_path / "m.onnx", draft=True)
    before = os.sched_getaffinity(0)
    OnnxRuntime(1).latency_ms(tmp_path / "m.onnx", runs=10, min_time_s=0.01)
    assert os.sched_getaffinity(0) == before


def test_an_unknown_target_names_the_known() -> None:
    assert open_target("onnxruntime", 1) == OnnxRuntime(1)
    with pytest.raises(InputError, match="choose one of onnxruntime"):
        open_target("abacus")


def test_settings_follow_the_name_and_reach_the_session(tmp_path: Path) -> None:
    export_onnx(network(8), SHAPE, tmp_path / "m.onnx", draft=True)
    target = open_target("onnxruntime:optimisation=off,arena=off")
    assert target == OnnxRuntime(1, "off", "off")
    assert open_target(target.name) == target
    options = OnnxRuntime(1, "off", "off").session(tmp_path / "m.onnx").get_session_options()
    assert not options.enable_cpu_mem_arena
    assert options.graph_optimization_level == onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL


@pytest.mark.parametrize("settings", ["optimisation=most", "arena", "colour=red", "=", "optimisation=all,,x"])
def test_settings_that_there_are_not_are_told_with_those_there_are(settings: str) -> None:
    with pytest.raises(InputError, match=r"choose from optimisation=all\|extended"):
        open_target(f"onnxruntime:{settings}")


@pytest.mark.parametrize("threads", [0, -1, 10_000, 1.5])
def test_threads_the_machine_has_not(threads: object) -> None:
    with pytest.raises(InputError, match="threads must be from 1 to"):
        OnnxRuntime(threads)  # type: ignore[arg-type]


def test_open_sizes_beyond_the_batch_are_refused(tmp_path: Path) -> None:
    value = onnx.helper.make_tensor_value_info
    graph = onnx.helper.make_graph(
        [onnx.helper.make_node("Relu", ["x"], ["y"])],
        "open",
        [value("x", onnx.TensorProto.FLOAT, ["n", 3, "h", "w"])],
        [value("y", onnx.TensorProto.FLOAT, None)],
    )
    opset = [onnx.helper.make_opsetid("", 18)]
    onnx.save(onnx.helper.make_model(graph, opset_imports=opset, ir_version=8), tmp_path / "open.onnx")
    with pytest.raises(InputError, match="every size but the batch fixed"):
        OnnxRuntime(1).latency_ms(tmp_path / "open.onnx")


def test_nothing_is_sent_to_the_runtimes_vendor(tmp_path: Path) -> None:
    """What ONNX Runtime would send it first puts into a file of its own, in the user's cache."""
    code = "from sartor.measure.targets.local import reference; reference()()"
    here = {"HOME": str(tmp_path), "XDG_CACHE_HOME": str(tmp_path), "TMPDIR": str(tmp_path)}
    kept = {name: value for name, value in os.environ.items() if name != "ORT_DISABLE_TELEMETRY"}
    subprocess.run([sys.executable, "-c", code], env={**kept, **here}, check=True, timeout=120)
    assert [file for file in tmp_path.rglob("*") if file.is_file()] == []
