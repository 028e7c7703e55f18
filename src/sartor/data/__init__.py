"""Images with labels: open a folder, parquet, arrays or a built-in set; split it; iterate it by seed and step.

Names are loaded when first used, so that decoding (and with it predicting) does not import torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from sartor.data.batches import in_order, shuffled
    from sartor.data.dataset import Dataset, look, open_data
    from sartor.data.images import Images

__all__ = ["Dataset", "Images", "in_order", "look", "open_data", "shuffled"]

_HOME = {
    "Dataset": "dataset",
    "look": "dataset",
    "open_data": "dataset",
    "Images": "images",
    "in_order": "batches",
    "shuffled": "batches",
}


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"sartor.data.{_HOME[name]}"), name)
