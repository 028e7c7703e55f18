"""Let torchvision (which timm imports) load where its compiled operators do not fit the PyTorch beside it.

A CUDA build of torchvision next to a CPU build of PyTorch cannot load its library, and then its import dies with
``operator torchvision::nms does not exist`` although nothing here ever calls it. Declaring the two schemas is enough.
"""

from __future__ import annotations

import importlib

import torch

_SCHEMA = "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor"
_declared: list[torch.library.Library] = []  # a Library takes its operators with it when it is collected


def define_missing_ops() -> None:
    """Import torchvision; where its operators are missing, declare ``nms`` and ``qnms`` first. Without it: nothing.

    The real operators are never touched: the schemas are declared only after the import failed for want of them.
    """
    try:
        importlib.import_module("torchvision")
    except ModuleNotFoundError:
        return
    except RuntimeError as error:
        if _declared or "torchvision::" not in str(error):
            raise
        library = torch.library.Library("torchvision", "DEF")
        for name in ("nms", "qnms"):
            library.define(name + _SCHEMA)
        _declared.append(library)
        importlib.import_module("torchvision")
