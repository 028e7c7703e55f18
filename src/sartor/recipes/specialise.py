"""Train the chosen members on, each on its own weights, in one loop: taught by the largest subnet, which learns beside
them, or by the network that was given."""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
from torch import nn

from sartor.models import Supernet, resize
from sartor.models.elastic import Elastic
from sartor.recipes.bench import recipe_for
from sartor.recipes.probe import Probed
from sartor.recipes.turns import LONG_TURNS, TURNS, faster, in_shares, in_turns, turns_by_cost
from sartor.recipes.voice import Tick
from sartor.recipes.workshop import Workshop
from sartor.records import Arch, Record
from sartor.train.device import autocast, place
from sartor.train.loop import Recipe, Step, Training, pace_samples, train
from sartor.train.recalibrate import accuracy
from sartor.train.steps import Inputs, plain_step

HANDOVER = 0.5
"""Of the peak learning rate: where the supernet's training ends and the members' goes on, down to zero. One triangle
over both: bringing the supernet to zero and starting again spends a second descent. A choice, tried only together with
the new shares of the time (docs/log.md). Not where a given network teaches: its cuts have a triangle of their own."""

WARMUP = 0.02
"""Of the members' training: their momentum starts from nothing."""

STILL_LEARNING = 0.02
"""A supernet whose largest network is better than the given one by more goes on learning and teaches; the given one,
which stays as it is, does not. A choice."""

RATED, RATING_SHARE = 3, 0.03
"""Steps of each member that are timed for its share of the training, and the share of that which timing may take."""

LONG_S = 3600.0
"""Shorter ones were not tried."""


@dataclass(frozen=True)
class Made:
    """One network that is ready to export, and its validation accuracy before and after it was trained on."""

    name: str
    arch: Arch
    network: nn.Module
    before: float
    after: float


def specialise(
    shop: Workshop,
    supernet: Supernet | Elastic,
    chosen: Sequence[Record],
    seconds: float,
    probed: Probed,
    tick: Tick,
    on_step: Any,
) -> tuple[list[Made], list[dict[str, Any]]]:
    """The largest arch and the members of ``chosen``, trained on where that measured better, and what was tried.

    All start from their slices of the supernet; the largest learns from the labels and teaches the others meanwhile. A
    given network that knows the images does that as it came, and is where the largest starts. The largest comes first
    in the list: it is what doing nothing but training gives.
    """
    begin = time.monotonic()
    largest = supernet.space.largest()
    archs = [largest, *(r.arch for r in chosen if r.arch != largest)]
    sides = [int(a["resolution"]) for a in archs]
    networks = nn.ModuleList(place(supernet.extract(a), shop.device) for a in archs)
    before = [
        _validated(shop, f"specialise.before.{index}", network, side)
        for index, (network, side) in enumerate(zip(networks, sides, strict=True))
    ]
    taught = False
    if shop.given is not None and probed.teaches:
        original = place(shop.given.original, shop.device).eval()
        judge = partial(accuracy, original, shop.validation(sides[0], shop.judged_images))
        came = float(shop.journal.once("specialise.came", judge))
        taught = came >= before[0] - STILL_LEARNING
        if came >= before[0]:
            before[0] = came
            networks[0].load_state_dict(original.state_dict())
    untouched = [{k: v.clone() for k, v in network.state_dict().items()} for network in networks]
    judging = 2 * (time.monotonic() - begin)  # and as long again when they are trained
    _train(shop, networks, sides, max(seconds / 2, seconds - judging), probed.flip, taught, tick, on_step)
    made, tried = [], []
    for index, (network, side) in enumerate(zip(networks, sides, strict=True)):
        name = f"m{index}" if index else "largest"
        was, now = before[index], _validated(shop, f"specialise.{name}", network, side)
        if now < was:
            network.load_state_dict(untouched[index])
        teacher = "the network as it came" if taught else "the largest subnet"
        what = f"training {name} on, with {teacher} as teacher" if index else "training the largest subnet on"
        n = min(shop.judged_images, shop.validation_images)
        why = f"validation accuracy {100 * was:.2f}% → {100 * now:.2f}% on {n:,} images"
        tried.append({"what": what, "kept": now >= was, "why": why})
        made.append(Made(name, archs[index], network.eval(), was, now))
    return made, tried


def _validated(shop: Workshop, key: str, network: nn.Module, side: int) -> float:
    """Validation accuracy of ``network``, recalibrated, decided once."""
    if key in shop.journal:
        shop.recalibrated(network, side)
    return float(shop.journal.once(key, partial(shop.validate, network, side)))


