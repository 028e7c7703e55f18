"""What every target must keep. Give yours the suite by subclassing it in a test file:

    class TestMine(TargetSuite):
        target = MyTarget()

:class:`TargetSuite` is for targets that time, :class:`SimulatedSuite` for those that calculate what a machine would
take.
The suite exports two small networks, one with about sixteen times the work of the other.
"""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from sartor.errors import InputError
from sartor.export.onnx import export_onnx
from sartor.measure.targets.named import open_target
from sartor.measure.targets.target import Target

SHAPE = (3, 24, 24)


def network(width: int) -> nn.Module:
    torch.manual_seed(width)
    return nn.Sequential(
        nn.Conv2d(3, width, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(width, width, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(width, width, 3, padding=1),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(width, 10),
    ).eval()


class EveryTarget:
    """What those that time and those that calculate have in common."""

    target: Target

    @pytest.fixture(scope="class")
    @classmethod
    def files(cls, tmp_path_factory: pytest.TempPathFactory) -> dict[int, Path]:
        folder = tmp_path_factory.mktemp("target")
        for width in (16, 64):
            export_onnx(network(width), SHAPE, folder / f"{width}.onnx", draft=True)
        return {width: folder / f"{width}.onnx" for width in (16, 64)}

    def test_it_computes_what_the_module_computes(self, files: dict[int, Path]) -> None:
        batches = [np.random.default_rng(n).standard_normal((n, *SHAPE), np.float32) for n in (1, 5, 2)]
        outputs = list(self.target.run(files[16], batches))
        for batch, output in zip(batches, outputs, strict=True):
            with torch.no_grad():
                eager = network(16)(torch.from_numpy(batch)).numpy()
            assert output.shape == eager.shape
            assert np.abs(output - eager).max() <= 1e-5 * np.abs(eager).max()

    def test_latency_is_a_whole_record(self, files: dict[int, Path]) -> None:
        latency = self.target.latency_ms(files[16], runs=40, min_time_s=0.05)
        assert 0 < latency.ci_ms[0] <= latency.median_ms <= latency.p95_ms
        assert latency.median_ms <= latency.ci_ms[1]
        assert 0 <= latency.mad_ms <= latency.p95_ms
        assert latency.n >= 1
        assert latency.device
        json.dumps(latency.to_dict(), allow_nan=False)

    def test_no_files_no_latencies(self) -> None:
        assert self.target.latencies([]) == []

    @pytest.mark.parametrize("wrong", [{"runs": 0}, {"batch": 0}, {"budget_s": 0.0}])
    def test_nothing_cannot_be_timed(self, files: dict[int, Path], wrong: dict[str, Any]) -> None:
        with pytest.raises(InputError, match="at least one run, a batch of at least one and a positive time budget"):
            self.target.latency_ms(files[16], **wrong)

    def test_a_missing_file_is_named(self, tmp_path: Path) -> None:
        with pytest.raises(InputError, match=r"nowhere\.onnx is missing"):
            self.target.latency_ms(tmp_path / "nowhere.onnx")

    def test_a_file_that_is_no_model_is_refused(self, tmp_path: Path) -> None:
        (tmp_path / "text.onnx").write_text("no model")
        with pytest.raises(InputError, match=r"text\.onnx is no ONNX file"):
            self.target.latency_ms(tmp_path / "text.onnx")

    def test_a_batch_of_the_wrong_shape_is_refused(self, files: dict[int, Path]) -> None:
        with pytest.raises(InputError, match=r"not float32 \[1, 1, 2, 2\]"):
            list(self.target.run(files[16], [np.zeros((1, 1, 2, 2), np.float32)]))


class TargetSuite(EveryTarget):
    """Subclass with ``target = ...``: a target that times."""

    def test_a_latency_has_samples(self, files: dict[int, Path]) -> None:
        latency = self.target.latency_ms(files[16], runs=40, min_time_s=0.05)
        assert latency.source == "measured"
        assert latency.n >= 20
        assert latency.warmup > 0

    def test_its_name_opens_it_again(self) -> None:
        assert open_target(self.target.name, self.target.threads) == self.target

    @pytest.mark.alone
    def test_a_batch_is_timed_as_one_call(self, files: dict[int, Path]) -> None:
        """Unless another process is in the way each time."""
        for _ in range(5):
            one = self.target.latency_ms(files[64], runs=20, min_time_s=0.02)
            many = self.target.latency_ms(files[64], runs=20, min_time_s=0.02, batch=32)
            if many.median_ms > 4 * one.median_ms:
                return
        raise AssertionError(f"{one.median_ms} ms, {many.median_ms} ms")

    @pytest.mark.alone
    def test_more_work_takes_longer(self, files: dict[int, Path]) -> None:
        """Unless another process is in the way each time."""
        for _ in range(5):
            small, large = self.target.latencies([files[16], files[64]], runs=40, min_time_s=0.05)
            if small.median_ms < large.median_ms:
                return
        raise AssertionError(f"{small.median_ms} ms, {large.median_ms} ms")

    @pytest.mark.alone
    def test_a_file_beside_itself_is_as_fast(self, files: dict[int, Path]) -> None:
        """Interleaving is what makes ratios fair: twice the same file gives a ratio of one. A bias would show in every
        try; another process disturbs some."""
        ratios = []
        for _ in range(7):
            one, other = self.target.latencies([files[64], files[64]], runs=100)
            ratios.append(one.median_ms / other.median_ms)
            if math.isclose(ratios[-1], 1.0, rel_tol=0.1):
                return
        raise AssertionError(ratios)


class SimulatedSuite(EveryTarget):
    """Subclass with ``target = ...``: a target whose latencies a model of the machine makes."""

    def test_it_says_that_it_is_simulated(self, files: dict[int, Path]) -> None:
        latency = self.target.latency_ms(files[16])
        assert latency.source == "simulated"
        assert latency.mad_ms == 0
        assert latency.ci_ms == (latency.median_ms, latency.median_ms)
        assert latency.p95_ms == latency.median_ms

    def test_the_same_file_takes_the_same(self, files: dict[int, Path]) -> None:
        assert self.target.latencies([files[64], files[16]]) == self.target.latencies([files[64], files[16]])

    def test_more_work_takes_longer(self, files: dict[int, Path]) -> None:
        small, large = self.target.latencies([files[16], files[64]])
        assert small.median_ms < large.median_ms

    def test_a_batch_takes_longer_than_one(self, files: dict[int, Path]) -> None:
        assert self.target.latency_ms(files[16], batch=4).median_ms > self.target.latency_ms(files[16]).median_ms
