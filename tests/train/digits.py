"""scikit-learn's digits, tiny spaces and short trainings: small enough to show a mechanism in a few seconds."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import cache, partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sartor.data import Dataset, in_order, open_data, shuffled
from sartor.models import Supernet, build
from sartor.records import Arch
from sartor.space import Choice, Space
from sartor.train.augment import Preprocess
from sartor.train.device import autocast
from sartor.train.loop import Recipe, train
from sartor.train.recalibrate import accuracy, recalibrate
from sartor.train.schedule import Schedule, Turn
from sartor.train.steps import Inputs, plain_step, supernet_step

RECIPE = Recipe(batch_size=64)
VIT_RECIPE = Recipe(batch_size=64, optimiser="adamw", peak_lr=4e-2, weight_decay=0.05)
"""After DeiT's (arXiv:2012.12877, table 9), with ten times the learning rate: the networks are ten times narrower."""
CPU = torch.device("cpu")
builder = partial(build, channels=1, classes=10, full_resolution=8)


@cache
def digits() -> Dataset:
    """Half to train on, half to judge by: 900 images put the standard error of an accuracy under 2 points."""
    return open_data("digits", val_fraction=0.25, test_fraction=0.25)


@cache
def calibration() -> list[Tensor]:
    return [preprocess()(images) for images, _ in in_order(digits().train, 256)]


@cache
def held_out() -> list[tuple[Tensor, Tensor]]:
    splits = (digits().val, digits().test)
    return [(preprocess()(images), labels) for split in splits for images, labels in in_order(split, 512)]


def preprocess() -> Preprocess:
    return Preprocess(digits().mean, digits().std)


def small_space(widths: Sequence[int], *, stem: Sequence[int] = (8,), depth: int = 1) -> Space:
    """Two stages of residual blocks, narrower than any preset's, so that archs really differ on digits."""
    choices = [Choice("resolution", (8,)), Choice("stem.width", tuple(stem))]
    for stage in ("s0", "s1"):
        choices += [
            Choice(f"{stage}.op", ("residual",)),
            Choice(f"{stage}.width", tuple(widths)),
            Choice(f"{stage}.depth", tuple(range(1, depth + 1))),
            Choice(f"{stage}.se", (False,)),
        ]
    return Space(tuple(choices))


def macs(arch: Arch) -> int:
    """Multiply-accumulates of an arch of ``small_space`` with depth 1: 8×8 pixels, then 4×4."""
    stem, first, second = (arch[name] for name in ("stem.width", "s0.width", "s1.width"))
    pixels, fewer = 64, 16
    return (
        pixels * 9 * stem
        + pixels * (9 * stem * first + 9 * first * first + stem * first)
        + fewer * (9 * first * second + 9 * second * second + first * second)
        + 10 * second
    )


def inputs(seed: int) -> Inputs:
    return Inputs(preprocess(), CPU, seed=seed, shift=1, flip=False)


def fit(module: nn.Module, step, steps: int, seed: int, recipe: Recipe = RECIPE) -> nn.Module:
    def batches(start: int):
        return shuffled(digits().train, recipe.batch_size, seed=seed, start=start)

    return train(module, step, batches, recipe, seconds=math.inf, max_steps=steps)


def supernet(
    space: Space, schedule: Schedule, steps: int, seed: int = 0, make=builder, recipe: Recipe = RECIPE
) -> Supernet:
    torch.manual_seed(seed)
    net = Supernet(space, make)
    fit(net, supernet_step(net, schedule, inputs(seed), recipe), steps, seed, recipe)
    return net


def plain_network(arch: Arch, steps: int, seed: int = 0, make=builder, recipe: Recipe = RECIPE) -> nn.Module:
    """``arch`` trained by itself."""
    torch.manual_seed(seed)
    network = make(arch)
    return fit(network, plain_step(network, inputs(seed), recipe, side=8), steps, seed, recipe)


def alone(arch: Arch, steps: int, seed: int = 0, make=builder, recipe: Recipe = RECIPE) -> float:
    """Held-out accuracy of ``arch`` trained by itself for as many steps."""
    return accuracy(plain_network(arch, steps, seed, make, recipe), held_out())


def subnet_accuracy(net: Supernet, arch: Arch, *, recalibrated: bool = True) -> float:
    """Held-out accuracy of an extracted subnet, as it is or with its own batch-norm statistics."""
    subnet = net.extract(arch)
    if recalibrated:
        recalibrate(subnet, calibration())
    return accuracy(subnet, held_out())


def separate_passes(
    net: Supernet, turns: Sequence[Turn], x: Tensor, y: Tensor, *, smoothing: float
) -> Mapping[str, Tensor]:
    """The gradient a step with ``turns`` must leave, by plain name: every arch on its own as an extracted network, its
    gradient put in its place in the shared tensors, and all added up."""
    total = {name: torch.zeros_like(tensor) for name, tensor in net.tensors().items()}
    teacher = None
    for turn in turns:
        subnet = net.extract(turn.arch).train()
        rows = slice(round(turn.rows[0] * len(x)), round(turn.rows[1] * len(x)))
        if rows.start == rows.stop:
            continue
        with autocast(CPU):
            logits = subnet(x[rows]).float()
        if turn.distil and teacher is not None:
            p = torch.softmax(teacher[rows], 1)
            loss = (p * (p.log() - F.log_softmax(logits, 1))).sum() / len(logits)
        else:
            target = F.one_hot(y[rows], 10) * (1 - smoothing) + smoothing / 10
            loss = -(target * F.log_softmax(logits, 1)).sum() / len(logits)
        if turn.arch == net.largest:
            teacher = logits.detach()
        (turn.scale * loss).backward()
        for name, parameter in subnet.named_parameters():
            place = tuple(
                slice((have - want) // 2, (have + want) // 2) if dim >= 2 else slice(want)
                for dim, (have, want) in enumerate(zip(total[name].shape, parameter.shape, strict=True))
            )
            if parameter.requires_grad:
                total[name][place] += parameter.grad
    return total


def gradient_error(net: Supernet, expected: Mapping[str, Tensor]) -> float:
    """Distance of ``net``'s gradient from ``expected`` over the length of ``expected``."""
    distance = length = 0.0
    for name, tensor in net.tensors().items():
        if not isinstance(tensor, nn.Parameter):
            continue
        found = torch.zeros_like(tensor) if tensor.grad is None else tensor.grad
        distance += float((found - expected[name]).double().square().sum())
        length += float(expected[name].double().square().sum())
    assert length > 0
    return math.sqrt(distance / length)
