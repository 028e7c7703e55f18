"""The regular residual block: two dense 3x3 convolutions; halving by stride or by pooling."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from sartor.blocks.conv import ConvNormAct, ConvPoolNormAct
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


class PooledResidual(nn.Module):
    """The basic block that halves by max pooling after its first convolution, and before its shortcut's, instead of by
    stride. [b, c_in, h, w] → [b, c_out, ceil(h/stride), ceil(w/stride)] for a stride of 1 or 2.

    The first convolution sees every pixel: four times its MACs, for more accuracy in equal training time in first
    trials, which ``benchmarks/recipe.py --operators residual,pooled`` is to confirm. After airbench's blocks
    (arXiv:2404.00498 §3.1), which have no shortcuts.
    """

    def __init__(self, c_in: int, c_out: int, *, stride: int = 1, se: bool = False, project: bool = False):
        super().__init__()
        if stride not in (1, 2):
            raise ValueError(f"a pooled block halves or keeps its size: stride {stride} is neither 1 nor 2")
        self.first = ConvPoolNormAct(c_in, c_out) if stride == 2 else ConvNormAct(c_in, c_out)
        self.second = ConvNormAct(c_out, c_out, 3, act=False)
        self.se = SqueezeExcite(c_out) if se else nn.Identity()
        self.shortcut = ConvNormAct(c_in, c_out, 1, act=False) if project else nn.Identity()
        self.stride = stride

    def forward(self, x: Tensor) -> Tensor:
        y = self.se(self.second(self.first(x)))
        if self.stride == 2:
            x = F.max_pool2d(x, 2, ceil_mode=True)
        return F.relu(y + self.shortcut(x))
