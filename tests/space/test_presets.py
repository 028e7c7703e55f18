"""The ready spaces: what they hold, how large they are, and what they refuse."""

from __future__ import annotations

import math
import random

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from sartor.errors import InputError
from sartor.models import build
from sartor.space import OPERATORS, Space, conv_space
from sartor.space.presets import stages


def options(space: Space, name: str) -> tuple:
    return next(choice.options for choice in space.choices if choice.name == name)


def test_factorised_hierarchy():
    """MnasNet (arXiv:1807.11626 §4.1): a stage's blocks agree, stages differ; the space is a product over stages."""
    space = conv_space(32, width=32, depth=3)
    n_stages = stages(32)

    # A product over stages of (what a stage decides), not over blocks.
    per_stage = []
    for stage in range(n_stages):
        ways = 0
        for op in options(space, f"s{stage}.op"):
            inverted = op in ("mbconv", "fused")
            free = ["width", "depth", "se"] + (["expand", "kernel"] if inverted else [])
            ways += math.prod(len(options(space, f"s{stage}.{kind}")) for kind in free)
        per_stage.append(ways)
    rest = len(options(space, "resolution")) * len(options(space, "stem.width"))
    assert space.count() == rest * math.prod(per_stage)

    # Deciding per block multiplies the exponent by the depth: the hierarchy is what keeps the space small.
    per_block = math.prod(ways ** max(options(space, f"s{i}.depth")) for i, ways in enumerate(per_stage))
    assert math.log(per_block) > 2.5 * math.log(math.prod(per_stage))

    # In the networks: blocks of a stage have one operator, kernel, gate and width; stages choose for themselves.
    rng = random.Random(0)
    seen_to_differ = set()
    for _ in range(60):
        arch = space.sample(rng)
        with torch.device("meta"):
            network = build(arch, channels=3, classes=10, full_resolution=32)
        assert len(network.stages) == n_stages
        for index, stage in enumerate(network.stages):
            (op,) = stage
            blocks = list(stage[op])
            assert op == arch[f"s{index}.op"]
            assert len(blocks) == arch[f"s{index}.depth"]
            assert len({type(block) for block in blocks}) == 1
            convs = {name: m for name, m in stage.named_modules() if isinstance(m, nn.Conv2d)}
            gated = {name.split(".")[1] for name in convs if ".se." in name}
            assert len(gated) == (len(blocks) if arch[f"s{index}.se"] else 0)
            kernels = {conv.kernel_size[0] for name, conv in convs.items() if ".se." not in name} - {1}
            assert kernels == {arch.get(f"s{index}.kernel", 3)}
            ends = [block.project if op in ("mbconv", "fused") else block.second for block in blocks]
            assert {end[0].out_channels for end in ends} == {arch[f"s{index}.width"]}
        for kind in ("op", "width", "depth", "se"):
            if len({arch[f"s{index}.{kind}"] for index in range(n_stages)}) > 1:
                seen_to_differ.add(kind)
    assert seen_to_differ == {"op", "width", "depth", "se"}


@given(
    st.integers(8, 512),
    st.integers(16, 192),
    st.integers(1, 4),
    st.lists(st.sampled_from(OPERATORS), min_size=1, unique=True),
)
def test_every_resolution_and_size_gives_a_sound_space(resolution: int, width: int, depth: int, operators: list[str]):
    space = conv_space(resolution, width=width, depth=depth, operators=tuple(operators))
    sides = options(space, "resolution")
    assert sides[-1] == resolution
    assert sides[0] >= 8
    for choice in space.choices:
        if choice.options != OPERATORS and not isinstance(choice.options[0], str):
            assert list(choice.options) == sorted(choice.options)
        if choice.name.endswith("width"):
            assert all(option % 16 == 0 for option in choice.options)
    for stage in range(stages(resolution)):
        assert set(options(space, f"s{stage}.op")) == set(operators)
        assert options(space, f"s{stage}.depth") == tuple(range(1, depth + 1))
    assert space.contains(space.largest())
    assert space.contains(space.smallest())
    dense = not {"residual", "pooled"}.isdisjoint(operators)
    assert dense == any("s0.kernel" not in space.sample(random.Random(seed)) for seed in range(64))


def test_the_last_feature_map_is_neither_gone_nor_a_waste():
    """2 to 15 pixels a side, and as many stages at a resolution as at any smaller one, at least."""
    counts = [stages(resolution) for resolution in range(8, 513)]
    assert counts == sorted(counts)
    for resolution, n in zip(range(8, 513), counts, strict=True):
        halvings = n - 1 + (resolution >= 24) + (resolution >= 64)
        assert 2 <= math.ceil(resolution / 2**halvings) <= 15


@pytest.mark.parametrize(
    ("resolution", "operators", "message"),
    [(7, OPERATORS, "too small"), (32, ("conv9x9",), "unknown operators"), (32, (), "choose from")],
)
def test_senseless_spaces_are_refused(resolution: int, operators: tuple[str, ...], message: str):
    with pytest.raises(InputError, match=message):
        conv_space(resolution, operators=operators)
