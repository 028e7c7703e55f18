"""A network, batches and a step small enough to train in milliseconds, and ways to interrupt the training."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sartor.train.loop import Recipe, train

SGD = Recipe(optimiser="sgd", batch_size=8, peak_lr=1.0, ema_half_life=0.2, warmup=0.2)
MUON = replace(SGD, optimiser="muon", peak_lr=0.4)
ADAMW = replace(SGD, optimiser="adamw", peak_lr=0.1)


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


def step_of(module: nn.Module, scale: float = 1.0) -> Callable[[Tensor, Tensor, float, int], float]:
    def step(images: Tensor, labels: Tensor, progress: float, index: int) -> float:
        loss = scale * F.cross_entropy(module(images), labels)
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
