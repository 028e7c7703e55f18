"""Networks side by side: the same numbers as alone, timed in turns, with ratios that agree with them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from contracts.target import SHAPE, network
from sartor.errors import InputError
from sartor.export.onnx import export_onnx
from sartor.measure.compare import RATIOS, compare_models, ratios
from sartor.measure.model import measure_model
from sartor.measure.plan.buffers_of import buffers_of
from sartor.measure.plan.onnx_file import plan_file
from sartor.measure.plan.steps import Buffer, most_at_once
from sartor.measure.targets.systolic import Systolic

TARGET = "systolic:16x16"
"""Calculates, so that times are the same each time."""


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("compared")
    made = [folder / f"{width}.onnx" for width in (16, 64)]
    for width, file in zip((16, 64), made, strict=True):
        export_onnx(network(width), SHAPE, file, draft=True)
    return made


def test_side_by_side(files: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[int] = []
    timed = Systolic.latencies

    def spied(self: Systolic, given: Any, **more: Any) -> Any:
        calls.append(len(given))
        return timed(self, given, **more)

    monkeypatch.setattr(Systolic, "latencies", spied)
    found = compare_models([str(file) for file in files], target=TARGET)
    assert 2 in calls, "the networks are timed in the same rounds"
    narrow, wide = found["models"]
    assert [narrow["model"], wide["model"]] == [str(file) for file in files]
    alone = measure_model(str(files[1]), target=TARGET)
    assert set(wide) == set(alone)
    for key in ("params", "macs", "latency_ms", "peak_activation_bytes", "size_bytes", "modules", "layers"):
        assert wide[key] == alone[key]
    assert narrow["roof"] == wide["roof"], "one machine has one roof"
    (ratio,) = found["ratios"]
    for name in RATIOS:
        assert ratio[name] == wide[name] / narrow[name]
    assert ratio["latency_ci"][0] <= ratio["latency_ms"] <= ratio["latency_ci"][1]
    assert ratio["macs"] > 1
    json.dumps(found, allow_nan=False)


def test_fewer_than_two_are_none(files: list[Path]) -> None:
    with pytest.raises(InputError, match="two models or more"):
        compare_models([str(files[0])])
    with pytest.raises(InputError, match="missing"):
        compare_models([str(files[0]), str(files[0].with_name("missing.onnx"))])


numbers = st.floats(0.1, 1e6)
models = st.builds(
    lambda values, low, high: {
        "model": "m",
        **dict(zip(RATIOS, values, strict=True)),
        "latency_ci_ms": [values[0] * low, values[0] / low * high],
    },
    st.lists(numbers, min_size=len(RATIOS), max_size=len(RATIOS)),
    st.floats(0.5, 1),
    st.floats(1, 2),
)


@given(models, models)
def test_turning_a_comparison_round_turns_its_ratios(a: dict[str, Any], b: dict[str, Any]) -> None:
    there, back = ratios(a, b), ratios(b, a)
    for name in RATIOS:
        assert there[name] * back[name] == pytest.approx(1)
    assert there["latency_ci"][0] * back["latency_ci"][1] == pytest.approx(1)
    assert there["latency_ci"][0] <= there["latency_ms"] * (1 + 1e-9)


def test_the_plan_for_looking_at_is_the_plan(files: list[Path]) -> None:
    said, plan = buffers_of(files[1]), plan_file(files[1])
    assert (said["arena_bytes"], said["peak_bytes"], len(said["steps"])) == (
        plan.arena_bytes, plan.peak_bytes, len(plan.order),
    )  # fmt: skip
    held = [Buffer(b["name"], b["bytes"], b["first"], b["last"]) for b in said["buffers"]]
    assert most_at_once(held) == said["peak_bytes"]
    assert max(b["offset"] + b["bytes"] for b in said["buffers"]) <= said["arena_bytes"]
    found = measure_model(str(files[1]), target=TARGET, memory_plan=True)
    assert found["memory_plan"] == said
    assert found["planned_activation_bytes"] == said["arena_bytes"]
