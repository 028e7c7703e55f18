"""A space of networks in ten lines: its size, its order, and that all of it builds."""

from __future__ import annotations

import random

import pytest
import torch
from torch import nn

from contracts.space import SpaceSuite
from sartor.errors import InputError
from sartor.models.language import (
    Residual,
    affine,
    compile_network,
    concat,
    conv,
    dropout,
    either,
    max_pool,
    module,
    norm,
    optional,
    relu,
    repeat,
    residual,
)
from sartor.records import Arch
from sartor.space.symbolic import oneof, space_of

PROGRAM = concat(
    conv(oneof([4, 8]), 3),
    optional(norm()),
    relu(),
    repeat(residual(concat(conv(oneof([4, 8]), 3), relu())), [1, 2]),
    either(max_pool(2), conv(8, 3, oneof([1, 2]))),
    affine(16),
    optional(dropout(0.1)),
    relu(),
    affine(10),
)


class TestProgram(SpaceSuite):
    space = space_of(PROGRAM)


def test_ten_lines_are_as_many_networks_as_they_say():
    """By hand, line by line: the paper's rules are products of what is in a row, and sums of what is either."""
    expected = 2 * (1 + 1) * (2 + 2 * 2) * (1 + 2) * (1 + 1)
    archs = list(space_of(PROGRAM).every())
    assert space_of(PROGRAM).count() == len(archs) == len(set(archs)) == expected


def test_every_leaf_compiles_and_runs():
    x = torch.randn(2, 3, 8, 8)
    networks = {}
    for arch in space_of(PROGRAM).every():
        network = compile_network(PROGRAM, arch, (3, 8, 8)).eval()
        assert network(x).shape == (2, 10)
        networks[arch] = repr(network)
    assert len(set(networks.values())) == len(networks)


def test_the_tree_is_gone_down_in_the_order_of_the_program():
    """One decision after the other, each among what is open then, ends in an arch: and the leaves are the archs."""
    space = space_of(PROGRAM)

    def leaves(held: dict, after: int) -> list[dict]:
        for place in range(after, len(space.choices)):
            choice = space.choices[place]
            if choice.when is None or held.get(choice.when[0]) in choice.when[1]:
                return [leaf for o in choice.options for leaf in leaves({**held, choice.name: o}, place + 1)]
        return [held]

    assert [Arch(leaf) for leaf in leaves({}, 0)] == list(space.every())
    order = [choice.name.split("/")[0].split(".")[1] for choice in space.choices]
    assert order == sorted(order, key=int)  # the number of the line


def test_copies_have_choices_of_their_own():
    program = concat(repeat(conv(oneof([4, 8]), 3), [2]), affine(2))
    widths = {
        tuple(m.out_channels for m in compile_network(program, arch, (3, 4, 4)).modules() if isinstance(m, nn.Conv2d))
        for arch in space_of(program).every()
    }
    assert widths == {(4, 4), (4, 8), (8, 4), (8, 8)}


def test_a_residual_adds_what_is_common():
    inner = nn.Conv2d(3, 5, 3, 2, 1)
    x = torch.randn(2, 3, 8, 8)
    expected = inner(x)
    expected[:, :3] += nn.functional.avg_pool2d(x, 2)
    torch.testing.assert_close(Residual(inner)(x), expected)
    torch.testing.assert_close(Residual(nn.Identity())(x), 2 * x)
    narrow = nn.Conv2d(3, 2, 1)
    torch.testing.assert_close(Residual(narrow)(x), narrow(x) + x[:, :2])


def test_a_module_of_ones_own_is_a_word():
    program = concat(module(lambda shape, scale: nn.Linear(shape[0], scale * shape[0]), oneof([1, 3])), affine(2))
    sizes = [compile_network(program, arch, (4,))[0].out_features for arch in space_of(program).every()]
    assert sizes == [4, 12]


def test_what_does_not_fit_says_so():
    program = concat(affine(4), conv(8, 3))
    with pytest.raises(InputError, match="Conv2d does not take"):
        compile_network(program, {}, (3, 8, 8))
    with pytest.raises(InputError, match="must be one of"):
        compile_network(PROGRAM, {}, (3, 8, 8))


def test_shapes_are_asked_without_numbers_or_randomness():
    arch = space_of(PROGRAM).sample(random.Random(0))
    torch.manual_seed(0)
    first = compile_network(PROGRAM, arch, (3, 8, 8)).state_dict()
    torch.manual_seed(0)
    second = compile_network(PROGRAM, arch, (3, 8, 8)).state_dict()
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert all(tensor.device.type == "cpu" for tensor in first.values())
