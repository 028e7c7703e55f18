"""What was once wrong, or could have been: one small network for each, cut and held against its mask."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sartor.compress.prune import prune
from sartor.errors import InputError
from sartor.graph import trace
from sartor.graph.sliced import agree
from sartor.models.elastic import elastify


class Net(nn.Module):
    """Layers by name, and a function of them."""

    def __init__(self, run: Callable[[Any, Tensor], Any], **parts: Any):
        super().__init__()
        self.run = run
        for name, part in parts.items():
            if isinstance(part, Tensor) and not isinstance(part, nn.Parameter):
                self.register_buffer(name, part)
            else:
                setattr(self, name, part)

    def forward(self, x: Tensor) -> Any:
        return self.run(self, x)


def held(net: nn.Module, x: Tensor, keep: dict[str, list[int]]) -> None:
    """Slice and mask of one cut agree."""
    graph = trace(net.eval(), x)
    small = graph.slice(keep)
    with torch.no_grad():
        torch.testing.assert_close(small(x), graph.mask(keep)(x), atol=1e-5, rtol=1e-4)


IMAGES = torch.randn(2, 3, 6, 6, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize(
    "part",
    [lambda y: y[:, -3:], lambda y: y[:, :-2], lambda y: y.narrow(1, -3, 3), lambda y: y[:, 2:-1], lambda y: y[:, -1]],
    ids=["from the end", "to the end", "narrow", "both", "select"],
)
@pytest.mark.parametrize("gone", [0, 3, 6, 7])
def test_bounds_from_the_end(part: Any, gone: int) -> None:
    """A bound that counts from the end moves with what is cut on either side of it."""
    torch.manual_seed(0)
    net = Net(
        lambda m, x: m.head(part(m.a(x)).reshape(len(x), -1, 36).mean(1)), a=nn.Conv2d(3, 8, 1), head=nn.Linear(36, 2)
    )
    for group in trace(net.eval(), IMAGES).groups:
        held(net, IMAGES, {group.name: [i for i in range(group.size) if i != min(gone, group.size - 1)]})


def test_what_the_graph_does_not_read_stays() -> None:
    """Heads for training only, and positions beyond the example's."""
    aux = Net(
        lambda m, x: (m.b(m.a(x)), m.aux(x)) if m.training else m.b(m.a(x)),
        a=nn.Linear(4, 8), b=nn.Linear(8, 2), aux=nn.Linear(4, 16),
    )  # fmt: skip
    graph = trace(aux.eval(), torch.randn(2, 4))
    assert [group.name for group in graph.groups] == ["a"]
    assert any("not read" in why for why in graph.why_kept("aux.weight"))
    table = Net(
        lambda m, x: m.head(m.a(x) + m.position[:, : x.shape[1]]),
        a=nn.Linear(4, 8), head=nn.Linear(8, 2), position=nn.Parameter(torch.randn(1, 20, 8)),
    )  # fmt: skip
    graph = trace(table.eval(), torch.randn(2, 5, 4))
    assert [(group.name, group.size) for group in graph.groups] == [("a", 8)]
    small = graph.slice(graph.random_cut(0.5))
    assert small.position.shape == (1, 20, 4)
    assert small(torch.randn(2, 12, 4)).shape == (2, 12, 2), "longer inputs than the example's"


def test_heads_folded_into_the_batch_of_a_grid() -> None:
    torch.manual_seed(0)

    def run(m: Any, x: Tensor) -> Tensor:
        n = len(x)
        values = m.v(x).reshape(n * 4, 3, 6, 6)
        points = m.off(x.mean((2, 3))).reshape(n * 4, 5, 1, 2).tanh()
        return m.head(F.grid_sample(values, points, align_corners=False).reshape(n, 4, -1).sum(1))

    net = Net(run, v=nn.Conv2d(3, 12, 1), off=nn.Linear(3, 40), head=nn.Linear(15, 2))
    graph = trace(net.eval(), IMAGES)
    for group in graph.groups:
        held(net, IMAGES, {group.name: list(range(group.size))[1:]})
    heads = [{tie.tensor for tie in group.ties} for group in graph.groups if group.size == 4]
    assert any({"v.weight", "off.weight"} <= tensors for tensors in heads)


def test_outputs_are_compared_whatever_they_are() -> None:
    one = torch.tensor
    assert agree([one([1, 2])], [one([1, 2])])
    assert not agree([one([1, 2])], [one([2, 1])])
    assert not agree([one([True])], [one([False])])
    assert agree([one([1.0, -torch.inf])], [one([1.0, -torch.inf])])
    assert not agree([one([1.0, -torch.inf])], [one([-torch.inf, 1.0])])
    assert not agree([one([1.0, torch.nan])], [one([1.0, torch.inf])])
    assert not agree([one([1 + 1j])], [one([1 - 1j])])
    assert not agree([one([1.0])], [one([1])])


