"""The time of each unit by itself on a target: the lookup table of FBNet (P060, arXiv:1812.03443 §3.3) and ProxylessNAS
(P063, arXiv:1812.00332 §3.3), with what makes it, for any device."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from pathlib import Path

import onnx

from sartor.errors import InputError
from sartor.measure.targets.target import Target
from sartor.measure.units.split import Unit

TOGETHER = 16
"""Units that are timed in turns: more would keep fewer of them in the caches that they have in a network."""
RUNS, MIN_TIME_S, BUDGET_S = 50, 0.01, 0.25


def measured(units: Sequence[Unit], target: Target) -> dict[str, float]:
    """Milliseconds of each different unit, by its key, without what any call costs.

    What a call costs is the time of a file with one addition of two numbers, measured in turns with the units. A unit
    that the target refuses is left out: what it cannot run is seen in whole networks.
    """
    different = list({unit.key: unit for unit in units}.values())
    found: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as folder:
        idle = Path(folder) / "idle.onnx"
        onnx.save(_idle(), idle)
        for start in range(0, len(different), TOGETHER):
            part = different[start : start + TOGETHER]
            files = [Path(folder) / f"{place}.onnx" for place in range(len(part))]
            for unit, file in zip(part, files, strict=True):
                onnx.save(unit.to_onnx(), file)
            found |= _timed(part, files, idle, target)
    return found


def call_ms(target: Target) -> float:
    """What any call costs on ``target``, in milliseconds."""
    with tempfile.TemporaryDirectory() as folder:
        idle = Path(folder) / "idle.onnx"
        onnx.save(_idle(), idle)
        return target.latency_ms(idle, runs=RUNS, min_time_s=MIN_TIME_S, budget_s=BUDGET_S).median_ms


def _timed(units: Sequence[Unit], files: Sequence[Path], idle: Path, target: Target) -> dict[str, float]:
    try:
        call, *times = target.latencies([idle, *files], runs=RUNS, min_time_s=MIN_TIME_S, budget_s=BUDGET_S)
    except InputError:
        if len(units) == 1:
            target.latencies([idle], runs=1, min_time_s=0.0)  # raises where it is the target that is gone
            return {}
        halves = len(units) // 2  # one of them is refused: find it
        return _timed(units[:halves], files[:halves], idle, target) | _timed(
            units[halves:], files[halves:], idle, target
        )
    return {unit.key: max(0.0, time.median_ms - call.median_ms) for unit, time in zip(units, times, strict=True)}


def _idle() -> onnx.ModelProto:
    value = onnx.helper.make_tensor_value_info
    one = onnx.helper.make_tensor("one", onnx.TensorProto.FLOAT, [1, 1], [1.0])
    graph = onnx.helper.make_graph(
        [onnx.helper.make_node("Add", ["x", "one"], ["y"])],
        "idle",
        [value("x", onnx.TensorProto.FLOAT, [1, 1])],
        [value("y", onnx.TensorProto.FLOAT, [1, 1])],
        [one],
    )
    return onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 18)], ir_version=8)
