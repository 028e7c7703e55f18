"""Networks as the numbers that scaling changes: blocks of each stage, widths, pixels a side."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import torch
from torch import nn

from sartor.errors import InputError
from sartor.models.convnet import build
from sartor.models.mnasnet import LAST, STEM, build_mnasnet
from sartor.models.mobile import divisible
from sartor.models.vit import build_vit
from sartor.records import Arch, Option


@dataclass(frozen=True)
class Sizes:
    """Blocks of each stage, channels of each part, pixels a side."""

    depths: tuple[int, ...]
    widths: tuple[int, ...]
    resolution: int

    @property
    def depth(self) -> int:
        return sum(self.depths)


@dataclass(frozen=True)
class Scalable:
    """A network that ``build`` makes, with fresh weights, of its ``sizes``, or of any others.

    ``channels``: of its images. ``round_to``, ``pixels``: widths and resolutions are best multiples of these.
    ``arch_of``: the arch that says the same, of networks that have one; a scaled one need not be of the space that it
    came from. ``built``: the sizes that ``build`` makes of others, where it rounds them.
    """

    sizes: Sizes
    build: Callable[[Sizes], nn.Module]
    channels: int = 3
    round_to: int = 8
    pixels: int = 4
    arch_of: Callable[[Sizes], Arch] | None = None
    built: Callable[[Sizes], Sizes] | None = None

    def __post_init__(self) -> None:
        if self.built is not None:  # so that sizes always tell what there is
            object.__setattr__(self, "sizes", self.built(self.sizes))

    @property
    def input_shape(self) -> tuple[int, int, int]:
        """(C, H, W) of its images."""
        return (self.channels, self.sizes.resolution, self.sizes.resolution)

    @property
    def arch(self) -> Arch:
        """Raises InputError for a network that no arch describes."""
        if self.arch_of is None:
            raise InputError("this network was not made of an arch: take its sizes")
        return self.arch_of(self.sizes)

    def module(self) -> nn.Module:
        return self.build(self.sizes)

    def outline(self) -> nn.Module:
        """The network without values, for counting."""
        with torch.device("meta"):
            return self.build(self.sizes)

    def of(self, sizes: Sizes) -> Scalable:
        return replace(self, sizes=sizes)


def scalable_conv(
    arch: Mapping[str, Option], *, channels: int = 3, classes: int = 10, full_resolution: int | None = None
) -> Scalable:
    """The network of an arch of :func:`sartor.space.conv_space`: stem, then stages. ``full_resolution`` fixes the
    strides at every size, as in :func:`sartor.models.build`; the arch's own resolution, where it is left out."""
    names = _names(arch, "s", "width")
    full = full_resolution or int(arch["resolution"])
    depths, widths = [f"{name}.depth" for name in names], ["stem.width", *(f"{name}.width" for name in names)]

    def arch_of(sizes: Sizes) -> Arch:
        return Arch({**arch, **_named(depths, widths, sizes), "resolution": sizes.resolution})

    return Scalable(
        _sizes(arch, depths, widths, int(arch["resolution"])),
        lambda sizes: build(arch_of(sizes), channels=channels, classes=classes, full_resolution=full),
        channels,
        arch_of=arch_of,
    )


def scalable_vit(arch: Mapping[str, Option], *, channels: int = 3, classes: int = 10, patch: int = 4) -> Scalable:
    """The network of an arch of :func:`sartor.space.vit.vit_space`. Heads, which have one size, are as many more as the
    widths are."""
    names = _names(arch, "s", "width")
    depths, widths = [f"{name}.depth" for name in names], [f"{name}.width" for name in names]

    def arch_of(sizes: Sizes) -> Arch:
        wider = zip(names, sizes.widths, strict=True)
        heads = {
            f"{name}.heads": max(1, round(int(arch[f"{name}.heads"]) * width / int(arch[f"{name}.width"])))
            for name, width in wider
        }
        return Arch({**arch, **_named(depths, widths, sizes), **heads, "resolution": sizes.resolution})

    return Scalable(
        _sizes(arch, depths, widths, int(arch["resolution"])),
        lambda sizes: build_vit(arch_of(sizes), channels=channels, classes=classes, patch=patch),
        channels,
        pixels=patch,
        arch_of=arch_of,
    )


def scalable_mnasnet(
    arch: Mapping[str, Option], *, resolution: int = 224, channels: int = 3, classes: int = 1000
) -> Scalable:
    """The network of an arch of :func:`sartor.space.mnasnet.mnasnet_space`, EfficientNet's relative. The stem and the
    last convolution are widths of their own, which come last; a stage that the arch leaves out stays out. Widths are
    multiples of 8, as its builder rounds them. An arch says nothing of stem and last convolution: where they are not
    the usual ones ``arch`` raises InputError."""
    names = [name for name in _names(arch, "b", "layers") if int(arch[f"{name}.layers"])]
    depths, widths = [f"{name}.layers" for name in names], [f"{name}.width" for name in names]

    def arch_of(sizes: Sizes) -> Arch:
        stem, last = sizes.widths[-2:]
        if (stem, last) != (STEM, LAST):
            raise InputError(
                f"an arch of MnasNet has a stem of {STEM} channels and a last convolution of {LAST}, and this network "
                f"{stem} and {last}: take its sizes"
            )
        return Arch({**arch, **_named(depths, widths, sizes)})

    def made(sizes: Sizes) -> nn.Module:
        stem, last = sizes.widths[-2:]
        named = {**arch, **_named(depths, widths, sizes)}
        return build_mnasnet(named, channels=channels, classes=classes, stem=stem, last=last)

    def built(sizes: Sizes) -> Sizes:
        return replace(sizes, widths=tuple(map(divisible, sizes.widths)))

    start = _sizes(arch, depths, widths, resolution)
    start = replace(start, widths=(*start.widths, STEM, LAST))
    return Scalable(start, made, channels, arch_of=arch_of, built=built)


def _names(arch: Mapping[str, Option], letter: str, key: str) -> list[str]:
    found: list[str] = []
    while f"{letter}{len(found)}.{key}" in arch:
        found.append(f"{letter}{len(found)}")
    if not found:
        raise InputError(f"this arch has no {letter}0.{key}: it is of another space")
    return found


def _sizes(arch: Mapping[str, Option], depths: list[str], widths: list[str], resolution: int) -> Sizes:
    return Sizes(tuple(int(arch[name]) for name in depths), tuple(int(arch[name]) for name in widths), resolution)


def _named(depths: list[str], widths: list[str], sizes: Sizes) -> dict[str, Option]:
    """What mnasnet's builder keeps beside the arch has no name, and comes last."""
    return {
        **dict(zip(depths, sizes.depths, strict=True)),
        **dict(zip(widths, sizes.widths[: len(widths)], strict=True)),
    }
