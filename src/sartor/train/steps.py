"""One step of the loop: of a plain network, of a supernet under a schedule, of a family of networks."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sartor.models import Supernet, resize
from sartor.models.elastic import Elastic
from sartor.train.augment import Preprocess, crop_and_flip
from sartor.train.convolution import QuickConvolutions
from sartor.train.device import autocast
from sartor.train.distill import soft_targets
from sartor.train.loop import Recipe, Step
from sartor.train.schedule import Schedule

TAUGHT_LABELS = 0.5
"""Of the loss: the labels' share where a network that is not trained teaches. A choice: after a hundred steps a half,
a tenth and labels alone are as good (``benchmarks/taught.py``, docs/log.md)."""


class Inputs:
    """uint8 batch → augmented, normalised batch on the device, the same for the same (seed, step).

    ``augment``: of the shifted uint8 batch and a seed, such as :func:`sartor.train.augment.rand_augment`.
    """

    def __init__(
        self,
        preprocess: Preprocess,
        device: torch.device,
        *,
        seed: int,
        shift: int,
        flip: bool,
        augment: Callable[[Tensor, int], Tensor] | None = None,
    ):
        self.preprocess, self.device = preprocess, device
        self.seed, self.shift, self.flip = seed, shift, flip
        self.augment = augment

    def __call__(self, images: Tensor, labels: Tensor, index: int) -> tuple[Tensor, Tensor]:
        images, labels = images.to(self.device), labels.to(self.device)
        seed = (self.seed * 1_000_003 + index) % 2**63
        images = crop_and_flip(images, seed, shift=self.shift, flip=self.flip)
        return self.preprocess(images if self.augment is None else self.augment(images, seed)), labels


def plain_step(model: nn.Module, inputs: Inputs, recipe: Recipe, *, side: int) -> Step:
    """Cross-entropy with label smoothing on images at ``side`` pixels."""

    def step(images: Tensor, labels: Tensor, progress: float, index: int) -> float:
        x, y = inputs(images, labels, index)
        with autocast(x.device), QuickConvolutions():
            logits = model(resize(x, side))
        loss = F.cross_entropy(logits.float(), y, label_smoothing=recipe.label_smoothing)
        loss.backward()
        return float(loss.detach())

    return step


def supernet_step(
    supernet: Supernet | Elastic,
    schedule: Schedule,
    inputs: Inputs,
    recipe: Recipe,
    *,
    teacher: nn.Module | None = None,
    labels_share: float = 0.1,
) -> Step:
    """The turns of ``schedule``, each with its own backward pass, so that memory is that of one arch.

    ``teacher``: a network that is not trained, whose outputs all turns learn from, with ``labels_share`` of the labels;
    without one the largest arch learns from the labels and teaches the turns that distil. Returns the loss of the first
    turn: the largest arch's where the schedule visits it.
    """

    def step(images: Tensor, labels: Tensor, progress: float, index: int) -> float:
        x, y = inputs(images, labels, index)
        taught: Tensor | None = None
        if teacher is not None:
            with torch.no_grad(), autocast(x.device):
                taught = teacher(resize(x, side_of(supernet)))
        first: float | None = None
        turns = schedule(supernet.space, random.Random(inputs.seed * 1_000_003 + index), progress)
        for turn in turns:
            rows = slice(*(round(edge * len(x)) for edge in turn.rows))
            if rows.start == rows.stop:  # more turns than images
                continue
            with autocast(x.device), QuickConvolutions():
                logits = supernet(x[rows], turn.arch)
            if taught is not None and (turn.distil or teacher is not None):
                loss = soft_targets(logits, taught[rows])
                if teacher is not None:
                    labels_loss = F.cross_entropy(logits.float(), y[rows], label_smoothing=recipe.label_smoothing)
                    loss = (1 - labels_share) * loss + labels_share * labels_loss
            else:
                loss = F.cross_entropy(logits.float(), y[rows], label_smoothing=recipe.label_smoothing)
            (loss * turn.scale).backward()
            if teacher is None and turn.arch == supernet.largest:
                taught = logits.detach()
            if first is None:
                first = float(loss.detach())
        return first or 0.0

    return step


def side_of(supernet: Supernet | Elastic) -> int:
    """Pixels a side of the largest arch's images."""
    return int(supernet.largest["resolution"])


def family_step(
    networks: Sequence[nn.Module],
    sides: Sequence[int],
    inputs: Inputs,
    recipe: Recipe,
    *,
    labels_share: float = 0.1,
    tau: float = 1.0,
    teacher: Callable[[Tensor], Tensor] | None = None,
    leads: bool = True,
) -> Step:
    """The first network learns from the labels; the others from its outputs in this very step and a share of labels.

    In-place distillation (BigNAS, arXiv:2003.11142 §3.2) among networks that share no weights: the teacher goes on
    learning, and its outputs cost nothing. ``teacher``: what says the soft targets instead, from normalised images; it
    is not trained here, so the first need not be the largest, and learns as the others do where it does not lead
    (``leads``). Returns the mean loss.
    """
    if teacher is None and not leads:
        raise ValueError("without a teacher the first network leads")

    def step(images: Tensor, labels: Tensor, progress: float, index: int) -> float:
        x, y = inputs(images, labels, index)
        total = 0.0
        soft: Tensor | None = None
        if teacher is not None:
            with torch.no_grad(), autocast(x.device):
                soft = teacher(x)
        for place, (network, side) in enumerate(zip(networks, sides, strict=True)):
            with autocast(x.device), QuickConvolutions():
                logits = network(resize(x, side))
            loss = F.cross_entropy(logits.float(), y, label_smoothing=recipe.label_smoothing)
            if soft is None:
                soft = logits.detach()
            elif place or not leads:
                loss = (1 - labels_share) * soft_targets(logits, soft, tau=tau) + labels_share * loss
            loss.backward()
            total += float(loss.detach())
        return total / len(networks)

    return step
