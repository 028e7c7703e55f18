"""What every target must keep. Give yours the suite by subclassing it in a test file:

    class TestMine(TargetSuite):
        target = MyTarget()

The suite exports two small networks, one with about sixteen times the work of the other.
"""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from sartor.errors import InputError
from sartor.export.onnx import export_onnx
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


class TargetSuite:
    """Subclass with ``target = ...``."""

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
        assert 0 < latency.median_ms <= latency.p95_ms
        assert 0 <= latency.mad_ms <= latency.p95_ms
        assert latency.n >= 20
        assert latency.warmup > 0
        assert latency.device
        json.dumps(latency.to_dict(), allow_nan=False)

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
