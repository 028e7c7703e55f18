"""Recalibrated statistics are plain means of what each norm sees; accuracy is a plain count."""

from __future__ import annotations

import copy
import random

import pytest
import torch
from torch import Tensor, nn

from sartor.models import build
from sartor.space import conv_space
from sartor.train.device import autocast
from sartor.train.recalibrate import accuracy, recalibrate
from train.digits import CPU, builder

SPACE = conv_space(8, width=16, depth=2)


def batches(n: int = 3, size: int = 16) -> list[Tensor]:
    return [1 + 2 * torch.randn(size, 1, 8, 8, generator=torch.Generator().manual_seed(seed)) for seed in range(n)]


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("training", [False, True])
def test_statistics_are_the_means_over_all_batches(seed: int, training: bool):
    """Mean of the batches' means and of their unbiased variances, of what hooks saw go into each norm, in float64."""
    torch.manual_seed(seed)
    model = build(SPACE.sample(random.Random(seed)), channels=1, classes=5, full_resolution=8).train(training)
    twin = copy.deepcopy(model).train()
    seen: dict[str, list[Tensor]] = {}
    norms = {name: m for name, m in twin.named_modules() if isinstance(m, nn.BatchNorm2d)}
    for name, norm in norms.items():
        norm.register_forward_pre_hook(
            lambda _, args, name=name: seen.setdefault(name, []).append(args[0].detach().double())
        )
    with torch.no_grad(), autocast(CPU):
        for images in batches():
            twin(images)

    parameters = [p.clone() for p in model.parameters()]
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.running_mean.fill_(7.0)  # what was there before must not count
            module.momentum = 0.3
    assert recalibrate(model, iter(batches())) is model
    assert model.training is training
    for name, norm in model.named_modules():
        if isinstance(norm, nn.BatchNorm2d):
            assert norm.momentum == 0.3
            mean = torch.stack([x.mean((0, 2, 3)) for x in seen[name]]).mean(0)
            variance = torch.stack([x.var((0, 2, 3)) for x in seen[name]]).mean(0)
            torch.testing.assert_close(norm.running_mean.double(), mean, rtol=1e-3, atol=1e-4)
            torch.testing.assert_close(norm.running_var.double(), variance, rtol=1e-3, atol=1e-4)
    assert all(torch.equal(a, b) for a, b in zip(parameters, model.parameters(), strict=True))
    assert all(p.grad is None for p in model.parameters())


def test_the_order_of_batches_does_not_matter_and_twice_is_once():
    torch.manual_seed(0)
    model = builder(SPACE.largest())
    states = []
    for images in (batches(), batches()[::-1], batches()):
        recalibrate(model, images)
        states.append({name: t.clone() for name, t in model.state_dict().items() if "running" in name})
    for name in states[0]:
        torch.testing.assert_close(states[0][name], states[1][name])
        assert torch.equal(states[0][name], states[2][name])


def test_dropout_draws_nothing():
    """The statistics are those of the network that is shipped, and the same each time; nothing is drawn."""
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Dropout(0.5), nn.BatchNorm2d(4)).train()
    images = torch.randn(16, 3, 8, 8)
    state = torch.get_rng_state()
    recalibrate(net, [images])
    assert torch.equal(torch.get_rng_state(), state)
    torch.testing.assert_close(net[2].running_mean, net[0](images).mean((0, 2, 3)), atol=1e-2, rtol=1e-2)  # bf16
    assert all(module.training for module in net.modules())
    plain = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Dropout(0.5))
    given = iter([images])
    recalibrate(plain, given)
    assert next(given) is images, "nothing to recalibrate: no image is asked for"


def test_accuracy_counts():
    images = torch.eye(4)[torch.tensor([0, 1, 2, 3, 3, 2])]
    labels = torch.tensor([0, 1, 2, 3, 0, 0])
    assert accuracy(lambda x: x, zip(images.split(4), labels.split(4), strict=True)) == 4 / 6
    assert accuracy(lambda x: x, []) != accuracy(lambda x: x, [])  # NaN
