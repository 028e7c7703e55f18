"""P390 (arXiv 2404.03617) on this machine: efficiency explains a measured latency, and who pulls it down."""

from __future__ import annotations

import timeit
from collections.abc import Iterator
from pathlib import Path

import pytest
from torch import nn

from sartor.export.onnx import export_onnx
from sartor.measure.layers.measured import explained
from sartor.measure.targets.onnxruntime import OnnxRuntime
from sartor.report.measured.told import Told
from sartor.report.measured.waterline import waterline_figure

TURNS = 6
"""Latency and layers are measured one after the other: another process may take the machine for one of them."""
CALLS = 40


def separable(width: int, blocks: int) -> nn.Sequential:
    """Depthwise and pointwise convolutions in turns, after a convolution that makes ``width`` channels."""
    pairs = [
        (nn.Conv2d(width, width, 3, padding=1, groups=width), nn.ReLU(), nn.Conv2d(width, width, 1), nn.ReLU())
        for _ in range(blocks)
    ]
    return nn.Sequential(nn.Conv2d(3, width, 4, 4), *(layer for pair in pairs for layer in pair))


def turns(file: Path) -> Iterator[tuple[Told, float]]:
    """What was found of the layers, and the milliseconds of the whole network's calls that nobody disturbed.

    The fastest, not the median: kernels are so short that their medians are those of a machine at rest.
    """
    target = OnnxRuntime(1)
    call = target.call(file, 1)
    for _ in range(TURNS):
        found = explained(file, target, runs=15).to_dict()
        yield Told({"model": "separable", **found}), 1e3 * min(timeit.repeat(call, repeat=CALLS, number=1))


@pytest.mark.alone
@pytest.mark.heavy
def test_operations_over_peak_times_efficiency_is_the_latency(tmp_path: Path) -> None:
    file = tmp_path / "separable.onnx"
    export_onnx(separable(96, 3).eval(), (3, 224, 224), file, draft=True)
    off = []
    for told, latency_ms in turns(file):
        assert told.roof
        operations = sum(layer.macs for layer in told.layers)
        level = waterline_figure(told)["layout"]["shapes"][0]["y0"] / 100
        off.append(1e3 * operations / (told.roof.peak_macs_per_s * level) / latency_ms - 1)
        if abs(off[-1]) < 0.1:
            break
    assert min(map(abs, off)) < 0.1, off
    _, *pairs = (layer for layer in told.layers if layer.macs)
    for depthwise, pointwise in zip(pairs[::2], pairs[1::2], strict=True):
        assert (depthwise.bound, pointwise.bound) == ("memory", "compute")
        slow, fast = (1e3 * layer.macs / layer.time_ms for layer in (depthwise, pointwise))
        assert slow < level * told.roof.peak_macs_per_s, "it pulls the level down"
        assert slow < fast
