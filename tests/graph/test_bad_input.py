"""What cannot be cut, or followed, or asked for: one clear line each."""

from __future__ import annotations

import logging

import pytest
import torch
from torch import Tensor, nn

from sartor.errors import InputError
from sartor.graph import Cut, trace
from sartor.graph.atoms import Atoms
from sartor.graph.call import Call, Dims


def chain() -> nn.Module:
    return nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 3))


X = torch.randn(2, 4)


@pytest.mark.parametrize(
    ("keep", "says"),
    [
        ({"nowhere": [0]}, "there is no group 'nowhere'"),
        ({"0": []}, "keeps nothing of group '0'"),
        ({"0": [8]}, "entries 0 to 7, not 8"),
        ({"0": [-1]}, "entries 0 to 7, not -1"),
        ({"0": [0.5]}, "whole numbers, not 0.5"),
        ({"0": ["a"]}, "whole numbers, not 'a'"),
    ],
)
def test_cuts_that_make_no_sense(keep: dict[str, list[int]], says: str) -> None:
    graph = trace(chain(), X)
    for method in (graph.slice, graph.mask):
        with pytest.raises(InputError, match=says):
            method(keep)


@pytest.mark.parametrize("keep", [0, -1, 1.5])
def test_shares_that_make_no_sense(keep: float) -> None:
    with pytest.raises(InputError, match="a share above 0"):
        trace(chain(), X).random_cut(keep)


def test_at_least_one_entry_is_kept() -> None:
    assert trace(chain(), X).random_cut(1e-9) == Cut({"0": (6,)})


class Branching(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        if x.sum() > 0:
            return x
        return -x


def test_a_path_that_depends_on_the_data_is_named(capfd: pytest.CaptureFixture[str]) -> None:
    """In one line: torch prints the whole graph beside it."""
    says = r"Branching cannot be captured at .*test_bad_input.py:\d+ \(if x.sum.*no single graph to cut: trace the part"
    with pytest.raises(InputError, match=says) as caught:
        trace(Branching(), X)
    assert "\n" not in str(caught.value)
    assert capfd.readouterr() == ("", "")


def test_a_network_that_does_not_run_says_so() -> None:
    with pytest.raises(InputError, match=r"Sequential does not run on the example inputs: mat1 and mat2 shapes"):
        trace(chain(), X[:, :3])


class ByNumPy(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return torch.from_numpy(x.numpy() * 2)


def test_a_line_that_cannot_be_captured_is_named() -> None:
    says = r"ByNumPy cannot be captured at .*test_bad_input.py:\d+ \(return torch.from_numpy.*without that line"
    with pytest.raises(InputError, match=says):
        trace(ByNumPy(), X)


@pytest.mark.parametrize("inputs", [None, 3, "x"])
def test_inputs_of_the_wrong_type(inputs: object) -> None:
    with pytest.raises(InputError, match="example inputs must be"):
        trace(chain(), inputs)  # type: ignore[arg-type]


def test_inputs_by_name() -> None:
    assert len(trace(chain(), {"input": X}).groups) == 1


@torch.library.custom_op("sartor_tests::reversed", mutates_args=())
def backwards(x: Tensor) -> Tensor:
    return x.flip(-1).clone()


@backwards.register_fake
def _(x: Tensor) -> Tensor:
    return torch.empty_like(x)


class WithCustom(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.b, self.c = nn.Linear(4, 8), nn.Linear(8, 6), nn.Linear(6, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.c(self.b(backwards(self.a(x))))


def test_an_unknown_operator_freezes_what_it_touches(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING):
        graph = trace(WithCustom(), X)
    assert [g.name for g in graph.groups] == ["b"], "a and the input of b stay"
    (frozen,) = graph.frozen
    assert frozen.operator == "sartor_tests.reversed.default"
    assert "sartor_tests.reversed.default" in caplog.text


def test_a_user_can_add_an_operator() -> None:
    """In a few lines: channel i of the output is channel n - 1 - i of the input. Reversing keeps the order of pairs, so
    that what is cut on one side is cut on the other."""

    def rule(atoms: Atoms, call: Call) -> Dims:
        x = call["x"]
        return (*x.dims[:-1], x.dims[-1][::-1])

    net = WithCustom().eval()
    graph = trace(net, X, rules={"sartor_tests.reversed.default": rule})
    assert [g.name for g in graph.groups] == ["a", "b"]
    assert not graph.frozen
    cut = graph.random_cut(0.5)
    with torch.no_grad():
        torch.testing.assert_close(graph.slice(cut)(X), graph.mask(cut)(X))


def test_a_rule_that_does_not_fit_freezes() -> None:
    graph = trace(WithCustom(), X, rules={"sartor_tests.reversed.default": lambda atoms, call: call["x"].dims[:1]})
    assert "does not fit" in graph.frozen[0].reason
    assert [g.name for g in graph.groups] == ["b"]


def test_frozen_parameters_and_modes_stay() -> None:
    net = chain().train()
    net[0].weight.requires_grad_(False)
    graph = trace(net, X)
    assert net.training
    small = graph.slice({"0": range(4)})
    assert small.training
    assert not small.get_parameter("0.weight").requires_grad
    assert small.get_parameter("0.bias").requires_grad


def test_an_empty_network_has_no_groups() -> None:
    graph = trace(nn.ReLU(), X)
    assert graph.groups == ()
    assert torch.equal(graph.slice({})(X), X.relu())


class Positive(nn.Module):
    """Its check is of values, which a capture does not see."""

    def forward(self, x: Tensor) -> Tensor:
        torch._assert_async(x.sum() > 0, "a positive sum is needed")
        return x * 2


def test_values_that_the_network_refuses() -> None:
    trace(Positive(), X.abs())
    with pytest.raises(InputError, match=r"Positive does not run on the example inputs.*a positive sum is needed"):
        trace(Positive(), -X.abs())
