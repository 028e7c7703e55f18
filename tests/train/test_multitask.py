"""One network for two tasks whose widths shift between them (P001, arXiv:2308.11744)."""

from __future__ import annotations

import itertools
import math
from functools import cache
from statistics import mean

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sartor.errors import BudgetError, InputError
from sartor.models.elastic import Elastic, elastify
from sartor.records import Arch
from sartor.search.preference import preferred
from sartor.train.loop import Recipe
from sartor.train.multitask import FEATURES, Task, controllable_step, drift
from train.digits import digits, fit, held_out, inputs

RECIPE = Recipe(batch_size=64, optimiser="adamw", peak_lr=1e-2, weight_decay=0.01)
STEPS = 600
TASKS = {"class": Task(), "parity": Task(lambda labels: labels % 2)}


class TwoTasks(nn.Module):
    """Which digit it is, and whether it is odd: a decoder for each behind one encoder."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.encoder = nn.Sequential(self.layer(1, 12), self.layer(12, 12, 2), nn.Conv2d(12, 8, 1))
        self.classes = nn.Sequential(self.layer(8, 32), self.layer(32, 32), nn.AdaptiveAvgPool2d(1), nn.Flatten())
        self.parity = nn.Sequential(self.layer(8, 32), self.layer(32, 32), nn.AdaptiveAvgPool2d(1), nn.Flatten())
        self.digit, self.odd = nn.Linear(32, 10), nn.Linear(32, 2)

    @staticmethod
    def layer(c_in: int, c_out: int, stride: int = 1) -> nn.Module:
        return nn.Sequential(nn.Conv2d(c_in, c_out, 3, stride, 1), nn.GroupNorm(1, c_out), nn.ReLU())

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        features = self.encoder(x)
        return {
            FEATURES: features,
            "class": self.digit(self.classes(features)),
            "parity": self.odd(self.parity(features)),
        }


def make() -> Elastic:
    widths = [share / 16 for share in range(1, 17)]
    return elastify(TwoTasks().eval(), torch.zeros(2, 1, 8, 8), widths=widths, depth=False)


def decoders(supernet: Elastic) -> dict[str, list[str]]:
    names = [choice.name for choice in supernet.space.choices]
    return {
        task: [n for n in names if n.startswith(path)] for task, path in (("class", "classes"), ("parity", "parity"))
    }


@cache
def trained(invariance: float) -> Elastic:
    supernet = make()
    step = controllable_step(supernet, TASKS, inputs(0), RECIPE, invariance=invariance)
    fit(supernet, step, STEPS, 0, RECIPE)
    return supernet.eval()


@torch.no_grad()
def losses(supernet: Elastic, arch: Arch) -> dict[str, float]:
    said = [(supernet(x, arch), y) for x, y in held_out()]
    return {
        name: mean(float(F.cross_entropy(out[name], task.target(y))) for out, y in said) for name, task in TASKS.items()
    }


def test_features_are_as_wide_in_every_arch() -> None:
    supernet = make()
    assert set(decoders(supernet)) == {"class", "parity"}
    assert all(len(names) == 2 for names in decoders(supernet).values())
    assert len(supernet.space.choices) == 6
    x = torch.randn(3, 1, 8, 8)
    small, large = supernet(x, supernet.space.smallest()), supernet(x)
    assert small[FEATURES].shape == large[FEATURES].shape == (3, 8, 4, 4)
    assert small["class"].shape == (3, 10)
    assert float(drift(large[FEATURES], large[FEATURES]).detach()) == 0
    assert float(drift(torch.zeros(2, 3), torch.randn(2, 3))) == pytest.approx(1)


def test_the_largest_teaches_and_is_not_pulled(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of the distillation loss alone: nothing but what the smaller arch has gets a gradient."""
    supernet = make().train()
    small = supernet.space.smallest()
    monkeypatch.setattr(type(supernet.space), "sample", lambda self, rng: small)
    silent = {name: Task(task.target, lambda output, target: 0.0 * output.sum()) for name, task in TASKS.items()}
    images, labels = digits().train.take(range(16)), torch.arange(16) % 10
    controllable_step(supernet, silent, inputs(0), RECIPE, archs=1)(images, labels, 0.5, 0)
    cut = supernet.cut(small)
    for group in supernet.graph.groups:
        for tie, owner in supernet.graph.entries(group):
            gradient = supernet.model.get_parameter(tie.tensor).grad.movedim(tie.dim, 0)
            gone = [i for i, own in enumerate(owner) if own >= 0 and own not in cut.keep[group.name]]
            assert float(gradient[gone].abs().sum()) == 0, tie
    assert any(float(p.grad.abs().sum()) > 0 for p in supernet.model.encoder.parameters())
    assert all(float(p.grad.abs().sum()) == 0 for p in supernet.model.odd.parameters())


def test_archs_of_a_step_see_images_of_one_size() -> None:
    supernet = elastify(TwoTasks().eval(), torch.zeros(2, 1, 8, 8), widths=(0.5, 1.0), depth=False, resolutions=(4, 8))
    seen = []
    supernet.model.encoder.register_forward_pre_hook(lambda _, args: seen.append(args[0].shape[-1]))
    step = controllable_step(supernet, TASKS, inputs(0), RECIPE, archs=1)
    images, labels = digits().train.take(range(16)), torch.arange(16) % 10
    for index in range(12):
        step(images, labels, 0.5, index)
    assert set(seen) == {4, 8}


def test_networks_that_do_not_say_what_is_asked() -> None:
    supernet = elastify(nn.Sequential(nn.Flatten(), nn.Linear(64, 16), nn.Linear(16, 10)), torch.zeros(2, 1, 8, 8))
    step = controllable_step(supernet, TASKS, inputs(0), RECIPE)
    with pytest.raises(InputError, match="a dict of features, class, parity"):
        step(digits().train.take(range(4)), torch.arange(4), 0.5, 0)


