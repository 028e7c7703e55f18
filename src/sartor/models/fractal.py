"""FractalNet: one network that is several, from shallow to deep."""

from __future__ import annotations

import copy
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from sartor.blocks.fractal import Fractal

GLOBAL = 0.5
"""The odds that a batch trains one column alone (§4.1)."""


class FractalNet(nn.Module):
    """Fractal blocks of ``widths`` channels, each followed by 2x2 max pooling, and a linear classifier (P286,
    arXiv:1605.07648 §4.1). [b, channels, h, w] → logits [b, classes].

    Trained as it is, half of the batches see one column of all blocks alone (global drop-path), the others joins with
    inputs missing (local drop-path); :meth:`extract` then gives the network of each column, a member of a family from
    fast to accurate. Deviations: paths are drawn for a batch, not for each image, which a mean of selected paths would
    make as slow as all of them; and no dropout of features.
    """

    def __init__(self, channels: int, classes: int, *, widths: Sequence[int], columns: int):
        super().__init__()
        if not widths:
            raise ValueError("a FractalNet has one block or more: give widths")
        sides = (channels, *widths[:-1])
        self.blocks = nn.ModuleList(Fractal(a, b, columns) for a, b in zip(sides, widths, strict=True))
        self.pool = nn.MaxPool2d(2, ceil_mode=True)
        self.classifier = nn.Linear(widths[-1], classes)
        self.n_columns = columns

    def forward(self, x: Tensor, column: int | None = None) -> Tensor:
        if column is None and self.training and float(torch.rand(())) < GLOBAL:
            column = int(torch.randint(self.n_columns, ()))
        for block in self.blocks:
            x = self.pool(block(x, column))
        return self.classifier(x.mean((2, 3)))

    def extract(self, column: int) -> nn.Module:
        """The plain network of ``column`` (from 0, the shallowest) with its own copy of the weights, in this network's
        mode. Its batch norms saw this column among others: recalibrate them."""
        layers: list[nn.Module] = []
        for block in self.blocks:
            layers += [*copy.deepcopy(block.extract(column)), nn.MaxPool2d(2, ceil_mode=True)]  # type: ignore[operator]
        head = (nn.AdaptiveAvgPool2d(1), nn.Flatten(), copy.deepcopy(self.classifier))
        return nn.Sequential(*layers, *head).train(self.training)
