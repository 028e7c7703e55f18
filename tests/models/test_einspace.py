"""einspace: every derivation builds, published blocks are spelled in it, and their shapes are those foreseen."""

from __future__ import annotations

import math
import random

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from contracts.derivation import DerivationSuite
from sartor.errors import InputError
from sartor.models.einspace import (
    Branching,
    attention,
    branch,
    build_einspace,
    compute,
    convolution,
    mixer_block,
    resnet_block,
    route,
    sequence,
    vit_block,
)
from sartor.records import Arch
from sartor.search.loop import search
from sartor.search.methods.evolution import evolution
from sartor.search.objective import Objective
from sartor.space.einspace import COMPUTATION, einspace, merged

SHORT = einspace((3, 8, 8), height=6, widths=(8, 16), branches=(2, 4))
TALL = einspace((3, 16, 16), height=14, widths=(16, 32), branches=(2, 4))
PATCHES = route("unfold4s4", compute("linear32"), "identity")


class TestEinspace(DerivationSuite):
    space = SHORT


BLOCKS = {
    "resnet": (sequence(convolution(32), resnet_block(32)), (32, 16, 16)),
    "vit": (sequence(PATCHES, compute("position"), vit_block(32, heads=2, hidden=32)), (16, 32)),
    "mixer": (sequence(PATCHES, mixer_block(32, 16, hidden=32)), (16, 32)),
}


@pytest.mark.parametrize("name", BLOCKS)
def test_published_blocks_are_in_the_space_and_build(name: str):
    words, shape = BLOCKS[name]
    arch = TALL.spelled(words)
    assert TALL.contains(arch)
    assert TALL.derivation(arch).result == shape
    assert -math.inf < TALL.log_probability(arch) < 0
    network = build_einspace(TALL, arch, classes=10)
    assert network[0](torch.randn(2, 3, 16, 16)).shape == (2, *shape)
    assert network(torch.randn(2, 3, 16, 16)).shape == (2, 10)


def test_a_linear_map_of_unfolded_patches_is_a_convolution():
    arch = TALL.spelled(sequence(convolution(32), compute("identity")))
    network = build_einspace(TALL, arch, classes=10)[0].eval()
    (linear,) = (m for m in network.modules() if isinstance(m, nn.Linear))
    twin = nn.Conv2d(3, 32, 3, padding=1)
    twin.weight.data, twin.bias.data = linear.weight.data.reshape(32, 3, 3, 3), linear.bias.data
    x = torch.randn(2, 3, 16, 16)
    torch.testing.assert_close(network(x), twin(x), rtol=1e-4, atol=1e-5)


def test_the_attention_spelled_is_scaled_dot_product_attention():
    arch = TALL.spelled(sequence(PATCHES, attention(16)))
    network = build_einspace(TALL, arch, classes=10)[0].eval()
    tokens = torch.randn(2, 16, 32)
    outer = network[1]
    assert isinstance(outer, Branching)
    scores, value = outer.branches[0][0], outer.branches[1]
    query, key = scores.branches[0], scores.branches[1][1]
    expected = nn.functional.scaled_dot_product_attention(query(tokens), key(tokens), value(tokens))
    torch.testing.assert_close(outer(tokens), expected, rtol=1e-4, atol=1e-5)


@given(st.integers(0, 2**32))
def test_every_part_of_a_network_gives_the_shape_foreseen(seed: int):
    arch = SHORT.sample(random.Random(seed))
    root = SHORT.derivation(arch)
    network = build_einspace(SHORT, arch, classes=4).eval()
    with torch.no_grad():
        x = torch.randn(2, 3, 8, 8)
        assert network[0](x).shape == (2, *root.result)
        assert network(x).shape == (2, 4)


@given(st.data())
def test_shapes_of_aggregations_are_torchs(data):
    size = st.integers(1, 4)
    n = data.draw(st.integers(2, 3))
    parts = tuple(tuple(data.draw(size) for _ in range(2)) for _ in range(n))
    names = ["add", "cat.0", "cat.1", *(["dot", "scaled_dot"] if n == 2 else [])]
    name = data.draw(st.sampled_from(names))
    module = Branching([nn.Identity()] * n, None, name, 1.0)
    module.branches = nn.ModuleList(_Constant(part) for part in parts)
    found = merged(name, parts)
    if found is None:
        with pytest.raises(RuntimeError):
            module(torch.zeros(1))
    else:
        assert module(torch.zeros(1)).shape == (1, *found)


class _Constant(nn.Module):
    def __init__(self, shape: tuple[int, ...]):
        super().__init__()
        self.shape = shape

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return torch.zeros(1, *self.shape)