def _train(
    shop: Workshop,
    networks: nn.ModuleList,
    sides: Sequence[int],
    seconds: float,
    flip: bool,
    taught: bool,
    tick: Tick,
    on_step: Any,
) -> None:
    """Train ``networks`` in place, or read them where an earlier process did."""
    if shop.saved("specialised"):
        networks.load_state_dict(shop.load("specialised"))
        return
    inputs, begin = shop.inputs("specialise", flip=flip), time.monotonic()
    parts: list[tuple[nn.Module, float]] = []
    if taught:
        assert shop.given is not None
        step, recipe, pace_s = _taught(shop, networks, sides, inputs, seconds)
        # The largest, which is not cut, at the rate of a network that is whole: at the cuts' it forgot (docs/log.md).
        whole = recipe_for(shop.given.original, recipe.batch_size).peak_lr / recipe.peak_lr
        parts = [(network, 1.0 if index else whole) for index, network in enumerate(networks)]
    else:
        step, recipe, pace_s = _together(shop, networks, sides, inputs)
    left = shop.journal.once("specialise.seconds", lambda: max(seconds / 2, seconds - (time.monotonic() - begin)))

    def progress(state: Training, loss: float, lr: float) -> None:
        tick(state.progress, f"loss {loss:.3f}")
        on_step(state, loss, lr)

    train(
        networks,
        step,
        shop.batches,
        recipe,
        seconds=float(left),
        name="specialise",
        decide=shop.journal.once,
        checkpoint=shop.checkpoints / "specialise.safetensors",
        on_progress=progress,
        pace_s=pace_s,
        parts=parts,
    )
    shop.save("specialised", networks.state_dict())


def _together(
    shop: Workshop, networks: nn.ModuleList, sides: Sequence[int], inputs: Inputs
) -> tuple[Step, Recipe, float | None]:
    """The largest in every step, teaching the others, whose turn it is in some."""
    turns = LONG_TURNS if shop.job.time_s >= LONG_S else TURNS
    fast = faster(networks)
    shares = 1 + (len(networks) - 1 - fast) / turns[0] + fast / turns[1]
    recipe = replace(shop.recipe, peak_lr=HANDOVER * shop.recipe.peak_lr, warmup=WARMUP)
    recipe = replace(recipe, clip_norm=recipe.clip_norm * math.sqrt(shares))  # clipped is the norm of all gradients
    return in_turns(list(networks), sides, inputs, recipe, turns, growing=shop.given is None), recipe, None


def _taught(
    shop: Workshop, networks: nn.ModuleList, sides: Sequence[int], inputs: Inputs, seconds: float
) -> tuple[Step, Recipe, float | None]:
    """Each in its share of the steps, taught by the network that was given, as it came; the seconds a step takes.

    Rejected: the largest in every step, beside the others, which took more than all of them (docs/log.md).
    """
    assert shop.given is not None
    original, side = place(shop.given.original, shop.device).eval(), shop.given.side

    limit_s = RATING_SHARE * seconds / len(networks)

    def rate_of(network: nn.Module, side: int) -> float:
        step = plain_step(network, inputs, shop.recipe, side=side)
        samples = pace_samples(network, step, shop.batches, limit_s=limit_s, timed=RATED)
        return statistics.median(s for _, s in samples)

    def rates() -> dict[str, Any]:
        members = [rate_of(network, side) for network, side in zip(networks, sides, strict=True)]
        return {"members": members, "teacher": _seconds_of_teaching(shop, original, side)}

    rate = shop.journal.once("specialise.rates", rates)
    shares = turns_by_cost(rate["members"], rate["teacher"])
    pace_s = rate["teacher"] + sum(share * s for share, s in zip(shares, rate["members"], strict=True))
    step = in_shares(list(networks), sides, shares, inputs, shop.recipe, lambda x: original(resize(x, side)))
    return step, shop.recipe, pace_s


def _seconds_of_teaching(shop: Workshop, teacher: nn.Module, side: int) -> float:
    """Of one batch, median; the first warms up."""
    images, _ = next(shop.batches(0))
    x = resize(shop.preprocess(images.to(shop.device)), side)
    taken = []
    with torch.no_grad(), autocast(x.device):
        for _ in range(1 + RATED):
            begin = time.monotonic()
            teacher(x).sum().item()
            taken.append(time.monotonic() - begin)
    return statistics.median(taken[1:])
