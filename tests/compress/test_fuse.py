"""Blocks side by side: P142's parallel stacks and P211's fused feed-forward networks."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from statistics import mean, median

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sartor.compress.fuse import Parallel, choose_run, dependency, fuse, parallel, runs
from sartor.errors import InputError
from sartor.export.onnx import export_onnx, onnx_of
from sartor.graph import trace
from sartor.measure.targets.onnxruntime import OnnxRuntime
from sartor.train.loop import Recipe
from train.digits import calibration, held_out, inputs, plain_step
from train.digits import fit as trained_by


class FeedForward(nn.Module):
    def __init__(self, width: int, hidden: int):
        super().__init__()
        self.norm, self.up, self.down = nn.LayerNorm(width), nn.Linear(width, hidden), nn.Linear(hidden, width)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.down(F.gelu(self.up(self.norm(x))))


class Gated(nn.Module):
    """As in Llama, with a layer scale."""

    def __init__(self, width: int, hidden: int):
        super().__init__()
        self.norm = nn.RMSNorm(width)
        self.gate, self.up = nn.Linear(width, hidden, bias=False), nn.Linear(width, hidden, bias=False)
        self.down, self.scale = nn.Linear(hidden, width, bias=False), Scale(width)

    def forward(self, x: Tensor) -> Tensor:
        x_ = self.norm(x)
        return x + self.scale(self.down(F.silu(self.gate(x_)) * self.up(x_)))


class Scale(nn.Module):
    def __init__(self, width: int):
        super().__init__()
        self.gamma = nn.Parameter(torch.ones(width))

    def forward(self, x: Tensor) -> Tensor:
        return x * self.gamma


class Convolutions(nn.Module):
    def __init__(self, width: int, hidden: int):
        super().__init__()
        self.a, self.b = nn.Conv2d(width, hidden, 3, padding=1), nn.Conv2d(hidden, width, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.b(self.a(x).relu())


class Attention(nn.Module):
    def __init__(self, width: int, hidden: int):
        super().__init__()
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = self.qkv(x).chunk(3, -1)
        return x + self.out(F.scaled_dot_product_attention(q, k, v))


def stack(
    block: Callable[[int, int], nn.Module], n: int, hidden: int = 20, first: nn.Module | None = None
) -> nn.Module:
    torch.manual_seed(0)
    model = nn.Sequential(first or nn.Linear(8, 12), *(block(12, hidden) for _ in range(n)), nn.Linear(12, 4))
    with torch.no_grad():
        for p in model.parameters():
            p.add_(0.1 * torch.randn(p.shape))
    return model.eval()


TOKENS = torch.randn(2, 5, 8)


def test_runs_are_found() -> None:
    graph = trace(stack(FeedForward, 3), TOKENS)
    assert runs(graph) == [("1", "2", "3")]
    broken = nn.Sequential(nn.Linear(8, 12), FeedForward(12, 8), nn.GELU(), FeedForward(12, 8), FeedForward(12, 8))
    assert runs(trace(broken.eval(), TOKENS)) == [("3", "4")]
    assert runs(trace(nn.Linear(8, 2), TOKENS)) == []


@pytest.mark.parametrize("block", [FeedForward, Gated])
@pytest.mark.parametrize("run", [("1", "2"), ("2", "3", "4")])
def test_a_fused_network_is_the_sum_of_its_parts(block: Callable[[int, int], nn.Module], run: tuple[str, ...]) -> None:
    model = stack(block, 4)
    graph = trace(model, TOKENS)
    wide, side = fuse(graph, run), parallel(graph, run)
    x = torch.randn(3, 7, 8)
    with torch.no_grad():
        torch.testing.assert_close(wide(x), side(x), atol=1e-5, rtol=1e-4)
        y = model[0](x)
        for path in "1234"[: int(run[0]) - 1]:
            y = model.get_submodule(path)(y)
        added = sum(model.get_submodule(path)(y) - y for path in run)
        torch.testing.assert_close(Parallel([model.get_submodule(p) for p in run])(y), y + added, atol=1e-5, rtol=1e-4)
    assert wide.get_submodule(run[0]).up.out_features == 20 * len(run)
    assert [type(wide.get_submodule(path)) for path in run[1:]] == [nn.Identity] * (len(run) - 1)
    assert sum(p.numel() for p in wide.parameters()) <= sum(p.numel() for p in model.parameters()) + 20 * len(run)


def test_convolutions_side_by_side_are_one_too() -> None:
    model = stack(Convolutions, 2, first=nn.Conv2d(8, 12, 1))
    model[-1] = nn.Conv2d(12, 4, 1)
    x = torch.randn(2, 8, 6, 6)
    graph = trace(model.eval(), x)
    with torch.no_grad():
        torch.testing.assert_close(fuse(graph, ("1", "2"))(x), parallel(graph, ("1", "2"))(x), atol=1e-5, rtol=1e-4)


def test_what_cannot_be_fused_is_named() -> None:
    graph = trace(stack(Attention, 2), TOKENS)
    parallel(graph, ("1", "2"))
    with pytest.raises(InputError, match=r"1 to 2 cannot be one wide block: "):
        fuse(graph, ("1", "2"))
    mixed = stack(FeedForward, 2)
    mixed[2] = FeedForward(12, 7)
    mixed[2].up = nn.Sequential(nn.Linear(12, 7))
    with pytest.raises(InputError, match="1 to 2 cannot be one wide block"):
        fuse(trace(mixed.eval(), TOKENS), ("1", "2"))
    for run in ((), ("1",), ("1", "3"), ("nowhere", "1")):
        with pytest.raises(InputError, match="not consecutive blocks"):
            fuse(trace(stack(FeedForward, 3), TOKENS), run)
    with pytest.raises(InputError, match=r"no 5 blocks of Sequential that can be fused follow each other: 3 blocks do"):
        choose_run(trace(stack(FeedForward, 3), TOKENS), 5, [TOKENS])


class Tokens(nn.Module):
    """Digits as 16 patches of 2x2 pixels; one attention, then feed-forward networks only."""

    def __init__(self, blocks: int, block: Callable[[int, int], nn.Module] = FeedForward):
        super().__init__()
        self.embed = nn.Conv2d(1, 24, 2, 2)
        self.place = nn.Parameter(0.02 * torch.randn(16, 24))
        self.attention, self.norm = Attention(24, 24), nn.LayerNorm(24)
        self.blocks = nn.Sequential(*(block(24, 48) for _ in range(blocks)))
        self.head = nn.Linear(24, 10)

    def forward(self, x: Tensor) -> Tensor:
        x = self.embed(x).flatten(2).transpose(1, 2) + self.place
        return self.head(self.blocks(self.norm(self.attention(x))).mean(1))


ADAM = Recipe(batch_size=64, optimiser="adamw", peak_lr=2e-2, weight_decay=0.05)


def loss_of(model: nn.Module) -> float:
    with torch.no_grad():
        losses = [F.cross_entropy(model.eval()(x), y, reduction="sum") for x, y in held_out()]
    return float(sum(losses)) / sum(len(y) for _, y in held_out())


def depth(model: nn.Module) -> int:
    """Matrix products on the longest path of the exported file."""
    graph = onnx_of(model, (1, 8, 8)).graph
    deep: dict[str, int] = {}
    for node in graph.node:
        own = node.op_type in ("MatMul", "Gemm", "Conv")
        level = max((deep.get(name, 0) for name in node.input), default=0) + own
        deep |= dict.fromkeys(node.output, level)
    return deep[graph.output[0].name]


def latency_ratio(model: nn.Module, other: nn.Module, folder: Path) -> float:
    """How much of ``model``'s latency ``other``'s file takes, in the median of five tries, in turns."""
    files = [folder / "one.onnx", folder / "other.onnx"]
    for module, file in zip((model, other), files, strict=True):
        export_onnx(module.eval(), (1, 8, 8), file)
    tries = [OnnxRuntime(1).latencies(files, runs=200) for _ in range(5)]
    return median(theirs.median_ms / ours.median_ms for ours, theirs in tries)


@pytest.mark.alone
@pytest.mark.heavy
def test_the_chosen_run_loses_less_than_others(tmp_path: Path) -> None:
    """P211 on a trained transformer: of all runs of three blocks, the one that depends on itself least is fused at a
    smaller loss than the others on average; the network is shallower by two blocks, and its file is faster."""
    torch.manual_seed(0)
    model = Tokens(8)
    trained_by(model, plain_step(model, inputs(0), ADAM, side=8), 400, 0, ADAM)
    before = loss_of(model)
    graph = trace(model.eval(), held_out()[0][0][:4])
    (run,) = runs(graph)
    chosen = choose_run(graph, 3, [images[:64] for images in calibration()[:2]])
    losses = {run[i : i + 3]: loss_of(fuse(graph, run[i : i + 3])) for i in range(len(run) - 2)}
    others = [loss for part, loss in losses.items() if part != chosen]
    print(f"before {before:.3f}; fused {chosen} {losses[chosen]:.3f}, others {mean(others):.3f}")
    assert losses[chosen] < mean(others)
    assert depth(fuse(graph, chosen)) == depth(model) - 4
    ratio = latency_ratio(model, fuse(graph, chosen), tmp_path)
    print(f"latency after fusing over latency before: {ratio:.3f}")
    assert ratio < 1  # two blocks of matrices fewer in a row: 0.88 where it was measured
    matrix = dependency(graph, run, [calibration()[0][:64]])
    assert bool((matrix.tril() == 0).all())
    assert bool((matrix.triu(1) >= 0).all())
