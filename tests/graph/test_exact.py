"""Every cut is exact: what is sliced computes what the masked original does. The mask shares no code with slicing."""

from __future__ import annotations

import copy
import io
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from graph.nets import NETS, example
from sartor.graph import Graph, trace

TOLERANCE = 1e-5
"""Of the output's scale."""
ONLY_AS_GRAPHS = {
    "torch's attention",
    "transformer layer",
    "split in halves",
    "channel shuffle",
    "grouped queries",
    "einsum",
}
"""Networks whose code has a size no attribute holds: their cut is the captured graph."""


def stirred(net: nn.Module) -> nn.Module:
    """No parameter or statistic left constant: a cut of zeros would be exact by chance."""
    generator = torch.Generator().manual_seed(1)
    for name, tensor in [*net.named_parameters(), *net.named_buffers()]:
        if tensor.is_floating_point() and tensor.numel() > 1 and bool((tensor == tensor.flatten()[0]).all()):
            noise = torch.rand(tensor.shape, generator=generator)
            tensor.data.copy_(noise + 0.5 if name.endswith(("weight", "var")) else noise - 0.5)
    return net.eval()


def built(name: str) -> tuple[nn.Module, tuple[Tensor, ...], Graph]:
    torch.manual_seed(0)
    net, inputs = NETS[name]()
    x = example(inputs)
    return stirred(net), x, trace(net, x)


def error(found: Tensor, expected: Tensor) -> float:
    assert found.shape == expected.shape
    return float((found - expected).abs().max() / expected.abs().max())


@pytest.mark.parametrize("name", NETS)
def test_sliced_is_masked(name: str) -> None:
    net, x, graph = built(name)
    with torch.no_grad():
        whole = net(*x)
        assert error(graph.mask({})(*x), whole) < TOLERANCE, "a mask of nothing changes nothing"
        for seed, keep in enumerate((0.5, 0.3, 0.8)):
            cut = graph.random_cut(keep, seed)
            small, masked = graph.slice(cut), graph.mask(cut)
            assert error(small.eval()(*x), masked(*x)) < TOLERANCE
            y = tuple(torch.randn_like(t) if t.is_floating_point() else t for t in x)
            assert error(small(*y), masked(*y)) < TOLERANCE, "on other inputs too"
            assert name in ONLY_AS_GRAPHS or not isinstance(small, torch.fx.GraphModule)
        assert error(net(*x), whole) == 0, "the original is left alone"
    assert not graph.frozen


@pytest.mark.parametrize("name", NETS)
def test_a_cut_matters(name: str) -> None:
    """Something can be cut of every network, the cut is felt, and it makes the network smaller."""
    net, x, graph = built(name)
    assert graph.groups
    cut = graph.random_cut(0.5)
    with torch.no_grad():
        assert error(graph.mask(cut)(*x), net(*x)) > 1e-3
    small = graph.slice(cut)
    assert sum(p.numel() for p in small.parameters()) < sum(p.numel() for p in net.parameters())


@pytest.mark.parametrize("name", [name for name in NETS if name not in ONLY_AS_GRAPHS])
def test_an_ordinary_module_comes_out(name: str) -> None:
    """The same classes, without a trace of the tool; trains, saves, and loads into a copy."""
    net, x, graph = built(name)
    small = graph.slice(graph.random_cut(0.5))
    assert [type(m) for m in small.modules()] == [type(m) for m in net.modules()]
    assert set(small.state_dict()) == set(net.state_dict())
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in small.modules())
    assert {n: p.requires_grad for n, p in small.named_parameters()} == {
        n: p.requires_grad for n, p in net.named_parameters()
    }
    small.train()(*x).square().mean().backward()
    buffer = io.BytesIO()
    torch.save(small.state_dict(), buffer)
    twin = copy.deepcopy(small)
    buffer.seek(0)
    twin.load_state_dict(torch.load(buffer, weights_only=True))
    with torch.no_grad():
        assert error(twin.eval()(*x), small.eval()(*x)) == 0


@pytest.mark.parametrize("name", ["residual", "grouped", "attention", "grouped queries", "lstm", "channel shuffle"])
def test_one_entry_at_a_time(name: str) -> None:
    """The groups are as fine as they say: each entry of each group can be cut alone, exactly."""
    _, x, graph = built(name)
    for group in graph.groups:
        for entry in range(min(group.size, 3)):
            cut = {group.name: [i for i in range(group.size) if i != entry]}
            with torch.no_grad():
                assert error(graph.slice(cut).eval()(*x), graph.mask(cut)(*x)) < TOLERANCE


@pytest.mark.parametrize("name", sorted(ONLY_AS_GRAPHS))
def test_a_graph_takes_any_number_of_rows(name: str) -> None:
    """Where the original does: rows of a larger batch come out as they do alone."""
    _, x, graph = built(name)
    small = graph.slice(graph.random_cut(0.5)).eval()
    rows = tuple(torch.cat([t, t.flip(0), t[:1]]) for t in x)
    with torch.no_grad():
        alone, together = small(*x), small(*rows)
        assert error(together[: len(alone)], alone) < TOLERANCE
        assert error(together[-1:], alone[:1]) < TOLERANCE


