"""Gates: their gradients are what single samples say, and a network with gates shut is as good as cut."""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from graph.test_exact import error, stirred
from graph.test_grow import Block, residual_net
from sartor.errors import InputError
from sartor.graph import Cut, Graph, trace
from sartor.graph.gates import gate_gradients, gated
from sartor.graph.saliency import Evidence, fisher, fishers

X = torch.randn(2, 3, 8, 8)


def classifier() -> nn.Module:
    """Residual blocks, batch norms and a group that several layers read."""
    torch.manual_seed(0)
    head = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 4))
    return stirred(nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), Block(8), Inner(8), head)).double()


class Inner(nn.Module):
    """A block with a group of its own."""

    def __init__(self, width: int):
        super().__init__()
        self.a, self.norm, self.b = nn.Conv2d(width, 12, 3, padding=1), nn.BatchNorm2d(12), nn.Conv2d(12, width, 1)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.b(self.norm(self.a(x)).relu())


def samples() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(3)
    return torch.randn(10, 3, 8, 8, generator=generator).double(), torch.randint(0, 4, (10,), generator=generator)


def test_the_fisher_is_that_of_single_samples() -> None:
    """Sample by sample, the gradient of the loss by the weights that read an entry, times these weights."""
    model = classifier()
    x, y = samples()
    graph = trace(model, X.double())
    found = fisher(graph, Evidence([(x[:6], y[:6]), (x[6:], y[6:])]))
    expected = {group.name: torch.zeros(group.size).double() for group in graph.groups}
    for i in range(len(x)):
        model.zero_grad()
        F.cross_entropy(model(x[i : i + 1]), y[i : i + 1]).backward()
        for group in graph.groups:
            change = torch.zeros(group.size).double()
            for tie, owner in graph.entries(group):
                weight = dict(model.named_parameters()).get(tie.tensor)
                if weight is not None and tie.dim == 1:
                    products = (weight * weight.grad).detach().movedim(1, 0).flatten(1).sum(1)
                    change.index_add_(0, torch.from_numpy(owner), products)
            expected[group.name] += change.square() / len(x)
    assert [group.name for group in graph.groups] == ["0", "3.a"]
    for name, scores in expected.items():
        torch.testing.assert_close(found[name], scores)


def test_a_blocks_gate_is_what_scaling_it_changes() -> None:
    model = classifier()
    x, y = samples()
    graph = trace(model, X.double())
    _, blocks = fishers(graph, Evidence([(x, y)]))
    assert set(blocks) == {"2", "3"}
    for path, score in blocks.items():

        def losses(scale: float, path: str = path) -> Tensor:
            hook = model.get_submodule(path).register_forward_hook(lambda _, a, out: a[0] + scale * (out - a[0]))
            with torch.no_grad():
                found = F.cross_entropy(model(x), y, reduction="none")
            hook.remove()
            return found

        slope = (losses(1 + 1e-5) - losses(1 - 1e-5)) / 2e-5
        assert score == pytest.approx(float(slope.square().mean()), rel=1e-5)


def test_shut_gates_are_a_cut() -> None:
    """Of entries and blocks, in the very numbers of the sliced network; afterwards all is as it was."""
    model, (x, _) = classifier(), samples()
    graph = trace(model, X.double())
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    cut = graph.completed(Cut(graph.random_cut(0.5).keep, ("2",)))
    with torch.no_grad():
        whole = model(x)
        with gated(graph, cut):
            shut = model(x)
            model[2].norm.running_mean.add_(1)
        assert error(shut, graph.slice(cut).eval()(x)) < 1e-9
        assert torch.equal(model(x), whole)
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in model.modules())


