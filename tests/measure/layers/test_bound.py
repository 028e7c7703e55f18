"""What the papers on rooflines say of layers, on this machine: P192 of decoding, P390 of depthwise convolutions."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from scipy.stats import spearmanr
from torch import nn

from sartor.export.onnx import export_onnx
from sartor.measure.layers.layer import Layer
from sartor.measure.layers.measured import explained, layers
from sartor.measure.targets.onnxruntime import OnnxRuntime

WIDTH = 768
"""Of a small language model: GPT-2's."""


class FeedForwards(nn.Module):
    """Half of a language model, whose weights no cache of a core holds."""

    def __init__(self, width: int, blocks: int) -> None:
        super().__init__()
        one = lambda: nn.Sequential(
            nn.LayerNorm(width), nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width)
        )
        self.blocks = nn.ModuleList(one() for _ in range(blocks))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for block in self.blocks:
            x = x + block(x)
        return x


def products(folder: Path, module: nn.Module, tokens: int, width: int) -> list[Layer]:
    file = folder / "products.onnx"
    # An image of one channel: tokens stand in the rows.
    export_onnx(module.eval(), (1, tokens, width), file, draft=True)
    return [layer for layer in layers(file, OnnxRuntime(1), runs=15) if layer.macs]


@pytest.mark.heavy
def test_decoding_is_bound_by_memory_and_prefill_by_compute(tmp_path: Path) -> None:
    """P192 (arXiv:2403.14123 §3): one token reads every weight for one multiplication, 64 read it for 64. And times at
    the roof rank shapes as measured ones do, whatever bounds them."""
    wide, narrow = FeedForwards(WIDTH, 3), FeedForwards(WIDTH // 3, 1)
    decode, few, prefill = (products(tmp_path, wide, tokens, WIDTH) for tokens in (1, 8, 64))
    assert len(decode) == len(prefill) == 6
    assert {layer.bound for layer in decode} == {"memory"}
    assert {layer.bound for layer in prefill} == {"compute"}
    for one, many in zip(decode, prefill, strict=True):
        assert one.name == many.name
        assert many.macs == 64 * one.macs
        assert one.intensity == pytest.approx(0.25, rel=0.01), "a multiplication for four bytes"
        assert many.macs / many.time_ms > 1.5 * one.macs / one.time_ms, "the same weights, used more often"
    small = [layer for tokens in (1, 64) for layer in products(tmp_path, narrow, tokens, WIDTH // 3)]
    found = [*decode, *few, *prefill, *small]
    assert spearmanr([layer.least_ms for layer in found], [layer.time_ms for layer in found]).statistic > 0.9


class Small(nn.Module):
    """Half a millisecond of many kernels: watching them would take as long as they do."""

    def __init__(self) -> None:
        super().__init__()
        block = lambda: nn.Sequential(
            nn.Conv2d(24, 96, 1), nn.Hardswish(), nn.Conv2d(96, 96, 3, 1, 1, groups=96), nn.Hardswish(),
            nn.AvgPool2d(3, 1, 1), nn.Conv2d(96, 24, 1),
        )  # fmt: skip
        self.stem, self.blocks = nn.Conv2d(3, 24, 3, 4, 1), nn.ModuleList(block() for _ in range(8))
        self.head = nn.Linear(24, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.stem(x)
        for block in self.blocks:
            x = x + block(x)
        return self.head(x.mean((2, 3)))


@pytest.mark.alone
def test_operations_and_efficiencies_reproduce_the_latency(tmp_path: Path) -> None:
    """P390 (arXiv:2404.03617): operations over peak times efficiency, the efficiency that the layers have together.

    The latency is measured without a profile. Of several times the two that agree best: another process may disturb
    one of them; without the toll of the profile taken off, none would be near.
    """
    file = tmp_path / "m.onnx"
    export_onnx(Small().eval(), (3, 48, 48), file, draft=True)
    target, ratios = OnnxRuntime(1), []
    for _ in range(5):
        found = explained(file, target, runs=100)
        macs, peak = sum(layer.macs for layer in found.layers), found.roof.peak_macs_per_s
        efficiency = macs / peak / sum(layer.time_ms / 1e3 for layer in found.layers)
        assert 0 < efficiency < 1
        latency = target.latency_ms(file, runs=200, min_time_s=0.05).median_ms
        ratios.append(macs / (peak * efficiency) * 1e3 / latency)
    assert min(abs(ratio - 1) for ratio in ratios) < 0.1, ratios


def test_depthwise_layers_are_bound_by_memory(tmp_path: Path) -> None:
    """P390 (arXiv:2404.03617): nine multiplications for the eight bytes that each value costs, so that they reach a
    part of the rate of the product beside them, which mixes the same values over channels. The maps of 4.8 MB are
    beyond a core's own cache: of 1.2 MB, the ratio of the rates was 0.57 to 0.77 by the machine."""
    file = tmp_path / "m.onnx"
    depthwise = nn.Conv2d(96, 96, 3, padding=1, groups=96)
    module = nn.Sequential(nn.Conv2d(3, 96, 4, 4), depthwise, nn.Conv2d(96, 96, 1))
    export_onnx(module.eval(), (3, 448, 448), file, draft=True)
    found = explained(file, OnnxRuntime(1), runs=15)
    _, thin, full = (layer for layer in found.layers if layer.macs)
    assert [thin.name, full.name] == ["1", "2"]
    assert (thin.bound, full.bound) == ("memory", "compute")
    assert thin.intensity < 9 / 8 < found.roof.ridge < full.intensity
    assert thin.macs / thin.time_ms < 0.75 * full.macs / full.time_ms
