"""Simulated microcontrollers: the target contract, published latencies, what fits and what does not, and that no model
of time says that less work takes longer."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

import programs
from contracts.target import SHAPE, SimulatedSuite, network
from sartor.compress.quantize import quantize_int8
from sartor.errors import InputError
from sartor.export.onnx import export_onnx
from sartor.measure.memory import peak_activation_bytes
from sartor.measure.model import measure_model
from sartor.measure.targets.mcu.boards import BOARDS, CORES, MAC_CYCLES, RUNTIME_RAM, RUNTIMES
from sartor.measure.targets.mcu.target import Mcu
from sartor.measure.targets.named import open_target
from sartor.measure.targets.target import Bounded
from sartor.measure.targets.work import KINDS, Work, work_of
from sartor.recipes.job import Job
from sartor.records import Budget


class TestF746(SimulatedSuite):
    target = open_target("mcu:stm32f746")


class TestF412InPatches(SimulatedSuite):
    target = open_target("mcu:stm32f412,patches=on")


class TestF412WithTinyEngine(SimulatedSuite):
    target = open_target("mcu:stm32f412,clock=84MHz,runtime=tinyengine")


@pytest.fixture(scope="module")
def benchmark() -> ModuleType:
    return programs.benchmark("boards")


def _file(module: nn.Module, shape: tuple[int, int, int], file: Path) -> Path:
    export_onnx(module.eval(), shape, file, draft=True)
    return file


def _int8(file: Path, shape: tuple[int, int, int]) -> Path:
    out = file.with_stem(f"{file.stem}-int8")
    quantize_int8(
        file, out, [np.random.default_rng(0).standard_normal((2, *shape)).astype(np.float32)], method="minmax"
    )
    return out


@pytest.mark.parametrize(
    ("name", "within"),
    [
        ("mobilenetv1-0.25-96", 0.06),
        ("mlperf-kws", 0.05),
        ("mlperf-ad", 0.12),
        pytest.param("mcunet-in1", 0.10, marks=pytest.mark.heavy),
        pytest.param("mcunet-in3", 0.02, marks=pytest.mark.heavy),
    ],
)
def test_published_latencies_are_met(name: str, within: float, benchmark: ModuleType, tmp_path: Path) -> None:
    """MCUNet's networks are in no fit. Measured on boards by others; the networks are built again from their papers."""
    module, shape = benchmark.networks()[name]
    work = work_of(_file(module, shape, tmp_path / "m.onnx"))
    rows = [row for row in benchmark.PUBLISHED if row.network == name]
    assert rows
    for row in rows:
        assert math.isclose(benchmark.simulated_ms(row, work), row.ms, rel_tol=within), row


@pytest.mark.heavy
def test_the_networks_are_those_that_were_measured(benchmark: ModuleType, tmp_path: Path) -> None:
    """Multiply-accumulates and parameters as MCUNet's model zoo says: in2 67.3 M and 0.73 M, in3 81.8 M and 0.74 M."""
    for name, macs, params in (("mcunet-in2", 67.3e6, 0.73e6), ("mcunet-in3", 81.8e6, 0.74e6)):
        module, shape = benchmark.networks()[name]
        work = work_of(_file(module, shape, tmp_path / "m.onnx"))
        assert math.isclose(sum(item.macs for item in work), macs, rel_tol=0.02), name
        assert math.isclose(sum(p.numel() for p in module.parameters()), params, rel_tol=0.02), name


def test_runtimes_are_as_much_faster_as_tinyengine_says() -> None:
    """The columns X-CUBE-AI, TinyEngine and CMSIS-NN of the latencies in TinyEngine's README; none where it ran out."""
    cubeai = [32, 57, 269, 35, 63, 351, 414, 516, 118, 205]
    others = {
        "tinyengine": [27, 51, 234, 25, 56, 280, 336, 463, 124, 176],
        "cmsis-nn": [53, 97, 478, 51, 103, 642, 770, None, None, 380],
    }
    for name, column in others.items():
        logs = [math.log(ms / base) for ms, base in zip(column, cubeai, strict=True) if ms is not None]
        assert math.isclose(RUNTIMES[name], math.exp(sum(logs) / len(logs)), rel_tol=0.01)


def test_the_quantised_file_is_the_same_work_in_eight_bits(tmp_path: Path) -> None:
    wide = _file(network(16), SHAPE, tmp_path / "m.onnx")
    narrow = _int8(wide, SHAPE)
    one, other = work_of(wide), work_of(narrow)
    assert [(w.kind, w.macs, w.written) for w in one] == [(w.kind, w.macs, w.written) for w in other]
    assert {w.bits for w in one} == {32}
    assert {w.bits for w in other} == {8}
    board = open_target("mcu:stm32f746")
    assert board.latency_ms(narrow).median_ms < board.latency_ms(wide).median_ms


