"""LowFormer: backbones whose layers were chosen by the time they take (P289, arXiv:2409.03460)."""

from __future__ import annotations

from dataclasses import dataclass, replace

from torch import nn

from sartor.blocks.lowformer import LowFormerBlock
from sartor.blocks.mobile import FusedInvertedResidual, InvertedResidual, activated
from sartor.errors import InputError
from sartor.models.mobile import MobileNet
from sartor.models.scalable import Scalable, Sizes


@dataclass(frozen=True)
class LowFormer:
    """``widths`` of the stem and of four stages, ``depths`` of the same, each without the block that halves; only the
    last two stages have attention. ``down``: the expansion of those that halve; ``head``: the widths of the last
    convolution and of the layer behind the pooling."""

    widths: tuple[int, ...]
    depths: tuple[int, ...]
    down: int = 6
    head: tuple[int, int] = (1536, 1600)


LOWFORMERS = {
    "B0": LowFormer((16, 32, 64, 128, 256), (0, 0, 0, 3, 4), down=4),
    "B1": LowFormer((16, 32, 64, 128, 256), (0, 0, 0, 5, 5)),
    "B1.5": LowFormer((20, 40, 80, 160, 320), (0, 0, 0, 6, 6), head=(2304, 2560)),
    "B3": LowFormer((32, 64, 128, 256, 512), (1, 1, 2, 6, 6)),
}
"""The published ones (the paper's Table 2 and its code), by name."""
EXPANSION = 4
FUSED_BELOW = 256
"""Channels below which the attention stages' mobile blocks are fused too (§4.1)."""


def build_lowformer(
    sizes: str | LowFormer = "B0",
    *,
    channels: int = 3,
    classes: int = 1000,
    stem_stride: int = 2,
    fused: bool = True,
) -> MobileNet:
    """A LowFormer with fresh weights, of a published name or of ``sizes``. ``fused=False``: every mobile block is
    depthwise, as networks made for few multiply-accumulates have them. ``stem_stride=1`` is for small images: all
    stages together halve five times.

    Deviation: mobile blocks have batch norms everywhere; in the last stages its code has some biases instead.
    Raises InputError for an unknown name, and for other than five widths and depths.
    """
    if isinstance(sizes, str):
        if sizes not in LOWFORMERS:
            raise InputError(f"no LowFormer-{sizes} was published: {', '.join(LOWFORMERS)} were")
        sizes = LOWFORMERS[sizes]
    if len(sizes.widths) != 5 or len(sizes.depths) != 5:
        raise InputError(f"a LowFormer has 5 widths and depths, not {len(sizes.widths)} and {len(sizes.depths)}")
    local = FusedInvertedResidual if fused else InvertedResidual
    c, blocks = sizes.widths[0], list[nn.Module]()
    blocks += [local(c, c, hidden=EXPANSION * c, act="hswish") for _ in range(sizes.depths[0])]
    for stage, (c_out, depth) in enumerate(zip(sizes.widths[1:], sizes.depths[1:], strict=True), start=1):
        blocks.append(local(c, c_out, hidden=sizes.down * c, stride=2, act="hswish"))
        c = c_out
        if stage < 3:
            blocks += [local(c, c, hidden=EXPANSION * c, act="hswish") for _ in range(depth)]
        else:
            dense = fused and c < FUSED_BELOW
            stride = 2 if stage == 3 else 1
            blocks += [LowFormerBlock(c, stride=stride, fused=dense, expansion=EXPANSION) for _ in range(depth)]
    last, wide = sizes.head
    mix = nn.Sequential(nn.Flatten(), nn.Linear(last, wide, bias=False), nn.LayerNorm(wide), nn.Hardswish())
    stem = activated(channels, sizes.widths[0], 3, stem_stride, act="hswish")
    return MobileNet(stem, blocks, activated(c, last, 1, act="hswish"), nn.Linear(wide, classes), mix)


def scalable_lowformer(
    sizes: str | LowFormer = "B0",
    *,
    resolution: int = 224,
    channels: int = 3,
    classes: int = 1000,
    stem_stride: int = 2,
    fused: bool = True,
) -> Scalable:
    """A LowFormer to be scaled; its head stays. Widths are in multiples of 8."""
    base = LOWFORMERS[sizes] if isinstance(sizes, str) and sizes in LOWFORMERS else sizes
    if isinstance(base, str):
        raise InputError(f"no LowFormer-{base} was published: {', '.join(LOWFORMERS)} were")

    def made(found: Sizes) -> nn.Module:
        scaled = replace(base, widths=found.widths, depths=found.depths)
        return build_lowformer(scaled, channels=channels, classes=classes, stem_stride=stem_stride, fused=fused)

    return Scalable(Sizes(base.depths, base.widths, resolution), made, channels)
