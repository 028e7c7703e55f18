"""Pruning to a latency: what does not pay on the target is not cut."""

from __future__ import annotations

import itertools
import math
import random
from collections.abc import Callable, Iterator, Sequence

import pytest
import torch
from torch import Tensor, nn

from sartor.compress.measured import PAYS, Latencies, prune_to_latency
from sartor.errors import BudgetError, InputError
from sartor.graph import Cut, Graph, trace
from sartor.graph.saliency import Evidence
from sartor.measure.counts import counts

X = torch.randn(1, 3, 8, 8)


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 32, 3, padding=1), nn.ReLU(), nn.Conv2d(32, 48, 3, padding=1), nn.ReLU(),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(48, 4),
    )  # fmt: skip


def timed(graph: Graph, times: Callable[[Sequence[nn.Module]], list[float]]) -> Latencies:
    """Cuts of ``graph``, by a machine that takes the networks they leave."""
    return lambda cuts: times([graph.slice(cut) for cut in cuts])


def in_vectors(modules: Sequence[nn.Module]) -> list[float]:
    """Milliseconds on a machine that computes channels sixteen at a time, whether they are there or not."""
    times = []
    for module in modules:
        convolutions = [m for m in module.modules() if isinstance(m, nn.Conv2d)]
        times.append(0.1 + sum(m.in_channels * 16 * math.ceil(m.out_channels / 16) for m in convolutions) / 1000)
    return times


def second_layer_only(modules: Sequence[nn.Module]) -> list[float]:
    """A machine on which only the second convolution takes time, by its outputs."""
    return [1e-6 + next(m for m in module.modules() if isinstance(m, nn.Linear)).in_features for module in modules]


def test_a_machine_of_vectors_gets_whole_vectors() -> None:
    """And of the last cut only as much goes as is needed."""
    graph = trace(network(), X)
    latencies = timed(graph, in_vectors)
    (before,) = latencies([Cut({})])
    cut, tried = prune_to_latency(graph, 0.6 * before, latencies)
    assert len(cut.keep.get("2", range(48))) % 16 == 0
    assert all(entry.after_ms < entry.before_ms for entry in tried if entry.kept)
    assert [entry.group for entry in tried if entry.kept][-1] == "0"
    one_more = {**cut.keep, "0": (*cut.keep["0"], min(set(range(32)) - set(cut.keep["0"])))}
    now, then = latencies([cut, Cut(one_more)])
    assert now <= 0.6 * before < then


def test_multiples_are_what_is_kept() -> None:
    """Of 32 and 48 channels in multiples of 12, 24 and 36 or fewer."""
    graph = trace(network(), X)
    (before,) = in_vectors([graph.model])
    cut, _ = prune_to_latency(graph, 0.6 * before, timed(graph, in_vectors), round_to=12)
    assert cut.keep
    assert all(len(kept) % 12 == 0 for kept in cut.keep.values())


def test_what_does_not_pay_is_undone() -> None:
    graph = trace(network(), X)
    cut, tried = prune_to_latency(graph, 30.0, timed(graph, second_layer_only))
    assert set(cut.keep) == {"2"}, "the first convolution's channels save nothing there"
    assert len(cut.keep["2"]) == 29, "as many as fit"
    assert {entry.group for entry in tried if entry.kept} == {"2"}
    undone = [entry for entry in tried if entry.group == "0"]
    sizes = [entry.entries for entry in undone]
    assert sizes == sorted(set(sizes)), "tried with more entries each time"
    assert sizes[-1] == 28, "until all that may go of it was, a tenth of 32 being left; and not again"
    assert all(e.before_ms - e.after_ms < PAYS * e.before_ms for e in undone)


def test_what_loses_least_for_its_time_goes_first() -> None:
    """Of two layers that are alike, the one whose weights hardly matter."""
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(8, 32), nn.ReLU(), nn.Linear(32, 32), nn.ReLU(), nn.Linear(32, 32), nn.Linear(32, 4))
    with torch.no_grad():
        net[2].weight[:24] *= 1e-4
        net[4].weight[:, :] = net[4].weight.abs() + 0.1
    graph = trace(net, torch.randn(1, 8))
    count = lambda modules: [float(sum(p.numel() for p in m.parameters())) for m in modules]
    (before,) = count([net])
    cut, _ = prune_to_latency(graph, 0.75 * before, timed(graph, count))
    assert set(range(24)) - set(cut.keep["2"])
    assert len(cut.keep["2"]) < min(len(cut.keep.get(name, range(32))) for name in ("0", "4"))


def test_a_network_that_is_fast_enough_stays_whole() -> None:
    graph = trace(network(), X)
    cut, tried = prune_to_latency(graph, 1e9, timed(graph, in_vectors))
    assert (dict(cut.keep), tried) == ({}, [])


def test_what_cannot_be_reached_is_named() -> None:
    graph = trace(network(), X)
    with pytest.raises(BudgetError, match=r"0\.0001 ms cannot be reached: .* ms is the least"):
        prune_to_latency(graph, 1e-4, timed(graph, in_vectors))


@pytest.mark.parametrize("seed", range(10))
def test_a_restless_machine_is_no_reason_to_give_up(seed: int) -> None:
    """Timings that are up to a third too long, each time another one."""
    rng = random.Random(seed)
    restless = lambda modules: [ms * rng.uniform(1, 4 / 3) for ms in in_vectors(modules)]
    graph = trace(network(), X)
    (before,) = in_vectors([graph.model])
    cut, _ = prune_to_latency(graph, 0.5 * before, timed(graph, restless))
    assert in_vectors([graph.slice(cut)])[0] <= 0.5 * before


