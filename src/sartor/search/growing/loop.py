"""The loop of a search by growing."""

from __future__ import annotations

import copy
import logging
import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import nn

from sartor.errors import InputError
from sartor.graph import trace
from sartor.graph.capture import Inputs
from sartor.graph.grow import grown, layers
from sartor.search.growing.controller import Action, Controller

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Grown:
    """A network that was grown, trained and judged: its accuracy, and the actions that made it of the first."""

    model: nn.Module
    accuracy: float
    actions: tuple[Action, ...] = ()


def grow(
    model: nn.Module,
    inputs: Inputs,
    judge: Callable[[nn.Module], float],
    controller: Controller,
    *,
    rounds: int,
    children: int,
    fits: Callable[[nn.Module], bool] = lambda model: True,
    seed: int = 0,
    on_child: Callable[[int, Grown], None] | None = None,
) -> Grown:
    """The best network found in ``rounds`` of ``children`` each, all grown from the best so far (at first ``model``,
    which is left as it was).

    ``judge`` trains a network, in place, and says how accurate it is, 0 to 1; what it trained stays, so that a child
    begins with all that its parents learnt. ``fits`` refuses networks that are too large: a child stops growing before
    one. ``controller`` is taught by every round. ``on_child`` is told of each child, with its round.

    Raises InputError for fewer than one round or child, a model that does not fit, and accuracies outside 0 to 1.
    """
    if rounds < 1 or children < 1:
        raise InputError(f"a search needs at least one round of one child, not {rounds} of {children}")
    if not fits(model):
        raise InputError("the network to begin with is too large already")
    generator = torch.Generator().manual_seed(seed)
    best = Grown(copy.deepcopy(model), -math.inf)
    for number in range(rounds):
        parent, taught = best, []
        for _ in range(children):
            controller.begin()
            made, actions = _child(parent.model, inputs, controller, fits, generator)
            accuracy = judge(made)
            if not 0 <= accuracy <= 1:
                raise InputError(f"judge must return an accuracy from 0 to 1, not {accuracy!r}")
            child = Grown(made, accuracy, parent.actions + actions)
            taught.append((controller.log_probability, accuracy))
            if on_child is not None:
                on_child(number, child)
            best = max(best, child, key=lambda grown: grown.accuracy)
        controller.learn(taught)
    return best


def _child(
    parent: nn.Module,
    inputs: Inputs,
    controller: Controller,
    fits: Callable[[nn.Module], bool],
    generator: torch.Generator,
) -> tuple[nn.Module, tuple[Action, ...]]:
    """A copy of ``parent``, grown as the controller decides, as far as it is allowed to."""
    model, done = copy.deepcopy(parent), list[Action]()
    graph = trace(model, inputs)
    for turn in controller.turns:
        for kind, place in controller.choose(layers(graph), turn, generator):
            try:
                larger = grown(graph, kind, place, seed=int(torch.randint(2**31, (), generator=generator)))
            except InputError as refused:
                log.debug("%s at %s: %s", kind, place, refused)
                continue
            if not fits(larger):
                return model, tuple(done)
            model = larger
            done.append((kind, place))
            graph = trace(model, inputs)
    return model, tuple(done)
