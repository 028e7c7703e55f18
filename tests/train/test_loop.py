"""The loop against an independent one, and its promises: rate to zero, resumed bit for bit, safe from NaN."""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from sartor.data import shuffled
from sartor.errors import InputError, SartorError
from sartor.models import Supernet
from sartor.train.device import place
from sartor.train.loop import Recipe, Training, train
from sartor.train.schedule import sandwich
from sartor.train.steps import supernet_step
from train.digits import CPU, RECIPE, builder, digits, inputs, small_space

SGD = Recipe(optimiser="sgd", batch_size=8, peak_lr=1.0, ema_half_life=0.2, warmup=0.2)
MUON = replace(SGD, optimiser="muon", peak_lr=0.4)


class Killed(Exception):
    """The process is gone."""


def network(seed: int = 0) -> nn.Module:
    """A small network with what the loop treats differently: filters, a matrix, biases, norms and their buffers."""
    torch.manual_seed(seed)
    return nn.Sequential(
        nn.Conv2d(1, 4, 3, bias=False),
        nn.BatchNorm2d(4),
        nn.ReLU(),
        nn.Conv2d(4, 6, 3, bias=False),
        nn.BatchNorm2d(6),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(24, 3),
    )


def batches(start: int) -> Iterator[tuple[Tensor, Tensor]]:
    while True:
        generator = torch.Generator().manual_seed(start)
        yield torch.randn(8, 1, 6, 6, generator=generator), torch.randint(0, 3, (8,), generator=generator)
        start += 1


def step_of(module: nn.Module) -> Callable[[Tensor, Tensor, float, int], float]:
    def step(images: Tensor, labels: Tensor, progress: float, index: int) -> float:
        loss = F.cross_entropy(module(images), labels)
        loss.backward()
        return float(loss.detach())

    return step


def run(recipe: Recipe = SGD, *, step: Any = None, module: nn.Module | None = None, **options: Any) -> nn.Module:
    module = network() if module is None else module
    options.setdefault("max_steps", 24)
    return train(module, step or step_of(module), batches, recipe, **{"seconds": math.inf, **options})


def killed_after(calls: int) -> Callable[[], None]:
    left = [calls]

    def check_stop() -> None:
        if left[0] == 0:
            raise Killed
        left[0] -= 1

    return check_stop


def told(seconds: float) -> dict[str, Any]:
    """A pace of so many seconds a step, as it is written down."""
    return {"samples": [[0.5, seconds]], "elapsed": 0.0}


def same(a: nn.Module | dict[str, Tensor], b: nn.Module | dict[str, Tensor]) -> bool:
    a, b = (m.state_dict() if isinstance(m, nn.Module) else m for m in (a, b))
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def state_of(module: nn.Module) -> dict[str, Tensor]:
    return copy.deepcopy(module.state_dict())


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


@pytest.mark.parametrize("recipe", [SGD, MUON], ids=["sgd", "muon"])
def test_resuming_after_a_kill_at_any_step_is_bit_identical(tmp_path: Path, recipe: Recipe):
    """The same decisions, a kill before each single step, and the weights of the run that was never killed: also where
    plans change the number of steps, which must not move the later plan points."""
    decided: dict[str, Any] = {"training.pace": told(1.0)}

    def decide(key: str, compute: Callable[[], Any]) -> Any:
        if key not in decided:
            at = int(key.rpartition(".")[2])
            decided[key] = {"elapsed": float(at), "remaining": {2: 40, 4: 31}.get(at, max(1, 35 - at))}
        return decided[key]

    def go(checkpoint: Path, **options: Any) -> nn.Module:
        return run(recipe, seconds=24.0, max_steps=None, decide=decide, checkpoint=checkpoint, **options)

    whole = go(tmp_path / "whole")
    keys = set(decided)
    for kill in range(35):
        checkpoint = tmp_path / f"{kill}"
        with pytest.raises(Killed):
            go(checkpoint, check_stop=killed_after(kill))
        assert checkpoint.exists() == (kill >= 2)
        assert same(go(checkpoint), whole), f"killed before step {kill}"
    assert set(decided) == keys

    checkpoint = tmp_path / "again and again"
    for _ in range(100):
        try:
            resumed = go(checkpoint, check_stop=killed_after(5))
            break
        except Killed:
            continue
    assert same(resumed, whole)