def test_computations_are_as_likely_as_the_authors_have_them():
    node = SHORT.derivation(SHORT.spelled(sequence(compute("identity"), compute("norm")))).part("first")
    weight = {rule.option: rule.weight for rule in node.viable}
    assert weight["compute"] == COMPUTATION
    assert sum(weight.values()) == pytest.approx(1)


def test_every_derivation_of_a_low_height_builds():
    space = einspace((3, 4, 4), height=3, widths=(8,), branches=(2,))
    archs = list(space.every())
    assert space.count() == len(archs) == len(set(archs))
    for arch in archs:
        assert build_einspace(space, arch, classes=2)(torch.randn(2, 3, 4, 4)).shape == (2, 2)


@pytest.mark.parametrize(
    ("arguments", "fix"),
    [
        ({"shape": (3, 16, 8)}, "square"),
        ({"shape": (16, 16)}, "square"),
        ({"computation": 1.5}, "between 0 and 1"),
        ({"widths": ()}, "widths"),
        ({"branches": (1,)}, "branches"),
        ({"height": 1}, "allow more"),
    ],
)
def test_refuses_bad_input(arguments, fix):
    with pytest.raises(InputError, match=fix):
        einspace(**arguments)


def test_refuses_branches_that_do_not_fit():
    left, right = sequence(compute("identity"), PATCHES), compute("identity")
    with pytest.raises(InputError, match="must be one of"):
        TALL.spelled(branch("clone2", "add", left, right))


@pytest.mark.claim
def test_ten_thousand_derivations_build_and_run():
    rng, x = random.Random(0), torch.randn(2, 3, 8, 8)
    space = einspace((3, 8, 8), height=8, widths=(8, 16), branches=(2, 4))
    with torch.no_grad():
        for _ in range(10_000):
            arch = space.sample(rng)
            assert build_einspace(space, arch, classes=4)(x).shape == (2, 4), arch


@pytest.mark.claim
def test_evolution_from_a_residual_block_improves_on_it():
    """Real digits of 8 pixels a side, one in each channel, as Unseen NAS's AddNIST has them; the label is which is the
    largest (AddNIST's, their sum, takes longer to learn than a test has). The best by validation is judged on images
    that the search did not see."""
    space = einspace((3, 8, 8), height=11, widths=(8, 16), branches=(2,))
    baseline = space.spelled(sequence(convolution(16), resnet_block(16)))
    train, validation, test = (rgb_digits(part, n) for part, n in ((0, 1024), (1, 1024), (2, 1024)))

    def evaluate(arch: Arch) -> dict[str, float]:
        network = trained(space, arch, train)
        return {"accuracy": accuracy(network, validation), "test": accuracy(network, test)}

    goal = [Objective("accuracy", maximise=True)]
    strategy = lambda s, h, r, n: evolution(s, h, r, n, objectives=goal, population=4, sample=3)
    start = [baseline, *(space.mutate(baseline, random.Random(seed), 0.0) for seed in range(3))]
    found = search(space, evaluate, strategy, evaluations=10, seed=0, batch=1, initial=start)
    best = max(found, key=lambda record: record.metrics["accuracy"])
    assert best.arch != baseline
    assert best.metrics["test"] > found[0].metrics["test"]


def rgb_digits(part: int, n: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Images ``[n, 3, 8, 8]`` of three digits of a third of scikit-learn's, and which is the largest."""
    from sklearn.datasets import load_digits

    digits = load_digits()
    rng = np.random.default_rng(part)
    pick = rng.choice(np.arange(part, len(digits.target), 3), (n, 3))
    x = torch.from_numpy(digits.images[pick].astype(np.float32) / 8 - 1)
    return x, torch.from_numpy(digits.target[pick].argmax(1))


def trained(space, arch: Arch, data: tuple[torch.Tensor, torch.Tensor], steps: int = 150) -> nn.Module:
    torch.manual_seed(0)
    network, (x, y) = build_einspace(space, arch, classes=3).train(), data
    optimiser = torch.optim.AdamW(network.parameters(), lr=4e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, 4e-3, total_steps=steps)
    for _ in range(steps):
        pick = torch.randint(len(x), (64,))
        loss = nn.functional.cross_entropy(network(x[pick]), y[pick])
        optimiser.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimiser.step()
        schedule.step()
    return network.eval()


def accuracy(network: nn.Module, data: tuple[torch.Tensor, torch.Tensor]) -> float:
    with torch.no_grad():
        return float((network(data[0]).argmax(1) == data[1]).float().mean())
