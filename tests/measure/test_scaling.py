"""Scaled networks have the multiply-accumulates that were asked for, as counted; rules keep what papers say of them."""

from __future__ import annotations

import math
from dataclasses import replace
from functools import cache
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from sartor.errors import InputError
from sartor.measure.counts import counts
from sartor.measure.scaling import RULES, Factors, activations, compound, fast, scale
from sartor.models.resnet_rs import LAYERS, RESOLUTIONS, resnet_rs, scalable_resnet_rs
from sartor.models.scalable import Scalable, Sizes, scalable_conv, scalable_mnasnet, scalable_vit
from sartor.records import Arch
from sartor.space.mnasnet import mnasnet_a1

STAGE = {"op": "residual", "se": False, "depth": 2}
RESIDUAL = Arch(
    {"resolution": 32, "stem.width": 16}
    | {f"s{i}.{key}": option for i in range(3) for key, option in {**STAGE, "width": 16 * 2**i}.items()}
)
INVERTED = Arch(
    {"resolution": 24, "stem.width": 16}
    | {f"s{i}.{key}": option for i, op in enumerate(("fused", "mbconv")) for key, option in
       {"op": op, "se": True, "depth": 1 + i, "width": 24 + 16 * i, "expand": 4, "kernel": 5}.items()}
)  # fmt: skip
VIT = Arch(
    {"resolution": 32}
    | {f"s{i}.{key}": option for i in range(2) for key, option in
       {"width": 32 * (i + 1), "heads": 3, "expand": 2, "depth": 2}.items()}
)  # fmt: skip
TINY_RS = scalable_resnet_rs(50, resolution=64, classes=10)
NETWORKS = {
    "residual": scalable_conv(RESIDUAL),
    "inverted": scalable_conv(INVERTED, full_resolution=32),
    "vit": scalable_vit(VIT),
    "mnasnet": scalable_mnasnet(mnasnet_a1(), resolution=64, classes=10),
}


@cache
def base(name: str) -> int:
    return counts(NETWORKS[name].outline(), NETWORKS[name].input_shape).macs


@settings(max_examples=10)
@given(st.sampled_from(sorted(NETWORKS)), st.sampled_from(sorted(RULES)), st.floats(0.5, 6))
def test_the_factor_is_hit(name: str, rule: str, factor: float) -> None:
    scaled = scale(NETWORKS[name], factor, rule)
    counted = counts(scaled.network.module(), scaled.network.input_shape).macs
    assert counted == scaled.macs
    assert counted / base(name) == pytest.approx(factor, rel=0.05)
    assert scaled.factor == counted / base(name)


@pytest.mark.parametrize("network", [NETWORKS["residual"], TINY_RS], ids=["residual", "resnet-rs"])
def test_activations_grow_as_the_root(network: Scalable) -> None:
    """arXiv:2103.06877 §5: s^(1 - alpha / 2), s^0.6 with 0.8 for the width, near the root; s^0.83 in equal parts. What
    blocks and pixels are rounded to moves it."""
    before = activations(counts(network.outline(), network.input_shape))
    found = {}
    for rule in ("fast", "uniform", "width"):
        scaled = scale(network, 16, rule)
        after = activations(counts(scaled.network.outline(), scaled.network.input_shape))
        found[rule] = math.log(after / before, scaled.factor)
    assert found["width"] == pytest.approx(0.5, abs=0.03)
    assert 0.5 <= found["fast"] <= 0.65
    assert found["uniform"] > found["fast"] + 0.08


@given(st.floats(1 / 64, 64), st.floats(0, 1))
def test_rules_share_the_factor(s: float, alpha: float) -> None:
    for rule in (fast(alpha), *RULES.values()):
        assert rule(s).macs == pytest.approx(s)
        assert rule(1.0) == Factors(1, 1, 1)
    assert fast(alpha)(s).activations == pytest.approx(s ** (1 - alpha / 2))


def test_rules_are_the_papers() -> None:
    """pycls's fast scaling is d1_w8_r1; EfficientNet's B-steps are 1.2, 1.1 and 1.15, which is 1.92 times (its 2)."""
    step = 1.2 * 1.1**2 * 1.15**2
    found = RULES["efficientnet"](step)
    assert (found.depth, found.width, found.resolution) == pytest.approx((1.2, 1.1, 1.15))
    assert RULES["fast"](7.0) == compound(1, 8, 1)(7.0)
    deep, wide = RULES["resnet-rs"], RULES["resnet-rs-wide"]
    assert deep(8).width == wide(8).depth == 1
    assert max(rule(s).resolution for rule in (deep, wide) for s in (30, 100, 1000)) == 2
    assert RULES["efficientnet"](64).resolution > deep(64).resolution


def test_depth_alone_keeps_widths_where_blocks_allow() -> None:
    scaled = scale(NETWORKS["mnasnet"], 3, "depth").network.sizes
    before = NETWORKS["mnasnet"].sizes
    assert (scaled.widths, scaled.resolution) == (before.widths, before.resolution)
    assert all(more > few for few, more in zip(before.depths, scaled.depths, strict=True))


