"""What stands on the edges of a cell: the operators of NAS-Bench-201, DARTS and NASNet.

All begin with their ReLU and end with their norm, so that any can follow any. [b, c, h, w] → [b, c, ceil(h/stride),
ceil(w/stride)].
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn


class ReluConvNorm(nn.Sequential):
    """ReLU, a bias-free convolution with "same" padding for odd kernels, batch norm."""

    def __init__(self, c_in: int, c_out: int, kernel: int, stride: int = 1, *, dilation: int = 1):
        padding = dilation * (kernel // 2)
        super().__init__(
            nn.ReLU(),
            nn.Conv2d(c_in, c_out, kernel, stride, padding, dilation, bias=False),
            nn.BatchNorm2d(c_out),
        )


class Separable(nn.Sequential):
    """ReLU, depthwise convolution, pointwise convolution, batch norm; twice, the second without stride, where
    ``twice``. NASNet's separable convolution (arXiv:1707.07012 appendix A), and with ``dilation`` DARTS's dilated one
    (arXiv:1806.09055 §3.1)."""

    def __init__(self, channels: int, kernel: int, stride: int = 1, *, dilation: int = 1, twice: bool = True):
        layers: list[nn.Module] = []
        padding = dilation * (kernel // 2)
        for step in (stride, 1) if twice else (stride,):
            layers += [
                nn.ReLU(),
                nn.Conv2d(channels, channels, kernel, step, padding, dilation, groups=channels, bias=False),
                nn.Conv2d(channels, channels, 1, bias=False),
                nn.BatchNorm2d(channels),
            ]
        super().__init__(*layers)


class Crossed(nn.Sequential):
    """ReLU, a 1×k convolution, a k×1 convolution, batch norm. NASNet's factored convolution (arXiv:1707.07012 §3)."""

    def __init__(self, channels: int, kernel: int, stride: int = 1):
        half = kernel // 2
        super().__init__(
            nn.ReLU(),
            nn.Conv2d(channels, channels, (1, kernel), (1, stride), (0, half), bias=False),
            nn.Conv2d(channels, channels, (kernel, 1), (stride, 1), (half, 0), bias=False),
            nn.BatchNorm2d(channels),
        )


class FactorizedReduce(nn.Module):
    """Half the resolution without losing a pixel's quarter to the stride: two 1×1 convolutions of stride 2, one of them
    a pixel further on, make half of the channels each; then batch norm. [b, c_in, h, w] → [b, c_out, h/2, w/2], rounded
    up. NASNet's code, and DARTS's."""

    def __init__(self, c_in: int, c_out: int):
        super().__init__()
        self.relu = nn.ReLU()
        self.here = nn.Conv2d(c_in, c_out - c_out // 2, 1, 2, bias=False)
        self.beside = nn.Conv2d(c_in, c_out // 2, 1, 2, bias=False)
        self.norm = nn.BatchNorm2d(c_out)

    def forward(self, x: Tensor) -> Tensor:
        x = self.relu(x)
        further = nn.functional.pad(x, (0, 1, 0, 1))[:, :, 1:, 1:]  # zeros where an odd side has no pixel further on
        return self.norm(torch.cat([self.here(x), self.beside(further)], dim=1))


class Zero(nn.Module):
    """No edge, as the benchmarks count it: zeros, and gradients that are zero. What leads only here has parameters,
    multiply-accumulates and a latency nevertheless."""

    def __init__(self, stride: int = 1):
        super().__init__()
        self.stride = stride

    def forward(self, x: Tensor) -> Tensor:
        return x[:, :, :: self.stride, :: self.stride] * 0.0


def _average(stride: int) -> nn.Module:
    return nn.AvgPool2d(3, stride, 1, count_include_pad=False)


def _largest(kernel: int, stride: int) -> nn.Module:
    return nn.MaxPool2d(kernel, stride, kernel // 2)


def _skip(channels: int, stride: int) -> nn.Module:
    return nn.Identity() if stride == 1 else FactorizedReduce(channels, channels)


EDGES: dict[str, Callable[[int, int], nn.Module]] = {
    "none": lambda _, stride: Zero(stride),
    "skip_connect": _skip,
    "avg_pool_3x3": lambda _, stride: _average(stride),
    "max_pool_3x3": lambda _, stride: _largest(3, stride),
    "max_pool_5x5": lambda _, stride: _largest(5, stride),
    "max_pool_7x7": lambda _, stride: _largest(7, stride),
    "nor_conv_1x1": lambda channels, stride: ReluConvNorm(channels, channels, 1, stride),
    "nor_conv_3x3": lambda channels, stride: ReluConvNorm(channels, channels, 3, stride),
    "conv_1x1": lambda channels, stride: ReluConvNorm(channels, channels, 1, stride),
    "conv_3x3": lambda channels, stride: ReluConvNorm(channels, channels, 3, stride),
    "conv_1x3_3x1": lambda channels, stride: Crossed(channels, 3, stride),
    "conv_1x7_7x1": lambda channels, stride: Crossed(channels, 7, stride),
    "sep_conv_3x3": lambda channels, stride: Separable(channels, 3, stride),
    "sep_conv_5x5": lambda channels, stride: Separable(channels, 5, stride),
    "sep_conv_7x7": lambda channels, stride: Separable(channels, 7, stride),
    "dil_conv_3x3": lambda channels, stride: Separable(channels, 3, stride, dilation=2, twice=False),
    "dil_conv_5x5": lambda channels, stride: Separable(channels, 5, stride, dilation=2, twice=False),
}
"""An operator's published name → its module, of so many channels and that stride. Deviation: NASNet's paper does not
say whether its dilated convolution is separable; it is DARTS's here."""
