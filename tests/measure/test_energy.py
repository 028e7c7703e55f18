"""Energy: counters in a real tree of folders, whose numbers are known; a model whose parts add up."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
import onnx
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from sartor.compress.quantize import quantize_int8
from sartor.errors import InputError
from sartor.export.onnx import export_onnx
from sartor.measure.energy.analytic import CACHE_PJ_PER_BYTE, DRAM_PJ_PER_BYTE, Chip, mac_pj, spent
from sartor.measure.energy.energy import energy
from sartor.measure.energy.rapl import Zone, measured, microjoules, zones
from sartor.measure.graph_counts import graph_counts
from sartor.measure.kept import kept
from sartor.measure.model import measure_model
from sartor.measure.targets.named import open_target
from sartor.measure.targets.onnxruntime import OnnxRuntime
from sartor.measure.targets.work import work_of

RANGE = 65_532_610_987


def zone(root: Path, folder: str, name: str, energy_uj: int = 0) -> Path:
    place = root / folder
    place.mkdir(parents=True)
    (place / "name").write_text(f"{name}\n")
    (place / "energy_uj").write_text(f"{energy_uj}\n")
    (place / "max_energy_range_uj").write_text(f"{RANGE}\n")
    return place / "energy_uj"


@pytest.fixture
def powercap() -> Iterator[Path]:
    """As Linux lays it out: a package with its parts, the whole machine, the package again. Open to every user, which
    pytest's own folders are not."""
    root = Path(tempfile.mkdtemp())
    root.chmod(0o755)
    zone(root, "intel-rapl:0", "package-0", 1_000)
    zone(root, "intel-rapl:0:0", "core", 500)
    zone(root, "intel-rapl:0:1", "dram", 100)
    zone(root, "intel-rapl:1", "psys", 9_000)
    zone(root, "intel-rapl-mmio:0", "package-0", 1_000)
    yield root
    shutil.rmtree(root)


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("energy") / "model.onnx"
    network = nn.Sequential(nn.Conv2d(3, 16, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(16 * 7 * 7, 10))
    export_onnx(network.eval(), (3, 16, 16), out)
    return out


def test_a_call_costs_what_the_counters_say(powercap: Path) -> None:
    found = zones(powercap)
    assert [zone.name for zone in found] == ["package-0", "dram"]
    counters = [zone.folder / "energy_uj" for zone in found]

    def call() -> None:
        for counter, step in zip(counters, (1_500, 500), strict=True):
            counter.write_text(str((int(counter.read_text()) + step) % RANGE))

    counters[0].write_text(str(RANGE - 1_000))  # it starts again on the way
    said = measured(call, found, seconds=0.05, idle_s=0.01)
    assert said.mj == pytest.approx(2.0)
    assert said.above_idle_mj == said.mj
    assert said.idle_watts == 0
    assert int(counters[0].read_text()) == 1_500 * said.calls - 1_000
    assert 0 < said.watts <= said.mj * said.calls / 1e3 / 0.05


def test_what_is_drawn_anyway_is_told_apart(powercap: Path) -> None:
    """A thread draws one watt, calls draw nothing."""
    import threading
    import time

    found, ended = zones(powercap)[:1], threading.Event()
    counter = found[0].folder / "energy_uj"

    def draw() -> None:
        start = time.perf_counter()
        while not ended.wait(0.001):
            fresh = counter.with_name("fresh")
            fresh.write_text(str(round((time.perf_counter() - start) * 1e6)))
            fresh.replace(counter)

    thread = threading.Thread(target=draw)
    thread.start()
    try:
        time.sleep(0.02)
        said = measured(lambda: time.sleep(0.005), found, seconds=0.5, idle_s=0.5)
    finally:
        ended.set()
        thread.join()
    assert said.idle_watts == pytest.approx(1, rel=0.4)
    assert said.watts == pytest.approx(1, rel=0.4)
    assert said.above_idle_mj < 0.6 * said.mj


@given(st.integers(0, RANGE - 1), st.integers(0, RANGE - 1))
def test_a_counter_that_starts_again(before: int, spent_uj: int) -> None:
    counter = Zone("package-0", Path(), RANGE)
    assert microjoules([counter], [before], [(before + spent_uj) % RANGE]) == spent_uj


def test_counters_that_may_not_be_read_are_named(powercap: Path, file: Path) -> None:
    (powercap / "intel-rapl:0" / "energy_uj").chmod(0o400)
    runner = open_target("onnxruntime", 1)
    root = os.geteuid() == 0
    if root:
        os.seteuid(65534)  # root reads everything
    else:
        (powercap / "intel-rapl:0" / "energy_uj").chmod(0)
    try:
        with pytest.raises(InputError, match="sudo chmod a\\+r"):
            zones(powercap)
    finally:
        if root:
            os.seteuid(0)
    (powercap / "intel-rapl:0" / "energy_uj").write_text("a lot")
    assert "is no energy counter" in energy(file, runner, root=powercap)["because"]
    assert "has no energy counters" in energy(file, runner, root=powercap / "nowhere")["because"]
    for folder in ("intel-rapl:0", "intel-rapl:0:0", "intel-rapl:0:1"):
        shutil.rmtree(powercap / folder)
    assert "no counter of a package: only psys" in energy(file, runner, root=powercap)["because"]


def test_a_target_here_is_measured(powercap: Path, file: Path) -> None:
    said = energy(file, open_target("onnxruntime", 1), root=powercap)
    assert said["source"] == "rapl"
    assert said["mj"] == 0  # nothing counts in this tree
    assert said["calls"] >= 1
    assert energy(file, open_target("onnxruntime", 1), root=powercap, run=False)["source"] == "analytic"


@dataclass(frozen=True)
class Elsewhere(OnnxRuntime):
    """Whose arithmetic is not this processor's, as a GPU's is not."""

    on_cpu: ClassVar[bool] = False


def test_counters_of_another_processor_say_nothing(powercap: Path, file: Path) -> None:
    said = energy(file, Elsewhere(1), root=powercap)
    assert said["source"] == "analytic"
    assert "know nothing" in said["because"]


def test_counters_that_a_container_hides(powercap: Path, file: Path) -> None:
    """A link to nowhere is what is left of them there."""
    (powercap / "intel-rapl:2").symlink_to(powercap / "nowhere")
    said = energy(file, open_target("onnxruntime", 1), root=powercap)
    assert said["source"] == "analytic"
    assert "cannot be read" in said["because"]


def test_energy_is_not_kept_with_the_timing(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whether counters can be read changes, and a timing stays."""
    runner = open_target("onnxruntime", 1)
    planted = {"latency": {"latency_ms": 1.0, "latency_ci_ms": [1.0, 1.0]}, "details": {"timing": {}}}
    kept(file, runner, lambda: (planted, None), runs=20, batch=1, fresh=True)
    monkeypatch.setattr("sartor.measure.model.energy", lambda *_, **__: {"mj": 7.0, "source": "rapl"})
    report = measure_model(file, runs=20)
    assert report["cached"]
    assert report["energy"]["mj"] == 7.0


def test_the_model_is_its_parts(file: Path) -> None:
    works = work_of(file)
    macs = graph_counts(file).macs
    assert macs == 16 * 14 * 14 * 27 + 16 * 7 * 7 * 10
    found = spent(works, Chip("all near", 2**40))
    pooled = 16 * 7 * 7
    assert found.compute_mj == pytest.approx((macs * mac_pj(32) + pooled * 0.9) / 1e9)
    weights = 16 * 27 + 16 + 784 * 10 + 10
    moved = (3 * 16 * 16 + 16 * 14 * 14) + (16 * 14 * 14 + pooled) + (pooled + 10)
    assert found.memory_mj == pytest.approx(4 * (weights + moved) * CACHE_PJ_PER_BYTE / 1e9)
    far = spent(works, Chip("all far", 0))
    assert far.memory_mj / found.memory_mj == pytest.approx(DRAM_PJ_PER_BYTE / CACHE_PJ_PER_BYTE)
    assert far.compute_mj == found.compute_mj
    assert far.mj == far.compute_mj + far.memory_mj


def test_fewer_bits_take_less(file: Path, tmp_path: Path) -> None:
    """As published: 4.6, 1.5 and 0.3 picojoules a multiply-accumulate; four and two times less to move."""
    narrow, half = tmp_path / "int8.onnx", tmp_path / "fp16.onnx"
    images = np.random.default_rng(0).standard_normal((16, 3, 16, 16)).astype(np.float32)
    quantize_int8(file, narrow, [images])
    network = nn.Sequential(nn.Conv2d(3, 16, 3, bias=False)).half().eval()
    torch.onnx.export(network, (torch.zeros(1, 3, 16, 16).half(),), half, dynamo=True, verbose=False)
    assert {work.bits for work in work_of(file)} == {32}
    assert {work.bits for work in work_of(narrow) if work.macs} == {8}
    assert {work.bits for work in work_of(half) if work.macs} == {16}
    wide, cut = (spent([w for w in work_of(path) if w.macs]) for path in (file, narrow))
    assert (mac_pj(32), mac_pj(16), mac_pj(8)) == pytest.approx((4.6, 1.5, 0.3))
    assert wide.compute_mj / cut.compute_mj == pytest.approx(mac_pj(32) / mac_pj(8))
    assert wide.memory_mj / cut.memory_mj == pytest.approx(4)
    assert onnx.load(half).graph.input[0].type.tensor_type.elem_type == onnx.TensorProto.FLOAT16


def test_measure_tells_energy(file: Path) -> None:
    found = {target: measure_model(str(file), target=target, runs=3)["energy"] for target in (
        "onnxruntime", "mcu:stm32f746", "systolic:8x8", "systolic:8x8,sram=1KB")}  # fmt: skip
    for said in found.values():
        assert said["source"] in ("analytic", "rapl")
        if said["source"] == "analytic":
            assert said["mj"] == said["compute_mj"] + said["memory_mj"] > 0
            assert "Horowitz" in said["chip"]
            assert said["because"]
    assert found["systolic:8x8,sram=1KB"]["memory_mj"] > 5 * found["systolic:8x8"]["memory_mj"]
    assert found["mcu:stm32f746"]["because"] == "mcu:stm32f746 is not this machine"