def test_an_arch_comes_back() -> None:
    scaled = scale(NETWORKS["vit"], 3).network
    assert scaled.arch["s1.width"] == scaled.sizes.widths[1]
    assert scaled.arch["s1.heads"] > VIT["s1.heads"]
    image = torch.randn(2, *scaled.input_shape)
    assert scaled.module().eval()(image).shape == (2, 10)
    again = scalable_vit(scaled.arch)
    assert (again.sizes, again.input_shape) == (scaled.sizes, scaled.input_shape)
    with pytest.raises(InputError, match="not made of an arch"):
        _ = TINY_RS.arch


def test_mnasnets_sizes_are_what_is_built() -> None:
    """In multiples of 8; and stem and last convolution, which no arch has, are not left out in silence."""
    network = NETWORKS["mnasnet"]
    assert counts(scalable_mnasnet(network.arch, resolution=64, classes=10).outline(), (3, 64, 64)).macs == base(
        "mnasnet"
    )
    wider = network.of(replace(network.sizes, widths=tuple(width + 5 for width in network.sizes.widths)))
    built = [module.weight.shape[0] for module in wider.outline().modules() if isinstance(module, nn.Conv2d)]
    assert {*wider.sizes.widths} <= {*built}
    assert not any(width % 8 for width in wider.sizes.widths)
    with pytest.raises(InputError, match="take its sizes"):
        _ = scale(network, 2, "width").network.arch
    deeper = scale(network, 1.5, "depth").network
    again = scalable_mnasnet(deeper.arch, resolution=64, classes=10)
    assert counts(again.outline(), (3, 64, 64)).macs == counts(deeper.outline(), (3, 64, 64)).macs


@pytest.mark.parametrize("wrong", [math.nan, math.inf, -math.inf, 0.0, -2.0, 1e300, "wide", None])
@pytest.mark.parametrize("name", ["depth", "width", "resolution"])
def test_a_rule_of_ones_own_gives_numbers(name: str, wrong: Any) -> None:
    right = {"depth": 1.0, "width": 1.0, "resolution": 1.0}
    with pytest.raises(InputError, match=f"times the {name} for 2 times"):
        scale(NETWORKS["residual"], 2, lambda s: Factors(**{**right, name: wrong}))


PUBLISHED = {50: 35.7, 101: 64, 152: 87, 200: 93, 270: 130, 350: 164, 420: 192}
"""Million parameters (arXiv:2103.07579 Table 7); of the smallest with one more digit."""
FLOPS = {
    (50, 160): 4.6, (101, 160): 8.4, (101, 192): 12, (152, 192): 18, (152, 224): 24, (152, 256): 31,
    (200, 256): 40, (270, 256): 54, (350, 256): 69, (350, 320): 107, (420, 320): 128,
}  # fmt: skip
"""Billions there, two a multiply-accumulate, by network and pixels a side."""


@pytest.mark.parametrize("name", [50, 152])
def test_resnet_rs_is_published(name: int) -> None:
    with torch.device("meta"):
        network = resnet_rs(name)
    for pixels in RESOLUTIONS[name]:
        counted = counts(network, (3, pixels, pixels))
        assert round(counted.params / 1e6, 1 if name == 50 else 0) == PUBLISHED[name]
        assert 2 * counted.macs / 1e9 == pytest.approx(FLOPS[name, pixels], rel=0.03)


def test_every_preset_has_its_parameters() -> None:
    import timm

    for name, published in PUBLISHED.items():
        with torch.device("meta"):
            ours = resnet_rs(name)
        assert round(sum(p.numel() for p in ours.parameters()) / 1e6, 1 if name == 50 else 0) == published
        if name <= 101:
            with torch.device("meta"):
                theirs = timm.create_model(f"resnetrs{name}").state_dict()
            assert {key: value.shape for key, value in ours.state_dict().items()} == {
                key: value.shape for key, value in theirs.items()
            }
    assert {name for name, _ in FLOPS} == set(LAYERS) == set(PUBLISHED)
    assert {(name, pixels) for name, sizes in RESOLUTIONS.items() for pixels in sizes} == set(FLOPS)


@pytest.mark.parametrize(
    ("factor", "rule", "names"),
    [
        (0.0, "fast", "between"),
        (math.nan, "fast", "between"),
        (1e9, "fast", "between"),
        (-2, "fast", "between"),
        (2, "fsat", "did you mean fast"),
        (0.002, "resolution", "the nearest is"),
    ],
)
def test_nonsense_is_refused(factor: float, rule: str, names: str) -> None:
    network = scalable_conv({**RESIDUAL, **{f"s{i}.width": 1 for i in range(3)}, "stem.width": 1})
    with pytest.raises(InputError, match=names):
        scale(network, factor, rule)


def test_nonsense_of_rules_and_networks_is_refused() -> None:
    with pytest.raises(InputError, match="from 0 to 1"):
        fast(1.5)
    for shares in ((0, 0, 0), (-1, 1, 1), (math.nan, 1, 1)):
        with pytest.raises(InputError, match="shares"):
            compound(*shares)
    with pytest.raises(InputError, match="another space"):
        scalable_vit(mnasnet_a1())
    with pytest.raises(InputError, match="was published"):
        resnet_rs(34)
    with pytest.raises(InputError, match="a rule gives Factors"):
        scale(NETWORKS["residual"], 2, lambda s: (1, 1, s))  # type: ignore[arg-type, return-value]
    with pytest.raises(InputError, match="no multiply-accumulates"):
        scale(Scalable(Sizes((1,), (8,), 32), lambda sizes: torch.nn.ReLU()), 2)
