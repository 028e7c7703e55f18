"""Train once, specialise for several budgets: the claim of once-for-all (P058), where it holds on digits."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pytest

from sartor.export.onnx import export_onnx
from sartor.measure.targets.onnxruntime import OnnxRuntime
from sartor.records import Arch
from sartor.train.recalibrate import recalibrate
from sartor.train.schedule import progressive_shrinking
from train.digits import alone, calibration, small_space, subnet_accuracy, supernet


@pytest.mark.claim
def test_one_training_answers_two_budgets(tmp_path: Path) -> None:
    """Subnets of a progressively shrunk supernet are within a point of networks trained alone for as many steps, in the
    mean over five levels of MACs (``benchmarks/once_for_all.py`` has more lengths). Two latency budgets are then met
    without training, by files whose latency, measured again, is within 15 % of what was promised: as a share of the
    largest network's, measured in turns with it, for the machine's own pace changes by more than that.
    """
    space = small_space((8, 16, 24))
    net = supernet(space, progressive_shrinking, 1500)
    levels = [
        space.smallest().replace(**{"s0.width": a, "s1.width": b})
        for a, b in ((8, 8), (8, 16), (16, 16), (16, 24), (24, 24))
    ]
    gaps = [subnet_accuracy(net, arch) - alone(arch, 1500) for arch in levels]
    print(f"subnets less networks trained alone, in points: {np.round(100 * np.array(gaps), 2)}")
    assert np.mean(gaps) > -0.01
    assert min(gaps) > -0.02

    target = OnnxRuntime(1)

    def file_of(arch: Arch) -> Path:
        file = tmp_path / f"{arch.key}.onnx"
        export_onnx(recalibrate(net.extract(arch), calibration()), (1, 8, 8), file)
        return file

    def shares(archs: Iterable[Arch]) -> dict[Arch, float]:
        """Latencies over the largest network's, the median over nine rounds."""
        archs = dict.fromkeys((*archs, space.largest()))
        rounds = [{a: target.latency_ms(files[a], runs=100).median_ms for a in archs} for _ in range(9)]
        return {a: float(np.median([ms[a] / ms[space.largest()] for ms in rounds])) for a in archs}

    files = {arch: file_of(arch) for arch in space.every()}
    measured = shares(files)
    accuracies = {arch: subnet_accuracy(net, arch) for arch in measured}
    tight, loose = (float(np.quantile(list(measured.values()), q)) for q in (0.25, 1))
    answers = []
    for budget in (tight, loose):
        best = max((arch for arch in measured if measured[arch] <= budget), key=accuracies.__getitem__)
        assert shares([best])[best] == pytest.approx(measured[best], rel=0.15)
        answers.append(accuracies[best])
    assert answers[0] < answers[1]
