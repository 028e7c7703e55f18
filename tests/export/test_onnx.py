"""Exported equals eager, by both exporters; what is not the network's business stays out of the file."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from sartor.errors import InputError
from sartor.export.onnx import export_onnx
from sartor.export.parity import parity
from sartor.models.torchvision_ops import define_missing_ops


class Block(nn.Module):
    """Batch norm, depthwise, squeeze-excite and a residual: what the spaces here are made of."""

    def __init__(self, width: int, kernel: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(width, width, kernel, padding=kernel // 2, groups=width, bias=False)
        self.norm = nn.BatchNorm2d(width)
        self.squeeze = nn.Conv2d(width, 4, 1)
        self.excite = nn.Conv2d(4, width, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = nn.functional.hardswish(self.norm(self.conv(x)))
        gate = self.excite(nn.functional.relu(self.squeeze(y.mean((2, 3), keepdim=True))))
        return x + y * nn.functional.hardsigmoid(gate)


def network(channels: int = 3, width: int = 8, kernel: int = 3) -> nn.Module:
    torch.manual_seed(0)
    stem = nn.Sequential(nn.Conv2d(channels, width, 3, 2, 1, bias=False), nn.BatchNorm2d(width), nn.ReLU())
    head = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Dropout(0.5), nn.Linear(width, 10))
    model = nn.Sequential(stem, Block(width, kernel), head)
    with torch.no_grad():
        for _ in range(3):  # statistics of its own, so that folding them is visible
            model(torch.randn(16, channels, 16, 16) * 2 + 1)
    return model


@given(
    channels=st.sampled_from([1, 3]),
    width=st.integers(1, 20),
    kernel=st.sampled_from([3, 5, 7]),
    height=st.integers(8, 24),
    side=st.integers(8, 24),
)
@settings(max_examples=12)
def test_draft_parity(
    tmp_path_factory: pytest.TempPathFactory, channels: int, width: int, kernel: int, height: int, side: int
) -> None:
    file = tmp_path_factory.mktemp("draft") / "m.onnx"
    model = network(channels, width, kernel)
    export_onnx(model, (channels, height, side), file, draft=True)
    assert parity(model, file, (channels, height, side)) <= 1e-5


@pytest.mark.parametrize("channels", [1, 3])
def test_final_parity(tmp_path: Path, channels: int) -> None:
    model = network(channels)
    export_onnx(model, (channels, 16, 16), tmp_path / "m.onnx")
    assert parity(model, tmp_path / "m.onnx", (channels, 16, 16), n=32) <= 1e-5


def test_timm_parity(tmp_path: Path) -> None:
    define_missing_ops()
    import timm

    torch.manual_seed(0)
    model = timm.create_model("mobilenetv3_small_050", pretrained=False, num_classes=7)
    export_onnx(model, (3, 64, 64), tmp_path / "m.onnx", draft=True)
    assert parity(model, tmp_path / "m.onnx", (3, 64, 64)) <= 1e-5


@pytest.mark.parametrize("draft", [True, False])
def test_the_file_as_promised(tmp_path: Path, draft: bool, capfd: pytest.CaptureFixture[str]) -> None:
    """Names, open batch, opset, metadata, one valid file, nothing printed, modes given back, no folders of ours."""
    model = network()
    model[0].eval()
    modes = [module.training for module in model.modules()]
    file = tmp_path / "folder" / "m.onnx"
    export_onnx(model, (3, 16, 16), file, metadata={"sartor": '{"format": 1}', "other": "ü"}, draft=draft)

    assert capfd.readouterr() == ("", "")
    assert [module.training for module in model.modules()] == modes
    assert [f.name for f in file.parent.iterdir()] == ["m.onnx"]
    onnx.checker.check_model(str(file), full_check=True)
    proto = onnx.load(str(file))
    assert max(o.version for o in proto.opset_import if not o.domain) >= 18
    assert {p.key: p.value for p in proto.metadata_props} == {"sartor": '{"format": 1}', "other": "ü"}
    assert str(Path(__file__).parent).encode() not in file.read_bytes()
    assert "BatchNormalization" not in {node.op_type for node in proto.graph.node}

    session = ort.InferenceSession(str(file), providers=["CPUExecutionProvider"])
    assert [(v.name, v.shape[1:], v.type) for v in session.get_inputs()] == [("images", [3, 16, 16], "tensor(float)")]
    assert [(v.name, v.shape[1:]) for v in session.get_outputs()] == [("logits", [10])]
    for n in (1, 2, 9):
        assert session.run(None, {"images": np.zeros((n, 3, 16, 16), np.float32)})[0].shape == (n, 10)


class Means(nn.Module):
    """Means over height and width, spelt in every way, and three that are none."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        spellings = [x.mean((2, 3)), x.mean((-1, -2), keepdim=True).flatten(1), nn.functional.adaptive_avg_pool2d(x, 1)]
        others = [x.mean(3).mean(2), x.flatten(2).mean(2), x[:, None].mean((3, 4)).flatten(1)]
        return torch.cat([y.flatten(1) for y in (*spellings, *others)], 1)