def test_a_supernet_in_channels_last_resumes_bit_identical(tmp_path: Path):
    def go(checkpoint: Path, **options: Any) -> nn.Module:
        torch.manual_seed(0)
        net = place(Supernet(small_space((4, 8)), builder), CPU)
        step = supernet_step(net, sandwich, inputs(0), RECIPE)

        def data(start: int) -> Iterator[tuple[Tensor, Tensor]]:
            return shuffled(digits().train, 16, seed=0, start=start)

        return train(net, step, data, RECIPE, seconds=math.inf, max_steps=13, checkpoint=checkpoint, **options)

    whole = go(tmp_path / "whole")
    for kill in (5, 12):
        with pytest.raises(Killed):
            go(tmp_path / f"{kill}", check_stop=killed_after(kill))
        assert same(go(tmp_path / f"{kill}"), whole)


def test_without_written_decisions_a_resumed_training_keeps_to_its_time(tmp_path: Path):
    """Seconds of work are in the checkpoint: what was spent before the kill is not spent again."""
    clock: list[Training] = []

    def go(**options: Any) -> None:
        module = network()
        inner = step_of(module)

        def step(*args: Any) -> float:
            time.sleep(0.004)  # at least this long a step, so that time is what ends it
            return inner(*args)

        def on_progress(state: Training, loss: float, lr: float) -> None:
            clock.append(copy.copy(state))

        run(step=step, module=module, seconds=0.4, max_steps=None, on_progress=on_progress, **options)

    def killed_after_a_plan_point() -> None:
        if clock and clock[-1].elapsed > 0:
            raise Killed

    with pytest.raises(Killed):
        go(checkpoint=tmp_path / "c", check_stop=killed_after_a_plan_point)
    spent = clock[-1].elapsed
    assert 0 < spent < 0.4
    go(checkpoint=tmp_path / "c")
    assert clock[-1].remaining == 0
    assert clock[-1].step <= 100  # 0.4 s at 4 ms a step at the most


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
    # By the mean pace so far it would be off by 0.15 and more in either case.
    assert np.abs(np.array(seen) - even).max() < 0.03


def test_a_loss_that_turns_nan_is_survived_at_half_the_rate():
    """Twice, by a loss and by a gradient: back to the last good state each time, and on at half the rate."""

    def broken_step(module: nn.Module, *, kind: str, times: int):
        inner, left = step_of(module), [times]

        def step(images: Tensor, labels: Tensor, progress: float, index: int) -> float:
            loss = inner(images, labels, progress, index)
            if index == 9 and left[0]:
                left[0] -= 1
                if kind == "loss":
                    return math.nan
                module[0].weight.grad[0] = math.inf
            return loss

        return step

    for kind in ("loss", "gradient"):
        seen: list[tuple[Training, float]] = []
        module = network()
        run(
            step=broken_step(module, kind=kind, times=2),
            module=module,
            on_progress=lambda state, loss, lr: seen.append((copy.copy(state), lr)),  # noqa: B023
        )
        # Plan points are at every second step: each time it goes on from step 8.
        assert [state.step for state, _ in seen] == [*range(1, 10), 9, *range(9, 25)]
        assert [state.lr_scale for state, _ in seen] == [1.0] * 9 + [0.5] + [0.25] * 16
        assert seen[-1][1] == pytest.approx(SGD.lr(23 / 24) * 0.25)
        assert all(bool(torch.isfinite(t).all()) for t in module.state_dict().values())


