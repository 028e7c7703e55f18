"""The loop against an independent one, its plan in time, its rate to zero."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from sartor.train.loop import Recipe, Training, train
from train.loops import ADAMW, MUON, SGD, batches, network, run, same, state_of, step_of, told


@pytest.mark.parametrize("warmup", [0.0, 0.2])
def test_an_independent_loop_gives_the_same(warmup):
    """Nesterov SGD with clipping, decay, rates and the average written out, in float64, without torch's optimiser."""
    recipe, n = replace(SGD, warmup=warmup, clip_norm=0.7), 26  # not a multiple of the average's 4
    module = network().double()

    def step(images: Tensor, labels: Tensor, progress: float, index: int) -> float:
        loss = F.cross_entropy(module(images.double()), labels)
        loss.backward()
        return float(loss.detach())

    reference = copy.deepcopy(module).train()
    velocity = {name: torch.zeros_like(p) for name, p in reference.named_parameters()}
    average = state_of(reference)
    stream = batches(0)
    for index in range(n):
        images, labels = next(stream)
        reference.zero_grad()
        F.cross_entropy(reference(images.double()), labels).backward()
        progress = index / n
        lr = 1.0 * 8 / 256 * min(progress / warmup if warmup else 1.0, (1 - progress) / (1 - warmup))
        norm = math.sqrt(sum(float(p.grad.square().sum()) for p in reference.parameters()))
        with torch.no_grad():
            for name, p in reference.named_parameters():
                g = p.grad * min(1.0, 0.7 / (norm + 1e-6)) + (5e-4 * p if p.dim() > 1 else 0.0)
                velocity[name] = 0.9 * velocity[name] + g
                p -= lr * (g + 0.9 * velocity[name])
        done = index + 1
        if done % 4 == 0 or done == n:
            decay = min(0.5 ** (4 / (0.2 * n)), done / (done + 10))
            for name, tensor in reference.state_dict().items():
                average[name] = decay * average[name] + (1 - decay) * tensor if tensor.is_floating_point() else tensor
    train(module, step, batches, recipe, seconds=math.inf, max_steps=n)
    assert not module.training
    for name, tensor in module.state_dict().items():
        torch.testing.assert_close(tensor, average[name], rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("recipe", [SGD, ADAMW], ids=["sgd", "adamw"])
def test_networks_trained_together_as_parts_end_as_each_alone(recipe):
    """Each at its share of the learning rate and clipped by itself, whatever the others' gradients are."""
    recipe, n = replace(recipe, clip_norm=0.7), 12
    start = [network(seed) for seed in (0, 1)]
    shares = (0.5, 1.0)
    together = nn.ModuleList(copy.deepcopy(net) for net in start)
    steps = [step_of(net, scale) for net, scale in zip(together, (1.0, 100.0), strict=True)]

    def both(images: Tensor, labels: Tensor, progress: float, index: int) -> float:
        return sum(step(images, labels, progress, index) for step in steps)

    parts = list(zip(together, shares, strict=True))
    train(together, both, batches, recipe, seconds=math.inf, max_steps=n, parts=parts)
    for net, alone, share, scale in zip(together, start, shares, (1.0, 100.0), strict=True):
        own = replace(recipe, peak_lr=share * recipe.peak_lr)
        train(alone, step_of(alone, scale), batches, own, seconds=math.inf, max_steps=n)
        for name, tensor in alone.state_dict().items():
            assert torch.equal(tensor, net.state_dict()[name]), name


def test_muon_learns_at_one_rate():
    net = network()
    with pytest.raises(ValueError, match="one learning rate"):
        train(net, step_of(net), batches, MUON, seconds=math.inf, max_steps=1, parts=[(net, 0.5)])


@settings(max_examples=40)
@given(st.lists(st.integers(1, 40), min_size=1, max_size=12), st.floats(0, 0.9), st.floats(0.5, 40))
def test_the_rate_reaches_zero_exactly_however_often_the_rest_is_planned_anew(plans, warmup, first):
    """Planned steps come true, progress ends at 1.0 to the bit, and the rate there is 0.0."""
    recipe = replace(SGD, warmup=warmup)
    seen: list[tuple[Training, float]] = []
    left = list(plans)

    def decide(key: str, compute: Callable[[], Any]) -> Any:
        if key.endswith(".pace"):
            return told(first)
        last = seen[-1][0].remaining
        return {"elapsed": 1.0, "remaining": left.pop(0) if left else last}

    weight = nn.Linear(1, 1)

    def step(images: Tensor, labels: Tensor, progress: float, index: int) -> float:
        weight(torch.ones(1, 1)).sum().backward()
        return 1.0

    train(
        weight,
        step,
        batches,
        recipe,
        seconds=40.0,
        decide=decide,
        on_progress=lambda state, loss, lr: seen.append((copy.copy(state), lr)),
    )
    final = seen[-1][0]
    assert (final.remaining, final.progress, recipe.lr(final.progress)) == (0, 1.0, 0.0)
    before = [0.0, *(state.progress for state, _ in seen[:-1])]
    assert [lr for _, lr in seen] == [recipe.lr(progress) for progress in before]
    assert [state.step for state, _ in seen] == list(range(1, len(seen) + 1))
    assert all(a < b for a, b in zip(before, [state.progress for state, _ in seen], strict=True))


@given(st.floats(0, 1), st.floats(0, 0.9))
def test_the_rate_rises_to_its_peak_and_falls_to_zero(progress, warmup):
    recipe = Recipe(batch_size=128, warmup=warmup)
    assert 0 <= recipe.lr(progress) <= 0.2 * (1 + 1e-9)
    assert recipe.lr(warmup) == pytest.approx(0.2)
    assert recipe.lr(1.0) == 0.0
    if progress >= warmup:
        assert recipe.lr(progress) == pytest.approx(0.2 * (1 - progress) / (1 - warmup))


@given(st.floats(0, 1), st.floats(0, 0.9), st.floats(0, 1))
def test_two_trainings_that_hand_over_make_one_descent(progress, warmup, share):
    """The first ends where the second begins, on one straight line from the peak to zero."""
    first = Recipe(warmup=warmup, last_lr_share=share)
    second = Recipe(peak_lr=share * first.peak_lr, warmup=0.0)
    assert first.lr(1.0) == pytest.approx(second.lr(0.0))
    assert second.lr(1.0) == 0.0
    if progress >= warmup:
        straight = 1 - (1 - share) * (progress - warmup) / (1 - warmup)
        assert first.lr(progress) == pytest.approx(first.peak_lr * straight)


def test_measuring_the_pace_leaves_no_trace():
    """A training whose pace is measured equals one that is told the same number of steps."""
    paces: list[Any] = []

    def decide(key: str, compute: Callable[[], Any]) -> Any:
        if key.endswith(".pace"):
            paces.append(compute())
            return told(1.0)
        return {"elapsed": 1.0, "remaining": 24 - int(key.rpartition(".")[2])}

    measured = run(seconds=24.0, max_steps=None, decide=decide)
    (pace,) = paces
    assert len(pace["samples"]) == 6
    assert all(0 < seconds <= pace["elapsed"] for _, seconds in pace["samples"])
    assert same(measured, run())


@pytest.mark.parametrize("case", ["a dearer second half", "a slow measurement"])
def test_progress_grows_evenly(case, monkeypatch):
    """Whatever measuring the pace took, and though a schedule's second half may cost more than its first.

    On a clock that only steps move: a real one would test the machine.
    """
    now, seen = [0.0], []
    monkeypatch.setattr("sartor.train.loop.time", SimpleNamespace(monotonic=lambda: now[0]))
    weight = nn.Linear(1, 1)

    def step(images: Tensor, labels: Tensor, progress: float, index: int) -> float:
        now[0] += 3.0 if progress >= 0.5 and case == "a dearer second half" else 1.0
        weight(torch.ones(1, 1)).sum().backward()
        return 1.0

    def decide(key: str, compute: Callable[[], Any]) -> Any:
        if key.endswith(".pace") and case == "a slow measurement":
            now[0] += 60.0
        return compute()

    def on_progress(state: Training, loss: float, lr: float) -> None:
        seen.append(state.progress)

    train(weight, step, batches, SGD, seconds=400.0, decide=decide, on_progress=on_progress)
    assert seen[-1] == 1.0
    assert now[0] == pytest.approx(400.0, abs=5)  # the last plan point comes before the end
    even = np.arange(1, len(seen) + 1) / len(seen)
    # Taking the mean pace so far for the rest fails both cases.
    assert np.abs(np.array(seen) - even).max() < 0.03


@pytest.mark.parametrize("recipe", [SGD, MUON, ADAMW], ids=["sgd", "muon", "adamw"])
def test_training_learns(recipe: Recipe):
    """A rule that one feature tells: the mean of the image."""

    def data(start: int) -> Iterator[tuple[Tensor, Tensor]]:
        for images, _ in batches(start):
            yield images, (images.mean((1, 2, 3)) > 0).long()

    module = network()
    rate = replace(recipe, peak_lr=0.3 if recipe.optimiser == "adamw" else 4.0)
    train(module, step_of(module), data, rate, seconds=math.inf, max_steps=100)
    images = torch.randn(500, 1, 6, 6, generator=torch.Generator().manual_seed(10**6))
    right = (module(images).argmax(1) == (images.mean((1, 2, 3)) > 0)).float().mean()
    assert right > 0.7  # guessing: 0.5