@pytest.mark.parametrize("draft", [True, False])
def test_means_over_the_plane_become_pooling(tmp_path: Path, draft: bool) -> None:
    export_onnx(Means(), (3, 9, 7), tmp_path / "m.onnx", draft=draft)
    assert parity(Means(), tmp_path / "m.onnx", (3, 9, 7)) <= 1e-5
    kinds = [node.op_type for node in onnx.load(str(tmp_path / "m.onnx")).graph.node]
    assert kinds.count("GlobalAveragePool") == (3 if draft else 2), "the new exporter computes equal ones once"
    assert kinds.count("ReduceMean") == 4


def test_exporting_under_autocast_stays_fp32(tmp_path: Path) -> None:
    model = network()
    with torch.autocast("cpu", torch.bfloat16):
        export_onnx(model, (3, 16, 16), tmp_path / "m.onnx", draft=True)
    assert parity(model, tmp_path / "m.onnx", (3, 16, 16)) <= 1e-5


def test_parity_sees_a_difference(tmp_path: Path) -> None:
    model = network()
    export_onnx(model, (3, 16, 16), tmp_path / "m.onnx", draft=True)
    with torch.no_grad():
        model[-1][-1].bias += 1.0
    assert parity(model, tmp_path / "m.onnx", (3, 16, 16)) > 0.1
    with torch.no_grad():
        model[-1][-1].bias.fill_(float("nan"))
    assert parity(model, tmp_path / "m.onnx", (3, 16, 16)) == float("inf")
    with pytest.raises(InputError, match="does not run on images"):
        parity(model, tmp_path / "m.onnx", (3, 20, 20))


class Branching(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if float(x.sum()) > 0:
            return x.mean((2, 3))
        return x.amax((2, 3)) + torch.linalg.lstsq(x[:, 0], x[:, 0]).solution.sum()


class Windows(nn.Module):
    """Attention within windows of tokens: tensors of five dimensions, with a bias for the positions."""

    def __init__(self) -> None:
        super().__init__()
        self.qkv, self.out = nn.Linear(3, 24), nn.Linear(8, 2)
        self.bias = nn.Parameter(torch.randn(4, 4))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        tokens = x.flatten(2).transpose(1, 2).unflatten(1, (-1, 4))  # [n, windows, 4, 3]
        q, k, v = self.qkv(tokens).unflatten(-1, (3, 2, 4)).permute(3, 0, 4, 1, 2, 5).unbind(0)
        y = nn.functional.scaled_dot_product_attention(q, k, v, attn_mask=self.bias)
        return self.out(y.permute(0, 2, 3, 1, 4).flatten(3)).mean((1, 2))


def test_attention_in_five_dimensions(tmp_path: Path) -> None:
    torch.manual_seed(0)
    net = Windows().eval()
    export_onnx(net, (3, 4, 4), tmp_path / "model.onnx")
    assert parity(net, tmp_path / "model.onnx", (3, 4, 4)) < 1e-5


@pytest.mark.parametrize("draft", [True, False])
def test_what_cannot_be_exported_is_one_line(tmp_path: Path, draft: bool) -> None:
    (tmp_path / "m.onnx").write_text("the old one")
    with pytest.raises(InputError, match=r"Branching cannot be exported to ONNX") as caught:
        export_onnx(Branching(), (3, 8, 8), tmp_path / "m.onnx", draft=draft)
    assert "\n" not in str(caught.value)
    assert (tmp_path / "m.onnx").read_text() == "the old one"


def test_a_shape_that_is_none() -> None:
    with pytest.raises(InputError, match="three positive numbers"):
        export_onnx(network(), (3, 0, 8), Path("never.onnx"))


class Fixed(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.reshape(2, -1)[:, :5]


def test_a_fixed_batch_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="batch"):
        export_onnx(Fixed(), (3, 8, 8), tmp_path / "m.onnx")
