"""Fractal blocks: columns of different depths that meet again and again, each able to stand alone."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from sartor.blocks.conv import ConvNormAct

KEPT = 0.85
"""The odds that a join's input is not dropped in training (§4.1)."""


class Fractal(nn.Module):
    """FractalNet's block (P286, arXiv:1605.07648 §2): f₁ is one convolution, f₍C₊₁₎ the mean of one convolution and two
    f_C in a row. [b, c_in, h, w] → [b, c_out, h, w].

    Column ``c``, from 0, has 2ᶜ convolutions, the last as many as the block is deep. In training inputs of joins are
    dropped (``column=None``: local drop-path, each by itself, never all) or all columns but one (``column``: global
    drop-path, §3.1). Outside training ``column`` takes one column alone. See :meth:`extract`.
    """

    def __init__(self, c_in: int, c_out: int, columns: int):
        super().__init__()
        if columns < 1:
            raise ValueError(f"a fractal has one column or more, not {columns}")
        self.columns: Any = nn.ModuleList(
            nn.ModuleList(ConvNormAct(c_in if i == 0 else c_out, c_out) for i in range(2**c)) for c in range(columns)
        )

    def forward(self, x: Tensor, column: int | None = None) -> Tensor:
        if column is not None:
            for convolution in self.columns[column]:
                x = convolution(x)
            return x
        depth = 2 ** (len(self.columns) - 1)
        inputs = [x] * len(self.columns)
        for row in range(1, depth + 1):
            spans = [depth // len(layers) for layers in self.columns]
            ending = [c for c, span in enumerate(spans) if row % span == 0]
            joined = self._join([self.columns[c][row // spans[c] - 1](inputs[c]) for c in ending])
            for c in ending:
                inputs[c] = joined
        return joined

    def _join(self, outputs: Sequence[Tensor]) -> Tensor:
        if self.training and len(outputs) > 1:
            kept = torch.rand(len(outputs)) < KEPT
            kept[torch.randint(len(outputs), ())] |= not bool(kept.any())
            outputs = [output for output, keep in zip(outputs, kept.tolist(), strict=True) if keep]
        return outputs[0] if len(outputs) == 1 else torch.stack(list(outputs)).mean(0)

    def extract(self, column: int) -> nn.Sequential:
        """The plain network of one column, which shares its layers with this one."""
        return nn.Sequential(*self.columns[column])