def sizes(graph: Graph) -> dict[str, tuple[int, int]]:
    return {group.name: (group.size, group.granularity) for group in graph.groups}


def test_groups_of_a_residual_block() -> None:
    """The stream is one group of every tensor that reads or writes it, the inside of the branch another."""
    _, _, graph = built("residual")
    assert sizes(graph) == {"stem": (12, 1), "a": (20, 1)}
    stream = {(tie.tensor, tie.dim) for tie in graph.group("stem").ties}
    written = {("stem.weight", 0), ("stem.bias", 0), ("b.weight", 0), ("b.bias", 0)}
    assert stream == written | {("a.weight", 1), ("head.2.weight", 1)}
    inside = {(tie.tensor, tie.dim) for tie in graph.group("a").ties}
    norm = {(f"norm.{n}", 0) for n in ("weight", "bias", "running_mean", "running_var")}
    assert inside == {("a.weight", 0), ("a.bias", 0), ("b.weight", 1)} | norm


def test_groups_of_attention() -> None:
    """Heads go whole, with their part of q, k and v; channels of a head stay where the scale follows them."""
    _, _, graph = built("attention")
    assert sizes(graph) == {"embed": (16, 1), "attention.qkv": (4, 12)}
    _, _, graph = built("attention by products")
    assert sizes(graph) == {"embed": (16, 1), "attention.qkv": (4, 12), "attention.qkv/2": (4, 12)}
    _, _, graph = built("grouped queries")
    heads = graph.group("q")
    assert (heads.size, heads.granularity) == (3, 8), "two heads of queries go with one of keys"
    assert {(t.tensor, t.dim): t.entries for t in heads.ties}["k.weight", 0] == 4


def test_groups_of_a_grouped_convolution() -> None:
    _, _, graph = built("grouped")
    assert (4, 4) in {(g.size, g.granularity) for g in graph.groups}, "four whole groups"
    small: Any = graph.slice({g.name: range(2) for g in graph.groups if g.name.startswith("a")})
    assert small.b.groups in (2, 4)
    assert small.b.weight.shape[1] * small.b.groups == small.b.in_channels == small.a.out_channels


def test_attributes_are_put_right() -> None:
    _, _, graph = built("attention")
    small: Any = graph.slice({"attention.qkv": [0, 3]})
    attention = small.attention
    assert (attention.num_heads, attention.head_dim, attention.attn_dim) == (2, 4, 8)
    assert (attention.qkv.out_features, attention.proj.in_features) == (24, 8)
    _, _, graph = built("layer norm over channels")
    small = graph.slice({"a": range(5)})
    assert small.norm.normalized_shape == (5,)
    _, _, graph = built("lstm")
    small = graph.slice(graph.random_cut(0.5))
    assert small.rnn.hidden_size == small.fc.in_features == 4


def test_tied_weights_stay_tied() -> None:
    """An output layer that reads the embedding's own table keeps reading it."""
    _, _, graph = built("tied embedding")
    small: Any = graph.slice(graph.random_cut(0.5))
    assert small.words.weight.shape == (10, 6)
    assert graph.groups[0].size == 12


class Shuffled(nn.Module):
    """Its code has the number of channels in it, and its branch starts at zero."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.branch = nn.Conv2d(3, 8, 3), nn.Conv2d(8, 8, 1)
        self.head = nn.Linear(8, 2)
        nn.init.zeros_(self.branch.weight)
        nn.init.zeros_(self.branch.bias)

    def forward(self, x: Tensor) -> Tensor:
        y = self.stem(x)
        parts = self.branch(y)[:, :4], self.branch(y)[:, 4:]
        return self.head((y + torch.cat(parts[::-1], 1)).mean((2, 3)))


def test_what_is_zero_hides_nothing() -> None:
    """The classes' code is checked with weights that show what it does, and not with those of a branch of zeros."""
    torch.manual_seed(0)
    net, x = Shuffled().eval(), torch.randn(2, 3, 6, 6)
    graph = trace(net, x)
    cut = graph.random_cut(0.5)
    small = graph.slice(cut)
    with torch.no_grad():
        torch.testing.assert_close(small(x), graph.mask(cut)(x))
        for module in (net, small):
            for name, parameter in module.named_parameters():
                if "branch" in name:
                    parameter.copy_(torch.arange(parameter.numel()).reshape(parameter.shape) % 5 / 5.0)
        whole = dict(net.named_parameters())
        for name, parameter in small.named_parameters():  # what training may make of it
            if "branch" in name:
                indices = graph.indices(cut)[name]
                data = whole[name]
                for dim, index in enumerate(indices):
                    data = data if index is None else data.index_select(dim, index)
                parameter.copy_(data)
        torch.testing.assert_close(small(x), trace(net, x).mask(cut)(x))