class Swapped(nn.Module):
    """Its code has the number of channels in it, in a branch behind a gate."""

    def __init__(self, gate: Tensor):
        super().__init__()
        self.stem, self.head, self.gate = nn.Conv2d(3, 8, 1), nn.Linear(8, 2), nn.Parameter(gate)

    def forward(self, x: Tensor) -> Tensor:
        y = self.stem(x)
        return self.head((y + self.gate * torch.cat((y[:, 4:], y[:, :4]), 1)).mean((2, 3)))


@pytest.mark.parametrize(
    "gate", [torch.zeros(()), torch.zeros(1), torch.full((1,), 1e-7), torch.rand(1, 8, 1, 1) * 1e-6]
)
def test_gates_hide_nothing(gate: Tensor) -> None:
    torch.manual_seed(0)
    net = Swapped(gate.clone())
    graph = trace(net.eval(), IMAGES)
    small = graph.slice(graph.random_cut(0.5))
    assert isinstance(small, torch.fx.GraphModule), "the class would swap other channels as soon as the gate opens"


def test_operators_that_return_nothing() -> None:
    @torch.library.custom_op("sartor_tests::flip_into", mutates_args=("out",))
    def flip_into(x: Tensor, out: Tensor) -> None:
        out.copy_(x.flip(1))

    def run(m: Any, x: Tensor) -> Tensor:
        y = m.a(x)
        out = torch.empty_like(y)
        flip_into(y, out)
        return m.b(out).mean((2, 3))

    graph = trace(Net(run, a=nn.Conv2d(3, 8, 1), b=nn.Conv2d(8, 2, 1)).eval(), IMAGES)
    assert not graph.groups
    assert any("flip_into" in frozen.operator for frozen in graph.frozen)


def test_channels_read_by_a_table() -> None:
    torch.manual_seed(0)
    net = Net(
        lambda m, x: m.b(torch.index_select(m.a(x), 1, m.table)).mean((2, 3)),
        a=nn.Conv2d(3, 8, 1), b=nn.Conv2d(8, 2, 1), table=torch.randperm(8),
    )  # fmt: skip
    graph = trace(net.eval(), IMAGES)
    for group in graph.groups:
        held(net, IMAGES, {group.name: list(range(group.size))[::2]})


class Tuple(nn.Module):
    def __init__(self, extra: bool):
        super().__init__()
        self.f, self.extra = nn.Linear(8, 8), extra

    def forward(self, x: Tensor, scale: float = 1.0) -> Any:
        return x + self.f(x) * scale if self.extra else (x + self.f(x),)


@pytest.mark.parametrize("extra", [False, True])
def test_blocks_an_identity_cannot_stand_for(extra: bool) -> None:
    run = lambda m, x: m.head(m.block(m.a(x), 0.5) if extra else m.block(m.a(x))[0])
    net = Net(run, a=nn.Linear(4, 8), block=Tuple(extra), head=nn.Linear(8, 2))
    supernet = elastify(net.eval(), torch.randn(2, 4))
    assert not [choice.name for choice in supernet.space.choices if choice.name.endswith(".depth")]


def test_blocks_of_a_network_that_is_cut_as_a_graph() -> None:
    net = nn.TransformerEncoder(nn.TransformerEncoderLayer(8, 2, 16, batch_first=True), 2, enable_nested_tensor=False)
    supernet = elastify(net.eval(), torch.randn(2, 5, 8))
    small = supernet.space.smallest()
    x = torch.randn(2, 5, 8)
    with torch.no_grad():
        torch.testing.assert_close(supernet(x, small), supernet.extract(small)(x))


def test_tied_layers_of_an_elastic_network() -> None:
    torch.manual_seed(0)
    words, head = nn.Embedding(10, 12), nn.Linear(12, 10, bias=False)
    head.weight = words.weight
    net = Net(lambda m, x: m.head(m.fc(m.words(x)).relu()), words=words, fc=nn.Linear(12, 12), head=head)
    supernet = elastify(net.eval(), torch.tensor([[1, 2, 3]]))
    arch = supernet.space.smallest()
    x = torch.tensor([[4, 5]])
    small = supernet.extract(arch)
    with torch.no_grad():
        torch.testing.assert_close(supernet(x, arch), small(x))
    assert small.head.weight is small.words.weight