def test_an_eight_bit_sensor_gives_no_floats(tmp_path: Path) -> None:
    """The input's four bytes a value are the file's, not the board's."""
    shape = (3, 64, 64)
    module = nn.Sequential(nn.Conv2d(3, 4, 3, 4, 1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2))
    narrow = _int8(_file(module, shape, tmp_path / "m.onnx"), shape)
    board = open_target("mcu:stm32f746")
    assert isinstance(board, Mcu)
    image, first = 3 * 64 * 64, 4 * 16 * 16
    assert peak_activation_bytes(narrow) >= 4 * image
    assert image + first <= board.peak_bytes(narrow) < 2 * (image + first)


def test_what_does_not_fit_is_told_with_the_layer_and_by_how_much(tmp_path: Path) -> None:
    wide = nn.Sequential(
        nn.Conv2d(3, 64, 3, padding=1), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(64, 9000)
    )
    file = _file(wide, (3, 96, 96), tmp_path / "m.onnx")
    board = open_target("mcu:stm32f746")
    assert isinstance(board, Bounded)
    memory, flash = board.misfits(file)
    peak, room = board.peak_bytes(file), 320 * 1024 - RUNTIME_RAM
    assert f"{peak - room:,} too few: most at" in memory
    assert "(Conv)" in memory
    assert "(Gemm)" in flash
    assert board.misfits(_file(network(8), SHAPE, tmp_path / "small.onnx")) == []
    measured = measure_model(str(file), target="mcu:stm32f746")
    assert measured["misfits"] == [memory, flash]
    assert measured["device"]["cpu"].startswith("stm32f746")
    assert math.isclose(sum(layer["time_ms"] for layer in measured["layers"]), measured["latency_ms"])


def test_patches_make_it_fit_at_a_price(tmp_path: Path) -> None:
    """The first stage is too wide for the board; what runs twice costs time; what fits is left as it is."""
    shape = (3, 160, 160)
    first = [nn.Conv2d(3, 24, 3, 2, 1), nn.ReLU(), nn.Conv2d(24, 64, 3, 2, 1), nn.ReLU(), nn.Conv2d(64, 16, 3, 2, 1)]
    wide = nn.Sequential(*first, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, 4))
    file = _int8(_file(wide, shape, tmp_path / "m.onnx"), shape)
    plain, patched = open_target("mcu:stm32f412"), open_target("mcu:stm32f412,patches=on")
    assert isinstance(plain, Mcu)
    assert isinstance(patched, Mcu)
    assert len(plain.misfits(file)) == 1
    assert patched.misfits(file) == []
    assert patched.peak_bytes(file) <= patched.max_memory_bytes < plain.peak_bytes(file)
    one, other = plain.latency_ms(file).median_ms, patched.latency_ms(file).median_ms
    assert one < other < 1.2 * one
    assert math.isclose(sum(node.time_ms for node in patched.nodes(file)), other)
    told = measure_model(str(file), target="mcu:stm32f412")["patches"]
    assert told["fits"]
    assert (told["peak_activation_bytes"], told["latency_ms"]) == (patched.peak_bytes(file), other)
    assert 0 < told["overhead"] < 0.2
    assert plain.patched(_int8(_file(network(8), SHAPE, tmp_path / "small.onnx"), SHAPE)) is None


@pytest.mark.heavy
def test_mcunet_fits_the_board_it_is_for(benchmark: ModuleType, tmp_path: Path) -> None:
    """In 8 bits; in fp32 it does not. Its makers say 293 kB of SRAM for in3 on the F746, with the buffers in which
    kernels gather inputs: more than its activations with depthwise in place, less than those with whole outputs."""
    module, shape = benchmark.networks()["mcunet-in3"]
    file = _file(module, shape, tmp_path / "m.onnx")
    board = open_target("mcu:stm32h743")
    assert isinstance(board, Bounded)
    narrow = _int8(file, shape)
    assert board.misfits(narrow) == []
    assert len(board.misfits(file)) == 2
    peaks = {runtime: Mcu("stm32f746", runtime=runtime).peak_bytes(narrow) for runtime in ("tinyengine", "cmsis-nn")}
    assert peaks["tinyengine"] < 293_000 < peaks["cmsis-nn"]


# --- the model of time ------------------------------------------------------------------------------------------------

