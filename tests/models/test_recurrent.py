"""Recurrent cells against the recurrence written out."""

from __future__ import annotations

from math import factorial

import pytest
import torch

from contracts.space import SpaceSuite
from sartor.errors import InputError
from sartor.models.recurrent import build_recurrent
from sartor.records import Arch
from sartor.space.recurrent import recurrent_space


class TestRecurrent(SpaceSuite):
    space = recurrent_space(nodes=4)


@pytest.mark.parametrize("nodes", [1, 3, 8])
def test_there_are_as_many_cells_as_trees_and_activations(nodes: int):
    assert recurrent_space(nodes=nodes).count() == factorial(nodes) * 4**nodes


def test_a_cell_is_its_recurrence():
    """Two nodes: one goes on from the mixture of input and state with tanh, the other from that with ReLU."""
    torch.manual_seed(0)
    arch = Arch({"1.from": 0, "1.op": "tanh", "2.from": 1, "2.op": "relu"})
    model = build_recurrent(arch, words=7, width=5).double()
    tokens = torch.randint(0, 7, (3, 4))
    cell, state, expected = model.memory, torch.zeros(3, 5, dtype=torch.float64), []
    for t in range(4):
        both = torch.cat([model.embed(tokens[:, t]), state], 1) @ cell.start.weight.T
        c, h = both[:, :5].sigmoid(), both[:, 5:].tanh()
        s0 = (1 - c) * state + c * h
        gates = s0 @ cell.steps[0].weight.T
        c, h = gates[:, :5].sigmoid(), gates[:, 5:].tanh()
        s1 = (1 - c) * s0 + c * h
        gates = s1 @ cell.steps[1].weight.T
        c, h = gates[:, :5].sigmoid(), gates[:, 5:].clamp(min=0)
        s2 = (1 - c) * s1 + c * h
        state = (s1 + s2) / 2
        expected.append(model.out(state))
    assert torch.allclose(model(tokens), torch.stack(expected, 1))


def test_what_comes_later_changes_nothing_before():
    model = build_recurrent(recurrent_space(nodes=3).largest(), words=7, width=5)
    tokens = torch.randint(0, 7, (2, 6))
    later = tokens.clone()
    later[:, 4:] = (later[:, 4:] + 1) % 7
    assert torch.equal(model(tokens)[:, :4], model(later)[:, :4])
    assert not torch.equal(model(tokens)[:, 4:], model(later)[:, 4:])


def test_impossible_sizes_are_refused():
    for wrong in (
        lambda: recurrent_space(nodes=0),
        lambda: build_recurrent(recurrent_space().smallest(), words=0),
        lambda: build_recurrent({"op": "tanh"}, words=5),
    ):
        with pytest.raises(InputError):
            wrong()
