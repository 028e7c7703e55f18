"""Small images first, members in turns: who is trained at which step, on how many pixels."""

from __future__ import annotations

import itertools
import math
import random
from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from sartor.recipes.growth import ALONE_UNTIL, growing, side_at
from sartor.recipes.turns import LEAST_SHARE, LONG_TURNS, TURNS, in_shares, in_turns, turns_by_cost
from sartor.space import conv_space
from sartor.train.augment import Preprocess
from sartor.train.loop import Recipe
from sartor.train.schedule import SCHEDULES
from sartor.train.steps import TAUGHT_LABELS, Inputs

PROGRESS = st.floats(0.0, 1.0)


@given(st.integers(8, 256), PROGRESS, PROGRESS)
def test_sides_grow_to_the_full_one(side: int, a: float, b: float) -> None:
    first, second = sorted((a, b))
    assert side_at(side, first) <= side_at(side, second) <= side_at(side, 1.0) == side
    assert side_at(side, first) in (side, *range(8, side, 4))


@given(st.sampled_from(sorted(SCHEDULES)), st.sampled_from([8, 32]), PROGRESS, st.integers(0, 9))
def test_only_the_largest_alone_sees_fewer_pixels(name: str, resolution: int, progress: float, seed: int) -> None:
    """And nothing else of a schedule changes."""
    space = conv_space(resolution, width=32)
    plain = SCHEDULES[name](space, random.Random(seed), progress)
    grown = growing(SCHEDULES[name])(space, random.Random(seed), progress)
    alone = [turn.arch for turn in plain] == [space.largest()]
    if not alone or progress >= ALONE_UNTIL:
        assert grown == plain
        return
    smallest = min(c for choice in space.choices if choice.name == "resolution" for c in choice.options)
    assert grown == [replace(plain[0], arch=space.largest().replace(resolution=smallest))]


class Seen(nn.Module):
    """A linear classifier that notes the pixels it is given."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(3, 4)
        self.sides: list[int] = []

    def forward(self, x: Tensor) -> Tensor:
        self.sides.append(x.shape[-1])
        return self.layer(x.mean((2, 3)))


@given(st.integers(1, 7), PROGRESS, st.sampled_from([TURNS, LONG_TURNS, (3, 5)]))
def test_members_learn_in_turns_and_the_largest_in_every_step(
    members: int, progress: float, turns: tuple[int, int]
) -> None:
    networks = [Seen() for _ in range(1 + members)]
    sides = [32, *[20, 24, 28, 32, 20, 24, 28][:members]]
    make = Inputs(Preprocess((0.5,) * 3, (0.2,) * 3), torch.device("cpu"), seed=0, shift=1, flip=True)
    step = in_turns(networks, sides, make, Recipe(), turns)
    rounds = math.lcm(*turns)
    images, labels = torch.randint(0, 255, (8, 3, 32, 32), dtype=torch.uint8), torch.arange(8) % 4
    for index in range(2 * rounds):
        for network in networks:
            network.zero_grad()
        before = [len(network.sides) for network in networks]
        step(images, labels, progress, index)
        trained = [len(network.sides) > n for network, n in zip(networks, before, strict=True)]
        assert trained == [network.layer.weight.grad is not None for network in networks]
    faster = members // 2
    slow, fast = (2 * rounds // turn for turn in turns)
    assert [len(network.sides) for network in networks] == [2 * rounds, *[fast] * faster, *[slow] * (members - faster)]
    for network, side in zip(networks, sides, strict=True):
        assert set(network.sides) == {side_at(side, progress)}


@given(st.lists(st.floats(0.01, 10), min_size=1, max_size=7), st.floats(0, 5))
def test_dear_members_get_fewer_steps_and_more_time(seconds: list[float], teacher_s: float) -> None:
    seconds = sorted(seconds)
    shares = turns_by_cost(seconds, teacher_s)
    assert max(shares) == 1
    assert all(share == 1 for s, share in zip(seconds, shares, strict=True) if s <= teacher_s / 2)
    spent = [share * s for share, s in zip(shares, seconds, strict=True)]
    assert all(a >= b >= LEAST_SHARE for a, b in itertools.pairwise(shares))
    assert all(a <= b * (1 + 1e-12) for a, b in itertools.pairwise(spent))
    pairs = itertools.pairwise(zip(seconds, shares, strict=True))
    for (s, share), (dearer, fewer) in pairs:
        if share < 1 and fewer > LEAST_SHARE:
            assert share / fewer == pytest.approx(math.sqrt(dearer / s))


@given(st.lists(st.floats(0.05, 1), min_size=1, max_size=4), st.integers(5, 40))
def test_members_are_trained_in_their_share_of_the_steps_and_taught_but_for_the_largest(
    shares: list[float], steps: int
) -> None:
    shares = [*shares, 1.0]  # the cheapest
    networks = [Seen() for _ in shares]
    make = Inputs(Preprocess((0.5,) * 3, (0.2,) * 3), torch.device("cpu"), seed=0, shift=1, flip=True)
    teacher = Seen().requires_grad_(False)
    step = in_shares(networks, [16] * len(shares), shares, make, Recipe(), teacher)
    images, labels = torch.randint(0, 255, (8, 3, 16, 16), dtype=torch.uint8), torch.arange(8) % 4
    for index in range(steps):
        step(images, labels, 0.5, index)
    assert [len(network.sides) for network in networks] == [math.ceil(steps * share) for share in shares]
    assert len(teacher.sides) == steps

    for network in networks:
        network.zero_grad()
        network.layer.load_state_dict(teacher.layer.state_dict())
    step(images, labels, 0.5, 0)  # all agree with the teacher: what is left is the labels' part
    first, *others = [network.layer.weight.grad for network in networks]
    for gradient in others:
        torch.testing.assert_close(gradient, TAUGHT_LABELS * first)
