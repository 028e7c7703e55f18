"""EfficientFormer (P080, arXiv:2206.01191): images first, tokens last, and slimming by what is measured."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from statistics import mean, median

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sartor.compress.measured import prune_to_latency
from sartor.compress.prune import shrink
from sartor.export.drafts import Drafts
from sartor.export.onnx import export_onnx
from sartor.graph import Cut, trace
from sartor.graph.saliency import Evidence
from sartor.measure.targets.onnxruntime import OnnxRuntime
from sartor.models.zoo import open_model
from sartor.train.recalibrate import accuracy, recalibrate
from sartor.train.steps import plain_step
from train.digits import RECIPE, calibration, digits, fit, held_out, inputs, preprocess

SHAPE = (1, 8, 8)


class Images(nn.Module):
    """MB4D (§3.2): pooling, then a pointwise network with batch norms; each adds to what it takes."""

    def __init__(self, width: int):
        super().__init__()
        self.up, self.norm, self.down = (
            nn.Conv2d(width, 4 * width, 1),
            nn.BatchNorm2d(4 * width),
            nn.Conv2d(4 * width, width, 1),
        )

    def forward(self, x: Tensor) -> Tensor:
        x = F.avg_pool2d(x, 3, 1, 1)  # x + pooled - x, as published
        return x + self.down(F.gelu(self.norm(self.up(x))))


class Tokens(nn.Module):
    """MB3D: attention, then the network."""

    def __init__(self, width: int, heads: int = 4):
        super().__init__()
        self.num_heads, self.head_dim = heads, width // heads
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.proj = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.up, self.down = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        b, n, _ = x.shape
        q, k, v = self.qkv(self.norm1(x)).reshape(b, n, 3, self.num_heads, self.head_dim).permute(2, 0, 3, 1, 4)
        mixed = F.scaled_dot_product_attention(q, k, v).transpose(1, 2)
        x = x + self.proj(mixed.reshape(b, n, self.num_heads * self.head_dim))
        return x + self.down(F.gelu(self.up(self.norm2(x))))


class Former(nn.Module):
    def __init__(self, width: int = 96):
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(1, width, 3, padding=1), nn.BatchNorm2d(width), nn.ReLU())
        self.images = nn.Sequential(*(Images(width) for _ in range(3)))
        self.smaller = nn.Sequential(nn.Conv2d(width, width, 3, stride=2, padding=1), nn.BatchNorm2d(width))
        self.tokens = nn.Sequential(*(Tokens(width) for _ in range(2)))
        self.norm, self.head = nn.LayerNorm(width), nn.Linear(width, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = self.smaller(self.images(self.stem(x))).flatten(2).transpose(1, 2)
        return self.head(self.norm(self.tokens(x)).mean(1))


def test_the_published_network() -> None:
    """L1 has 12.3 million parameters, and its images become tokens once."""
    opened = open_model("timm:efficientformer_l1")
    assert sum(p.numel() for p in opened.module.parameters()) == pytest.approx(12.3e6, rel=0.005)
    graph = trace(opened.module.eval(), opened.inputs)
    turned = [
        call
        for call in graph.calls
        if call.op in ("aten.flatten.using_ints", "aten.view.default", "aten.reshape.default")
        and call["self"].rank == 4
        and len(call.shape) == 3
        and not call.where.endswith("token_mixer")  # an attention puts its heads side by side
    ]
    assert len(turned) == 1


@pytest.mark.claim
def test_slimming_beats_chance(tmp_path: Path) -> None:
    """Slimmed to two thirds of its measured latency by gates' Fisher information, the network keeps more than by random
    choice of what goes: right after the cut, and after as much training. The files that are shipped take what was
    asked, within 10 %, so neither is cut further than the other."""
    torch.manual_seed(0)
    model = Former()
    fit(model, plain_step(model, inputs(0), RECIPE, side=8), 300, 0)
    recalibrate(model, calibration()).eval()
    graph = trace(model, torch.zeros(2, *SHAPE))
    split, runtime, drafts = digits().train, OnnxRuntime(1), Drafts(graph, SHAPE)
    rows = [range(i, i + 64) for i in range(0, 512, 64)]
    batches = [(preprocess()(split.take(r)), torch.from_numpy(split.labels[list(r)])) for r in rows]

    def shares(whole: Path, files: Sequence[Path]) -> list[float]:
        """Of the whole network's latency, timed beside it: what else the machine does slows both."""
        before, *after = (timing.median_ms for timing in runtime.latencies([whole, *files], runs=100, budget_s=1.0))
        return [ms / before for ms in after]

    def latencies(cuts: Sequence[Cut]) -> list[float]:
        files = [tmp_path / f"{i}.onnx" for i in range(len(cuts) + 1)]
        for cut, file in zip((Cut({}), *cuts), files, strict=True):
            drafts.write(cut, file)
        return shares(files[0], files[1:])

    shipped = {name: tmp_path / f"{name}.onnx" for name in ("whole", "small")}
    export_onnx(model, SHAPE, shipped["whole"])
    target = 2 / 3
    cut_to: dict[str, list[float]] = {"fisher": [], "random": []}
    tuned: dict[str, list[float]] = {"fisher": [], "random": []}
    taken: dict[str, list[float]] = {"fisher": [], "random": []}
    for criterion in cut_to:
        for seed in range(2):
            evidence = Evidence(batches, seed=seed)
            cut, _ = prune_to_latency(graph, target, latencies, saliency=criterion, evidence=evidence)
            small = shrink(graph, cut, evidence)
            export_onnx(small.eval(), SHAPE, shipped["small"])
            taken[criterion].append(median(shares(shipped["whole"], [shipped["small"]])[0] for _ in range(3)))
            cut_to[criterion].append(accuracy(small, held_out()))
            fit(small, plain_step(small, inputs(seed), RECIPE, side=8), 60, seed)
            tuned[criterion].append(accuracy(recalibrate(small, calibration()).eval(), held_out()))
    print(f"of the latency {taken}, after the cut {cut_to}, after training {tuned}")
    assert all(abs(share / target - 1) <= 0.1 for found in taken.values() for share in found)
    assert mean(cut_to["fisher"]) > mean(cut_to["random"])
    assert mean(tuned["fisher"]) >= mean(tuned["random"])
