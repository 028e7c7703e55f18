"""``build_mnasnet(arch)``: the network of an arch of :func:`sartor.space.mnasnet.mnasnet_space`."""

from __future__ import annotations

from collections.abc import Mapping

import torch.nn.functional as F
from torch import Tensor, nn

from sartor.blocks.mobile import InvertedResidual, activated
from sartor.blocks.squeeze_excite import SqueezeExcite
from sartor.models.mobile import MobileNet, divisible
from sartor.records import Option
from sartor.space.mnasnet import STRIDES

STEM, LAST = 32, 1280


class Skipped(nn.Module):
    """``operator`` with its input added, as it is or averaged over 3x3 pixels at the operator's stride.
    [b, c, h, w] → [b, c, ceil(h/stride), ceil(w/stride)]."""

    def __init__(self, operator: nn.Module, *, stride: int, pool: bool):
        super().__init__()
        self.operator = operator
        self.stride = stride
        self.pool = pool

    def forward(self, x: Tensor) -> Tensor:
        return self.operator(x) + (F.avg_pool2d(x, 3, self.stride, 1) if self.pool else x)


def build_mnasnet(
    arch: Mapping[str, Option],
    *,
    channels: int = 3,
    classes: int = 1000,
    width: float = 1.0,
    stem: int = STEM,
    last: int = LAST,
) -> MobileNet:
    """The network of ``arch`` with fresh weights (arXiv:1807.11626 §4.1 and Figure 7): a block's first layer halves and
    changes the channels. ``width`` multiplies all channels, those of the ``stem`` and the ``last`` convolution too.

    Convolutions: ``conv`` is dense, ``dconv`` depthwise-separable, ``mbconv`` an inverted residual. Skips are there
    where shapes allow: identities where neither pixels nor channels change, pooling where channels do not, which the
    paper leaves open.
    """
    c = divisible(stem * width)
    first, blocks = activated(channels, c, 3, 2), list[nn.Module]()
    for block, stride in enumerate(STRIDES):
        name = f"b{block}"
        for index in range(int(arch[f"{name}.layers"])):
            c_out = divisible(int(arch[f"{name}.width"]) * width)
            blocks.append(_layer(arch, name, c, c_out, stride if index == 0 else 1))
            c = c_out
    features = divisible(last * width)
    return MobileNet(first, blocks, activated(c, features, 1), nn.Linear(features, classes))


def _layer(arch: Mapping[str, Option], name: str, c_in: int, c_out: int, stride: int) -> nn.Module:
    op, kernel, skip = str(arch[f"{name}.op"]), int(arch[f"{name}.kernel"]), str(arch[f"{name}.skip"])
    expand = int(op.removeprefix("mbconv")) if op.startswith("mbconv") else 1
    gated = c_out if op == "conv" else c_in * expand
    share = float(arch[f"{name}.se"])
    gate = SqueezeExcite(gated, hidden=max(1, int(c_in * share)), hard=False) if share else None
    if op == "conv":
        dense = activated(c_in, c_out, kernel, stride)
        operator: nn.Module = nn.Sequential(dense, gate) if gate is not None else dense
    else:
        hidden = c_in * expand if expand > 1 else None
        operator = InvertedResidual(c_in, c_out, hidden=hidden, kernel=kernel, stride=stride, gate=gate, skip=False)
    pool = skip == "pool"
    fits = c_in == c_out and (stride == 1 or pool)
    return Skipped(operator, stride=stride, pool=pool) if fits and skip != "none" else operator