def test_weights_that_came_after_the_trace() -> None:
    torch.manual_seed(0)
    make = lambda: nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2)).eval()
    net, other, x = make(), make(), torch.randn(3, 4)
    graph = trace(net, x)
    net.load_state_dict(other.state_dict(), assign=True)
    keep = {"0": [0, 2, 5]}
    with torch.no_grad():
        expected = trace(other, x).slice(keep)(x)
        torch.testing.assert_close(graph.slice(keep)(x), expected)
        torch.testing.assert_close(graph.mask(keep)(x), expected)
    net[0].weight = nn.Parameter(torch.randn(9, 4))
    with pytest.raises(InputError, match="trace it again"):
        graph.slice(keep)


def test_cuts_that_leave_nothing_of_a_part() -> None:
    net = Net(
        lambda m, x: m.head(torch.stack([part.mean((1, 2, 3)) for part in m.a(x).chunk(2, 1)], 1)),
        a=nn.Conv2d(3, 8, 1), head=nn.Linear(2, 2),
    )  # fmt: skip
    graph = trace(net.eval(), IMAGES)
    (name,) = {group.name for group in graph.groups if group.size == 8} or {graph.groups[0].name}
    size = graph.group(name).size
    if size == 8:
        for method in (graph.slice, graph.mask):
            with pytest.raises(InputError, match="leaves nothing"):
                method({name: [4, 5, 6, 7]})
    else:
        held(net, IMAGES, {group.name: [0] for group in graph.groups})


def test_one_entry_where_the_code_squeezes() -> None:
    net = Net(
        lambda m, x: m.head(m.a(x).mean((2, 3), keepdim=True).squeeze()), a=nn.Conv2d(3, 4, 1), head=nn.Linear(4, 2)
    )
    graph = trace(net.eval(), IMAGES)
    held(net, IMAGES, {"a": [1, 3]})
    with pytest.raises(InputError, match="leaves fewer than two entries"):
        graph.slice({"a": [1]})


def test_states_of_recurrent_layers_keep_their_layers() -> None:
    torch.manual_seed(0)
    net = Net(
        lambda m, x: m.head(m.rnn(x, m.start.expand(-1, len(x), -1).contiguous())[0]),
        rnn=nn.GRU(4, 6, num_layers=2, batch_first=True), head=nn.Linear(6, 2),
        start=nn.Parameter(torch.randn(2, 1, 6)),
    )  # fmt: skip
    x = torch.randn(3, 5, 4)
    graph = trace(net.eval(), x)
    assert all(group.size == 6 for group in graph.groups)
    held(net, x, graph.random_cut(0.5).to_dict())


def test_causal_attention_tells_tokens_by_their_number() -> None:
    torch.manual_seed(0)

    def run(m: Any, x: Tensor) -> Tensor:
        tokens = m.mix(x.transpose(1, 2)).transpose(1, 2)
        return m.head(F.scaled_dot_product_attention(tokens, x, x, is_causal=True)).mean(1)

    net = Net(run, mix=nn.Linear(6, 6), head=nn.Linear(4, 2))
    x = torch.randn(2, 6, 4)
    for group in trace(net.eval(), x).groups:
        held(net, x, {group.name: list(range(group.size))[1:]})


def test_layers_of_a_graph_train_as_they_did() -> None:
    """Dropout of every kind, and batch norms without weights or with a cumulative average."""
    torch.manual_seed(0)
    parts = {
        "a": nn.Conv2d(3, 8, 1),
        "plain": nn.BatchNorm2d(8, affine=False),
        "average": nn.BatchNorm2d(8, momentum=None),
        "drop": nn.Dropout2d(0.5),
        "last": nn.Dropout(0.5, inplace=True),
        "head": nn.Linear(8, 2),
    }

    def run(m: Any, x: Tensor) -> Tensor:
        y = m.drop(m.average(m.plain(m.a(x))))
        y = torch.cat((y[:, 4:], y[:, :4]), 1)  # what no attribute holds
        return m.head(m.last(y.mean((2, 3))))

    net = Net(run, **parts)
    small = trace(net.eval(), IMAGES).slice({"a": [0, 1, 2, 5, 6]})
    assert isinstance(small, torch.fx.GraphModule)
    kinds = [type(module) for module in small.modules()]
    assert kinds.count(nn.BatchNorm2d) == 2
    assert nn.Dropout2d in kinds
    assert nn.Dropout in kinds
    norms = [module for module in small.modules() if isinstance(module, nn.BatchNorm2d)]
    assert {norm.momentum for norm in norms} == {0.1, None}
    small.train()
    before = [norm.running_mean.clone() for norm in norms]
    assert not torch.equal(small(IMAGES), small(IMAGES))
    assert all(not torch.equal(norm.running_mean, mean) for norm, mean in zip(norms, before, strict=True))
    assert all(not torch.equal(a, b) for a, b in zip(before, [n.running_mean for n in norms], strict=True))


