"""Multi-stage vision transformers: exact as subnets and as files, and made of what they say."""

from __future__ import annotations

import random
from functools import partial
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

from contracts.supernet import SupernetSuite
from sartor.blocks.attention import Attention, SpatialReduction
from sartor.errors import InputError
from sartor.export.onnx import export_onnx
from sartor.export.parity import parity
from sartor.measure.counts import counts
from sartor.models import Supernet
from sartor.models.vit import build_vit
from sartor.space.vit import PER_HEAD, vit_space


def make(resolution: int = 16, *, channels: int = 3, patch: int = 4, **sizes) -> Supernet:
    return Supernet(vit_space(resolution, **sizes), partial(build_vit, channels=channels, classes=10, patch=patch))


class TestVisionTransformers(SupernetSuite):
    """Widths, heads, expansions and depths of two stages."""

    make = staticmethod(make)
    images = (3, 16, 16)
    n_archs = 60


def test_attention_is_torchs() -> None:
    """Beside torch's own layer with the same weights, its three projections stacked."""
    torch.manual_seed(0)
    ours, width, heads = Attention(24, 3, 8), 24, 3
    theirs = torch.nn.MultiheadAttention(width, heads, batch_first=True)
    layers = (ours.query, ours.key, ours.value)
    theirs.load_state_dict(
        {
            "in_proj_weight": torch.cat([layer.weight for layer in layers]).detach(),
            "in_proj_bias": torch.cat([layer.bias for layer in layers]).detach(),
            "out_proj.weight": ours.out.weight.detach(),
            "out_proj.bias": ours.out.bias.detach(),
        }
    )
    x = torch.randn(2, 7, width)
    assert torch.allclose(ours(x), theirs(x, x, x)[0], atol=1e-6)


@pytest.mark.parametrize(("c_in", "c_out", "side"), [(8, 16, 8), (8, 8, 7), (16, 8, 5), (8, 24, 1)])
def test_spatial_reduction_starts_from_its_mean(c_in: int, c_out: int, side: int) -> None:
    """With an idle branch each token is the mean of the (up to) four it replaces; new channels are zero."""
    block = SpatialReduction(c_in, c_out)
    torch.nn.init.zeros_(block.conv.weight)
    torch.nn.init.zeros_(block.conv.bias)
    x = torch.randn(2, c_in, side, side)
    y = block(x)
    half = -(-side // 2)
    assert y.shape == (2, c_out, half, half)
    kept = min(c_in, c_out)
    for row, column in ((0, 0), (half - 1, half - 1)):
        tokens = x[:, :kept, 2 * row : 2 * row + 2, 2 * column : 2 * column + 2]
        assert torch.allclose(y[:, :kept, row, column], tokens.mean((2, 3)), atol=1e-6)
    assert not y[:, kept:].any()


def test_exports_and_counts(tmp_path: Path) -> None:
    """The file gives what the network gives; MACs are those of the formula."""
    space, rng = vit_space(16), random.Random(0)
    for arch in (space.largest(), space.smallest(), space.sample(rng)):
        network = build_vit(arch, channels=3, classes=10, patch=4).eval()
        export_onnx(network, (3, 16, 16), tmp_path / "vit.onnx")
        assert parity(network, tmp_path / "vit.onnx", (3, 16, 16)) < 1e-5
        export_onnx(network, (3, 16, 16), tmp_path / "draft.onnx", draft=True)
        assert parity(network, tmp_path / "draft.onnx", (3, 16, 16)) < 1e-5
        expected, tokens, before = 16 * 3 * 16 * int(arch["s0.width"]), 16, 0
        for stage in ("s0", "s1"):
            width, inner = int(arch[f"{stage}.width"]), PER_HEAD * int(arch[f"{stage}.heads"])
            if before:
                tokens //= 4
                expected += tokens * 9 * before * width
            block = 4 * width * inner + 2 * int(arch[f"{stage}.expand"]) * width**2
            expected += int(arch[f"{stage}.depth"]) * (tokens * block + 2 * tokens**2 * inner)
            before = width
        assert counts(network, (3, 16, 16)).macs == expected + 10 * before


def test_a_width_under_two_heads_is_refused() -> None:
    with pytest.raises(InputError, match="at least 16"):
        vit_space(16, width=8)


def test_the_loss_reaches_every_weight() -> None:
    network = build_vit(vit_space(16).largest(), channels=3, classes=10, patch=4)
    F.cross_entropy(network(torch.randn(8, 3, 16, 16)), torch.arange(8)).backward()
    # A softmax over one key more does not see what is added to all keys alike: the key's bias has no gradient.
    assert all(p.grad is not None and (p.grad.any() or "key.bias" in n) for n, p in network.named_parameters())
