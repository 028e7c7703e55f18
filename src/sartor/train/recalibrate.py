"""Batch-norm statistics of a cut network, and accuracy from a module."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import torch
from torch import Tensor, nn

from sartor.train.device import autocast


@torch.no_grad()
@torch.random.fork_rng(devices=[])
def recalibrate(model: nn.Module, batches: Iterable[Tensor]) -> nn.Module:
    """Replace every batch norm's running statistics by their plain mean over ``batches`` (normalised images).

    Returns ``model``, changed in place, every part of it in the mode it was in. SPOS (arXiv:1904.00420 §3.4), BigNAS. A
    cumulative average instead of momentum: 8 batches count the same, the first as the last. Nothing is dropped out,
    as in the network that is shipped; what draws otherwise (stochastic depth) draws the same each time.
    """
    norms = [m for m in model.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
    if not norms:
        return model
    modes = [(module, module.training) for module in model.modules()]
    momenta = [m.momentum for m in norms]
    for norm in norms:
        norm.reset_running_stats()
        norm.momentum = None
    model.train()
    for module in model.modules():
        if isinstance(module, nn.modules.dropout._DropoutNd):
            module.eval()
    device = next(model.parameters()).device
    try:
        torch.manual_seed(0)
        with autocast(device):
            for images in batches:
                model(images)
    finally:
        for norm, momentum in zip(norms, momenta, strict=True):
            norm.momentum = momentum
        for module, mode in modes:
            module.training = mode
    return model


@torch.no_grad()
def accuracy(model: Callable[[Tensor], Tensor], batches: Iterable[tuple[Tensor, Tensor]]) -> float:
    """Share of (normalised images, labels) ``model`` gets right, in the training precision. NaN when there are none."""
    right = total = 0
    for images, labels in batches:
        with autocast(images.device):
            logits = model(images)
        right += int((logits.argmax(1) == labels.to(images.device)).sum())
        total += len(labels)
    return right / total if total else float("nan")
