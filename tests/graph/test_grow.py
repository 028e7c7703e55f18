"""Growing changes nothing: wider, deeper, with more branches, and the same outputs."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from graph.nets import NETS, example
from graph.test_exact import error, stirred
from sartor.errors import InputError
from sartor.graph import trace
from sartor.graph.grow import branch, deepen, enlarge, grown, layers, repeat, widen

TOLERANCE = 1e-5


def built(name: str) -> tuple[nn.Module, tuple[Tensor, ...]]:
    torch.manual_seed(0)
    net, inputs = NETS[name]()
    return stirred(net), example(inputs)


WIDENED = """chain, residual, two stages, depthwise, squeeze-excite, transposed, concatenation, gate, flattened, prelu,
layer scale, mlp, gated mlp, attention, attention with a table, lstm, gru, one dimension"""


@pytest.mark.parametrize("name", WIDENED.replace("\n", " ").split(", "))
def test_wider_is_the_same(name: str) -> None:
    """Every group that can be widened without changing the function is, by half; some group can in each network."""
    net, x = built(name)
    graph = trace(net, x)
    grown = 0
    for group in graph.groups:
        size = group.size + max(1, group.size // 2)
        try:
            wide = widen(graph, {group.name: size}, seed=1)
        except InputError:
            continue
        grown += 1
        with torch.no_grad():
            assert error(wide.eval()(*x), net(*x)) < TOLERANCE
            y = tuple(torch.randn_like(t) for t in x)
            assert error(wide(*y), net(*y)) < TOLERANCE
        assert next(g for g in trace(wide, x).groups if g.name == group.name).size == size
    assert grown


@pytest.mark.parametrize(
    "name", [*WIDENED.replace("\n", " ").split(", "), "layer norm over channels", "rms norm", "softmax over channels"]
)
def test_larger_and_cut_back_is_the_same(name: str) -> None:
    """Also where what is normalised over grows: the larger network is its own, and the old one is in it."""
    net, x = built(name)
    graph = trace(net, x)
    sizes = {group.name: group.size + max(1, group.size // 2) for group in graph.groups}
    grown = 0
    for some in [{one: sizes[one]} for one in sizes] + [sizes]:
        try:
            large = trace(enlarge(graph, some).eval(), x)
        except InputError:
            continue
        grown += 1
        back = large.slice({one: range(graph.group(one).size) for one in some})
        assert {one: large.group(one).size for one in some} == some
        with torch.no_grad():
            assert error(back(*x), net(*x)) < TOLERANCE
    assert grown


def test_several_groups_at_once() -> None:
    net, x = built("two stages")
    graph = trace(net, x)
    wide = widen(graph, {group.name: 2 * group.size for group in graph.groups})
    with torch.no_grad():
        assert error(wide.eval()(*x), net(*x)) < TOLERANCE


def test_what_counts_every_copy_is_refused() -> None:
    """A softmax over channels has another sum with more of them."""
    net, x = built("softmax over channels")
    with pytest.raises(InputError, match="cannot be widened"):
        widen(trace(net, x), {"a": 20})


@pytest.mark.parametrize("name", ["chain", "two stages", "transposed", "attention", "lstm"])
def test_copies_can_be_made_to_differ(name: str) -> None:
    """Without noise copies get the same gradient for ever; with it they do not, and the function stays."""
    net, x = built(name)
    graph = trace(net, x)
    sizes = {}
    for group in graph.groups:
        try:
            widen(graph, {group.name: 2 * group.size})
            sizes[group.name] = 2 * group.size
        except InputError:
            continue
    assert sizes
    same, differ = widen(graph, sizes), widen(graph, sizes, noise=0.1)
    changed = [name for name, p in same.named_parameters() if not torch.equal(p, differ.get_parameter(name))]
    assert changed
    with torch.no_grad():
        assert error(differ.eval()(*x), net(*x)) < TOLERANCE


@pytest.mark.parametrize(("sizes", "says"), [({"x": 4}, "no group 'x'"), ({"a": 3}, "cut it to have 3")])
def test_bad_sizes(sizes: dict[str, int], says: str) -> None:
    net, x = built("chain")
    with pytest.raises(InputError, match=says):
        widen(trace(net, x), sizes)


@pytest.mark.parametrize(
    ("name", "path"), [("chain", "a"), ("mlp", "a"), ("one dimension", "a"), ("three dimensions", "a")]
)
def test_deeper_is_the_same(name: str, path: str) -> None:
    net, x = built(name)
    deep = deepen(net, path)
    with torch.no_grad():
        assert error(deep(*x), net(*x)) < TOLERANCE
    assert sum(p.numel() for p in deep.parameters()) > sum(p.numel() for p in net.parameters())


BEHIND: dict[str, tuple[nn.Module, tuple[int, ...]]] = {
    "images": (nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(), nn.Conv2d(8, 4, 3)), (2, 3, 8, 8)),
    "vectors": (nn.Sequential(nn.Linear(6, 8), nn.ReLU6(), nn.Linear(8, 4)), (3, 6)),
    "tokens": (nn.Sequential(nn.Linear(6, 8), nn.Hardtanh(), nn.Linear(8, 4)), (2, 5, 6)),
    "sequences": (nn.Sequential(nn.Conv1d(3, 8, 3), nn.ReLU(), nn.Conv1d(8, 4, 3)), (2, 3, 9)),
    "volumes": (nn.Sequential(nn.Conv3d(2, 8, 3), nn.ReLU(inplace=True), nn.Conv3d(8, 4, 1)), (2, 2, 4, 4, 4)),
}


@pytest.mark.parametrize("name", BEHIND)
def test_deeper_behind_an_activation_is_the_same(name: str) -> None:
    """In training too, where a batch norm of its own would not let it be; and the new weights are reached."""
    net, shape = BEHIND[name]
    x = torch.randn(shape)
    at = next(path for path, m in net.named_modules() if isinstance(m, (nn.ReLU, nn.Hardtanh)))
    deep = deepen(net, at, x)
    new = [p for path, p in deep.named_parameters() if path not in dict(net.named_parameters())]
    assert sum(p.numel() for p in new) > 0
    for mode in (True, False):
        assert error(deep.train(mode)(x).detach(), net.train(mode)(x).detach()) < TOLERANCE
    deep(x).square().sum().backward()
    assert sum(bool(p.grad.abs().sum() > 0) for p in new if p.grad is not None) >= 2, "a weight and its bias"


def test_only_what_returns_its_own_results_is_repeated() -> None:
    net = nn.Sequential(nn.Linear(6, 8), nn.GELU(), nn.Linear(8, 4))
    with pytest.raises(InputError, match="returns its own results"):
        deepen(net, "1", torch.randn(3, 6))
    with pytest.raises(InputError, match="given example inputs"):
        deepen(nn.Sequential(nn.ReLU()), "0")
    with pytest.raises(InputError, match="odd size"):
        deepen(nn.Sequential(nn.Conv2d(3, 8, 3), nn.ReLU()), "1", torch.randn(1, 3, 8, 8), kernel=2)


def residual_net() -> nn.Module:
    """Blocks of three kinds that add to what they take: normalised convolutions, attention, two branches in turn."""
    torch.manual_seed(0)
    layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True, norm_first=True)
    blocks = nn.Sequential(Block(8), Block(8))
    return stirred(nn.Sequential(nn.Conv2d(3, 8, 3), blocks, nn.Flatten(2), Turned(), layer, nn.Linear(8, 4)))


class Block(nn.Module):
    def __init__(self, width: int):
        super().__init__()
        self.a, self.norm = nn.Conv2d(width, width, 3, padding=1), nn.BatchNorm2d(width)

    def forward(self, x: Tensor) -> Tensor:
        return (x + self.norm(self.a(x))).relu()


class Turned(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.transpose(1, 2)


def test_a_block_comes_twice() -> None:
    net, x = residual_net(), torch.randn(2, 3, 8, 8)
    graph = trace(net, x)
    tried = []
    for block in graph.blocks:
        twice = repeat(graph, block.path)
        with torch.no_grad():
            assert error(twice.eval()(x), net(x)) < TOLERANCE
        assert len(trace(twice, x).blocks) == len(graph.blocks) + 1
        tried.append(block.path)
    assert tried == ["1.0", "1.1", "4"]
    with pytest.raises(InputError, match=r"Graph\.blocks"):
        repeat(graph, "0")


def test_every_layer_says_what_it_grows_by() -> None:
    """All that is listed for these networks works, and computes the same."""
    for net, x in ((residual_net(), torch.randn(2, 3, 8, 8)), (BEHIND["images"][0].eval(), torch.randn(2, 3, 8, 8))):
        graph = trace(net, x)
        found, refused = layers(graph), dict[str, str]()
        called = [p for p, m in net.named_modules() if isinstance(m, LAYERS) and not p.endswith("out_proj")]
        assert [layer.path for layer in found] == called, "torch's attention reads its last layer's weights itself"
        for layer in found:
            for kind, place in layer.grows.items():
                try:
                    larger = grown(graph, kind, place, seed=1)
                except InputError as error_of:
                    refused[kind] = str(error_of)
                    continue
                with torch.no_grad():
                    assert error(larger.eval()(x), net(x)) < TOLERANCE
        says = {"widen": "normalises", "add": "reads its weights", "concat": "reads its weights"}
        assert all(says[kind] in why for kind, why in refused.items()), refused
    assert {kind for layer in found for kind in layer.grows} == {"widen", "deepen", "add", "concat"}
    with pytest.raises(InputError, match="not 'taller'"):
        grown(graph, "taller", "0")  # type: ignore[arg-type]


LAYERS = (nn.Conv2d, nn.Linear)


@pytest.mark.parametrize("merge", ["add", "concat"])
@pytest.mark.parametrize(("name", "path"), [("chain", "a"), ("mlp", "b"), ("one dimension", "a")])
def test_branches_are_the_same(name: str, path: str, merge: str) -> None:
    net, x = built(name)
    many = branch(net, path, merge=merge, branches=3)  # type: ignore[arg-type]
    with torch.no_grad():
        assert error(many(*x), net(*x)) < TOLERANCE


def test_branches_that_differ_are_the_same_together() -> None:
    net, x = built("chain")
    many = branch(net, "a", branches=3, noise=0.1)
    first, second = (many.get_parameter(f"a.branches.{i}.weight") for i in (0, 1))
    assert not torch.equal(first, second)
    with torch.no_grad():
        assert error(many(*x), net(*x)) < TOLERANCE


def test_chains_of_transformations() -> None:
    """P178: any chain of them is still the same function, and can be cut."""
    net, x = built("residual")
    whole = net
    for step in range(6):
        if step % 3 == 0:
            net = deepen(net, "a" if step == 0 else "b")
        elif step % 3 == 1:
            graph = trace(net, x)
            group = graph.groups[-1]
            net = widen(graph, {group.name: group.size + 4}, seed=step)
        else:
            net = branch(net, "head.2", merge="concat" if step == 2 else "add")
    with torch.no_grad():
        assert error(net.eval()(*x), whole(*x)) < TOLERANCE
        graph = trace(net, x)
        cut = graph.random_cut(0.5)
        assert error(graph.slice(cut).eval()(*x), graph.mask(cut)(*x)) < TOLERANCE


@pytest.mark.parametrize(
    ("transform", "says"),
    [
        (lambda net: deepen(net, "nowhere"), "no layer 'nowhere'"),
        (lambda net: deepen(net, "head.0"), "can be deepened"),
        (lambda net: branch(net, "a", branches=1), "at least 2"),
        (lambda net: branch(net, "head.0", merge="concat"), "cannot be divided"),
        (lambda net: branch(net, "head.2", merge="concat", branches=5), "too few"),
    ],
)
def test_bad_transformations(transform, says: str) -> None:
    with pytest.raises(InputError, match=says):
        transform(built("chain")[0])
