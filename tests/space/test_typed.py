"""Types of operations against torch: what comes out, who may stand for whom, and what is refused with which reason."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from contracts.space import SpaceSuite
from sartor.errors import InputError
from sartor.models.typed import build_typed
from sartor.space.typed import (
    Beside,
    Chain,
    Conv,
    Flatten,
    Linear,
    Pointwise,
    Pool,
    alternatives,
    equivalents,
    places,
    same_type,
    shape_at,
    substitute,
    substituted,
    substitutions,
    type_check,
    weights,
)

SHAPE = (4, 12, 12)
BLOCK = Beside((Chain((Conv(4, 3, 1, 1), Pointwise("relu"), Conv(4, 5, 1, 2))), Pointwise("identity")))
NETWORK = Chain((BLOCK, Pool("max", 2, 2), Beside((Conv(4, 1), Conv(6, 3, 1, 1)), "cat"), Flatten(), Linear(3)))
CANDIDATES = (Pointwise("gelu"), Pool("avg", 3, 1, 1), Chain((Pool("avg", 2, 2), Pointwise("relu"))))


class TestSubstitutions(SpaceSuite):
    space = substitutions(NETWORK, SHAPE, CANDIDATES)


def drawn_conv(rng: random.Random) -> tuple[Conv, tuple[int, ...]]:
    groups = rng.choice([1, 1, 2, 3])
    kernel, dilation, padding = rng.randint(1, 5), rng.randint(1, 3), rng.randint(0, 3)
    conv = Conv(groups * rng.randint(1, 3), kernel, rng.randint(1, 3), padding, dilation, groups)
    return conv, (groups * rng.randint(1, 3), rng.randint(1, 14), rng.randint(1, 14))


def test_the_shapes_of_a_thousand_convolutions_are_torchs():
    rng, taken, refused = random.Random(0), 0, 0
    while taken < 1_000:
        conv, shape = drawn_conv(rng)
        layer = torch.nn.Conv2d(
            shape[0], conv.out, conv.kernel, conv.stride, conv.padding, conv.dilation, conv.groups, device="meta"
        )
        x = torch.empty(2, *shape, device="meta")
        try:
            expected = tuple(layer(x).shape[1:])
        except RuntimeError:
            refused += 1
            with pytest.raises(InputError, match="wider than an image"):
                type_check(conv, shape)
            continue
        taken += 1
        assert type_check(conv, shape) == expected
    assert refused > 50


@given(st.sampled_from(["max", "avg"]), *[st.integers(1, 5)] * 2, st.integers(0, 2), st.integers(1, 9))
def test_the_shapes_of_pools_are_torchs(kind: str, kernel: int, stride: int, padding: int, side: int):
    pool = Pool(kind, kernel, stride, padding)
    try:
        found = type_check(pool, (2, side, side))
    except InputError:
        assert 2 * padding > kernel or side + 2 * padding < kernel
        return
    assert found == build_typed(pool, (2, side, side))(torch.randn(1, 2, side, side)).shape[1:]


@given(st.integers(0, 2**32))
def test_same_types_agree_on_every_shape(seed: int):
    rng = random.Random(seed)
    a, b = drawn_conv(rng)[0], drawn_conv(rng)[0]
    b = rng.choice([b, replace(b, out=a.out, stride=a.stride, groups=a.groups)])
    functions = []
    for conv in (a, b):
        taken = {}
        for channels in range(1, 7):
            for side in range(1, 40):
                try:
                    taken[channels, side] = type_check(conv, (channels, side, side))
                except InputError:
                    taken[channels, side] = None
        functions.append(taken)
    assert same_type(a, b) == (functions[0] == functions[1])


@given(st.integers(0, 2**32))
def test_equivalents_have_the_type_and_build(seed: int):
    conv, shape = drawn_conv(random.Random(seed))
    found = equivalents(conv)
    assert found[0] == conv
    assert len(found) == len(set(found))
    assert all(same_type(conv, other) for other in found)
    try:
        wanted = type_check(conv, shape)
    except InputError:
        return
    for other in found:
        assert build_typed(other, shape)(torch.randn(1, *shape)).shape[1:] == wanted


def test_the_textbooks_dilated_convolution_stands_for_a_5x5():
    assert Conv(8, 3, 1, 2, dilation=2) in equivalents(Conv(8, 5, 1, 2))
    assert not same_type(Conv(8, 3, 1, 1), Conv(8, 3, 1, 1, groups=2))


def test_shapes_inside_a_program_are_those_of_the_network():
    network, seen = build_typed(NETWORK, SHAPE), {}
    for place, _ in places(NETWORK):
        at = network
        for i in place:
            at = at.parts[i] if hasattr(at, "parts") else at[i]
        at.register_forward_pre_hook(lambda _, inputs, place=place: seen.update({place: inputs[0].shape[1:]}))
    network(torch.randn(1, *SHAPE))
    assert {place: tuple(shape) for place, shape in seen.items()} == {
        place: shape_at(NETWORK, SHAPE, place) for place, _ in places(NETWORK)
    }


def test_every_substitution_builds_and_gives_the_programs_shape():
    space, x = substitutions(NETWORK, SHAPE, CANDIDATES), torch.randn(2, *SHAPE)
    wanted = build_typed(NETWORK, SHAPE)(x).shape
    original, programs = set(), set()
    for seed in range(60):
        arch = space.sample(random.Random(seed))
        program = substituted(NETWORK, SHAPE, arch, CANDIDATES)
        network = build_typed(program, SHAPE)
        assert network(x).shape == wanted
        assert sum(p.numel() for p in network.parameters()) == weights(program, SHAPE)
        programs.add(program)
        original.add(arch)
    assert len(programs) == len(original)


def test_subgraphs_stand_for_operations():
    place = (1,)
    found = alternatives(NETWORK, SHAPE, place, CANDIDATES)
    assert set(found) == {Pool("max", 2, 2), CANDIDATES[2]}
    other = substitute(NETWORK, SHAPE, place, CANDIDATES[2])
    assert type_check(other, SHAPE) == type_check(NETWORK, SHAPE)


ILL = [
    (Chain((Conv(8, 3), Linear(3))), "part 1: .* takes features"),
    (Chain((Flatten(), Conv(8, 3))), "part 1: .* takes an image"),
    (Chain((Conv(8, 3, groups=3),)), "part 0: .*groups do not divide"),
    (Beside((Conv(8, 3), Conv(8, 3, 1, 1))), "do not add"),
    (Beside((Conv(8, 3), Conv(8, 3, 1, 1)), "cat"), "do not cat"),
    (Beside((), "add"), "0 parts"),
    (Beside((Pointwise("relu"),), "times"), "not merged by 'times'"),
    (Conv(8, 15), "wider than an image"),
    (Conv(0, 3), "at least one output channel"),
    (Conv(8, 3, 0), "no such kernel, stride or padding"),
    (Pool("max", 2, 2, 2), "padded by half"),
    (Pointwise("tanh"), "none of"),
]


@pytest.mark.parametrize(("program", "reason"), ILL)
def test_ill_typed_programs_are_refused_before_they_are_built(program, reason, monkeypatch):
    def built(*args, **kwargs):
        raise AssertionError("built before it was checked")

    for name in ("Conv2d", "Linear", "Flatten", "MaxPool2d", "Sequential"):
        monkeypatch.setattr(torch.nn, name, built)
    with pytest.raises(InputError, match=reason):
        build_typed(program, SHAPE)


def test_a_substitute_of_another_type_is_refused():
    with pytest.raises(InputError, match=r"part 1: gives \(4, 12, 12\) for \(4, 12, 12\), and \(4, 6, 6\) is needed"):
        substitute(NETWORK, SHAPE, (1,), Pointwise("relu"))
    with pytest.raises(InputError, match="no part"):
        shape_at(NETWORK, SHAPE, (9,))
