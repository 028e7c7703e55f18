"""Train once (P412): entries that are brought to zero in training, and the network without them."""

from __future__ import annotations

import copy
import math
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from sartor.compress.once import DHSPG
from sartor.errors import BudgetError, InputError
from sartor.graph import trace
from sartor.train.loop import Recipe, train
from sartor.train.recalibrate import accuracy
from sartor.train.steps import plain_step
from train.digits import builder, fit, held_out, inputs, small_space

SGD = Recipe(batch_size=64, optimiser="sgd", peak_lr=0.8)
"""The method is for networks whose weights may shrink: Muon sets the norm of every kernel itself."""


class Residual(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.n = nn.Conv2d(8, 16, 3, padding=1), nn.BatchNorm2d(16)
        self.b, self.m = nn.Conv2d(16, 8, 3, padding=1), nn.BatchNorm2d(8)

    def forward(self, x: Tensor) -> Tensor:
        return (x + self.m(self.b(self.n(self.a(x)).relu()))).relu()


class Concatenated(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Conv2d(8, 4, 1), nn.Conv2d(8, 12, 3, padding=1, groups=4)

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([self.a(x).relu(), self.b(x).relu()], 1)


NETS = {
    "residual": lambda: [nn.Conv2d(1, 8, 3, padding=1), nn.BatchNorm2d(8), Residual(), nn.Conv2d(8, 8, 1)],
    "concatenated": lambda: [nn.Conv2d(1, 8, 3, padding=1), nn.ReLU(), Concatenated(), nn.Conv2d(16, 8, 1)],
    "grouped": lambda: [nn.Conv2d(1, 8, 3, padding=1), nn.Conv2d(8, 16, 3, groups=2), nn.ReLU(), nn.Conv2d(16, 8, 1)],
}


def network(name: str) -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(*NETS[name](), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 10))


def loss_step(model: nn.Module):
    """Random images and labels: enough to move every weight."""

    def step(images: Tensor, labels: Tensor, progress: float, index: int) -> float:
        loss = nn.functional.cross_entropy(model(images), labels)
        loss.backward()
        return float(loss.detach())

    return step


def noise(start: int):
    generator = torch.Generator().manual_seed(start)
    while True:
        yield torch.randn(16, 1, 8, 8, generator=generator), torch.randint(10, (16,), generator=generator)


@pytest.mark.parametrize("name", NETS)
@pytest.mark.parametrize("optimiser", ["sgd", "muon", "adamw"])
def test_the_small_network_is_the_zeroed_one(name: str, optimiser: str) -> None:
    """Exactly as many entries as asked for are zero, and without them the network says what it said with them."""
    model = network(name)
    graph = trace(model, torch.randn(2, 1, 8, 8))
    once = DHSPG(graph, 0.5)
    recipe = Recipe(optimiser=optimiser, batch_size=16, peak_lr=1e-2 if optimiser == "adamw" else 0.4)  # type: ignore[arg-type]
    train(model, once.step(loss_step(model)), noise, recipe, seconds=math.inf, max_steps=40)
    small = once.small()
    assert once.zeros == once.target == round(0.5 * sum(g.size for g in graph.groups if g.name not in once.excluded))
    x = torch.randn(8, 1, 8, 8)
    with torch.no_grad():
        expected, found = model.eval()(x), small.eval()(x)
    assert float((found - expected).abs().max()) <= 1e-5 * float(expected.abs().max()) + 1e-6
    left = {g.name: g.size for g in trace(small, torch.randn(2, 1, 8, 8)).groups}
    gone = sum(g.size - left.get(g.name, 1) for g in graph.groups)
    assert gone == once.zeros
    assert sum(p.numel() for p in small.parameters()) < 0.6 * sum(p.numel() for p in model.parameters())


def test_zero_entries_stay_zero() -> None:
    """From the end on, in every forward pass, whatever the optimiser's momentum says."""
    model = network("residual")
    once = DHSPG(trace(model, torch.randn(2, 1, 8, 8)), 0.5, start=0.1, end=0.4)
    seen: list[tuple[float, int]] = []
    plain = loss_step(model)

    def counted(images: Tensor, labels: Tensor, progress: float, index: int) -> float:
        hidden = model[2].a.weight.detach().flatten(1).norm(dim=1)
        seen.append((progress, int((hidden == 0).sum())))
        return plain(images, labels, progress, index)

    train(model, once.step(counted), noise, Recipe(batch_size=16, peak_lr=0.4), seconds=math.inf, max_steps=50)
    zeros = [n for _, n in seen]
    assert zeros == sorted(zeros), "none comes back"
    assert zeros[0] == 0
    final = [n for progress, n in seen if progress >= 0.4]
    assert final[0] == final[-1] > 0


def test_a_timed_training_begins_at_the_beginning() -> None:
    """The loop first measures the pace at all places of the training, and undoes it: that is no progress."""
    model = network("residual")
    once = DHSPG(trace(model, torch.randn(2, 1, 8, 8)), 0.5, start=0.3)
    plain, seen = loss_step(model), []

    def counted(images: Tensor, labels: Tensor, progress: float, index: int) -> float:
        seen.append((progress, once.zeros))
        return plain(images, labels, progress, index)

    train(model, once.step(counted), noise, SGD, seconds=1.0)
    begin = max(i for i, (progress, _) in enumerate(seen) if progress == 0.0)
    assert all(zeros == 0 for progress, zeros in seen[begin:] if progress < 0.3)
    once.small()
    assert once.zeros == once.target


class Killed(Exception):
    pass


@pytest.mark.parametrize("kill_at", [12, 30])
def test_it_survives_a_kill(tmp_path: Path, kill_at: int) -> None:
    """Resumed, the same entries are zero and the weights are the same to the bit."""

    def go(checkpoint: Path | None, kill_at: int | None = None) -> nn.Module:
        model = network("residual")
        once = DHSPG(trace(model, torch.ones(2, 1, 8, 8)), 0.5)
        taken = []

        def check_stop() -> None:
            taken.append(1)
            if kill_at is not None and len(taken) > kill_at:
                raise Killed

        step = once.step(loss_step(model))
        train(model, step, noise_at, SGD, seconds=math.inf, max_steps=48, checkpoint=checkpoint, check_stop=check_stop)
        return once.small()

    whole = go(None)
    with pytest.raises(Killed):
        go(tmp_path / "c.safetensors", kill_at)
    resumed = go(tmp_path / "c.safetensors")
    assert [n for n, _ in whole.named_modules()] == [n for n, _ in resumed.named_modules()], "no trace of the tool"
    for (name, a), b in zip(whole.state_dict().items(), resumed.state_dict().values(), strict=True):
        assert torch.equal(a, b), name


def noise_at(start: int):
    """As ``noise``, step by step: a resumed training sees the same."""
    step = start
    while True:
        yield next(noise(step))
        step += 1


@pytest.mark.parametrize("broken", [5, 16])
def test_a_loss_that_is_not_finite_is_recovered_from(broken: int) -> None:
    model = network("residual")
    once = DHSPG(trace(model, torch.randn(2, 1, 8, 8)), 0.5)
    plain, calls = loss_step(model), []

    def step(images: Tensor, labels: Tensor, progress: float, index: int) -> float:
        calls.append(index)
        loss = plain(images, labels, progress, index)
        if len(calls) == broken:
            for parameter in model.parameters():
                parameter.grad = torch.full_like(parameter, math.nan)
            return math.nan
        return loss

    train(model, once.step(step), noise, SGD, seconds=math.inf, max_steps=48)
    small = once.small()
    assert once.zeros == once.target
    assert all(bool(p.isfinite().all()) and float(p.detach().abs().max()) < 100 for p in small.parameters())


def test_what_a_layer_norm_counts_is_left_whole() -> None:
    """Zeros are part of a layer norm's mean and variance; hidden units behind it are free."""

    class Net(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.norm, self.b, self.c = nn.Linear(6, 8), nn.LayerNorm(8), nn.Linear(8, 16), nn.Linear(16, 3)

        def forward(self, x: Tensor) -> Tensor:
            return self.c(self.b(self.norm(self.a(x))).relu())

    graph = trace(Net(), torch.randn(2, 6))
    before = copy.deepcopy(graph.model.state_dict())
    once = DHSPG(graph, 0.5)
    assert once.excluded == ["a"]
    assert once.target == 8, "half of the sixteen hidden units"
    for name, tensor in before.items():
        assert torch.equal(tensor, graph.model.state_dict()[name]), "trying it left the weights as they were"


@pytest.mark.parametrize(
    ("options", "error", "says"),
    [
        ({"sparsity": 1.0}, InputError, "sparsity is a share"),
        ({"start": 0.5, "end": 0.2}, InputError, "start < end"),
        ({"periods": 0}, InputError, "period"),
        ({"periods": 2.5}, InputError, "period"),
        ({"least": math.nan}, InputError, "least"),
        ({"protect": ("*",)}, InputError, "no group"),
        ({"protect": ("nowhere",)}, InputError, "no layer"),
        ({"sparsity": 0.95}, BudgetError, "at most"),
    ],
)
def test_bad_options(options: dict, error: type[Exception], says: str) -> None:
    with pytest.raises(error, match=says):
        DHSPG(trace(network("residual"), torch.randn(2, 1, 8, 8)), **options)


def test_before_the_training_there_is_no_small_network() -> None:
    once = DHSPG(trace(network("residual"), torch.randn(2, 1, 8, 8)))
    with pytest.raises(InputError, match=r"train the network with DHSPG\.step first"):
        once.small()


@pytest.mark.claim
def test_half_of_a_network_trained_once() -> None:
    """Half of all entries go in one training, and without another step the accuracy is within a point of that of the
    whole network trained as long."""
    arch = small_space((24,), stem=(16,)).largest()
    results = {}
    for name in ("whole", "once"):
        torch.manual_seed(0)
        model = builder(arch)
        step = plain_step(model, inputs(0), SGD, side=8)
        once = DHSPG(trace(model, torch.randn(2, 1, 8, 8)), 0.5) if name == "once" else None
        fit(model, step if once is None else once.step(step), 600, 0, SGD)
        results[name] = accuracy((model if once is None else once.small()).eval(), held_out())
    print(results)
    assert results["once"] > results["whole"] - 0.01
