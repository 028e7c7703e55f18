"""ResNet-RS: ResNets with today's small changes, in the published sizes (P050, arXiv:2103.07579)."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from torch import nn

from sartor.errors import InputError
from sartor.models.scalable import Scalable, Sizes
from sartor.models.torchvision_ops import define_missing_ops

LAYERS: dict[int, tuple[int, ...]] = {
    50: (3, 4, 6, 3),
    101: (3, 4, 23, 3),
    152: (3, 8, 36, 3),
    200: (3, 24, 36, 3),
    270: (4, 29, 53, 4),
    350: (4, 36, 72, 4),
    420: (4, 44, 87, 4),
}
"""Bottlenecks of each stage (the paper's Table 11), by the network's name."""
RESOLUTIONS: dict[int, tuple[int, ...]] = {
    50: (160,),
    101: (160, 192),
    152: (192, 224, 256),
    200: (256,),
    270: (256,),
    350: (256, 320),
    420: (320,),
}
"""Pixels a side that each was trained with (Table 7): resolution grows slowly."""
WIDTHS = (64, 128, 256, 512)
STEM = 32


def resnet_rs(
    layers: int | Sequence[int] = 50,
    *,
    widths: Sequence[int] = WIDTHS,
    stem: int = STEM,
    channels: int = 3,
    classes: int = 1000,
    squeeze: bool = True,
    resnet_d: bool = True,
    drop: float = 0.0,
    drop_path: float = 0.0,
) -> nn.Module:
    """A ResNet-RS with fresh weights, as timm has it: ``layers`` is a published name or the bottlenecks of each stage,
    ``widths`` their channels within (a stage's output has four times as many).

    The paper's two changes of the network (§4.2): ``squeeze``, squeeze-excite at a quarter of the channels in every
    block, and ``resnet_d``, a stem of three 3x3 convolutions and one instead of its pooling, and shortcuts that average
    before they project. Its regularisers: ``drop``, dropout before the classifier, and ``drop_path``, stochastic depth.
    Raises InputError for a name that was not published, and for other than four stages.
    """
    stages = LAYERS.get(layers) if isinstance(layers, int) else tuple(layers)
    if stages is None:
        raise InputError(f"no ResNet-RS-{layers} was published: {', '.join(map(str, LAYERS))} were")
    if len(stages) != len(widths) or len(stages) != len(WIDTHS):
        raise InputError(f"a ResNet-RS has 4 stages, not {len(stages)} depths and {len(widths)} widths")
    define_missing_ops()
    from timm.layers import get_attn
    from timm.models.resnet import Bottleneck, ResNet

    network = ResNet(
        Bottleneck,  # type: ignore[arg-type]  # timm means its class
        stages,
        num_classes=classes,
        in_chans=channels,
        channels=tuple(widths),
        stem_width=stem if resnet_d else 2 * stem,
        stem_type="deep" if resnet_d else "",
        replace_stem_pool=resnet_d,
        avg_down=resnet_d,
        block_args={"attn_layer": partial(get_attn("se"), rd_ratio=0.25)} if squeeze else None,
        drop_rate=drop,
        drop_path_rate=drop_path,
    )
    assert isinstance(network, nn.Module)
    return network


def scalable_resnet_rs(name: int = 50, *, resolution: int | None = None, classes: int = 1000) -> Scalable:
    """A published ResNet-RS, to be scaled; at its first resolution, unless another is given. The last width is the
    stem's."""
    if name not in LAYERS:
        raise InputError(f"no ResNet-RS-{name} was published: {', '.join(map(str, LAYERS))} were")

    def made(sizes: Sizes) -> nn.Module:
        return resnet_rs(sizes.depths, widths=sizes.widths[:-1], stem=sizes.widths[-1], classes=classes)

    return Scalable(Sizes(LAYERS[name], (*WIDTHS, STEM), resolution or RESOLUTIONS[name][0]), made, pixels=32)
