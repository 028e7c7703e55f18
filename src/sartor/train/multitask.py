"""One elastic network for several tasks, whose widths shift between them after the training.

Efficient Controllable Multi-Task Architectures (P001, arXiv:2308.11744): an encoder that tasks share and a decoder for
each, all of elastic widths, trained together (§3.2); ``sartor.search.preference`` gives the arch for what a person
prefers (§3.3).
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from sartor.errors import InputError
from sartor.models.elastic import Elastic
from sartor.train.device import autocast
from sartor.train.loop import Recipe, Step
from sartor.train.steps import Inputs

FEATURES = "features"
"""The name under which a network says what its encoder made; the others are tasks."""


@dataclass(frozen=True)
class Task:
    """``target(labels)``: what the task's output is compared with, by ``loss(output, target)``."""

    target: Callable[[Tensor], Tensor] = lambda labels: labels
    loss: Callable[[Tensor, Tensor], Tensor] = F.cross_entropy


def controllable_step(
    supernet: Elastic,
    tasks: Mapping[str, Task],
    inputs: Inputs,
    recipe: Recipe,
    *,
    archs: int = 2,
    invariance: float = 1.0,
) -> Step:
    """The largest arch and ``archs`` random ones learn all ``tasks`` from the labels; and the random ones' encoders to
    say what the largest one's says, ``invariance`` times the configuration-invariant distillation loss, :func:`drift`.

    ``supernet`` returns a dict: ``features`` of its encoder, and each task's output. An output of the network is never
    cut, so features are as wide in every arch. All archs of a step see images of one size. Returns the largest arch's
    mean loss. Raises InputError where the network returns anything else.
    """

    def step(images: Tensor, labels: Tensor, progress: float, index: int) -> float:
        x, y = inputs(images, labels, index)
        draw = random.Random(inputs.seed * 1_000_003 + index)
        drawn = [supernet.largest, *(supernet.space.sample(draw) for _ in range(archs))]
        if "resolution" in supernet.largest:  # features of other sides do not compare
            side = draw.choice([arch["resolution"] for arch in drawn])
            drawn = [supernet.space.canonical({**arch, "resolution": side}) for arch in drawn]
        first, taught = 0.0, torch.empty(0)
        for number, arch in enumerate(drawn):
            with autocast(x.device):
                said = supernet(x, arch)
            if not isinstance(said, Mapping) or not {FEATURES, *tasks} <= set(said):
                raise InputError(f"the network is to return a dict of {', '.join((FEATURES, *tasks))}")
            losses = [task.loss(said[name].float(), task.target(y)) for name, task in tasks.items()]
            loss = torch.stack(losses).mean()
            if number == 0:
                first, taught = float(loss.detach()), said[FEATURES].detach()
            elif invariance:
                loss = loss + invariance * drift(said[FEATURES], taught)
            loss.backward()
        return first

    return step


def drift(features: Tensor, taught: Tensor) -> Tensor:
    """How far an arch's features are from the largest one's: the mean square of the difference over that of these."""
    return (features.float() - taught.float()).square().mean() / taught.float().square().mean().clamp(min=1e-12)
