"""Every block against an independent implementation with the same weights, and the published networks' sizes."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import onnx
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from sartor.blocks import BLOCKS, ConvNormAct, FusedMBConv, MBConv, PooledResidual, Residual, SqueezeExcite
from sartor.compress.quantize import quantize_int8
from sartor.export.onnx import export_onnx
from sartor.export.parity import parity
from sartor.measure.counts import counts
from sartor.models.torchvision_ops import define_missing_ops

TOLERANCE = 1e-5
"""Max abs error over the max abs output: two orders of summing the same products in fp32."""


@pytest.fixture(scope="module")
def timm() -> Any:
    define_missing_ops()
    import timm.layers
    import timm.models._efficientnet_blocks
    import timm.models.resnet

    return timm


@pytest.fixture(scope="module")
def torchvision() -> Any:
    define_missing_ops()
    import torchvision.models

    return torchvision


def copy_weights(source: nn.Module, target: nn.Module) -> None:
    """Tensor by tensor in the order of their definition, which both have from the paper. Refuses other shapes."""
    held = list(source.state_dict().values())
    names = list(target.state_dict())
    assert len(held) == len(names)
    assert [t.shape for t in held] == [t.shape for t in target.state_dict().values()]
    target.load_state_dict(dict(zip(names, held, strict=True)))


def rough(module: nn.Module) -> nn.Module:
    """Parameters and statistics that a fresh module does not have, so that no part is neutral."""
    with torch.no_grad():
        for name, tensor in module.state_dict().items():
            if tensor.is_floating_point():
                tensor.copy_(0.5 + torch.rand(tensor.shape) if "var" in name else 0.3 * torch.randn(tensor.shape))
    return module


def assert_equal_in_both_modes(ours: nn.Module, theirs: nn.Module, x: Tensor) -> None:
    """Outputs, the gradients of the input, and the statistics a training pass leaves."""
    copy_weights(rough(ours), theirs)
    for mode in (True, False):
        results = []
        for module in (ours.train(mode), theirs.train(mode)):
            leaf = x.clone().requires_grad_()
            y = module(leaf * 1)  # the blocks' ReLU works in place
            y.square().sum().backward()
            results.append((y.detach(), leaf.grad))
        for a, b in zip(*results, strict=True):
            assert a.shape == b.shape
            assert float((a - b).abs().max()) <= TOLERANCE * float(b.abs().max())
    for a, b in zip(ours.state_dict().values(), theirs.state_dict().values(), strict=True):
        torch.testing.assert_close(a, b)


def n_params(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


def timm_gate(timm: Any, channels: int) -> Any:
    """timm's squeeze-excite with MobileNetV3's numbers: a quarter of the channels, at least 8 and in eights."""
    hidden = max(8, (channels // 4 + 7) // 8 * 8)
    return partial(timm.layers.SqueezeExcite, rd_channels=hidden, gate_layer="hard_sigmoid")


@pytest.mark.parametrize("se", [False, True])
@pytest.mark.parametrize(
    ("c_in", "c_out", "ratio", "kernel", "stride", "skip"),
    [(16, 16, 4, 3, 1, True), (16, 16, 4, 3, 1, False), (16, 24, 2, 5, 2, False), (8, 8, 1, 7, 1, True)],
)
def test_mbconv(timm, torchvision, c_in, c_out, ratio, kernel, stride, skip, se):
    """timm's InvertedResidual with our weights computes the same; MobileNetV2 built of our blocks has its size."""
    ours = MBConv(c_in, c_out, hidden=ratio * c_in, kernel=kernel, stride=stride, se=se, skip=skip)
    theirs = timm.models._efficientnet_blocks.InvertedResidual(
        c_in,
        c_out,
        dw_kernel_size=kernel,
        stride=stride,
        exp_ratio=ratio,
        noskip=not skip,
        se_layer=timm_gate(timm, ratio * c_in) if se else None,
    )
    assert_equal_in_both_modes(ours, theirs, torch.randn(2, c_in, 9, 9))

    # arXiv:1801.04381 table 2: expansion, width, repeats, stride.
    table = [(1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1)]
    with torch.device("meta"):
        blocks: list[nn.Module] = [ConvNormAct(3, 32, 3, 2)]
        width = 32
        for expansion, out, repeats, first in table:
            for index in range(repeats):
                step = first if index == 0 else 1
                blocks.append(MBConv(width, out, hidden=expansion * width, stride=step, skip=index > 0))
                width = out
        blocks += [ConvNormAct(width, 1280, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(1280, 1000)]
        network = nn.Sequential(*blocks)
        published = torchvision.models.mobilenet_v2()
    # Ours has a 1x1 expansion at expansion 1 too: a convolution of 32 x 32 and its norm, on 112 x 112 pixels.
    extra = n_params(ConvNormAct(32, 32, 1))
    assert n_params(network) - extra == n_params(published)
    assert 3.4e6 <= n_params(network) - extra <= 3.51e6
    if not se and stride == 2:  # once is enough
        macs = [counts(m, (3, 224, 224)).macs for m in (network, published)]
        assert macs[0] - 32 * 32 * 112 * 112 == macs[1]
        assert macs[1] == pytest.approx(300e6, rel=0.01)


@pytest.mark.parametrize("channels", [8, 24, 72, 120, 960])
def test_squeeze_excite(timm, torchvision, channels):
    """timm's SqueezeExcite with a hard sigmoid and our weights computes the same, and so does the formula; MobileNetV3
    Large and Small, built of our gates and blocks from torchvision's table, have torchvision's sizes."""
    ours = rough(SqueezeExcite(channels))
    theirs = timm_gate(timm, channels)(channels)
    x = 3 * torch.randn(2, channels, 5, 7)
    assert_equal_in_both_modes(ours, theirs, x)

    w1, b1, w2, b2 = (p.detach().double().squeeze() for p in ours.parameters())
    squeezed = x.double().mean((2, 3))
    gate = F.relu6(F.relu(squeezed @ w1.T + b1) @ w2.T + b2 + 3) / 6
    expected = x.double() * gate[:, :, None, None]
    assert float((ours(x).double() - expected).abs().max()) <= TOLERANCE * float(expected.abs().max())

    for size, head in (("large", 1280), ("small", 1024)):
        rows, _ = torchvision.models.mobilenetv3._mobilenet_v3_conf(f"mobilenet_v3_{size}")
        with torch.device("meta"):
            blocks: list[nn.Module] = [ConvNormAct(3, 16, 3, 2)]
            extra = 0
            for row in rows:
                c_in, c_out, hidden = row.input_channels, row.out_channels, row.expanded_channels
                skip = row.stride == 1 and c_in == c_out
                blocks.append(
                    MBConv(c_in, c_out, hidden=hidden, kernel=row.kernel, stride=row.stride, se=row.use_se, skip=skip)
                )
                extra += n_params(ConvNormAct(c_in, hidden, 1)) if hidden == c_in else 0  # see test_mbconv
            last = rows[-1].out_channels
            blocks += [ConvNormAct(last, 6 * last, 1), nn.Linear(6 * last, head), nn.Linear(head, 1000)]
            published = getattr(torchvision.models, f"mobilenet_v3_{size}")()
        assert sum(map(n_params, blocks)) - extra == n_params(published)


def test_mnasnet_a1():
    """MnasNet-A1, built of our blocks from the paper's figure 7, has the published size: 3.9 M parameters, 312 M
    multiply-adds (arXiv:1807.11626 table 1)."""
    # expansion, width, repeats, stride, kernel, squeeze-excite
    table = [
        (6, 24, 2, 2, 3, False),
        (3, 40, 3, 2, 5, True),
        (6, 80, 4, 2, 3, False),
        (6, 112, 2, 1, 3, True),
        (6, 160, 3, 2, 5, True),
        (6, 320, 1, 1, 3, False),
    ]
    with torch.device("meta"):
        # The stem, then SepConv: a depthwise kernel and a linear 1x1.
        separable = [ConvNormAct(32, 32, 3, groups=32), ConvNormAct(32, 16, 1, act=False)]
        blocks: list[nn.Module] = [ConvNormAct(3, 32, 3, 2), *separable]
        width = 16
        for expansion, out, repeats, first, kernel, se in table:
            for index in range(repeats):
                blocks.append(
                    MBConv(
                        width,
                        out,
                        hidden=expansion * width,
                        kernel=kernel,
                        stride=first if index == 0 else 1,
                        se=se,
                        se_reduction=4 * expansion,
                        skip=index > 0,
                    )
                )
                width = out
        blocks += [ConvNormAct(width, 1280, 1), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(1280, 1000)]
        network = nn.Sequential(*blocks)
    assert n_params(network) == pytest.approx(3.9e6, rel=0.01)
    assert counts(network, (3, 224, 224)).macs == pytest.approx(312e6, rel=0.01)


@pytest.mark.parametrize("se", [False, True])
@pytest.mark.parametrize(
    ("c_in", "c_out", "ratio", "kernel", "stride", "skip"),
    [(16, 16, 4, 3, 1, True), (16, 24, 2, 5, 2, False), (8, 8, 1, 7, 1, False)],
)
def test_fused_mbconv(timm, c_in, c_out, ratio, kernel, stride, skip, se):
    """timm's EdgeResidual with our weights computes the same."""
    ours = FusedMBConv(c_in, c_out, hidden=ratio * c_in, kernel=kernel, stride=stride, se=se, skip=skip)
    theirs = timm.models._efficientnet_blocks.EdgeResidual(
        c_in,
        c_out,
        exp_kernel_size=kernel,
        stride=stride,
        exp_ratio=ratio,
        noskip=not skip,
        se_layer=timm_gate(timm, ratio * c_in) if se else None,
    )
    assert_equal_in_both_modes(ours, theirs, torch.randn(2, c_in, 9, 9))


@pytest.mark.parametrize("se", [False, True])
@pytest.mark.parametrize(
    ("c_in", "c_out", "stride", "project"), [(16, 16, 1, False), (8, 24, 2, True), (8, 8, 1, True)]
)
def test_residual(timm, c_in, c_out, stride, project, se):
    """timm's BasicBlock with our weights computes the same."""
    shortcut = nn.Sequential(nn.Conv2d(c_in, c_out, 1, stride, bias=False), nn.BatchNorm2d(c_out))
    theirs = timm.models.resnet.BasicBlock(
        c_in,
        c_out,
        stride,
        downsample=shortcut if project else None,
        attn_layer=timm_gate(timm, c_out) if se else None,
    )
    assert_equal_in_both_modes(
        Residual(c_in, c_out, stride=stride, se=se, project=project), theirs, torch.randn(2, c_in, 9, 9)
    )


@pytest.mark.parametrize("side", [8, 9])
@pytest.mark.parametrize("project", [False, True])
@pytest.mark.parametrize("stride", [1, 2])
def test_pooled_residual(stride: int, project: bool, side: int):
    """The formula, in both modes; outside training pooling comes last, and changes no bit."""
    torch.manual_seed(0)
    channels = 6 if project else 4
    block = rough(PooledResidual(4, channels, stride=stride, project=project))
    if stride == 2:
        with torch.no_grad():
            block.first.norm.weight.fill_(1.0)  # never trained
    x = torch.randn(3, 4, side, side)

    def norm(y: Tensor, module: nn.BatchNorm2d, training: bool) -> Tensor:
        mean = y.mean((0, 2, 3)) if training else module.running_mean
        variance = y.var((0, 2, 3), unbiased=False) if training else module.running_var
        scaled = (y - mean[:, None, None]) / torch.sqrt(variance[:, None, None] + module.eps)
        return module.weight[:, None, None] * scaled + module.bias[:, None, None]

    def halve(y: Tensor) -> Tensor:
        padded = F.pad(y, (0, y.shape[-1] % 2, 0, y.shape[-2] % 2), value=-torch.inf)
        return padded.unfold(2, 2, 2).unfold(3, 2, 2).amax((-2, -1)) if stride == 2 else y

    first, first_norm = (block.first.conv, block.first.norm) if stride == 2 else (block.first[0], block.first[1])
    for training in (False, True):
        y = F.relu(norm(halve(F.conv2d(x, first.weight, padding=1)), first_norm, training))
        y = norm(F.conv2d(y, block.second[0].weight, padding=1), block.second[1], training)
        rest = halve(x)
        if project:
            rest = norm(F.conv2d(rest, block.shortcut[0].weight), block.shortcut[1], training)
        expected = F.relu(y + rest)
        got = block.train(training)(x.clone())
        assert got.shape == expected.shape
        assert float((got - expected).abs().max()) <= 1e-5 * float(expected.abs().max())

    if stride == 2:
        folded = block.eval().first(x)
        pooled_first = F.relu(first_norm.eval()(F.max_pool2d(first(x), 2, ceil_mode=True)))
        assert torch.equal(folded, pooled_first)


def test_pooled_blocks_fold_and_survive_8_bits(tmp_path: Path):
    """In the file the norm is gone into the convolution, and max pooling runs on 8-bit values."""
    network = nn.Sequential(PooledResidual(3, 16, stride=2, project=True), nn.AdaptiveAvgPool2d(1), nn.Flatten())
    rough(network)
    with torch.no_grad():
        network[0].first.norm.weight.fill_(1.0)
    export_onnx(network.eval(), (3, 12, 12), tmp_path / "m.onnx")
    assert parity(network, tmp_path / "m.onnx", (3, 12, 12)) < 1e-5
    operators = [node.op_type for node in onnx.load(tmp_path / "m.onnx").graph.node]
    assert "BatchNormalization" not in operators
    images = [torch.randn(8, 3, 12, 12).numpy() for _ in range(2)]
    quantize_int8(tmp_path / "m.onnx", tmp_path / "q.onnx", images)
    graph = onnx.load(tmp_path / "q.onnx").graph
    made_by = {out: node.op_type for node in graph.node for out in node.output}
    pools = [node for node in graph.node if node.op_type == "MaxPool"]
    assert len(pools) == 2
    assert {made_by.get(node.input[0]) for node in pools} == {"DequantizeLinear"}


@settings(max_examples=40)
@given(
    st.sampled_from(sorted(BLOCKS)),
    st.integers(1, 20),
    st.integers(1, 20),
    st.sampled_from([1, 2]),
    st.sampled_from([3, 5, 7]),
    st.booleans(),
    st.integers(1, 11),
    st.integers(1, 11),
)
def test_shapes(op, c_in, c_out, stride, kernel, se, height, width):
    """[b, c_in, h, w] → [b, c_out, ceil(h/stride), ceil(w/stride)], for every block and odd size."""
    if op in ("residual", "pooled"):
        kind = Residual if op == "residual" else PooledResidual
        block: nn.Module = kind(c_in, c_out, stride=stride, se=se, project=True)
    else:
        block = BLOCKS[op](c_in, c_out, hidden=2 * c_in, kernel=kernel, stride=stride, se=se)
    y = block.eval()(torch.randn(1, c_in, height, width))
    assert y.shape == (1, c_out, -(-height // stride), -(-width // stride))


def test_the_bottleneck_is_linear():
    """An inverted residual ends without an activation: ReLU there destroys what a thin layer holds (§3.2)."""
    for block in (MBConv(8, 8, hidden=16), FusedMBConv(8, 8, hidden=16)):
        y = block.eval()(torch.randn(4, 8, 6, 6))
        assert bool((y < 0).any())
    y = Residual(8, 8).eval()(torch.randn(4, 8, 6, 6))
    assert not bool((y < 0).any())
