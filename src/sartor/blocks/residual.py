"""The regular residual block: two dense 3x3 convolutions."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from sartor.blocks.conv import ConvNormAct
from sartor.blocks.squeeze_excite import SqueezeExcite


class Residual(nn.Module):
    """ResNet's basic block (arXiv:1512.03385 §3.3). [b, c_in, h, w] → [b, c_out, h/stride, w/stride].

    ``project``: the shortcut is a strided 1x1 convolution; otherwise the identity, which needs c_in == c_out and
    stride 1. It is said, not inferred, so that a block keeps its structure at every width it is cut to.
    """

    def __init__(self, c_in: int, c_out: int, *, stride: int = 1, se: bool = False, project: bool = False):
        super().__init__()
        self.first = ConvNormAct(c_in, c_out, 3, stride)
        self.second = ConvNormAct(c_out, c_out, 3, act=False)
        self.se = SqueezeExcite(c_out) if se else nn.Identity()
        self.shortcut = ConvNormAct(c_in, c_out, 1, stride, act=False) if project else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        return F.relu(self.se(self.second(self.first(x))) + self.shortcut(x))
