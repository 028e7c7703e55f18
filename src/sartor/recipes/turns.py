"""Which members are trained in which step: small ones are cheap, and need many."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from torch import Tensor, nn

from sartor.recipes.growth import side_at
from sartor.train.loop import Recipe, Step
from sartor.train.steps import TAUGHT_LABELS, Inputs, family_step

TURNS, LONG_TURNS = (1, 2), (2, 4)
"""The slower and the faster half of the members are trained in every so many steps, the largest in all. All in all of
them took most of the time from the largest, which teaches them; all in turns left those in the middle behind
(docs/log.md). From an hour on members get enough steps in half as many, and the largest the time."""


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
    middle = 1 + faster(networks)
    slow, fast = turns

    def step(images: Tensor, labels: Tensor, progress: float, index: int) -> float:
        slower = range(middle + index % slow, len(networks), slow)
        who = (0, *range(1 + index % fast, middle, fast), *slower)
        now = tuple(side_at(sides[i], progress) if growing else sides[i] for i in who)
        if (key := who + now) not in steps:
            steps[key] = family_step([networks[i] for i in who], now, inputs, recipe)
        return steps[key](images, labels, progress, index)

    return step


def faster(networks: Sequence[nn.Module] | nn.ModuleList) -> int:
    """How many of the members, the largest left out, are the faster half."""
    return (len(networks) - 1) // 2


def in_shares(
    networks: Sequence[nn.Module],
    sides: Sequence[int],
    shares: Sequence[float],
    inputs: Inputs,
    recipe: Recipe,
    teacher: Callable[[Tensor], Tensor],
) -> Step:
    """A step of those networks whose turn it is, each in its share of the steps (:func:`turns_by_cost`), taught by
    ``teacher``, which is not trained; the first, which is the largest, learns from the labels."""
    steps: dict[tuple[int, ...], Step] = {}

    def step(images: Tensor, labels: Tensor, progress: float, index: int) -> float:
        # Rounded up: all are trained in the first step, while the learning rate rises.
        who = tuple(i for i, share in enumerate(shares) if math.ceil((index + 1) * share) > math.ceil(index * share))
        if who not in steps:
            chosen = [networks[i] for i in who]
            alone = who == (0,)  # nobody listens
            steps[who] = family_step(
                chosen,
                [sides[i] for i in who],
                inputs,
                recipe,
                labels_share=TAUGHT_LABELS,
                teacher=None if alone else teacher,
                leads=0 in who,
            )
        return steps[who](images, labels, progress, index)

    return step


LEAST_SHARE = 0.05
"""Of the steps: with fewer, averages of weights mean nothing. A choice."""


def turns_by_cost(seconds: Sequence[float], teacher_s: float) -> list[float]:
    """In which share of the steps networks that take ``seconds`` a step are trained: the cheapest in every step, with
    all that cost less than half as much as the teacher's word, for which every step waits; the others by the square
    root of their cost, half-way between as many steps and as much time, and ``LEAST_SHARE`` at least.

    Rejected: less time for large ones, which lose less by the cut; those of half of the work and more fell behind what
    as much training gave them alone, while the smallest was far ahead (docs/log.md).
    """
    least = max(min(seconds), teacher_s / 2)
    return [max(LEAST_SHARE, min(1.0, math.sqrt(least / s))) for s in seconds]
