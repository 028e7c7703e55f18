"""Batches by seed and step: what step k sees does not depend on how often the run was stopped before it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

import numpy as np

from sartor.data.images import Images, Streamed
from sartor.errors import InputError

if TYPE_CHECKING:
    import torch

    Batch = tuple[torch.Tensor, torch.Tensor]


def shuffled(images: Images, batch_size: int, *, seed: int, start: int = 0) -> Iterator[Batch]:
    """Batches without end from step ``start`` on: images uint8 ``[b, c, r, r]`` and labels int64 ``[b]``.

    Step k is a function of (seed, k) alone: every epoch is a permutation of its own, and its last, partial batch is
    dropped (a set smaller than a batch is one batch of all). Starting late reads nothing of what was skipped.
    Raises InputError when ``batch_size`` is not positive or ``start`` is negative.
    """
    if batch_size < 1 or start < 0:
        raise InputError(f"batch_size must be positive and start not negative, not {batch_size} and {start}")
    return _batches(images, _shuffled_indices(len(images), batch_size, seed, start))


def in_order(images: Images, batch_size: int) -> Iterator[Batch]:
    """All images once, in the order of the split: images uint8 ``[b, c, r, r]`` and labels int64 ``[b]``."""
    if batch_size < 1:
        raise InputError(f"batch_size must be positive, not {batch_size}")
    n = len(images)
    return _batches(images, (np.arange(i, min(i + batch_size, n)) for i in range(0, n, batch_size)))


def _shuffled_indices(n: int, batch_size: int, seed: int, start: int) -> Iterator[np.ndarray]:
    size = min(batch_size, n)
    steps = n // size
    epoch, step = divmod(start, steps)
    while True:
        order = np.random.default_rng([seed, epoch]).permutation(n)
        for i in range(step, steps):
            yield order[i * size : (i + 1) * size]
        epoch, step = epoch + 1, 0


def _batches(images: Images, indices: Iterable[np.ndarray]) -> Iterator[Batch]:
    import torch

    if not isinstance(images, Streamed):
        for chosen in indices:
            yield images.take(chosen), torch.from_numpy(images.labels[chosen])
        return
    labels: list[np.ndarray] = []

    def noted() -> Iterator[np.ndarray]:
        for chosen in indices:
            labels.append(images.labels[chosen])
            yield chosen

    for pixels in images.ahead(noted()):
        yield pixels, torch.from_numpy(labels.pop(0))
