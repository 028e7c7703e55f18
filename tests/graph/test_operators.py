"""Operators of other people's networks: each in a small one, that is cut exactly and of which nothing is unknown."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils import parametrizations

from graph.nets import Net
from graph.test_exact import error, stirred
from sartor.graph import trace

ROWS, IMAGES = (3, 8), (2, 3, 6, 6)
SEQUENCE = (2, 4, 8)
AT = torch.tensor([3, 0, 3, 1])


def between(run: Callable[[Any, Tensor], Tensor], out: int, shape: Any = ROWS, **parts: Any) -> tuple[nn.Module, Any]:
    """A layer of twelve channels, ``run``, and a layer."""
    first = nn.Conv2d(3, 12, 1) if len(shape) == 4 else nn.Linear(8, 12)
    return Net(lambda m, x: m.last(run(m, m.first(x))), first=first, last=nn.Linear(out, 2), **parts), shape


def stepped(kind: type[nn.RNNCellBase]) -> tuple[nn.Module, Any]:
    def run(m: Any, x: Tensor) -> Tensor:
        state = None
        for step in x.unbind(1):
            state = m.cell(step, state)
        return state[0] if isinstance(state, tuple) else state

    return between(run, 6, SEQUENCE, cell=kind(12, 6))


def older_weight_norm() -> tuple[nn.Module, Any]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        layer = nn.utils.weight_norm(nn.Linear(12, 10))
    return between(lambda m, x: m.layer(x), 10, layer=layer)


def rotated(m: Any, x: Tensor) -> Tensor:
    """Pairs of channels as complex numbers, turned by an angle a pair."""
    q, k = m.q(x).unflatten(-1, (3, 4)), m.k(x).unflatten(-1, (3, 4))
    turn = torch.polar(torch.ones(4, 1, 2), torch.arange(8.0).view(4, 1, 2))
    q, k = (torch.view_as_real(torch.view_as_complex(t.unflatten(-1, (2, 2))) * turn).flatten(-2) for t in (q, k))
    return torch.einsum("nqhd,nkhd->nqkh", q, k).sum(2)


def mixed(m: Any, x: Tensor) -> Tensor:
    return torch.fft.irfft(torch.fft.rfft(x, dim=1) * torch.view_as_complex(m.filter), n=4, dim=1)


def placed(m: Any, x: Tensor) -> Tensor:
    out = torch.zeros_like(x)
    out[:, AT[1:]] = x[:, :3]
    out[x.mean(-1) > 0] = 0.5
    return out


def counted(m: Any, x: Tensor) -> Tensor:
    at = AT[:3, None].expand(-1, x.shape[1])
    sums = torch.zeros(5, x.shape[1]).scatter_add(0, at, x)
    return sums.scatter_reduce(0, at, x.tanh(), "amax").index_add(0, AT[:3], x).index_fill(0, AT[3:], 0.25)


def windows(m: Any, x: Tensor) -> Tensor:
    pooled, at = F.max_pool2d(x, 2, return_indices=True)
    return F.max_unpool2d(pooled.relu(), at, 2).mean((2, 3))


NETS: dict[str, Callable[[], tuple[nn.Module, Any]]] = {
    "lstm cell": lambda: stepped(nn.LSTMCell),
    "gru cell": lambda: stepped(nn.GRUCell),
    "rnn cell": lambda: stepped(nn.RNNCell),
    "lstm with projections": lambda: between(
        lambda m, x: m.rnn(x)[0], 10, SEQUENCE,
        rnn=nn.LSTM(12, 7, num_layers=2, bidirectional=True, proj_size=5, batch_first=True),
    ),
    "weight norm": lambda: between(lambda m, x: m.layer(x), 10, layer=parametrizations.weight_norm(nn.Linear(12, 10))),
    "older weight norm": older_weight_norm,
    "spectral norm": lambda: between(
        lambda m, x: m.layer(x), 10, layer=parametrizations.spectral_norm(nn.Linear(12, 10))
    ),
    "complex rotations": lambda: between(rotated, 3, SEQUENCE, q=nn.Linear(12, 12), k=nn.Linear(12, 12)),
    "filters of frequencies": lambda: between(mixed, 12, SEQUENCE, filter=nn.Parameter(torch.randn(3, 12, 2))),
    "assigned by index and mask": lambda: between(placed, 12, SEQUENCE),
    "scattered": lambda: between(counted, 12),
    "unpooled": lambda: between(windows, 12, IMAGES),
    "bags": lambda: (
        Net(lambda m, x: m.last(m.bag(x)), bag=nn.EmbeddingBag(9, 12, mode="mean"), last=nn.Linear(12, 2)),
        torch.tensor([[1, 2], [3, 8]]),
    ),
    "kron": lambda: between(
        lambda m, x: F.linear(x, torch.kron(m.a, m.b)), 10,
        a=nn.Parameter(torch.randn(2, 3)), b=nn.Parameter(torch.randn(5, 4)),
    ),
    "products": lambda: between(
        lambda m, x: torch.inner(torch.tensordot(x, m.a, ([1], [0])), m.b), 3,
        a=nn.Parameter(torch.randn(12, 6)), b=nn.Parameter(torch.randn(3, 6)),
    ),
    "distances": lambda: between(
        lambda m, x: torch.cdist(x, m.a) + F.cosine_similarity(x[:, None], m.a, dim=-1), 6,
        a=nn.Parameter(torch.randn(6, 12)),
    ),
    "diagonals": lambda: between(
        lambda m, x: (torch.diag_embed(x) @ m.a @ m.a.T).diagonal(dim1=1, dim2=2), 12,
        a=nn.Parameter(torch.randn(12, 6)),
    ),
    "largest and smallest": lambda: between(
        lambda m, x: torch.stack([x.max(1)[0], torch.min(x, 1).values], 1).flatten(1), 72, IMAGES
    ),
    "running largest": lambda: between(lambda m, x: x.cummax(1).values + x.cummin(1).values, 12, SEQUENCE),
    "every other channel": lambda: between(lambda m, x: x[:, ::2] * x[:, 1::2].sigmoid(), 6),
    "repeats of a given size": lambda: between(
        lambda m, x: m.a(x) * x.repeat_interleave(2, 1, output_size=24), 24, a=nn.Linear(12, 24)
    ),
    "differences": lambda: between(lambda m, x: x.diff(dim=1, prepend=x[:, :1]), 12, SEQUENCE),
    "torch's decoder with a mask": lambda: between(
        lambda m, x: m.layers(x, x, tgt_mask=nn.Transformer.generate_square_subsequent_mask(4)), 12, SEQUENCE,
        layers=nn.TransformerDecoder(nn.TransformerDecoderLayer(12, 2, 10, batch_first=True), 1),
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", NETS)
def test_cut_exactly(name: str) -> None:
    torch.manual_seed(0)
    net, inputs = NETS[name]()
    x = torch.randn(inputs) if isinstance(inputs, tuple) else inputs
    graph = trace(stirred(net), x)
    assert not graph.frozen
    tied = {tie.tensor.split(".")[0] for group in graph.groups for tie in group.ties}
    assert tied - {"last"}, "more than its last layer"
    cut = graph.random_cut(0.4)
    small, masked = graph.slice(cut), graph.mask(cut)
    other = torch.randn_like(x) if x.is_floating_point() else x
    with torch.no_grad():
        assert error(small.eval()(x), masked(x)) < 1e-5
        assert error(small(other), masked(other)) < 1e-5
        assert error(masked(x), net(x)) > 1e-3, "the cut is felt"
    assert sum(p.numel() for p in small.parameters()) < sum(p.numel() for p in net.parameters())


def test_sizes_of_recurrent_layers() -> None:
    net, shape = NETS["lstm with projections"]()
    small: Any = trace(stirred(net), torch.randn(shape)).slice({"rnn": [0, 2, 4]})
    assert (small.rnn.hidden_size, small.rnn.proj_size, small.rnn.weight_hr_l0.shape) == (7, 3, (3, 7))
    net, shape = NETS["gru cell"]()
    small = trace(stirred(net), torch.randn(shape)).slice({"cell": [0, 3]})
    assert (small.cell.hidden_size, small.cell.weight_hh.shape) == (2, (6, 2))


def test_older_weight_norm_is_computed_anew() -> None:
    net, shape = NETS["older weight norm"]()
    small: Any = trace(stirred(net), torch.randn(shape)).slice({"layer": [0, 3, 4]})
    assert small.layer.weight.shape == (3, 12)
    assert small.layer.out_features == 3
    small(torch.randn(shape)).sum().backward()
    assert small.layer.weight_v.grad is not None


def test_where_a_largest_value_was_is_an_answer() -> None:
    """Its place among the channels is told by their number: where that is read, they stay."""
    net = Net(
        lambda m, x: m.b(x.max(1).values[:, None] + m.a(x).max(1).indices[:, None]),
        a=nn.Linear(8, 12),
        b=nn.Linear(1, 2),
    )
    assert not trace(net.eval(), torch.randn(ROWS)).groups


class Scaled(nn.Module):
    """Its scale is in its code, and its size in its attribute."""

    def __init__(self) -> None:
        super().__init__()
        self.size = 8
        self.q, self.k, self.v = (nn.Linear(32, 32) for _ in range(3))

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = (layer(x).unflatten(-1, (-1, self.size)).transpose(1, 2) for layer in (self.q, self.k, self.v))
        return ((q @ k.transpose(-2, -1) / self.size**0.5).softmax(-1) @ v).transpose(1, 2).flatten(2)


def test_faint_weights_hide_no_scale() -> None:
    """Of a fresh transformer every softmax is flat, whatever is divided by: the class, whose scale would follow the
    cut, must not pass for the graph, whose scale is the original's."""
    torch.manual_seed(0)
    net = Net(lambda m, x: m.last(m.layer(x)).mean(1), layer=Scaled(), last=nn.Linear(32, 2)).eval()
    for parameter in net.layer.parameters():
        nn.init.normal_(parameter, std=0.02)
    x = torch.randn(2, 5, 32)
    graph = trace(net, x)
    cut = {group.name: range(4) for group in graph.groups if group.size == 8}
    assert len(cut) == 2, "channels of heads: those of q and k, and those of v"
    small, masked = graph.slice(cut), graph.mask(cut)
    with torch.no_grad():
        for parameter, own in zip(small.parameters(), net.parameters(), strict=True):
            assert parameter.ndim == own.ndim
        assert error(small(x), masked(x)) < 1e-6
        assert error(small(30 * x), masked(30 * x)) < 1e-5, "where scales are felt"