def test_flat_tensors_under_two_names() -> None:
    norm = nn.LayerNorm(8)
    net = Net(
        lambda m, x: m.head(m.two(m.b(m.one(m.a(x))))),
        a=nn.Linear(4, 8),
        b=nn.Linear(8, 8),
        one=norm,
        two=norm,
        head=nn.Linear(8, 2),
    )
    x = torch.randn(3, 4)
    graph = trace(net.eval(), x)
    small = graph.slice(graph.random_cut(0.5))
    assert not isinstance(small, torch.fx.GraphModule)
    assert small.one is small.two


@pytest.mark.parametrize(
    "count",
    [
        lambda h: (h > 0).sum(1).float(),
        lambda h: (h > 0.5).any(1).float(),
        lambda h: torch.stack(torch.aminmax(h.abs() + 1, dim=1)).sum(0),
    ],
    ids=["sum of booleans", "any", "aminmax"],
)
def test_counts_over_a_cut_dimension(count: Any) -> None:
    torch.manual_seed(0)
    net = Net(lambda m, x: m.head(count(m.a(x)).flatten(1)), a=nn.Conv2d(3, 8, 1), head=nn.Linear(36, 2))
    held(net, IMAGES, {"a": [0, 3, 4]})


def test_group_norm_over_positions_that_are_cut() -> None:
    torch.manual_seed(0)
    net = Net(
        lambda m, x: m.head(m.norm(m.a(x)).mean(2)), a=nn.Linear(5, 10), norm=nn.GroupNorm(2, 4), head=nn.Linear(4, 2)
    )
    x = torch.randn(3, 4, 5)
    graph = trace(net.eval(), x)
    for group in graph.groups:
        held(net, x, {group.name: list(range(group.size))[1:]})


def half_read() -> tuple[nn.Module, Tensor]:
    """A network whose code reads the first two channels on their own."""
    torch.manual_seed(0)

    def run(net: Any, x: Tensor) -> Tensor:
        y = net.a(x).relu()
        return net.c(y * y[:, :2].amax(1, keepdim=True)).mean((2, 3))

    return Net(run, a=nn.Conv2d(3, 8, 1), c=nn.Conv2d(8, 5, 1)).eval(), torch.randn(2, 3, 4, 4)


def test_a_slice_of_which_nothing_would_be_left() -> None:
    """Given by hand, it is refused; what Sartor chooses is completed, by the order it chose by."""
    net, x = half_read()
    graph = trace(net, x)
    with pytest.raises(InputError, match="leaves nothing of what amax takes"):
        graph.slice({"a": [5, 6]})
    assert graph.completed({"a": [5, 6]}).keep["a"] == (0, 5, 6)
    assert graph.completed({"a": [5, 6]}, {"a": [7, 6, 5, 4, 3, 2, 1, 0]}).keep["a"] == (1, 5, 6)
    assert graph.completed({"a": [1, 6]}).keep["a"] == (1, 6), "nothing was missing"
    with torch.no_grad():
        for seed in range(20):
            cut = graph.random_cut(0.25, seed)
            torch.testing.assert_close(graph.slice(cut)(x), graph.mask(cut)(x))
        net.a.weight[:2] = net.a.bias[:2] = 0  # the least important are the ones that must stay
    small = prune(net, x, params=0.3, least=0)
    assert sum(p.numel() for p in small.parameters()) <= 0.3 * graph.params()
    supernet = elastify(net, x, widths=(0.25, 1.0))
    smallest = supernet.space.smallest()
    torch.testing.assert_close(supernet(x, smallest), supernet.extract(smallest)(x))


class NormAndAct(nn.BatchNorm2d):
    """As timm's BatchNormAct2d: more than a batch norm, in a class that is one."""

    def forward(self, x: Tensor) -> Tensor:
        return F.silu(super().forward(x))


class NormOfOwn(nn.modules.batchnorm._BatchNorm):
    def _check_input_dim(self, input: Tensor) -> None: ...


@pytest.mark.parametrize("kind", [NormAndAct, NormOfOwn, nn.BatchNorm2d])
def test_a_norm_that_does_more_does_it_once(kind: Callable[[int], nn.Module]) -> None:
    torch.manual_seed(0)

    def run(m: Any, x: Tensor) -> Tensor:
        y = m.norm(m.a(x))
        y = torch.cat((y[:, 4:], y[:, :4]), 1)  # what no attribute holds
        return m.head(y.mean((2, 3)))

    net = Net(run, a=nn.Conv2d(3, 8, 1), norm=kind(8), head=nn.Linear(8, 2))
    if kind is nn.BatchNorm2d:
        net.norm.register_forward_hook(lambda m, x, y: y.sin())
    assert isinstance(trace(net.eval(), IMAGES).slice({"a": [0, 1, 2, 5, 6]}), torch.fx.GraphModule)
    held(net, IMAGES, {"a": [0, 1, 2, 5, 6]})
