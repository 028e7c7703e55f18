"""Groups of one size: in every layer, chosen by a balance, and faster than a number of groups at equal work."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from sartor.blocks.e2gc import Grouped, balance, group_size
from sartor.blocks.mobile import InvertedResidual
from sartor.errors import InputError
from sartor.measure.counts import counts
from sartor.measure.energy.analytic import CACHE_PJ_PER_BYTE, mac_pj
from sartor.models.mobilenet_v1 import build_mobilenet_v1, grouped_layers
from sartor.models.resnext import build_resnext
from sartor.models.torchvision_ops import define_missing_ops


def kernels(network: nn.Module) -> list[nn.Conv2d]:
    """Its 3x3 convolutions, without those that see the image."""
    found = [layer for layer in network.modules() if isinstance(layer, nn.Conv2d) and layer.kernel_size == (3, 3)]
    return [layer for layer in found if layer.in_channels > 3]


@pytest.mark.parametrize("size", [1, 2, 8, 32])
def test_every_layer_has_groups_of_one_size(size: int) -> None:
    with torch.device("meta"):
        network = build_mobilenet_v1(group_size=size)
    assert len(kernels(network)) == 13
    for layer in kernels(network):
        assert layer.groups == layer.in_channels // size
        assert layer.weight.shape[1] == size


def test_mobilenet_v1_is_published() -> None:
    """arXiv:1704.04861 Table 4: 4.2 million parameters, 569 million multiply-accumulates; timm's has as many."""
    define_missing_ops()
    import timm

    with torch.device("meta"):
        network, theirs = build_mobilenet_v1(), timm.create_model("mobilenetv1_100")
    counted = counts(network, (3, 224, 224))
    assert counted.params == sum(p.numel() for p in theirs.parameters())
    assert round(counted.macs / 1e6) == 569


@pytest.mark.parametrize("size", [4, 32])
def test_resnexts_have_groups_of_one_size(size: int) -> None:
    with torch.device("meta"):
        network, numbered = build_resnext(group_size=size), build_resnext(groups=size)
    for layer in kernels(network):
        assert layer.groups == layer.in_channels // size
    assert {layer.groups for layer in kernels(numbered)} == {size}


def test_resnext_is_timms() -> None:
    define_missing_ops()
    import timm

    with torch.device("meta"):
        ours, theirs = build_resnext(), timm.create_model("resnext50_32x4d")
    assert [(name, p.shape) for name, p in ours.named_parameters()] == [
        (name, p.shape) for name, p in theirs.named_parameters()
    ]
    built = build_resnext((1, 1, 1, 1), group_size=8, channels=1, classes=3)
    assert built(torch.randn(2, 1, 32, 32)).shape == (2, 3)


@pytest.mark.parametrize("build", [build_mobilenet_v1, build_resnext])
def test_a_size_and_a_number_of_equal_work(build: Callable[..., nn.Module]) -> None:
    """The paper's comparison is at equal multiply-accumulates: 8 channels each, and 32 groups each."""
    with torch.device("meta"):
        ours, theirs = (counts(build(**groups), (3, 64, 64)) for groups in ({"group_size": 8}, {"groups": 32}))
    assert ours.macs == pytest.approx(theirs.macs, rel=0.03)


@pytest.mark.parametrize("size", [1, 4, 16])
def test_layers_are_those_of_the_network(size: int) -> None:
    with torch.device("meta"):
        network = build_mobilenet_v1(group_size=size, width=0.5)
    whole = {layer.name: layer for layer in counts(network, (3, 96, 96)).layers}
    named = {name: module for name, module in network.named_modules() if module in kernels(network)}
    found = grouped_layers(96, width=0.5)
    for (name, module), layer in zip(named.items(), found, strict=True):
        assert whole[name].macs == layer.macs(size)
        bytes_ = whole[name].read_bytes + whole[name].written_bytes + whole[name].weight_read_bytes
        assert bytes_ == 4 * layer.moved(size)
        assert module.stride == (layer.stride, layer.stride)


def test_the_block_takes_a_size() -> None:
    block = InvertedResidual(16, 16, hidden=64, group_size=8).eval()
    assert [m.groups for m in block.modules() if isinstance(m, nn.Conv2d)] == [1, 8, 1]
    assert block(torch.randn(2, 16, 5, 5)).shape == (2, 16, 5, 5)
    with pytest.raises(ValueError, match="no groups of"):
        InvertedResidual(16, 16, hidden=60, group_size=8)


LAYERS = st.lists(
    st.builds(Grouped, st.sampled_from((32, 64, 96, 256)), st.integers(1, 4000), st.sampled_from((1, 3, 5))), min_size=1
)


@given(LAYERS, st.floats(0.01, 100), st.floats(0.01, 100))
def test_the_size_balances(layers: list[Grouped], mac: float, moved: float) -> None:
    """No size that divides all channels is nearer to equal costs, which are met once: the ratio only rises."""
    chosen = group_size(layers, mac=mac, moved=moved)
    ratios = {
        size: balance(layers, size, mac=mac, moved=moved)
        for size in range(1, 257)
        if all(layer.channels % size == 0 for layer in layers)
    }
    assert list(ratios.values()) == sorted(ratios.values())
    assert abs(math.log(ratios[chosen])) == min(abs(math.log(ratio)) for ratio in ratios.values())
    assert group_size(layers, mac=mac / 2, moved=moved) >= chosen


def test_reuse_saturates_while_computing_does_not() -> None:
    """§III: the reuse of data rises with the size of groups, ever less; the work rises in proportion. With a fixed
    number of groups, both go apart from layer to layer."""
    layers = grouped_layers(224)
    for layer in layers:
        gains = [layer.reuse(2 * size) / layer.reuse(size) for size in (1, 2, 4, 8, 16)]
        assert gains == sorted(gains, reverse=True)
        assert layer.macs(16) == 16 * layer.macs(1)
    spread = {
        "size": [balance([layer], 16, mac=1, moved=1) for layer in layers],
        "number": [balance([layer], layer.channels // 32, mac=1, moved=1) for layer in layers],
    }
    assert max(spread["size"]) / min(spread["size"]) < max(spread["number"]) / min(spread["number"])


def test_bits_move_the_balance() -> None:
    """Narrow numbers are cheaper to multiply than to move: larger groups."""
    layers = grouped_layers(224)
    wide = group_size(layers, mac=mac_pj(32), moved=4 * CACHE_PJ_PER_BYTE)
    assert group_size(layers, mac=mac_pj(8), moved=CACHE_PJ_PER_BYTE) > wide > 1


def test_nonsense_is_refused() -> None:
    with pytest.raises(InputError, match="at least one"):
        group_size([], mac=1, moved=1)
    with pytest.raises(InputError, match="positive"):
        group_size(grouped_layers(), mac=0, moved=1)
    with pytest.raises(InputError, match="give group_size or groups"):
        build_mobilenet_v1(group_size=4, groups=4)
    for options in ({"group_size": 24}, {"groups": 64}, {"groups": 3}, {"group_size": 0}, {"groups": 0}):
        with pytest.raises(InputError, match="divides every width"):
            build_mobilenet_v1(**options)
    for options in ({"group_size": 24}, {"groups": 3}, {"group_size": 0}, {"groups": 0}):
        with torch.device("meta"), pytest.raises(InputError, match="divides every width"):
            build_resnext(**options)
    with pytest.raises(InputError, match="give group_size or groups"):
        build_resnext(group_size=4, groups=4)
