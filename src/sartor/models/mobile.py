"""What MnasNet, FBNet, Once-for-All and NAS-Bench-Macro share: stem, blocks, a wide last convolution, a classifier."""

from __future__ import annotations

from collections.abc import Sequence

import torch.nn.functional as F
from torch import Tensor, nn


class MobileNet(nn.Module):
    """Stem, blocks, last convolution, global average pool, ``mix``, linear classifier.
    [b, channels, h, w] → logits [b, classes].

    ``mix`` is MobileNetV3's 1x1 convolution after the pooling (arXiv:1905.02244 §5.1).
    """

    def __init__(
        self,
        stem: nn.Module,
        blocks: Sequence[nn.Module],
        last: nn.Module,
        classifier: nn.Linear,
        mix: nn.Module | None = None,
    ):
        super().__init__()
        self.stem = stem
        self.blocks = nn.Sequential(*blocks)
        self.last = last
        self.mix = nn.Identity() if mix is None else mix
        self.classifier = classifier

    def forward(self, x: Tensor) -> Tensor:
        x = F.adaptive_avg_pool2d(self.last(self.blocks(self.stem(x))), 1)
        return self.classifier(self.mix(x).flatten(1))


def divisible(width: float) -> int:
    """``width`` in multiples of 8, not more than a tenth below it: MobileNet's rounding."""
    rounded = max(8, int(width + 4) // 8 * 8)
    return rounded + 8 if rounded < 0.9 * width else rounded
