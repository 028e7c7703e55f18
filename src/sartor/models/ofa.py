"""``build_ofa(arch)``: the network of an arch of :func:`sartor.space.ofa.ofa_space`."""

from __future__ import annotations

from collections.abc import Mapping

from torch import nn

from sartor.blocks.mobile import InvertedResidual, activated
from sartor.blocks.squeeze_excite import SqueezeExcite
from sartor.models.mobile import MobileNet, divisible
from sartor.records import Option
from sartor.space.ofa import DEPTHS, STAGES

STEM, LAST, MIX = 16, 960, 1280
WIDTHS = (24, 40, 80, 112, 160)
STRIDES = (2, 2, 2, 1, 2)
ACTIVATIONS = ("relu", "relu", "hswish", "hswish", "hswish")
SQUEEZED = (False, True, False, True, True)


def build_ofa(arch: Mapping[str, Option], *, channels: int = 3, classes: int = 1000, width: float = 1.0) -> MobileNet:
    """The subnet of ``arch`` with fresh weights: MobileNetV3's stages, with squeeze-excite in the second, fourth and
    fifth and h-swish from the third on (arXiv:1908.09791 §4.1). ``width`` multiplies all channels (OFA has 1 and 1.2).
    """
    c = divisible(STEM * width)
    blocks: list[nn.Module] = [InvertedResidual(c, c, hidden=None)]
    stem = activated(channels, c, 3, 2, act="hswish")
    for stage in range(STAGES):
        c_out = divisible(WIDTHS[stage] * width)
        for block in range(int(arch[f"depth{stage}"])):
            place = DEPTHS[-1] * stage + block
            hidden = divisible(c * int(arch[f"expand{place}"]))
            gate = SqueezeExcite(hidden, hidden=divisible(hidden // 4)) if SQUEEZED[stage] else None
            blocks.append(
                InvertedResidual(
                    c,
                    c_out,
                    hidden=hidden,
                    kernel=int(arch[f"kernel{place}"]),
                    stride=STRIDES[stage] if block == 0 else 1,
                    act=ACTIVATIONS[stage],
                    gate=gate,
                )
            )
            c = c_out
    last, features = divisible(LAST * width), divisible(MIX * width)
    mix = nn.Sequential(nn.Conv2d(last, features, 1, bias=False), nn.Hardswish())
    return MobileNet(stem, blocks, activated(c, last, 1, act="hswish"), nn.Linear(features, classes), mix)
