"""Systolic arrays: the equations against arrays of processing elements simulated cycle by cycle; bounds."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from contracts.target import SimulatedSuite
from sartor.errors import InputError
from sartor.measure.targets.named import open_target
from sartor.measure.targets.systolic import DATAFLOWS, Systolic
from sartor.measure.targets.work import Work


class TestWeightsStay(SimulatedSuite):
    target = open_target("systolic:16x16")


class TestOutputsStayAndMemoryIsSlow(SimulatedSuite):
    target = open_target("systolic:32x8,dataflow=os,sram=4KiB,bandwidth=100MB,clock=200MHz")


def outputs_stay(a: np.ndarray, b: np.ndarray) -> tuple[np.ndarray, int]:
    """[R, T] times [T, C] on an R by C array, each element keeping its sum: the product, and the cycles until the last
    row has left at the bottom."""
    (rows, steps), columns = a.shape, b.shape[1]
    held = np.zeros((rows, columns), int)
    right, down = np.zeros((rows, columns), int), np.zeros((rows, columns), int)
    cycles = 0
    for cycle in range(steps + rows + columns - 2):
        right[:, 1:], down[1:] = right[:, :-1].copy(), down[:-1].copy()
        for row in range(rows):  # each row's and column's values come one cycle after its neighbour's
            right[row, 0] = a[row, cycle - row] if 0 <= cycle - row < steps else 0
        for column in range(columns):
            down[0, column] = b[cycle - column, column] if 0 <= cycle - column < steps else 0
        held += right * down
        cycles += 1
    out = []
    for _ in range(rows):
        out.append(held[-1].copy())
        held[1:] = held[:-1].copy()
        cycles += 1
    return np.array(out[::-1]), cycles


def weights_stay(a: np.ndarray, b: np.ndarray) -> tuple[np.ndarray, int]:
    """[T, R] times [R, C] with ``b`` in the array: the product, and the cycles until the last sum has left."""
    (steps, rows), columns = a.shape, b.shape[1]
    kept = np.zeros((rows, columns), int)
    cycles = 0
    for row in reversed(range(rows)):
        kept[1:] = kept[:-1].copy()
        kept[0] = b[row]
        cycles += 1
    right, sums = np.zeros((rows, columns), int), np.zeros((rows, columns), int)
    out = np.zeros((steps, columns), int)
    for cycle in range(steps + rows + columns - 2):
        right[:, 1:] = right[:, :-1].copy()
        for row in range(rows):
            right[row, 0] = a[cycle - row, row] if 0 <= cycle - row < steps else 0
        above = np.vstack([np.zeros((1, columns), int), sums[:-1]])
        sums = above + right * kept
        for column in range(columns):
            if 0 <= cycle - column - (rows - 1) < steps:
                out[cycle - column - (rows - 1), column] = sums[-1, column]
        cycles += 1
    return out, cycles


SIDES = st.integers(1, 6)


@given(SIDES, SIDES, st.integers(1, 9))
def test_a_fold_takes_what_its_elements_take(rows: int, columns: int, steps: int) -> None:
    """Cycle by cycle, with the product to show that the simulated arrays compute."""
    draw = np.random.default_rng(rows * 100 + columns * 10 + steps)
    a, b = draw.integers(-9, 9, (rows, steps)), draw.integers(-9, 9, (steps, columns))
    product, cycles = outputs_stay(a, b)
    assert np.array_equal(product, a @ b)
    assert Systolic(rows, columns, dataflow="os").product_cycles(rows, steps, columns) == cycles
    product, cycles = weights_stay(a.T, draw_b := draw.integers(-9, 9, (rows, columns)))
    assert np.array_equal(product, a.T @ draw_b)
    assert Systolic(rows, columns, dataflow="ws").product_cycles(steps, rows, columns) == cycles
    # With inputs in place it is the product of the transposes with the weights in place.
    assert Systolic(rows, columns, dataflow="is").product_cycles(columns, rows, steps) == cycles


ARRAYS = st.builds(
    Systolic,
    st.integers(1, 64),
    st.integers(1, 64),
    dataflow=st.sampled_from(DATAFLOWS),
    sram_bytes=st.integers(1, 10**6),
    bandwidth=st.floats(1e3, 1e12),
    clock_hz=st.floats(1e5, 1e10),
)


def _work(m: int, k: int, n: int, bits: int, groups: int = 1) -> Work:
    return Work("n", "Conv", "convolution", groups * m * k * n, m, k, n, groups, m * k, m * n, k * n, bits)


SIZES = st.integers(1, 3000)


@given(ARRAYS, SIZES, SIZES, SIZES, st.sampled_from([8, 32]), st.integers(0, 2), st.integers(0, 500))
def test_more_work_never_takes_less_and_no_element_is_faster_than_one(
    array: Systolic, m: int, k: int, n: int, bits: int, which: int, more: int
) -> None:
    sizes = [m, k, n]
    cycles, bound = array.cycles(_work(*sizes, bits))
    assert cycles >= m * k * n / (array.rows * array.columns)
    assert cycles / array.clock_hz >= (m * k + k * n + m * n) * bits / 8 / array.bandwidth * (1 - 1e-9)
    assert bound in ("compute", "memory")
    sizes[which] += more
    assert array.cycles(_work(*sizes, bits))[0] >= cycles
    assert array.cycles(_work(m, k, n, bits), batch=2)[0] >= cycles
    assert array.cycles(_work(m, k, n, bits, groups=3))[0] >= 3 * cycles * (1 - 1e-9)


@given(ARRAYS, SIZES, SIZES, SIZES, st.floats(1.0, 50.0))
def test_faster_clocks_and_memories_and_larger_srams_never_slow_it(
    array: Systolic, m: int, k: int, n: int, times: float
) -> None:
    work = _work(m, k, n, 8)
    seconds = array.cycles(work)[0] / array.clock_hz
    for better in (
        replace(array, clock_hz=array.clock_hz * times),
        replace(array, bandwidth=array.bandwidth * times),
        replace(array, sram_bytes=round(array.sram_bytes * times)),
    ):
        assert better.cycles(work)[0] / better.clock_hz <= seconds * (1 + 1e-9)


def test_depthwise_convolutions_waste_the_array() -> None:
    """One column of it works, a channel at a time: as many multiply-accumulates take longer by the array's width."""
    array = Systolic(16, 16, bandwidth=1e15)
    dense, depthwise = _work(1024, 9 * 64, 64, 8), _work(1024, 9, 1, 8, groups=64 * 64)
    assert dense.macs == depthwise.macs
    assert array.cycles(depthwise)[0] > 16 * array.cycles(dense)[0]


@pytest.mark.parametrize(
    ("spec", "told"),
    [
        ("systolic:", "write ROWSxCOLS"),
        ("systolic:0x4", "from 1x1"),
        ("systolic:9999x4", "from 1x1"),
        ("systolic:4x4,dataflow=xs", "no dataflow is called 'xs'"),
        ("systolic:4x4,sram=-1", "sram=-1 is not from"),
        ("systolic:4x4,colour=red", "no setting 'colour=red'"),
    ],
)
def test_settings_that_there_are_not(spec: str, told: str) -> None:
    with pytest.raises(InputError, match=told):
        open_target(spec)


@given(ARRAYS)
def test_a_name_opens_what_it_names(array: Systolic) -> None:
    assert open_target(array.name) == array
