"""Accuracy of the exported file, run by the runtime it is deployed with: what is reported is what was shipped."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np

from sartor.errors import InputError
from sartor.measure.targets.target import Target


def accuracy(target: Target, file: Path, batches: Iterable[tuple[np.ndarray, np.ndarray]]) -> tuple[float, np.ndarray]:
    """Top-1 accuracy in [0, 1] and the predicted labels (int64 [N]) over batches of (float32 [n, C, H, W], int64 [n]).

    Raises InputError when there are no images or labels and images do not pair.
    """
    labels: list[np.ndarray] = []

    def images() -> Iterator[np.ndarray]:
        for x, y in batches:
            if len(x) != len(y):
                raise InputError(f"a batch has {len(x)} images and {len(y)} labels")
            labels.append(np.asarray(y))
            yield np.asarray(x)

    predicted = [logits.argmax(axis=1).astype(np.int64) for logits in target.run(file, images())]
    if not predicted:
        raise InputError("accuracy needs at least one batch of images")
    predictions = np.concatenate(predicted)
    return float(np.mean(predictions == np.concatenate(labels))), predictions
