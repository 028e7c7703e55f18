"""Layers in a row: our own presets, and what was published of mobile networks and transformers."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from sartor.models.autoformer import PER_HEAD, build_autoformer
from sartor.models.buildable.buildable import Buildable, images, tokens
from sartor.models.convnet import build
from sartor.models.flexibert import build_flexibert
from sartor.models.hat import build_hat
from sartor.models.layers import build_layers
from sartor.models.macro import FBNET_LAST, build_fbnet, build_macro
from sartor.models.mnasnet import build_mnasnet
from sartor.models.ofa import build_ofa
from sartor.models.vit import build_vit
from sartor.space.autoformer import TINY, Ranges, autoformer_space
from sartor.space.flexibert import flexibert_space
from sartor.space.hat import hat_space
from sartor.space.layers import layers_space
from sartor.space.macro import fbnet_space, nas_bench_macro
from sartor.space.mnasnet import mnasnet_space
from sartor.space.ofa import RESOLUTIONS, ofa_space
from sartor.space.presets import conv_space
from sartor.space.vit import vit_space


def conv_problem(resolution: int = 32) -> Buildable:
    """:func:`sartor.space.presets.conv_space`, ten classes."""
    return Buildable(
        conv_space(resolution),
        lambda arch: build(arch, channels=3, classes=10, full_resolution=resolution),
        lambda arch, n: (torch.randn(n, 3, int(arch["resolution"]), int(arch["resolution"])),),
    )


def layers_problem(most: int = 8, *, resolution: int = 32, channels: int = 3, classes: int = 10) -> Buildable:
    """:func:`sartor.space.layers.layers_space`: up to ``most`` convolutions in a row."""
    return Buildable(
        layers_space(most),
        lambda arch: build_layers(arch, channels=channels, classes=classes),
        lambda arch, n: (torch.randn(n, channels, resolution, resolution),),
    )


def vit_problem(resolution: int = 32) -> Buildable:
    """:func:`sartor.space.vit.vit_space`, ten classes, tokens of four pixels a side."""
    return Buildable(
        vit_space(resolution),
        lambda arch: build_vit(arch, channels=3, classes=10, patch=4),
        lambda arch, n: (torch.randn(n, 3, resolution, resolution),),
    )


def ofa_problem(*, resolutions: Sequence[int] = RESOLUTIONS, width: float = 1.0, classes: int = 1000) -> Buildable:
    """:func:`sartor.space.ofa.ofa_space`."""
    return Buildable(
        ofa_space(resolutions=resolutions),
        lambda arch: build_ofa(arch, classes=classes, width=width),
        lambda arch, n: images(n, int(arch["resolution"])),
    )


def fbnet_problem(
    *, resolution: int = 224, width: float = 1.0, last: int = FBNET_LAST, classes: int = 1000
) -> Buildable:
    """:func:`sartor.space.macro.fbnet_space`."""
    return Buildable(
        fbnet_space(),
        lambda arch: build_fbnet(arch, classes=classes, width=width, last=last),
        lambda arch, n: images(n, resolution),
    )


def mnasnet_problem(*, resolution: int = 224, width: float = 1.0, classes: int = 1000) -> Buildable:
    """:func:`sartor.space.mnasnet.mnasnet_space`."""
    return Buildable(
        mnasnet_space(),
        lambda arch: build_mnasnet(arch, classes=classes, width=width),
        lambda arch, n: images(n, resolution),
    )


def macro_problem(*, resolution: int = 32, stem: int = 32, last: int = 1280, classes: int = 10) -> Buildable:
    """:func:`sartor.space.macro.nas_bench_macro`."""
    return Buildable(
        nas_bench_macro(),
        lambda arch: build_macro(arch, classes=classes, stem=stem, last=last),
        lambda arch, n: images(n, resolution),
    )


def autoformer_problem(
    ranges: Ranges = TINY, *, resolution: int = 224, patch: int = 16, per_head: int = PER_HEAD, classes: int = 1000
) -> Buildable:
    """:func:`sartor.space.autoformer.autoformer_space`."""
    return Buildable(
        autoformer_space(ranges),
        lambda arch: build_autoformer(arch, classes=classes, resolution=resolution, patch=patch, per_head=per_head),
        lambda arch, n: images(n, resolution),
    )


def hat_problem(
    *,
    widths: Sequence[int] = (512, 640),
    hidden: Sequence[int] = (1024, 2048, 3072),
    inner: int = 512,
    vocabulary: int = 32768,
    length: int = 30,
) -> Buildable:
    """:func:`sartor.space.hat.hat_space`, sources and targets of ``length`` tokens, none of which is padding."""
    return Buildable(
        hat_space(widths=widths, hidden=hidden),
        lambda arch: build_hat(arch, vocabulary=vocabulary, inner=inner),
        lambda arch, n: (tokens(n, length, vocabulary), tokens(n, length, vocabulary)),
    )


def flexibert_problem(
    *,
    widths: Sequence[int] = (128, 256),
    hidden: Sequence[int] = (512, 1024),
    vocabulary: int = 30522,
    length: int = 128,
    classes: int = 2,
) -> Buildable:
    """:func:`sartor.space.flexibert.flexibert_space`, sequences of ``length`` tokens."""
    return Buildable(
        flexibert_space(widths=widths, hidden=hidden),
        lambda arch: build_flexibert(arch, vocabulary=vocabulary, positions=max(length, 512), classes=classes),
        lambda arch, n: (tokens(n, length, vocabulary),),
    )
