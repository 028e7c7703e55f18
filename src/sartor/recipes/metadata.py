"""What travels in an exported file so that anyone can run it on images (see ``serve.predict.Preprocessing``)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sartor.data import Dataset


def preprocessing(data: Dataset, name: str, mean: Sequence[float], std: Sequence[float]) -> dict[str, Any]:
    """Of network ``name``, whose images are normalised by ``mean`` and ``std``."""
    return {
        "format": 1,
        "name": name,
        "classes": list(data.classes),
        "channels": data.channels,
        "resolution": data.resolution,
        "mean": list(mean),
        "std": list(std),
    }
