"""The ready spaces: what they hold, how large they are, and what they refuse."""

from __future__ import annotations

import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sartor.errors import InputError
from sartor.models import build
from sartor.space import OPERATORS, Space, conv_space
from sartor.space.presets import stages


def options(space: Space, name: str) -> tuple:
    return next(choice.options for choice in space.choices if choice.name == name)


def test_factorised_hierarchy():
    """MnasNet (arXiv:1807.11626 §4.1): a stage's blocks agree, stages differ, and the space is a product over stages."""
    space = conv_space(32, width=32, depth=3)
    n_stages = stages(32)

    # A product over stages of (what a stage decides), not over blocks.
    per_stage = []
    for stage in range(n_stages):
        ways = 0
        for op in options(space, f"s{stage}.op"):
            inverted = op != "residual"
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
        network = build(arch, channels=3, classes=10, full_resolution=32)
        assert len(network.stages) == n_stages
        for index, stage in enumerate(network.stages):
            (op,) = stage
            blocks = list(stage[op])
            assert op == arch[f"s{index}.op"]
            assert len(blocks) == arch[f"s{index}.depth"]
            assert len({type(block) for block in blocks}) == 1
            dense = [m for b in blocks for n, m in b.named_modules() if type(m).__name__ == "Conv2d" and "se" not in n]
            kernels = {conv.kernel_size for conv in dense} - {(1, 1)}
            kernel = arch.get(f"s{index}.kernel", 3)
            assert kernels == {(kernel, kernel)}
            gates = {any(type(m).__name__ == "SqueezeExcite" for m in block.modules()) for block in blocks}
            assert gates == {arch[f"s{index}.se"]}
            ends = {list(block.children())[-2 if op == "residual" else -1] for block in blocks}
            assert len(ends) == len(blocks)
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
    assert ("residual" in operators) == any(
        "s0.kernel" not in space.sample(random.Random(seed)) for seed in range(64)
    )


def test_stages_leave_about_four_pixels():
    """The last feature map, of the largest resolution, is 2 to 7 pixels a side: neither gone nor a waste."""
    for resolution in (8, 16, 28, 32, 48, 64, 96, 128, 160, 224):
        stem, first = (2 if resolution >= 24 else 1), (2 if resolution >= 64 else 1)
        side = resolution / stem / first / 2 ** (stages(resolution) - 1)
        assert 2 <= side <= 7, (resolution, side)


@pytest.mark.parametrize(
    ("resolution", "operators", "message"),
    [(7, OPERATORS, "too small"), (32, ("conv9x9",), "unknown operators"), (32, (), "choose from")],
)
def test_senseless_spaces_are_refused(resolution: int, operators: tuple[str, ...], message: str):
    with pytest.raises(InputError, match=message):
        conv_space(resolution, operators=operators)