class Block(nn.Module):
    def __init__(self, width: int):
        super().__init__()
        self.body = nn.Sequential(nn.Conv2d(width, width, 3, padding=1), nn.ReLU(), nn.Conv2d(width, width, 1))

    def forward(self, x: Tensor) -> Tensor:
        return x + self.body(x)


def residual() -> nn.Module:
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Conv2d(3, 8, 1), Block(8), Block(8), Block(8), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 4)
    )
    with torch.no_grad():
        for weight in net[2].body[2].parameters():
            weight *= 1e-3
    return net


def by_layers(modules: Sequence[nn.Module]) -> list[float]:
    """A machine on which a layer takes its time, however small it is."""
    return [float(sum(isinstance(m, (nn.Conv2d, nn.Linear)) for m in module.modules())) for module in modules]


class Counted(list[tuple[Tensor, Tensor]]):
    """Batches, and how often they were gone through."""

    times = 0

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        self.times += 1
        return super().__iter__()


def seen(n: int = 32) -> Counted:
    generator = torch.Generator().manual_seed(0)
    return Counted([(torch.randn(n, 3, 8, 8, generator=generator), torch.arange(n) % 4)])


def test_whole_blocks_go_where_layers_are_what_takes_time() -> None:
    graph = trace(residual(), X)
    evidence = Evidence(seen())
    cut, tried = prune_to_latency(graph, 6.0, timed(graph, by_layers), saliency="fisher", depth=True, evidence=evidence)
    assert cut.without == ("2",), "the one that hardly adds anything"
    assert by_layers([graph.slice(cut)]) == [6.0]
    assert [(t.group, t.entries) for t in tried if t.kept] == [("2", 0)]
    with pytest.raises(BudgetError, match="8 ms is the least"):
        prune_to_latency(graph, 6.0, timed(graph, by_layers), saliency="fisher", evidence=evidence)
    cut, _ = prune_to_latency(
        graph, 6.0, timed(graph, by_layers), saliency="fisher", depth=True, evidence=evidence, protect=["2.body.0"]
    )
    assert len(cut.without) == 1
    assert "2" not in cut.without
    with pytest.raises(InputError, match="by fisher"):
        prune_to_latency(graph, 6.0, timed(graph, by_layers), saliency="l2", depth=True, evidence=evidence)


class Raw(nn.Module):
    """A block whose weights are its own: the group of its hidden entries has the name of the block."""

    def __init__(self, width: int):
        super().__init__()
        self.up, self.down = nn.Parameter(torch.randn(width, 16)), nn.Parameter(0.1 * torch.randn(16, width))

    def forward(self, x: Tensor) -> Tensor:
        return x + torch.relu(x @ self.up) @ self.down


def test_a_group_is_not_a_block_of_its_name() -> None:
    torch.manual_seed(0)
    graph = trace(nn.Sequential(nn.Linear(8, 8), Raw(8), Raw(8), nn.Linear(8, 4)), torch.randn(2, 8))
    assert {group.name for group in graph.groups} & {block.path for block in graph.blocks}
    weights = lambda modules: [float(sum(p.numel() for p in module.parameters())) for module in modules]
    (before,) = weights([graph.model])
    evidence = Evidence([(torch.randn(32, 8), torch.arange(32) % 4)])
    cut, tried = prune_to_latency(graph, 0.9 * before, timed(graph, weights), depth=True, evidence=evidence)
    assert not cut.without, "a few entries are enough"
    assert all(t.entries for t in tried if t.kept)
    assert weights([graph.slice(cut)])[0] <= 0.9 * before


def test_no_block_goes_for_milliseconds_that_nobody_needs() -> None:
    """A block that saves a quarter is dear where a twentieth is asked for."""
    graph = trace(residual(), X)
    macs = lambda modules: [float(counts(module, X.shape[1:]).macs) for module in modules]
    (before,) = macs([graph.model])
    evidence = Evidence(seen())
    cut, _ = prune_to_latency(graph, 0.97 * before, timed(graph, macs), depth=True, evidence=evidence, protect=["2"])
    assert not cut.without


def test_what_is_left_is_judged_again() -> None:
    """Each time that a seventh of the latency went; what went before does not come back."""
    graph, batches = trace(network(), X), seen()
    now: list[Cut] = []

    def macs(cuts: Sequence[Cut]) -> list[float]:
        now.append(cuts[0])  # where it stands
        return [float(counts(graph.slice(cut), X.shape[1:]).macs) for cut in cuts]

    (before,) = macs([Cut({})])
    cut, tried = prune_to_latency(graph, 0.5 * before, macs, saliency="fisher", evidence=Evidence(batches))
    assert batches.times > 1
    for larger, smaller in itertools.pairwise([*now, cut]):
        for name, kept in larger.keep.items():
            assert set(smaller.keep[name]) <= set(kept)
    assert macs([cut])[0] <= 0.5 * before
    for name, kept in cut.keep.items():
        (size,) = (group.size for group in graph.groups if group.name == name)
        assert size - len(kept) == sum(t.entries for t in tried if t.kept and t.group == name)
    once = seen()
    prune_to_latency(graph, 0.95 * before, macs, saliency="fisher", evidence=Evidence(once))
    assert once.times == 1, "for a little no second look"


@pytest.mark.parametrize("ms", [0, -1.0, math.nan, math.inf])
def test_latencies_that_make_no_sense(ms: float) -> None:
    graph = trace(network(), X)
    with pytest.raises(InputError, match="above 0"):
        prune_to_latency(graph, ms, timed(graph, in_vectors))
    with pytest.raises(InputError, match="no criterion 'l3'"):
        prune_to_latency(graph, 1.0, timed(graph, in_vectors), saliency="l3")