def test_a_loss_that_stays_nan_ends_in_one_line_with_the_last_good_state(tmp_path: Path):
    at_nine: list[dict[str, Tensor]] = []
    module = network()
    inner = step_of(module)

    def step(images: Tensor, labels: Tensor, progress: float, index: int) -> float:
        if index == 8 and not at_nine:
            at_nine.append(state_of(module))
        return math.nan if index == 9 else inner(images, labels, progress, index)

    with pytest.raises(SartorError, match=r"^stage: the loss is not finite at step 9 .*check the images") as caught:
        run(step=step, module=module, checkpoint=tmp_path / "c", name="stage")
    assert "\n" not in str(caught.value)
    assert same(module, at_nine[0])  # 24 steps have a plan point every 2: the last before step 9 is step 8

    # The checkpoint holds it too: a run on mended data goes on from there.
    seen: list[int] = []
    run(checkpoint=tmp_path / "c", on_progress=lambda state, loss, lr: seen.append(state.step))
    assert seen == list(range(9, 25))


def test_a_kill_between_nan_and_the_end_changes_nothing(tmp_path: Path):
    """Data that gives NaN at some learning rates: the resumed training meets and survives the same ones."""

    def go(checkpoint: Path, **options: Any) -> nn.Module:
        module = network()
        inner, lr_scale = step_of(module), [1.0]

        def step(images: Tensor, labels: Tensor, progress: float, index: int) -> float:
            loss = inner(images, labels, progress, index)
            return math.nan if index == 9 and lr_scale[0] > 0.25 else loss

        def on_progress(state: Training, loss: float, lr: float) -> None:
            lr_scale[0] = state.lr_scale

        return run(step=step, module=module, checkpoint=checkpoint, on_progress=on_progress, **options)

    whole = go(tmp_path / "whole")
    for kill in (9, 11, 13, 20):
        with pytest.raises(Killed):
            go(tmp_path / f"{kill}", check_stop=killed_after(kill))
        assert same(go(tmp_path / f"{kill}"), whole)


@pytest.mark.parametrize("damage", ["truncated", "garbage", "empty", "another network", "no metadata"])
def test_a_damaged_checkpoint_is_named(tmp_path: Path, damage: str):
    checkpoint = tmp_path / "supernet.safetensors"
    with pytest.raises(Killed):
        run(checkpoint=checkpoint, check_stop=killed_after(10))
    raw = checkpoint.read_bytes()
    if damage == "another network":
        checkpoint.unlink()
        other = nn.Sequential(nn.Flatten(), nn.Linear(36, 3))
        with pytest.raises(Killed):
            run(module=other, checkpoint=checkpoint, check_stop=killed_after(10))
    elif damage == "no metadata":
        from safetensors.torch import load_file, save_file

        save_file(load_file(checkpoint), checkpoint)
    else:
        checkpoint.write_bytes({"truncated": raw[: len(raw) // 2], "garbage": b"\x00" * len(raw), "empty": b""}[damage])
    with pytest.raises(InputError, match=r"supernet\.safetensors is damaged .* delete it and resume") as caught:
        run(checkpoint=checkpoint)
    assert "\n" not in str(caught.value)


def test_a_kill_leaves_whole_checkpoints_only(tmp_path: Path):
    with pytest.raises(Killed):
        run(checkpoint=tmp_path / "c", check_stop=killed_after(10))
    assert [file.name for file in tmp_path.iterdir()] == ["c"]


@pytest.mark.parametrize("recipe", [SGD, MUON], ids=["sgd", "muon"])
def test_training_learns(recipe: Recipe):
    """A rule that one feature tells: the mean of the image."""

    def data(start: int) -> Iterator[tuple[Tensor, Tensor]]:
        for images, _ in batches(start):
            yield images, (images.mean((1, 2, 3)) > 0).long()

    module = network()
    train(module, step_of(module), data, replace(recipe, peak_lr=4.0), seconds=math.inf, max_steps=100)
    images = torch.randn(500, 1, 6, 6, generator=torch.Generator().manual_seed(10**6))
    right = (module(images).argmax(1) == (images.mean((1, 2, 3)) > 0)).float().mean()
    assert right > 0.7  # guessing: 0.5
