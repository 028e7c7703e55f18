"""Inverted residuals: MBConv with a depthwise kernel, fused-MBConv with a dense one."""

from __future__ import annotations

from torch import Tensor, nn

from sartor.blocks.conv import ConvNormAct
from sartor.blocks.squeeze_excite import SqueezeExcite


class MBConv(nn.Module):
    """MobileNetV2's inverted residual with a linear bottleneck (P340, arXiv:1801.04381 §3.3), with MobileNetV3's
    squeeze-excite after the depthwise kernel. [b, c_in, h, w] → [b, c_out, h/stride, w/stride].

    1x1 expansion to ``hidden`` channels, depthwise kernel, linear 1x1 projection; ``skip`` adds the input (needs
    c_in == c_out, stride 1). The gate's bottleneck is ``hidden / se_reduction`` wide: MobileNetV3 has 4, MnasNet (P277,
    arXiv:1807.11626 §4.1) four times the expansion, which is a quarter of ``c_in``. Deviation: the 1x1 expansion is
    there at expansion 1 too, so that every expansion has the same structure and can share weights.
    """

    def __init__(
        self,
        c_in: int,
        c_out: int,
        *,
        hidden: int,
        kernel: int = 3,
        stride: int = 1,
        se: bool = False,
        se_reduction: int = 4,
        skip: bool = False,
    ):
        super().__init__()
        self.expand = ConvNormAct(c_in, hidden, 1)
        self.depthwise = ConvNormAct(hidden, hidden, kernel, stride, groups=hidden)
        self.se = SqueezeExcite(hidden, reduction=se_reduction) if se else nn.Identity()
        self.project = ConvNormAct(hidden, c_out, 1, act=False)
        self.skip = skip

    def forward(self, x: Tensor) -> Tensor:
        y = self.project(self.se(self.depthwise(self.expand(x))))
        return x + y if self.skip else y


class FusedMBConv(nn.Module):
    """Fused inverted residual: one dense kernel expands, a linear 1x1 projects (EfficientNetV2, arXiv:2104.00298 §3.2).
    [b, c_in, h, w] → [b, c_out, h/stride, w/stride]. More MACs than MBConv, at several times the MAC rate on CPUs.
    """

    def __init__(
        self,
        c_in: int,
        c_out: int,
        *,
        hidden: int,
        kernel: int = 3,
        stride: int = 1,
        se: bool = False,
        se_reduction: int = 4,
        skip: bool = False,
    ):
        super().__init__()
        self.expand = ConvNormAct(c_in, hidden, kernel, stride)
        self.se = SqueezeExcite(hidden, reduction=se_reduction) if se else nn.Identity()
        self.project = ConvNormAct(hidden, c_out, 1, act=False)
        self.skip = skip

    def forward(self, x: Tensor) -> Tensor:
        y = self.project(self.se(self.expand(x)))
        return x + y if self.skip else y
