"""Growing changes nothing: wider, deeper, with more branches, and the same outputs."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from graph.nets import NETS, example
from graph.test_exact import error, stirred
from sartor.errors import InputError
from sartor.graph import trace
from sartor.graph.grow import branch, deepen, widen

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


def test_copies_can_be_made_to_differ() -> None:
    net, x = built("chain")
    graph = trace(net, x)
    wide = widen(graph, {"a": 20}, noise=0.01)
    with torch.no_grad():
        assert 0 < error(wide.eval()(*x), net(*x)) < 0.1


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


@pytest.mark.parametrize("merge", ["add", "concat"])
@pytest.mark.parametrize(("name", "path"), [("chain", "a"), ("mlp", "b"), ("one dimension", "a")])
def test_branches_are_the_same(name: str, path: str, merge: str) -> None:
    net, x = built(name)
    many = branch(net, path, merge=merge, branches=3)  # type: ignore[arg-type]
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
