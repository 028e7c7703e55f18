"""Tables of blocks timed once, on a target whose times are calculated: what a sum says is what the whole takes."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
import torch

from sartor.export.onnx import export_onnx
from sartor.measure.targets.named import open_target
from sartor.measure.units.blocks import block_table
from sartor.measure.units.split import units
from sartor.measure.units.table import call_ms, measured
from sartor.models.buildable import macro_problem


@pytest.fixture(scope="module")
def made():
    problem, target = macro_problem(resolution=16, stem=4, last=32), open_target("systolic:8x8", threads=1)
    return problem, target, block_table(problem, target)


def test_a_sum_is_what_the_units_of_the_whole_take_and_near_what_the_file_takes(made, tmp_path: Path):
    problem, target, table = made
    rng = random.Random(0)
    for place in range(4):
        arch, file = problem.space.sample(rng), tmp_path / f"{place}.onnx"
        export_onnx(problem.build(arch).eval(), problem.inputs(arch, 1)[0].shape[1:], file, draft=True)
        parts = units(file)
        times = measured(parts, target)
        assert table.of(arch) == pytest.approx(sum(times[unit.key] for unit in parts) + call_ms(target), rel=1e-6)
        assert table.of(arch) == pytest.approx(target.latency_ms(file).median_ms, rel=0.15)


def test_its_expectation_is_the_mean_over_what_is_drawn(made):
    problem, _, table = made
    rng = random.Random(1)
    chances = {c.name: torch.rand(len(c.options), dtype=torch.float64).softmax(0) for c in problem.space.choices}
    drawn = [problem.space.decide(lambda c: rng.choices(c.options, chances[c.name].tolist())[0]) for _ in range(3000)]
    assert float(table.expected(problem.space, chances)) == pytest.approx(float(table(drawn).mean()), rel=0.02)
