"""``build(arch)`` is the network the arch says: sizes by formula, strides by shape, names by stage and operator."""

from __future__ import annotations

import math
import random

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sartor.models import build, input_shape, resize
from sartor.records import Arch
from sartor.space import OPERATORS, conv_space
from sartor.space.presets import stages


def conv_norm(c_in: int, c_out: int, kernel: int, groups: int = 1) -> int:
    """Parameters of a bias-free convolution and its norm."""
    return c_in // groups * c_out * kernel**2 + 2 * c_out


def gate(channels: int) -> int:
    hidden = max(8, math.ceil(channels / 32) * 8)
    return channels * hidden + hidden + hidden * channels + channels


def n_params(arch: Arch, channels: int, classes: int) -> int:
    """The parameters of ``arch``'s network from its choices, by hand."""
    c_in = arch["stem.width"]
    total = conv_norm(channels, c_in, 3)
    stage = 0
    while f"s{stage}.op" in arch:
        op, width, depth, se = (arch[f"s{stage}.{kind}"] for kind in ("op", "width", "depth", "se"))
        for index in range(depth):
            if op in ("residual", "pooled"):
                total += conv_norm(c_in, width, 3) + conv_norm(width, width, 3)
                total += conv_norm(c_in, width, 1) if index == 0 else 0
                total += gate(width) if se else 0
            else:
                hidden, kernel = arch[f"s{stage}.expand"] * c_in, arch[f"s{stage}.kernel"]
                if op == "mbconv":
                    total += conv_norm(c_in, hidden, 1) + conv_norm(hidden, hidden, kernel, groups=hidden)
                else:
                    total += conv_norm(c_in, hidden, kernel)
                total += conv_norm(hidden, width, 1) + (gate(hidden) if se else 0)
            c_in = width
        stage += 1
    return total + c_in * classes + classes


@settings(max_examples=40)
@given(
    st.integers(8, 256),
    st.sampled_from([16, 48, 64]),
    st.integers(1, 3),
    st.integers(1, 3),
    st.integers(2, 20),
    st.data(),
)
def test_sizes_shapes_and_names(resolution, width, depth, channels, classes, data):
    space = conv_space(resolution, width=width, depth=depth)
    arch = space.sample(random.Random(data.draw(st.integers(0, 2**32))))
    shape = input_shape(arch, channels)
    assert shape == (channels, arch["resolution"], arch["resolution"])
    with torch.device("meta"):  # shapes without the work
        network = build(arch, channels=channels, classes=classes, full_resolution=resolution).eval()
        assert sum(p.numel() for p in network.parameters()) == n_params(arch, channels, classes)
        assert network(torch.empty(3, *shape)).shape == (3, classes)

        # Halvings depend on the space's resolution, not on the arch's.
        x = network.stem(torch.empty(1, channels, resolution, resolution))
        side = math.ceil(resolution / 2) if resolution >= 24 else resolution
        assert x.shape[-2:] == (side, side)
        for index, stage in enumerate(network.stages):
            ((name, blocks),) = stage.items()
            assert name == arch[f"s{index}.op"]
            assert [key for key, _ in blocks.named_children()] == [str(i) for i in range(arch[f"s{index}.depth"])]
            x = blocks(x)
            side = math.ceil(side / 2) if index > 0 or resolution >= 64 else side
            assert x.shape == (1, arch[f"s{index}.width"], side, side)
        assert len(network.stages) == stages(resolution)


@settings(max_examples=20)
@given(st.integers(1, 3), st.integers(4, 40), st.integers(4, 40), st.integers(0, 2**32))
def test_resize(channels, before, after, seed):
    x = torch.rand(2, channels, before, before, generator=torch.Generator().manual_seed(seed))
    y = resize(x, after)
    assert y.shape == (2, channels, after, after)
    assert resize(x, before) is x
    # Antialiased interpolation averages with weights that add up to one: constants stay, the range is kept.
    torch.testing.assert_close(resize(torch.full_like(x, 0.7), after), torch.full_like(y, 0.7))
    assert float(x.min()) - 1e-6 <= float(y.min()) <= float(y.max()) <= float(x.max()) + 1e-6
    assert resize(x.bfloat16(), after).dtype == torch.bfloat16


@pytest.mark.parametrize("op", OPERATORS)
def test_every_operator_learns(op):
    """A few steps on one batch lower the loss of a network of each operator: every part is connected."""
    torch.manual_seed(0)
    space = conv_space(8, width=16, depth=2, operators=(op,))
    network = build(space.largest(), channels=1, classes=4, full_resolution=8)
    x, y = torch.randn(16, 1, 8, 8), torch.arange(16) % 4
    optimiser = torch.optim.SGD(network.parameters(), lr=0.05)
    losses = []
    for _ in range(8):
        optimiser.zero_grad()
        loss = torch.nn.functional.cross_entropy(network(x), y)
        loss.backward()
        learning = [p for p in network.parameters() if p.requires_grad]
        assert all(p.grad is not None and bool((p.grad != 0).any()) for p in learning)
        optimiser.step()
        losses.append(float(loss.detach()))
    assert losses[-1] < 0.85 * losses[0]