def test_groups_no_layer_reads_are_judged_by_what_makes_them() -> None:
    """An attention's keys and queries are read by products alone."""

    class Products(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.q, self.k, self.v = (nn.Linear(6, 8) for _ in range(3))

        def forward(self, x: Tensor) -> Tensor:
            return (self.q(x) @ self.k(x).transpose(1, 2)).softmax(-1) @ self.v(x)[..., :4]

    torch.manual_seed(0)
    model, x = Products().double(), torch.randn(6, 5, 6).double()
    for parameter in model.k.parameters():
        parameter.requires_grad_(False)
    graph = trace(model, x)
    loss = lambda out, _: out.square().mean()
    (found, _), *_ = gate_gradients(graph, [(x, None)], loss)
    (name,) = [name for name, rows in found.items() if rows.shape == (1, 8)]
    value = loss(model(x), None)
    grads = torch.autograd.grad(value, [model.q.weight, model.q.bias])
    own = (model.q.weight * grads[0]).sum(1) + model.q.bias * grads[1]
    assert name == "q"
    # keys made by the frozen layer count as much as queries: their product is the same
    torch.testing.assert_close(found[name][0], (6 * (own + _keys(model, x, loss))).detach())
    assert not model.k.weight.requires_grad


def _keys(model: nn.Module, x: Tensor, loss) -> Tensor:
    for parameter in model.k.parameters():
        parameter.requires_grad_(True)
    grads = torch.autograd.grad(loss(model(x), None), [model.k.weight, model.k.bias])
    found = (model.k.weight * grads[0]).sum(1) + model.k.bias * grads[1]
    for parameter in model.k.parameters():
        parameter.requires_grad_(False)
    return found.detach()


def cuts_with_blocks(graph: Graph) -> list[Cut]:
    half = graph.random_cut(0.5).keep
    paths = [block.path for block in graph.blocks]
    return [Cut({}, (paths[0],)), Cut(half, (paths[-1],)), Cut(half, tuple(paths))]


@pytest.mark.parametrize("make", [classifier, residual_net])
def test_a_cut_without_blocks_is_exact(make) -> None:
    """Sliced, as a graph and masked the same, and counted as it is."""
    model = make()
    x = torch.randn(2, 3, 8, 8, dtype=next(model.parameters()).dtype)
    graph = trace(model, x)
    for cut in cuts_with_blocks(graph):
        cut = graph.completed(cut)
        small, masked, drawn = graph.slice(cut).eval(), graph.mask(cut), graph.as_graph(cut).eval()
        with torch.no_grad():
            assert error(small(x), masked(x)) < 1e-5
            assert error(drawn(x), masked(x)) < 1e-5
            assert not torch.allclose(small(x), model(x), rtol=1e-3), "a block that does nothing shows nothing"
        assert trace(small, x).macs() == graph.macs(cut)
        assert sum(p.numel() for p in small.parameters()) == graph.params(cut)
        assert not any(name.startswith(tuple(f"{p}." for p in cut.without)) for name in small.state_dict())


def test_only_blocks_can_go() -> None:
    graph = trace(classifier(), X.double())
    for method in (graph.slice, graph.mask, graph.macs, graph.params, graph.completed):
        with pytest.raises(InputError, match=r"'0' is no block that can go"):
            method(Cut({}, ("0",)))


class Called(nn.Module):
    """Blocks that no identity can stand in for: called by name, with more than one argument, returning a tuple."""

    def __init__(self) -> None:
        super().__init__()
        self.stem, self.named, self.more, self.several = nn.Linear(6, 8), Named(), Two(), Tuple()
        self.head = nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = self.named(x=self.stem(x).relu())
        return self.head(input=self.several(self.more(x, 0.5))[0])


class Named(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.f = nn.Linear(8, 8)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.f(x).relu()


class Two(Named):
    def forward(self, x: Tensor, scale: float) -> Tensor:
        return x + scale * self.f(x)


class Tuple(Named):
    def forward(self, x: Tensor) -> tuple[Tensor]:  # type: ignore[override]
        return (x + self.f(x),)


def test_blocks_that_no_identity_can_stand_in_for() -> None:
    """They are not offered; where they are asked to go all the same, the captured graph goes without them."""
    torch.manual_seed(0)
    model, x = Called().eval(), torch.randn(5, 6)
    graph = trace(model, x)
    assert len(graph.blocks) == 3
    scores, blocks = fishers(graph, Evidence([(x, torch.tensor([0, 1, 2, 0, 1]))]))
    assert blocks == {}
    assert all(bool((values > 0).any()) for values in scores.values())
    for block in graph.blocks:
        cut = Cut({}, (block.path,))
        with torch.no_grad():
            assert error(graph.slice(cut)(x), graph.mask(cut)(x)) < 1e-5


def test_torchs_attention_is_judged_by_what_makes_it() -> None:
    """It takes the weights of its last layer itself: that layer sees no gate."""
    torch.manual_seed(0)
    layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True, norm_first=True, dropout=0.0)
    model = nn.Sequential(nn.Linear(6, 8), layer, nn.Flatten(), nn.Linear(40, 3)).eval()
    x = torch.randn(4, 5, 6)
    graph = trace(model, x)
    scores = fisher(graph, Evidence([(x, torch.tensor([0, 1, 2, 0]))]))
    assert any("self_attn" in name for name in scores)
    assert all(bool((values > 0).all()) for values in scores.values())


def test_blocks_that_work_in_place_are_left_out_of_the_graph() -> None:
    class InPlace(Block):
        def forward(self, x: Tensor) -> Tensor:
            y = self.norm(self.a(x))
            y += x
            return y.relu_()

    torch.manual_seed(0)
    model = stirred(nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU(), InPlace(8), InPlace(8), nn.Conv2d(8, 4, 1)))
    graph = trace(model, X)
    cut = Cut({}, ("2", "3"))
    drawn = graph.as_graph(cut)
    with torch.no_grad():
        assert error(drawn(X), graph.mask(cut)(X)) < 1e-5
    assert sum(p.numel() for p in drawn.parameters()) == graph.params(cut)


def test_transposed_convolutions_read() -> None:
    """An encoder and decoder: the group between them is judged at the decoder's input, once."""
    torch.manual_seed(0)
    model = nn.Sequential(
        nn.Conv2d(3, 6, 3), nn.BatchNorm2d(6), nn.ReLU(), nn.ConvTranspose2d(6, 2, 3), nn.Flatten(), nn.Linear(128, 3)
    )
    model = stirred(model).double()
    x, y = torch.randn(4, 3, 8, 8).double(), torch.tensor([0, 1, 2, 0])
    graph = trace(model, X.double())
    found = fisher(graph, Evidence([(x, y)]))["0"]
    expected = torch.zeros(6).double()
    for i in range(len(x)):
        model.zero_grad()
        F.cross_entropy(model(x[i : i + 1]), y[i : i + 1]).backward()
        weight = model[3].weight
        expected += (weight * weight.grad).detach().flatten(1).sum(1).square() / len(x)
    torch.testing.assert_close(found, expected)
