"""What proxies share: a copy to work on, how it is called, what its error is, and which of its weights count."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TypeAlias

import torch
import torch.nn.functional as F
from torch import Tensor, nn

Inputs: TypeAlias = Tensor | tuple[Tensor, ...]
"""What ``forward`` takes: a batch of images or tokens, or a tuple of its arguments."""

SEED = 0
"""Of the noise that a proxy draws, so that the same network has the same score."""


@contextmanager
def replica(model: nn.Module, *, train: bool) -> Iterator[nn.Module]:
    """A copy of ``model`` in training mode or not, whose gradients are empty and wanted of every parameter.

    Rejected: working on the model and putting everything back, which a network that keeps anything else (a cache, a
    counter) defeats. The global generator is as before afterwards, so a score changes nothing that is drawn later.
    """
    twin = copy.deepcopy(model).train(train)
    for parameter in twin.parameters():
        parameter.grad = None
        parameter.requires_grad_(parameter.is_floating_point())
    devices = sorted({p.device.index or 0 for p in twin.parameters() if p.device.type == "cuda"})
    with torch.random.fork_rng(devices=devices), torch.enable_grad():
        torch.manual_seed(SEED)
        yield twin


def call(model: nn.Module, inputs: Inputs) -> Tensor:
    """The network's output for a batch."""
    out = model(*inputs) if isinstance(inputs, tuple) else model(inputs)
    return out[0] if isinstance(out, tuple) else out


def first(inputs: Inputs) -> Tensor:
    """The tensor whose rows are the examples."""
    return inputs[0] if isinstance(inputs, tuple) else inputs


def error(out: Tensor, targets: Tensor) -> Tensor:
    """Cross-entropy of logits [..., classes] where ``targets`` are whole numbers [...]; else mean squared error."""
    if targets.is_floating_point():
        return F.mse_loss(out, targets)
    return F.cross_entropy(out.flatten(0, -2), targets.flatten())


def matrices(model: nn.Module) -> list[nn.Parameter]:
    """The weights that proxies count: parameters of two dimensions or more (convolutions, linear and recurrent layers,
    embeddings). Published code takes ``Conv2d`` and ``Linear`` alone: the same in a convolutional network."""
    return [parameter for parameter in model.parameters() if parameter.ndim >= 2 and parameter.requires_grad]


def gradients(total: Tensor, weights: list[nn.Parameter], *, graph: bool = False) -> list[Tensor]:
    """d total / d weight of each; zeros where it plays no part."""
    if not weights or not total.requires_grad:
        return [torch.zeros_like(weight) for weight in weights]
    found = torch.autograd.grad(total, weights, create_graph=graph, allow_unused=True)
    return [torch.zeros_like(w) if g is None else g for w, g in zip(weights, found, strict=True)]


def finite(value: float | Tensor) -> float:
    """``value``, or NaN where it is none: infinite scores cannot be ranked beside others, and tell of a failure."""
    number = float(value)
    return number if math.isfinite(number) else math.nan
