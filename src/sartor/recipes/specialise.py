"""Train the chosen members on, each on its own weights, with the largest subnet as teacher, in one loop."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from torch import Tensor, nn

from sartor.models import Supernet
from sartor.models.elastic import Elastic
from sartor.recipes.growth import side_at
from sartor.recipes.voice import Tick
from sartor.recipes.workshop import Workshop
from sartor.records import Arch, Record
from sartor.train.device import place
from sartor.train.loop import Recipe, Step, Training, train
from sartor.train.recalibrate import recalibrate
from sartor.train.steps import Inputs, family_step

HANDOVER = 0.5
"""Of the peak learning rate: where the supernet's training ends and the members' goes on, down to zero. One triangle
over both: bringing the supernet to zero and starting again spends a second descent. A choice, tried only together with
the new shares of the time (docs/log.md)."""

WARMUP = 0.02
"""Of the members' training: their momentum starts from nothing."""

TURNS, LONG_TURNS = (1, 2), (2, 4)
"""The slower and the faster half of the members are trained in every so many steps, the largest in all. All in all of
them took most of the time from the largest, which teaches them; all in turns left those in the middle behind
(docs/log.md). From an hour on members get enough steps in half as many, and the largest the time."""

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
    flip: bool,
    tick: Tick,
    on_step: Any,
) -> tuple[list[Made], list[dict[str, Any]]]:
    """The largest arch and the members of ``chosen``, trained on where that measured better, and what was tried.

    All start from their slices of the supernet; the largest learns from the labels and teaches the others meanwhile. It
    comes first in the list: it is what doing nothing but training gives.
    """
    largest = supernet.space.largest()
    archs = [largest, *(r.arch for r in chosen if r.arch != largest)]
    sides = [int(a["resolution"]) for a in archs]
    networks = nn.ModuleList(place(supernet.extract(a), shop.device) for a in archs)
    before = [
        float(shop.journal.once(f"specialise.before.{index}", partial(shop.validate, network, side)))
        for index, (network, side) in enumerate(zip(networks, sides, strict=True))
    ]
    for network, side in zip(networks, sides, strict=True):
        recalibrate(network, shop.calibration(side))
    untouched = [{k: v.clone() for k, v in network.state_dict().items()} for network in networks]
    _train(shop, networks, sides, seconds, flip, tick, on_step)
    made, tried = [], []
    for index, (network, side) in enumerate(zip(networks, sides, strict=True)):
        name = f"m{index}" if index else "largest"
        was, now = before[index], float(shop.journal.once(f"specialise.{name}", partial(shop.validate, network, side)))
        recalibrate(network, shop.calibration(side))
        if now < was:
            network.load_state_dict(untouched[index])
        what = f"training {name} on, with the largest subnet as teacher" if index else "training the largest subnet on"
        why = f"validation accuracy {100 * was:.2f}% → {100 * now:.2f}%"
        tried.append({"what": what, "kept": now >= was, "why": why})
        made.append(Made(name, archs[index], network.eval(), was, now))
    return made, tried


def in_turns(
    networks: Sequence[nn.Module],
    sides: Sequence[int],
    inputs: Inputs,
    recipe: Recipe,
    turns: tuple[int, int] = TURNS,
    *,
    growing: bool = True,
) -> Step:
    """A step of the largest network and of those of the others, which come fastest first, whose turn it is: each of the
    slower half in every ``turns[0]`` steps, each of the faster half in every ``turns[1]``; of all at images that grow,
    where they may."""
    steps: dict[tuple[int, ...], Step] = {}
    middle = 1 + _faster(networks)
    slow, fast = turns

    def step(images: Tensor, labels: Tensor, progress: float, index: int) -> float:
        slower = range(middle + index % slow, len(networks), slow)
        who = (0, *range(1 + index % fast, middle, fast), *slower)
        now = tuple(side_at(sides[i], progress) if growing else sides[i] for i in who)
        if (key := who + now) not in steps:
            steps[key] = family_step([networks[i] for i in who], now, inputs, recipe)
        return steps[key](images, labels, progress, index)

    return step


def _faster(networks: Sequence[nn.Module] | nn.ModuleList) -> int:
    """How many of the members, the largest left out, are the faster half."""
    return (len(networks) - 1) // 2


def _train(
    shop: Workshop,
    networks: nn.ModuleList,
    sides: Sequence[int],
    seconds: float,
    flip: bool,
    tick: Tick,
    on_step: Any,
) -> None:
    """Train ``networks`` in place, or read them where an earlier process did."""
    if shop.saved("specialised"):
        networks.load_state_dict(shop.load("specialised"))
        return
    faster = _faster(networks)
    turns = LONG_TURNS if shop.job.time_s >= LONG_S else TURNS
    slower = len(networks) - 1 - faster
    shares = 1 + slower / turns[0] + faster / turns[1]  # networks a step: clipped is the norm of all their gradients
    recipe = replace(
        shop.recipe,
        peak_lr=shop.recipe.peak_lr * HANDOVER,
        warmup=WARMUP,
        clip_norm=shop.recipe.clip_norm * math.sqrt(shares),
    )

    def progress(state: Training, loss: float, lr: float) -> None:
        tick(state.progress, f"loss {loss:.3f}")
        on_step(state, loss, lr)

    train(
        networks,
        in_turns(
            list(networks),
            sides,
            shop.inputs("specialise", flip=flip),
            recipe,
            turns,
            growing=shop.given is None,
        ),
        shop.batches,
        recipe,
        seconds=seconds,
        name="specialise",
        decide=shop.journal.once,
        checkpoint=shop.checkpoints / "specialise.safetensors",
        on_progress=progress,
    )
    shop.save("specialised", networks.state_dict())