def test_a_step_reaches_all() -> None:
    supernet = make().train()
    x = torch.randint(0, 255, (16, 1, 8, 8), dtype=torch.uint8)
    y = torch.arange(16) % 10
    gradients = {}
    for invariance in (0.0, 1.0):
        supernet.zero_grad()
        controllable_step(supernet, TASKS, inputs(0), RECIPE, archs=0, invariance=invariance)(x, y, 0.5, 0)
        gradients[invariance] = [p.grad.clone() for p in supernet.parameters()]
    assert all(torch.equal(a, b) for a, b in zip(*gradients.values(), strict=True)), "alone the largest has no teacher"
    supernet.zero_grad()
    controllable_step(supernet, TASKS, inputs(0), RECIPE, archs=2)(x, y, 0.5, 0)
    assert all(not torch.equal(p.grad, g) for p, g in zip(supernet.parameters(), gradients[1.0], strict=True))


def test_a_preference_moves_the_budget() -> None:
    """By arithmetic alone: what one decoder gets the other loses, and nothing is over the budget."""
    supernet = make()
    macs = lambda arch: supernet.graph.macs(supernet.cut(arch))
    budget = round(0.4 * macs(supernet.largest))
    names = decoders(supernet)
    options = {"macs": macs, "max_macs": budget, "score": lambda arch: dict.fromkeys(names, float(macs(arch)))}
    archs = [
        preferred(supernet.space, names, {"class": p, "parity": 1 - p}, **options) for p in (0.05, 0.35, 0.65, 0.95)
    ]
    assert all(macs(arch) <= budget for arch in archs)
    width = lambda arch, task: sum(int(arch[name]) for name in names[task])
    assert [width(a, "class") for a in archs] == sorted(width(a, "class") for a in archs)
    assert [width(a, "parity") for a in archs] == sorted((width(a, "parity") for a in archs), reverse=True)
    assert width(archs[0], "class") < width(archs[-1], "class")
    everything = preferred(supernet.space, names, {"class": 1, "parity": 1}, **{**options, "max_macs": 10**9})
    assert everything == supernet.largest


@pytest.mark.parametrize(
    ("preference", "names", "says"),
    [
        ({"class": 1.0}, None, "one number for each of class, parity"),
        ({"class": 1.0, "parity": -1.0}, None, "numbers from 0 on"),
        ({"class": 0.0, "parity": 0.0}, None, "one of them above it"),
        ({"class": math.nan, "parity": 1.0}, None, "numbers from 0 on"),
        ({"class": 1.0, "parity": 1.0}, {"class": ["nothing.keep"], "parity": []}, "no choice 'nothing.keep'"),
        ({"class": 1.0, "parity": 1.0}, {"class": [], "parity": []}, "has no choices"),
        ({"class": 1.0, "parity": 1.0}, {"class": ["classes.0.0.keep"], "parity": ["classes.0.0.keep"]}, "twice"),
    ],
)
def test_preferences_that_make_no_sense(preference, names, says: str) -> None:
    supernet = make()
    options = {"macs": lambda arch: 1, "max_macs": 2, "score": lambda arch: {"class": 0.0, "parity": 0.0}}
    with pytest.raises(InputError, match=says):
        preferred(supernet.space, names or decoders(supernet), preference, **options)


def test_a_budget_that_cannot_be_met_is_named() -> None:
    supernet = make()
    macs = lambda arch: supernet.graph.macs(supernet.cut(arch))
    options = {"macs": macs, "max_macs": 10, "score": lambda arch: {"class": 0.0, "parity": 0.0}}
    with pytest.raises(BudgetError, match="is the least"):
        preferred(supernet.space, decoders(supernet), {"class": 1, "parity": 1}, **options)


@pytest.mark.claim
def test_shifting_preferences_trades_tasks() -> None:
    """At equal multiply-accumulates, without training: the more a task is preferred, the lower its held-out loss, and
    the higher the other's. With the distillation loss, features drift less between widths."""
    supernet = trained(1.0)
    macs = lambda arch: supernet.graph.macs(supernet.cut(arch))
    budget = round(0.3 * macs(supernet.largest))
    score = lambda arch: {task: -loss for task, loss in losses(supernet, arch).items()}
    found = []
    for share in (0.1, 0.5, 0.9):
        preference = {"class": share, "parity": 1 - share}
        arch = preferred(supernet.space, decoders(supernet), preference, macs=macs, max_macs=budget, score=score)
        assert macs(arch) <= budget
        found.append(losses(supernet, arch))
        print(f"class {share}: {macs(arch) / macs(supernet.largest):.3f} of the work, losses {found[-1]}")
    for before, after in itertools.pairwise(found):
        assert after["class"] < before["class"]
        assert after["parity"] > before["parity"]

    equal = {"class": 1, "parity": 1}
    sizes = [round(share * macs(supernet.largest)) for share in (0.1, 0.2, 0.4)]
    archs = [
        preferred(supernet.space, decoders(supernet), equal, macs=macs, max_macs=size, score=score) for size in sizes
    ]
    drifts = {}
    for invariance in (0.0, 1.0):
        net = trained(invariance)
        with torch.no_grad():
            drifts[invariance] = mean(
                float(drift(net(x, arch)[FEATURES], net(x)[FEATURES])) for x, _ in held_out() for arch in archs
            )
    print(f"drift without the loss {drifts[0.0]:.3f}, with it {drifts[1.0]:.3f}")
    assert drifts[1.0] < drifts[0.0]
