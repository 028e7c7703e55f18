"""A killed training goes on bit for bit; one whose loss turns NaN goes on at half the rate or ends in one line."""

from __future__ import annotations

import copy
import math
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from sartor.data import shuffled
from sartor.errors import Diverged, InputError
from sartor.models import Supernet
from sartor.train.device import place
from sartor.train.loop import Recipe, Training, train
from sartor.train.schedule import sandwich
from sartor.train.steps import supernet_step
from train.digits import CPU, RECIPE, builder, digits, inputs, small_space
from train.loops import ADAMW, MUON, SGD, Killed, killed_after, network, run, same, state_of, step_of, told


@pytest.mark.parametrize("recipe", [SGD, MUON, ADAMW], ids=["sgd", "muon", "adamw"])
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
    for kill in (
        range(35) if recipe is ADAMW else (0, 1, 2, 3, 4, 5, 13, 30, 34)
    ):  # each step of one; each kind of them all
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

    with pytest.raises(Diverged, match=r"^stage: the loss is not finite at step 9 .*check the images") as caught:
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
