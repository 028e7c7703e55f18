"""What a training plan keeps, beside what autograd saves; and that a network of MCUNet's kind trains in 256 KB."""

from __future__ import annotations

import itertools
from functools import cache

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from sartor.errors import InputError
from sartor.graph.capture import Captured, capture
from sartor.measure.plan.training import training_plan

ACTIVATIONS = [nn.ReLU, nn.Hardswish, nn.Sigmoid, nn.SiLU, nn.ReLU6]


class Net(nn.Module):
    """Every tensor of its own size, a residual, a product of activations, depthwise and dense convolutions."""

    def __init__(self, activation: type[nn.Module] = nn.ReLU) -> None:
        super().__init__()
        self.stem = nn.Conv2d(3, 5, 3, 2, 1)
        self.wide = nn.Conv2d(5, 11, 1)
        self.depth = nn.Conv2d(11, 11, 3, 1, 1, groups=11)
        self.narrow = nn.Conv2d(11, 5, 1)
        self.gate = nn.Conv2d(5, 5, 1)
        self.last = nn.Conv2d(5, 7, 3, 2, 1)
        self.head = nn.Linear(7, 4)
        self.activation = activation()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.activation(self.stem(x))
        x = x + self.narrow(self.activation(self.depth(self.activation(self.wide(x)))))
        x = x * torch.sigmoid(self.gate(x))
        x = self.activation(self.last(x))
        return self.head(nn.functional.adaptive_avg_pool2d(x, 1).flatten(1))