WORKS = st.builds(
    Work,
    name=st.just("n"),
    op=st.just("Conv"),
    kind=st.sampled_from(KINDS),
    macs=st.integers(0, 10**9),
    rows=st.integers(1, 10**4),
    depth=st.integers(1, 10**4),
    columns=st.integers(1, 10**4),
    groups=st.integers(1, 100),
    read=st.integers(0, 10**7),
    written=st.integers(1, 10**7),
    weights=st.integers(0, 10**7),
    bits=st.sampled_from([8, 32]),
)


@given(WORKS, st.sampled_from(["macs", "read", "written"]), st.integers(0, 10**6), st.sampled_from(sorted(BOARDS)))
def test_more_work_never_takes_less(work: Work, what: str, more: int, name: str) -> None:
    board = Mcu(name, 1, BOARDS[name].clock_hz)
    larger = replace(work, **{what: getattr(work, what) + more})
    assert board.cycles(larger)[0] >= board.cycles(work)[0]
    assert board.cycles(replace(work, bits=32))[0] >= board.cycles(replace(work, bits=8))[0]
    assert math.isclose(board.cycles(work, 3)[0], 3 * board.cycles(work)[0])


@given(WORKS, st.sampled_from(sorted(BOARDS)), st.sampled_from(sorted(RUNTIMES)))
def test_no_core_is_faster_than_its_best(work: Work, name: str, runtime: str) -> None:
    """Two multiply-accumulates a cycle are the most that these cores' instructions do."""
    if work.kind != "elementwise":
        assert Mcu(name, 1, 1e6, runtime).cycles(work)[0] >= work.macs / 2
    assert min(MAC_CYCLES.values()) * min(CORES.values()) * min(RUNTIMES.values()) >= 0.5


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return _file(network(8), SHAPE, tmp_path_factory.mktemp("small") / "m.onnx")


@given(st.floats(1e6, 1e9), st.floats(1.0, 100.0))
def test_a_faster_clock_is_faster_by_as_much(small: Path, clock: float, times: float) -> None:
    slow, fast = Mcu("stm32f746", 1, clock), Mcu("stm32f746", 1, clock * times)
    assert math.isclose(slow.latency_ms(small).median_ms, times * fast.latency_ms(small).median_ms, rel_tol=1e-9)


# --- settings and budgets ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("spec", "told"),
    [
        ("mcu:", "choose one of mcu:stm32f412"),
        ("mcu:abacus", "no board is called 'abacus'"),
        ("mcu:stm32f746,clock=fast", r"clock=fast is not from 100000 to 1e\+10"),
        ("mcu:stm32f746,clock=0", "clock=0 is not from"),
        ("mcu:stm32f746,runtime=x", "no runtime is called 'x'"),
        ("mcu:stm32f746,patches=maybe", "patches=maybe is neither on nor off"),
        ("mcu:stm32f746,sram=1MB", "no setting 'sram=1MB'"),
        ("mcu:stm32f746,clock=1MHz,clock=2MHz", "each once"),
    ],
)
def test_settings_that_there_are_not(spec: str, told: str) -> None:
    with pytest.raises(InputError, match=told):
        open_target(spec)


@pytest.mark.parametrize(
    "name",
    [
        "mcu:stm32f746",
        "mcu:stm32f746,clock=100MHz",
        "mcu:esp32s3,clock=80.5MHz,runtime=cmsis-nn",
        "mcu:stm32f746,runtime=tinyengine,patches=on",
    ],
)
def test_a_name_opens_what_it_names(name: str) -> None:
    assert open_target(name).name == name


def test_more_threads_than_cores_are_refused(tmp_path: Path) -> None:
    file = _file(network(8), SHAPE, tmp_path / "m.onnx")
    with pytest.raises(InputError, match="one thread, not 2"):
        open_target("mcu:stm32f746", 2).latency_ms(file)


def _job(target: str, budget: Budget, threads: int = 1) -> Job:
    return Job("digits", budget, 60.0, target, threads, ("int8",), 0, "sandwich")


def test_the_boards_room_is_a_limit_where_none_is_given() -> None:
    board = open_target("mcu:stm32f746")
    assert isinstance(board, Bounded)
    assert _job("mcu:stm32f746", Budget()).budget == Budget(None, board.max_size_bytes, None, board.max_memory_bytes)
    assert _job("mcu:stm32f746", Budget(max_memory_bytes=1000)).budget.max_memory_bytes == 1000
    assert _job("onnxruntime", Budget()).budget == Budget()
    with pytest.raises(InputError, match=r"--max-memory 400000 is more than the target has, 296960 bytes"):
        _job("mcu:stm32f746", Budget(max_memory_bytes=400_000))
    with pytest.raises(InputError, match="has 1 threads, not 2"):
        _job("mcu:stm32f746", Budget(), threads=2)
