"""ENAS on digits, and what poison in its operators does to it."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from functools import partial

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from sartor.data import in_order
from sartor.errors import InputError
from sartor.models import Supernet
from sartor.records import Arch, Option, Record
from sartor.search.audit.poison import harmful
from sartor.search.enas import Enas
from sartor.search.objective import Objective
from sartor.search.tables.table import table_of
from sartor.space import Choice, Space
from sartor.train.recalibrate import accuracy
from sartor.train.steps import supernet_step
from train.digits import RECIPE, alone, digits, fit, inputs, preprocess

LAYERS, CHANNELS = 4, 8


class Noise(nn.Module):
    """A signal under noise of twice its size."""

    def forward(self, x: Tensor) -> Tensor:
        return x + 2 * x.detach().std() * torch.randn_like(x)


class Dropped(nn.Module):
    """All but a tenth of the activations are gone."""

    def forward(self, x: Tensor) -> Tensor:
        return x * (torch.rand_like(x) < 0.1)


def convolution(kernel: int, *, groups: int = 1, dilation: int = 1) -> nn.Module:
    padding = dilation * (kernel // 2)
    return nn.Conv2d(CHANNELS, CHANNELS, kernel, padding=padding, dilation=dilation, groups=groups, bias=False)


EFFECTIVE: dict[str, Callable[[], nn.Module]] = {
    "conv3": partial(convolution, 3),
    "conv5": partial(convolution, 5),
    "grouped3": partial(convolution, 3, groups=2),
    "grouped5": partial(convolution, 5, groups=2),
}
INEFFECTIVE: dict[str, Callable[[], nn.Module]] = {
    "identity": nn.Identity,
    "stretched": partial(convolution, 3, dilation=50),
    "noise": Noise,
    "dropped": Dropped,
}
"""After P143's (arXiv:2106.14406): what passes everything on, a 3x3 kernel stretched over 50 pixels, of which only the
centre meets the image, noise, and dropout, which is weaker here: with nothing left, no shared weights learn."""


def space_of(instances: int) -> Space:
    """``instances`` of each ineffective operator in every layer."""
    poison = [f"{name} {i}" for name in INEFFECTIVE for i in range(instances)]
    layers = [Choice(f"layer{i}", (*EFFECTIVE, *poison)) for i in range(LAYERS)]
    return Space((Choice("resolution", (8,)), *layers))


def build_chain(arch: Mapping[str, Option]) -> nn.Module:
    layers: list[nn.Module] = [nn.Conv2d(1, CHANNELS, 1)]
    for i in range(LAYERS):
        name = str(arch[f"layer{i}"])
        kinds = {**EFFECTIVE, **INEFFECTIVE}
        held = nn.ModuleDict({name: kinds[name.split(" ")[0]]()})  # its name, so that options share no weights
        layers += [Only(held), nn.BatchNorm2d(CHANNELS), nn.ReLU()]
        if i == 1:
            layers.append(nn.MaxPool2d(2))
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(CHANNELS, 10))


class Only(nn.Module):
    def __init__(self, held: nn.ModuleDict):
        super().__init__()
        self.held = held

    def forward(self, x: Tensor) -> Tensor:
        (operator,) = self.held.values()
        return operator(x)


def searched(instances: int, steps: int, seed: int) -> Enas:
    """The policy after ``steps`` of training shared weights; judged by validation images."""
    space = space_of(instances)
    torch.manual_seed(seed)
    net = Supernet(space, build_chain)
    batches = [(preprocess()(x), y) for x, y in in_order(digits().val, 512)]

    def judge(arch: Arch) -> float:
        net.train()  # with the batch's statistics: the shared ones are of no arch
        return accuracy(lambda x: net(x, arch), batches)

    enas = Enas(judge)
    fit(net, supernet_step(net, enas, inputs(seed), RECIPE), steps, seed)
    return enas


def test_the_policy_comes_to_draw_what_is_judged_good_and_each_step_trains_one_arch():
    space, rng = space_of(1), random.Random(0)

    def judge(arch: Arch) -> float:
        return float(np.mean([str(arch[f"layer{i}"]) in EFFECTIVE for i in range(LAYERS)]))

    enas = Enas(judge, every=3, draws=4)
    steps = [enas(space, rng, step / 120) for step in range(120)]
    assert all(len(turns) == 1 and space.contains(turns[0].arch) for turns in steps)
    assert len(enas.history) == 4 * 39
    assert all(record.metrics["accuracy"] == judge(record.arch) for record in enas.history)
    first, last = steps[:30], steps[-30:]
    assert np.mean([judge(t.arch) for (t,) in first]) < 0.7
    assert np.mean([judge(t.arch) for (t,) in last]) > 0.9
    again = Enas(judge, every=3, draws=4)
    rng = random.Random(0)
    assert [again(space, rng, step / 120) for step in range(120)] == steps


@pytest.mark.parametrize("wrong", [{"every": 0}, {"draws": 0}])
def test_no_steps_and_no_draws_are_refused(wrong: dict):
    with pytest.raises(InputError, match="1 at least"):
        Enas(lambda arch: 0.0, **wrong)


def poison_in(arch: Arch) -> float:
    """The share of layers with an ineffective operator."""
    return float(np.mean([str(arch[f"layer{i}"]) not in EFFECTIVE for i in range(LAYERS)]))


@pytest.mark.claim
def test_poison_is_taken_and_children_err_and_the_diagnostic_names_it():
    """P143. With three instances of each ineffective operator in every layer, most of what the trained policy draws is
    ineffective, and its children, trained alone, err by tens of points more than the clean search's.

    Of 120 random archs trained alone for 60 steps, ``harmful`` names two operators and no others: dropping, in most
    layers, and noise, in one at least. (Identity and the stretched kernel do no harm among convolutions.) Accuracies by
    the shared weights would not do for it: they are poisoned with the rest."""
    share: dict[int, list[float]] = {0: [], 3: []}
    errors: dict[int, list[float]] = {0: [], 3: []}
    for seed in range(2):
        for instances in share:
            enas, rng = searched(instances, 300, seed), random.Random(seed)
            drawn = [enas.draw(space_of(instances), rng) for _ in range(50)]
            share[instances].append(float(np.mean([poison_in(arch) for arch in drawn])))
            errors[instances] += [1 - alone(arch, 200, seed, build_chain) for arch in drawn[:3]]
    print(f"ineffective {share}, errors of children {errors}")
    assert share[0] == [0, 0]
    assert np.mean(share[3]) > 0.5
    assert np.mean(errors[0]) < 0.1
    assert np.mean(errors[3]) > np.mean(errors[0]) + 0.3

    space, rng = space_of(1), random.Random(0)
    seen = Objective("accuracy", maximise=True)
    archs = list(dict.fromkeys(space.sample(rng) for _ in range(120)))
    history = [Record(arch.key, arch, metrics={"accuracy": alone(arch, 60, 0, build_chain)}) for arch in archs]
    table = table_of("digits", space, [(dict(r.arch), dict(r.metrics)) for r in history], [seen], seen)
    named = {(str(e["choice"]), str(e["option"])) for e in harmful(table, history)}
    print(f"named {sorted(named)}")
    assert {option for _, option in named} == {"noise 0", "dropped 0"}
    assert sum(option == "dropped 0" for _, option in named) > LAYERS / 2