class Chosen(nn.Module):
    """Rows by a mask, as experts get their tokens: how many there are, the data say."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.middle, self.last = nn.Linear(8, 12), nn.Linear(12, 10), nn.Linear(10, 2)

    def forward(self, x: Tensor) -> Tensor:
        here = x[..., 0] > 0
        made = torch.zeros(*x.shape[:2], 10)
        made[here] = self.middle(self.first(x)[here]).relu()
        at = (x[..., 1] > 0).flatten().nonzero()[:, 0]
        return self.last(made.flatten(0, 1).index_add(0, at, self.middle(self.first(x).flatten(0, 1)[at])))


def test_sizes_that_depend_on_the_data() -> None:
    torch.manual_seed(0)
    net = stirred(Chosen())
    graph = trace(net, torch.randn(SEQUENCE))
    assert not graph.frozen
    assert {group.name: group.size for group in graph.groups} == {"first": 12, "middle": 10}
    small = graph.slice(cut := graph.random_cut(0.4))
    masked = graph.mask(cut)
    for _ in range(3):
        x = torch.randn(SEQUENCE)
        with torch.no_grad():
            assert error(small(x), masked(x)) < 1e-5
    x = -torch.rand(SEQUENCE)
    assert torch.equal(small(x), masked(x)), "where none is chosen, only biases speak"


def test_networks_that_draw_numbers_stay_their_own_class() -> None:
    net = Net(
        lambda m, x: m.last(m.mean(x) + torch.randn_like(m.mean(x)) * m.spread(x).exp()),
        mean=nn.Linear(8, 12), spread=nn.Linear(8, 12), last=nn.Linear(12, 2),
    )  # fmt: skip
    x, state = torch.randn(ROWS), torch.get_rng_state()
    small = trace(net.eval(), x).slice({"mean": range(5)})
    assert isinstance(small, Net)
    assert torch.equal(torch.get_rng_state(), state), "what is drawn next is what would have been"


class OneClassManyPlaces(nn.Module):
    """A layer of its own, as GPT-2's: it knows how many channels it makes. Those that read the heads make what those
    that make them read, so that one class has one number for what is cut and for what stays."""

    class Layer(nn.Module):
        def __init__(self, i: int, o: int):
            super().__init__()
            self.made, self.weight = o, nn.Parameter(torch.randn(i, o) / i**0.5)

        def forward(self, x: Tensor) -> Tensor:
            return (x.reshape(-1, x.shape[-1]) @ self.weight).view(*x.shape[:-1], self.made)

    def __init__(self) -> None:
        super().__init__()
        self.size = 16
        self.make, self.read = self.Layer(16, 48), self.Layer(16, 16)

    def forward(self, x: Tensor) -> Tensor:
        q, k, v = (part.unflatten(-1, (-1, 4)).transpose(1, 2) for part in self.make(x).split(self.size, 2))
        return self.read(((q @ k.mT).softmax(-1) @ v).transpose(1, 2).flatten(2))


def test_one_class_in_two_places() -> None:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(8, 16), OneClassManyPlaces(), nn.Linear(16, 2)).eval()
    graph = trace(net, torch.randn(SEQUENCE))
    heads = next(group for group in graph.groups if group.size == 4 and group.granularity == 4)
    small: Any = graph.slice({heads.name: [0, 3]})
    assert isinstance(small, nn.Sequential)
    assert (small[1].size, small[1].make.made, small[1].read.made) == (8, 24, 16)


@dataclass
class Said:
    scores: Tensor
    parts: list[Tensor]


class DynamicCache:
    """As transformers' own: what a decoder keeps for the next token."""

    def __init__(self, *kept: Tensor):
        self.kept = kept


DynamicCache.__module__ = "transformers.cache_utils"


def test_answers_of_other_kinds() -> None:
    """Dataclasses are looked into; a cache is no answer, and heads in it are free."""

    def run(m: Any, x: Tensor) -> tuple[Said, DynamicCache]:
        h = m.first(x)
        return Said(m.last(h), [m.other(h)]), DynamicCache(h)

    net = Net(run, first=nn.Linear(8, 12), last=nn.Linear(12, 2), other=nn.Linear(12, 3)).eval()
    x = torch.randn(ROWS)
    graph = trace(net, x)
    assert [group.size for group in graph.groups] == [12]
    said, cache = graph.slice({graph.groups[0].name: range(4)})(x)
    masked, nothing = graph.mask({graph.groups[0].name: range(4)})(x)
    assert nothing is None
    assert cache.kept[0].shape == (3, 4)
    assert error(said.scores, masked.scores) < 1e-6
    assert error(said.parts[0], masked.parts[0]) < 1e-6
    assert "forward" not in vars(net)
