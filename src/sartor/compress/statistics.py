"""Batch norms' statistics after a cut."""

from __future__ import annotations

from typing import Any

from torch import nn

from sartor.graph.capture import arguments
from sartor.graph.saliency import Evidence
from sartor.train.recalibrate import recalibrate


def recalibrated(module: nn.Module, evidence: Evidence) -> None:
    """Batch norms' statistics anew over the inputs of ``evidence``, in place; left as they are without any."""
    if len(evidence.batches) and any(isinstance(m, nn.modules.batchnorm._BatchNorm) for m in module.modules()):
        recalibrate(_Called(module), [inputs for inputs, _ in evidence.batches])


class _Called(nn.Module):
    """A model that takes its arguments packed in one."""

    def __init__(self, model: nn.Module):
        super().__init__()
        self.model = model

    def forward(self, inputs: Any) -> Any:
        args, kwargs = arguments(inputs)
        return self.model(*args, **kwargs)