def saved_by_autograd(model: nn.Module, x: torch.Tensor) -> list[int]:
    """Values of each block of memory that autograd keeps and that is no parameter."""
    own = {p.untyped_storage().data_ptr() for p in model.parameters()}
    found: dict[int, torch.Tensor] = {}

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        place = tensor.untyped_storage().data_ptr()
        if place not in own and tensor.is_floating_point():
            found[place] = tensor  # held, or the next tensor could have its address
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        out = model(x)
    del out
    return sorted(tensor.untyped_storage().nbytes() // tensor.element_size() for tensor in found.values())


@cache
def captured(activation: type[nn.Module]) -> Captured:
    torch.manual_seed(0)
    return capture(Net(activation).eval(), torch.zeros(1, 3, 12, 12))


class Poisoned(torch.fx.Interpreter):
    """The captured graph, whose autograd is given wrong numbers for what it saves and ``kept`` does not name."""

    def __init__(self, captured: Captured, chosen: list[str], kept: set[str] | None) -> None:
        super().__init__(
            captured.program.graph_module, garbage_collect_values=False
        )  # so that no address is used twice
        self.captured, self.kept = captured, kept
        self.parameters = {n: t.detach().clone().requires_grad_(n in chosen) for n, t in captured.tensors.items()}
        self.places: dict[int, str] = {}
        self.saved: set[str] = set()

    def run_node(self, n: torch.fx.Node) -> object:
        self.now = n.name
        value = super().run_node(n)
        if isinstance(value, torch.Tensor):
            self.places.setdefault(value.untyped_storage().data_ptr(), n.name)
        return value

    def pack(self, tensor: torch.Tensor) -> torch.Tensor:
        name = self.places.get(tensor.untyped_storage().data_ptr(), self.now)  # or the node's own result
        if name in self.captured.sources or not tensor.is_floating_point():
            return tensor
        self.saved.add(name)
        return tensor if self.kept is None or name in self.kept else tensor * 0 + 9

    def gradients(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        fed = [
            self.parameters[self.captured.sources[node.name]] if node.name in self.captured.sources else x
            for node in self.module.graph.nodes
            if node.op == "placeholder"
        ]
        with torch.autograd.graph.saved_tensors_hooks(self.pack, lambda tensor: tensor):
            (out,) = self.run(*fed)
        out.square().sum().backward()
        return {name: p.grad for name, p in self.parameters.items() if p.grad is not None}


def alike(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return all(torch.allclose(one[name], other[name], rtol=1e-4, atol=1e-6) for name in one)


@settings(max_examples=8, deadline=None)
@given(data=st.data(), activation=st.sampled_from(ACTIVATIONS))
def test_what_is_kept_is_what_autograd_needs(data: st.DataObject, activation: type[nn.Module]) -> None:
    """It saves all of it, and a convolution's input also where no gradient asks for it: without those all gradients are
    right, and without any one of what is kept some are wrong."""
    graph = captured(activation)
    chosen = data.draw(st.lists(st.sampled_from(sorted(graph.tensors)), min_size=1, unique=True))
    kept = set(training_plan(graph, (3, 12, 12), dict.fromkeys(chosen, 1.0)).kept)
    x = torch.randn(1, 3, 12, 12, generator=torch.Generator().manual_seed(0))
    everything = Poisoned(graph, chosen, None)
    truth = everything.gradients(x)
    assert sorted(truth) == sorted(chosen)
    assert kept <= everything.saved
    assert alike(Poisoned(graph, chosen, kept).gradients(x), truth)
    for name in kept:
        assert not alike(Poisoned(graph, chosen, kept - {name}).gradients(x), truth), name


def test_some_channels_of_a_weight_keep_those_channels_of_its_input() -> None:
    """As autograd does for the two halves of a convolution written as a sum."""

    class Halves(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first = nn.Conv2d(6, 4, 1)
            self.some, self.rest = nn.Conv2d(3, 5, 3), nn.Conv2d(9, 5, 3)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.some(x[:, :3].clone()) + self.rest(x[:, 3:].clone())

    halves = Halves().requires_grad_(False)
    halves.some.weight.requires_grad_(True)
    model = nn.Conv2d(12, 5, 3)
    plan = training_plan(model, (12, 8, 8), {"weight": 0.25})
    assert sorted(plan.kept.values()) == saved_by_autograd(halves, torch.randn(1, 12, 8, 8)) == [3 * 64]
    assert plan.trained == halves.some.weight.numel()


class Scaled(nn.Module):
    """A layer with a scale of its own (LayerScale)."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.gamma, self.head = nn.Linear(6, 9), nn.Parameter(torch.rand(9)), nn.Linear(9, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.head(torch.sigmoid(self.first(x)) * self.gamma)


@pytest.mark.parametrize("chosen", [["gamma"], ["first.bias"], ["gamma", "first.weight"]])
def test_a_scales_gradient_needs_what_was_scaled(chosen: list[str]) -> None:
    torch.manual_seed(0)
    x = torch.randn(1, 5, 6)
    graph = capture(Scaled().eval(), x)
    plan = training_plan(graph, (5, 6), dict.fromkeys(chosen, 1.0))
    truth = Poisoned(graph, chosen, None).gradients(x)
    assert sorted(truth) == sorted(chosen)
    assert alike(Poisoned(graph, chosen, set(plan.kept)).gradients(x), truth)
    for name in plan.kept:
        assert not alike(Poisoned(graph, chosen, set(plan.kept) - {name}).gradients(x), truth), name
    if chosen == ["gamma"]:
        (held,) = plan.kept
        last = max(buffer.last for buffer in plan.plan.buffers)
        assert next(buffer.last for buffer in plan.plan.buffers if held in buffer.tensors) == last


@pytest.mark.parametrize("tokens", [3, 12])
def test_some_channels_of_tokens_are_the_last_axis(tokens: int) -> None:
    plan = training_plan(nn.Linear(12, 5), (tokens, 12), {"weight": 0.25})
    assert list(plan.kept.values()) == [tokens * 3]


@pytest.mark.parametrize("less", [["stem.weight"], ["wide.weight", "stem.weight", "depth.weight"]])
def test_updating_less_never_takes_more(less: list[str]) -> None:
    model = Net().eval()
    every = {name: 1.0 for name, _ in model.named_parameters()}
    some = {name: share for name, share in every.items() if name not in less}
    assert training_plan(model, (3, 32, 32), some).peak_bytes <= training_plan(model, (3, 32, 32), every).peak_bytes
    biases = {name: 1.0 for name in every if name.endswith("bias")}
    plan = training_plan(model, (3, 32, 32), biases, masks=False)
    assert plan.peak_bytes <= training_plan(model, (3, 32, 32), every, masks=False).peak_bytes
    assert training_plan(model, (3, 32, 32), {"head.bias": 1.0}).kept == {}


@settings(max_examples=20)
@given(st.data())
def test_nothing_that_is_read_again_is_overwritten(data: st.DataObject) -> None:
    """Of any two buffers there at once none share an address, and what is kept is there until its gradient is made."""
    names = [name for name, _ in Net().named_parameters()]
    chosen = data.draw(st.lists(st.sampled_from(names), min_size=1, unique=True))
    shares = {name: 0.5 if name.endswith("weight") else 1.0 for name in chosen}
    plan = training_plan(captured(nn.ReLU), (3, 12, 12), shares)
    for one, other in itertools.combinations(plan.plan.buffers, 2):
        together = one.first <= other.last and other.first <= one.last
        assert not together or one.end <= other.offset or other.end <= one.offset or not one.size or not other.size


def test_bad_updates_are_one_line() -> None:
    model = Net().eval()
    for updates, told in [
        ({}, "name parameters"),
        ({"nothing": 1.0}, "no parameter 'nothing'"),
        ({"head.weight": 0.0}, "above 0"),
        ({"head.weight": float("nan")}, "above 0"),
    ]:
        with pytest.raises(InputError, match=told):
            training_plan(model, (3, 12, 12), updates)
    with pytest.raises(InputError, match="at least one byte"):
        training_plan(model, (3, 12, 12), {"head.bias": 1.0}, gradient_bytes=0)
    normed = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Flatten())
    with pytest.raises(InputError, match="fuse batch norms"):
        training_plan(normed, (3, 12, 12), {"0.bias": 1.0})


def test_a_network_of_mcunets_kind_trains_in_256_kb() -> None:
    """Biases of the last blocks, and a quarter of the channels of their first convolutions; all of it would need more,
    in the same int8."""
    blocks = [(1, 8, 1, 3), (3, 16, 2, 7), (5, 16, 1, 3), (4, 24, 2, 5), (5, 24, 1, 5), (5, 40, 2, 3), (4, 40, 1, 5),
              (5, 96, 2, 3), (4, 96, 1, 3)]  # fmt: skip
    parts: list[nn.Module] = [nn.Conv2d(3, 16, 3, 2, 1), nn.ReLU6()]
    last = 16
    for expand, filters, stride, kernel in blocks:
        wide = last * expand
        parts += [nn.Conv2d(last, wide, 1), nn.ReLU6()]
        parts += [
            nn.Conv2d(wide, wide, kernel, stride, kernel // 2, groups=wide),
            nn.ReLU6(),
            nn.Conv2d(wide, filters, 1),
        ]
        last = filters
    model = nn.Sequential(*parts, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(last, 2)).eval()
    graph = capture(model, torch.zeros(1, 3, 128, 128))
    names = [name for name, _ in model.named_parameters()]
    sparse = dict.fromkeys([n for n in names[-30:] if n.endswith("bias")], 1.0) | dict.fromkeys(names[-2:], 1.0)
    firsts = [
        name for name in names[-26:-2] if name.endswith("weight") and model.get_parameter(name).shape[2:] == (1, 1)
    ]
    sparse |= dict.fromkeys(firsts, 0.25)
    plan = training_plan(graph, (3, 128, 128), sparse)
    assert plan.forward_bytes <= plan.peak_bytes <= 256 * 1024
    assert training_plan(graph, (3, 128, 128), dict.fromkeys(names, 1.0)).peak_bytes > 256 * 1024
