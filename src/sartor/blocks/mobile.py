"""The inverted residual as published mobile networks have it: MnasNet, FBNet, Once-for-All, NAS-Bench-Macro, LowFormer.

:mod:`sartor.blocks.mbconv` has the ones that supernets cut: there every expansion has the same structure, and
ReLU. Here the structure follows the papers, so that parameters and MACs are those they state.
"""

from __future__ import annotations

from torch import Tensor, nn

from sartor.blocks.conv import ConvNormAct
from sartor.blocks.e2gc import groups_of

ACTIVATIONS: dict[str, type[nn.Module]] = {"relu": nn.ReLU, "hswish": nn.Hardswish}


def activated(c_in: int, c_out: int, kernel: int, stride: int = 1, *, groups: int = 1, act: str = "relu") -> nn.Module:
    """A bias-free convolution, batch norm and the activation ``act``, one of ACTIVATIONS."""
    return ConvNormAct(c_in, c_out, kernel, stride, groups=groups, act=False).append(ACTIVATIONS[act]())


class InvertedResidual(nn.Module):
    """1x1 expansion to ``hidden`` channels, depthwise kernel, ``gate``, linear 1x1 projection; the input is added where
    shapes allow, unless ``skip`` is False. [b, c_in, h, w] → [b, c_out, ceil(h/stride), ceil(w/stride)].

    MobileNetV2 (arXiv:1801.04381 §3.3); the gate after the depthwise kernel is MobileNetV3's (arXiv:1905.02244 §5.3).
    ``hidden=None``: no expansion, a depthwise-separable convolution. ``groups``: of both 1x1 convolutions, with their
    channels shuffled after the first (FBNet, arXiv:1812.03443 §3.1). ``group_size``: channels of each of the kernel's
    groups; more than one makes it E2GC's (:mod:`sartor.blocks.e2gc`).
    """

    def __init__(
        self,
        c_in: int,
        c_out: int,
        *,
        hidden: int | None,
        kernel: int = 3,
        stride: int = 1,
        act: str = "relu",
        gate: nn.Module | None = None,
        groups: int = 1,
        group_size: int = 1,
        skip: bool = True,
    ):
        super().__init__()
        middle = c_in if hidden is None else hidden
        self.expand = nn.Identity() if hidden is None else activated(c_in, middle, 1, groups=groups, act=act)
        self.shuffle = nn.ChannelShuffle(groups) if groups > 1 else nn.Identity()
        self.depthwise = activated(middle, middle, kernel, stride, groups=groups_of(middle, group_size), act=act)
        self.gate = nn.Identity() if gate is None else gate
        self.project = ConvNormAct(middle, c_out, 1, groups=groups, act=False)
        self.skip = skip and stride == 1 and c_in == c_out

    def forward(self, x: Tensor) -> Tensor:
        y = self.project(self.gate(self.depthwise(self.shuffle(self.expand(x)))))
        return x + y if self.skip else y


class FusedInvertedResidual(nn.Module):
    """One dense kernel expands to ``hidden`` channels, a linear 1x1 projects; the input is added where shapes allow.
    [b, c_in, h, w] → [b, c_out, ceil(h/stride), ceil(w/stride)]. EfficientNetV2 (arXiv:2104.00298 §3.2)."""

    def __init__(self, c_in: int, c_out: int, *, hidden: int, kernel: int = 3, stride: int = 1, act: str = "relu"):
        super().__init__()
        self.expand = activated(c_in, hidden, kernel, stride, act=act)
        self.project = ConvNormAct(hidden, c_out, 1, act=False)
        self.skip = stride == 1 and c_in == c_out

    def forward(self, x: Tensor) -> Tensor:
        y = self.project(self.expand(x))
        return x + y if self.skip else y
