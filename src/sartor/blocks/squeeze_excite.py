"""Squeeze-and-excite as MobileNetV3 uses it."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn


class SqueezeExcite(nn.Module):
    """Rescale channels by a gate computed from their means. [b, c, h, w] → [b, c, h, w].

    MobileNetV3 (P098, arXiv:1905.02244 §5.3): the bottleneck is a quarter of the gated channels and the gate is a hard
    sigmoid, which runtimes compute without an exponential. Widths are rounded up to 8, unless ``hidden`` gives one.
    ``hard=False``: the sigmoid itself, as in MnasNet.
    """

    def __init__(self, channels: int, *, reduction: int = 4, hidden: int | None = None, hard: bool = True):
        super().__init__()
        self.hard = hard
        hidden = hidden or max(8, -(-channels // reduction // 8) * 8)
        self.reduce = nn.Conv2d(channels, hidden, 1)
        self.expand = nn.Conv2d(hidden, channels, 1)

    def forward(self, x: Tensor) -> Tensor:
        gate = self.expand(F.relu(self.reduce(x.mean((2, 3), keepdim=True))))
        return x * (F.hardsigmoid(gate) if self.hard else gate.sigmoid())
