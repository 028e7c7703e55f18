"""The images a given network is cut with: evidence, training and judging at the network's own size."""

from __future__ import annotations

import copy
import json
import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from sartor.data import Dataset, in_order, shuffled
from sartor.errors import InputError
from sartor.models import resize
from sartor.recipes.metadata import preprocessing
from sartor.recipes.voice import Voice
from sartor.train.augment import Preprocess
from sartor.train.loop import Recipe, Training, train
from sartor.train.recalibrate import accuracy, recalibrate
from sartor.train.steps import Inputs, plain_step

BATCH = 64
"""Images of a batch of evidence, and of judging, fewer where they are large."""

EVIDENCE_IMAGES, EVIDENCE_BYTES = 1024, 2**28
"""Train images that criteria see and batch norms are recalibrated with, fewer where they are large. A choice."""

TRAINING_PIXELS = 2**22
"""Of a batch that a gradient is taken of: activations of large images would fill any memory."""

JUDGING_IMAGES = 2000
"""Validation images by which a training is kept or undone."""


@dataclass
class Bench:
    """``shape``: (C, H, W) of the network's input; ``mean``, ``std``: how its images are normalised. ``images``:
    of evidence, at most. Without data there is no evidence, and nothing is trained."""

    shape: tuple[int, int, int]
    dataset: Dataset | None
    mean: tuple[float, ...]
    std: tuple[float, ...]
    seed: int
    images: int = EVIDENCE_IMAGES

    def check(self, network: nn.Module) -> None:
        """Raise InputError where ``network`` cannot be trained on the data."""
        kind = type(network).__name__
        if self.dataset is None:
            return
        if self.shape[0] != self.dataset.channels:
            raise InputError(
                f"{kind} takes {self.shape[0]} channels, and the images have {self.dataset.channels}: "
                "convert the images, or give a network that takes them"
            )
        if self.shape[1] != self.shape[2]:
            raise InputError(f"{kind} takes images of {self.shape[1]}x{self.shape[2]}: only square ones are trained")
        twin = copy.deepcopy(network).train()  # its batch norms are changed by it
        with torch.no_grad():
            logits = twin(torch.zeros(2, *self.shape))
        if not isinstance(logits, Tensor):
            raise InputError(
                f"{kind} returns {type(logits).__name__} in training: build it without auxiliary outputs, "
                "which a cut cannot follow"
            )

    @cached_property
    def batches(self) -> list[tuple[Tensor, Tensor]]:
        """Fixed train images, normalised, and labels; none without data."""
        if self.dataset is None:
            return []
        split = self.dataset.train
        n = max(2, min(self.images, len(split), EVIDENCE_BYTES // (4 * int(np.prod(self.shape)))))
        rows = np.sort(np.random.default_rng(self.seed).permutation(len(split))[:n])
        batch = max(2, min(BATCH, TRAINING_PIXELS // self.shape[1] ** 2))
        parts = np.array_split(rows, math.ceil(n / batch))
        return [(self._prepared(split.take(r)), torch.from_numpy(split.labels[r])) for r in parts if len(r) > 1]

    def labelled(self, images: Any) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """A split as a runtime takes it: float32 [n, C, H, W], int64 [n]."""
        for batch, labels in in_order(images, BATCH):
            yield np.ascontiguousarray(self._prepared(batch).numpy()), labels.numpy()

    def tune(self, network: nn.Module, seconds: float, voice: Voice) -> None:
        """Train ``network`` in place; undone where it measured worse on validation images."""
        if self.dataset is None or seconds <= 0:
            return
        data = self.dataset
        room = max(8, TRAINING_PIXELS // self.shape[1] ** 2)
        recipe = recipe_for(network, max(2, min(256, room, len(data.train) // 4)))
        inputs = Inputs(
            self._preprocess, torch.device("cpu"), seed=self.seed, shift=round(data.resolution / 16), flip=False
        )
        before = self._validate(network)
        untouched = {name: tensor.clone() for name, tensor in network.state_dict().items()}
        with voice.stage("training", seconds) as tick:

            def progress(state: Training, loss: float, lr: float) -> None:
                tick(state.progress, f"loss {loss:.3f}")

            train(
                network.train(),
                plain_step(network, inputs, recipe, side=self.shape[1]),
                lambda start: shuffled(data.train, recipe.batch_size, seed=self.seed, start=start),
                recipe,
                seconds=seconds,
                on_progress=progress,
            )
        recalibrate(network, [images for images, _ in self.batches])
        after = self._validate(network)
        if after < before:
            network.load_state_dict(untouched)
        undone = ", undone" if after < before else ""
        voice.say(f"  training: validation accuracy {100 * before:.1f}% → {100 * after:.1f}%{undone}")
        network.eval()

    def metadata(self, name: str) -> dict[str, str]:
        """What makes a file predict by itself; nothing without data."""
        if self.dataset is None:
            return {}
        return {"sartor": json.dumps(preprocessing(self.dataset, name, self.mean, self.std))}

    @property
    def _preprocess(self) -> Preprocess:
        return Preprocess(self.mean, self.std)

    def _prepared(self, images: Tensor) -> Tensor:
        return resize(self._preprocess(images), self.shape[1])

    def _validate(self, network: nn.Module) -> float:
        assert self.dataset is not None
        split = self.dataset.val
        rows = np.arange(min(len(split), JUDGING_IMAGES))  # splits lie in a seeded random order
        parts = np.array_split(rows, max(1, len(rows) // BATCH))
        images = ((self._prepared(split.take(r)), torch.from_numpy(split.labels[r])) for r in parts)
        return accuracy(network.eval(), images)


def recipe_for(network: nn.Module, batch_size: int, *, cut: bool = False) -> Recipe:
    """For a network that is trained already. With batch norms SGD at an eighth of what one from scratch gets, or a
    quarter where it was ``cut`` and knows these images (``benchmarks/taught.py``, docs/log.md); without, which are
    transformers mostly, AdamW. Muon is left out: it sets the size of weights anew, which only a batch norm behind each
    of them undoes. Choices."""
    if any(isinstance(m, nn.modules.batchnorm._BatchNorm) for m in network.modules()):
        return Recipe(optimiser="sgd", peak_lr=0.1 if cut else 0.05, batch_size=batch_size)
    return Recipe(optimiser="adamw", peak_lr=2e-3, weight_decay=0.05, batch_size=batch_size)
