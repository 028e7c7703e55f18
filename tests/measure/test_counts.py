"""MACs against closed forms, PyTorch's own counter and the exported file: three ways to the same number."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from sartor.compress.quantize import quantize_int8
from sartor.errors import InputError
from sartor.export.onnx import export_onnx
from sartor.measure.counts import counts, counts_of
from sartor.measure.graph_counts import graph_counts
from sartor.measure.trace import trace
from sartor.models.torchvision_ops import define_missing_ops


def timm_model(name: str) -> nn.Module:
    define_missing_ops()
    import timm

    torch.manual_seed(0)
    return timm.create_model(name, pretrained=False).eval()


@given(
    channels=st.integers(1, 4),
    groups=st.integers(1, 3),
    width=st.integers(1, 5),
    kernel=st.integers(1, 5),
    stride=st.integers(1, 3),
    side=st.integers(5, 12),
)
def test_a_convolution_by_its_formula(
    channels: int, groups: int, width: int, kernel: int, stride: int, side: int
) -> None:
    conv = nn.Conv2d(channels * groups, width * groups, kernel, stride, groups=groups)
    out = (side - kernel) // stride + 1
    found = counts(conv, (channels * groups, side, side))
    assert found.macs == out * out * width * groups * channels * kernel * kernel
    assert found.params == width * groups * (channels * kernel * kernel + 1)
    (layer,) = found.layers
    assert layer.output_shape == (1, width * groups, out, out)
    assert layer.activation_bytes == 4 * width * groups * out * out


class Attention(nn.Module):
    """Self-attention over pixels by three roads that must cost the same."""

    def __init__(self, dim: int, road: str) -> None:
        super().__init__()
        self.road = road
        self.attention = nn.MultiheadAttention(dim, 2, batch_first=True)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        tokens = x.flatten(2).transpose(1, 2)
        if self.road == "module":
            return self.attention(tokens, tokens, tokens, need_weights=False)[0]
        weight, bias = self.attention.in_proj_weight, self.attention.in_proj_bias
        n, length, dim = tokens.shape
        q, k, v = nn.functional.linear(tokens, weight, bias).view(n, length, 3, 2, dim // 2).permute(2, 0, 3, 1, 4)
        if self.road == "sdpa":
            y = nn.functional.scaled_dot_product_attention(q, k, v)
        else:
            y = torch.einsum("nhqk,nhkd->nhqd", torch.einsum("nhqd,nhkd->nhqk", q, k).softmax(-1), v)
        return self.attention.out_proj(y.transpose(1, 2).reshape(n, length, dim))


@pytest.mark.parametrize("road", ["module", "sdpa", "einsum"])
def test_attention_by_its_formula(road: str) -> None:
    dim, side = 8, 5
    length = side * side
    assert counts(Attention(dim, road), (dim, side, side)).macs == 4 * length * dim * dim + 2 * length * length * dim


def test_a_transformer_layer_hides_nothing() -> None:
    """In eval mode PyTorch runs this layer as one fused operator, in which naive counters see nothing."""
    dim, hidden, length = 8, 16, 6

    class Encoder(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.TransformerEncoderLayer(dim, 2, hidden, batch_first=True)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.layer(x.flatten(1, 2))

    expected = 4 * length * dim**2 + 2 * length**2 * dim + 2 * length * dim * hidden
    assert counts(Encoder().eval(), (2, 3, dim)).macs == expected


def test_a_transposed_convolution_and_a_recurrence() -> None:
    conv = nn.ConvTranspose2d(4, 6, 3, stride=2)
    assert counts(conv, (4, 5, 5)).macs == 4 * 25 * 6 * 9

    class Recurrent(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.lstm = nn.LSTM(8, 5, batch_first=True)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.lstm(x.flatten(1, 2))[0]

    assert counts(Recurrent(), (2, 3, 8)).macs == 6 * 4 * 5 * (8 + 5)


@pytest.mark.parametrize("name", ["mobilenetv3_small_050", "resnet18", "vit_tiny_patch16_224"])
def test_pytorchs_own_counter_agrees(name: str) -> None:
    """On a real forward pass, where ours computes no values."""
    model = timm_model(name)
    with torch.no_grad(), sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        model(torch.zeros(1, 3, 224, 224))
    found = counts(model, (3, 224, 224))
    assert 2 * found.macs == counter.get_total_flops()
    assert found.params == sum(p.numel() for p in model.parameters())
    assert sum(layer.macs for layer in found.layers) == found.macs
    assert sum(layer.params for layer in found.layers) == found.params


def test_the_model_is_left_as_it_was() -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4)).train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    fast = torch.backends.mha.get_fastpath_enabled()
    counts(model, (3, 8, 8))
    assert model.training
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    assert not model[0]._forward_hooks
    assert not model[0]._forward_pre_hooks
    assert torch.backends.mha.get_fastpath_enabled() == fast


def test_a_shared_layer_counts_its_weights_once_and_its_work_twice() -> None:
    conv = nn.Conv2d(4, 4, 3, padding=1)
    once, twice = counts(nn.Sequential(conv), (4, 6, 6)), counts(nn.Sequential(conv, nn.ReLU(), conv), (4, 6, 6))
    assert (twice.params, twice.macs) == (once.params, 2 * once.macs)


def test_a_wrong_shape_is_one_line() -> None:
    with pytest.raises(InputError, match=r"Conv2d does not run on images of \(3, 8, 8\)"):
        counts(nn.Conv2d(4, 4, 3), (3, 8, 8))


@pytest.mark.parametrize("name", ["mobilenetv3_small_050", "vit_tiny_patch16_224"])
def test_the_exported_file_costs_the_same(name: str, tmp_path: Path) -> None:
    model = timm_model(name)
    export_onnx(model, (3, 224, 224), tmp_path / "m.onnx", draft=True)
    assert graph_counts(tmp_path / "m.onnx").macs == counts(model, (3, 224, 224)).macs


@settings(max_examples=5)
@given(width=st.integers(2, 12), depth=st.integers(1, 3))
def test_a_quantised_file_counts_like_its_origin(
    tmp_path_factory: pytest.TempPathFactory, width: int, depth: int
) -> None:
    folder = tmp_path_factory.mktemp("counts")
    blocks = [nn.Sequential(nn.Conv2d(width, width, 3, padding=1), nn.ReLU()) for _ in range(depth)]
    head = [nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(width, 10)]
    model = nn.Sequential(nn.Conv2d(3, width, 3), nn.ReLU(), *blocks, *head)
    export_onnx(model, (3, 10, 10), folder / "m.onnx", draft=True)
    images = np.random.default_rng(0).standard_normal((8, 3, 10, 10), np.float32)
    quantize_int8(folder / "m.onnx", folder / "q.onnx", [images])
    module, file, quantised = (
        counts(model, (3, 10, 10)),
        graph_counts(folder / "m.onnx"),
        graph_counts(folder / "q.onnx"),
    )
    assert module.macs == file.macs == quantised.macs
    assert module.params == file.params == quantised.params


def test_a_networks_definitions_by_hand() -> None:
    """conv 3 to 4 on 6x6, batch norm, ReLU, max pooling by 2x2, flatten, linear 36 to 5; batch 2."""
    model = nn.Sequential(
        nn.Conv2d(3, 4, 3, padding=1, bias=False),
        nn.BatchNorm2d(4),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(36, 5),
    )
    found = counts_of(model, torch.zeros(2, 3, 6, 6))
    by = {layer.kind: layer for layer in found.layers}
    image, feature, pooled = 2 * 3 * 36 * 4, 2 * 4 * 36, 2 * 4 * 9
    assert found.macs == 2 * (36 * 4 * 27 + 36 * 5)
    assert (by["BatchNorm2d"].elementwise, by["ReLU"].elementwise) == (feature, feature)
    assert by["MaxPool2d"].elementwise == pooled * 4
    assert found.elementwise == 2 * feature + 4 * pooled
    assert (by["Conv2d"].read_bytes, by["Conv2d"].written_bytes) == (image, 4 * feature)
    assert by["Conv2d"].weight_read_bytes == 4 * 4 * 27
    assert (by["Linear"].read_bytes, by["Linear"].written_bytes) == (4 * pooled, 4 * 10)
    assert by["Linear"].weight_read_bytes == 4 * (36 * 5 + 5)
    assert "Flatten" not in by, "a view moves nothing"
    assert found.weight_bytes == {"float32": 4 * (4 * 27 + 16 + 36 * 5 + 5), "int64": 8}
    assert found.unknown == ()


class Mixed(nn.Module):
    """Tokens and a picture by name, an embedding bag, a GRU, a bilinear form and a Fourier transform."""

    def __init__(self) -> None:
        super().__init__()
        self.words = nn.Embedding(20, 8)
        self.bag = nn.EmbeddingBag(20, 8, mode="sum")
        self.memory = nn.GRU(8, 6, num_layers=2, bidirectional=True, batch_first=True)
        self.pixels = nn.Conv1d(4, 8, 3, groups=4)

    def forward(self, *, tokens: torch.Tensor, picture: torch.Tensor) -> dict[str, torch.Tensor]:
        said, _ = self.memory(self.words(tokens))
        seen = torch.fft.rfft(self.pixels(picture)).abs()
        pairs = torch.einsum("bik,bjk->bij", said, said)
        return {"bag": self.bag(tokens), "seen": seen, "pairs": pairs}


def test_several_inputs_by_name_and_operators_of_every_kind() -> None:
    inputs = {"tokens": torch.arange(10).reshape(2, 5), "picture": torch.zeros(2, 4, 9)}
    found = counts_of(Mixed(), inputs)
    gru = 2 * 5 * 2 * sum(3 * 6 * (width + 6) for width in (8, 12))
    assert found.macs == gru + 2 * 8 * 7 * 1 * 3 + 2 * 5 * 5 * 12
    assert {layer.name: layer.elementwise for layer in found.layers}["bag"] == 2 * 5 * 8
    assert len(found.unknown) == 1
    assert "fft" in found.unknown[0]


class ByValue(nn.Module):
    """What it computes depends on numbers in its input, so no trace without values can follow."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(4, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for _ in range(int(x.sum().item())):
            x = self.layer(x)
        return x


class Caching(nn.Module):
    """Keeps a table between calls, and numbers beside its parameters."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = torch.full((4,), 2.0)
        self.tables: dict[str, torch.Tensor] = {"first": torch.ones(4)}
        self.last: torch.Tensor | None = None

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        self.last = x * self.scale
        self.tables["last"] = self.last
        return self.last @ self.last.T


def test_values_are_computed_where_they_decide() -> None:
    assert counts_of(ByValue(), torch.ones(3, 4) / 4).macs == 3 * (3 * 4 * 4)


def test_nothing_of_the_trace_stays_in_the_module() -> None:
    model = Caching()
    assert counts_of(model, torch.ones(3, 4)).macs == 9 * 4
    assert model.last is None
    assert set(model.tables) == {"first"}
    assert model(torch.ones(3, 4)).sum() == 9 * 16


@pytest.mark.parametrize("name", ["levit_128s", "mobilevitv2_050", "mixer_s32_224"])
def test_a_trace_without_values_is_the_real_run(name: str) -> None:
    """The same operators in the same modules with the same bytes, whichever way the network ran."""
    model = timm_model(name)
    images = torch.zeros(1, 3, *((256, 256) if "mobilevit" in name else (224, 224)))
    quick, real = trace(model, (images,), {}), trace(model, (images,), {}, values=True)
    assert quick.outputs == real.outputs
    assert {n: vars(w) for n, w in quick.work.items()} == {n: vars(w) for n, w in real.work.items()}


def test_a_damaged_file_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "m.onnx").write_bytes(b"\x08\x09\xff")
    with pytest.raises(InputError, match="is no ONNX file"):
        graph_counts(tmp_path / "m.onnx")
    onnx.save(onnx.helper.make_model(onnx.helper.make_graph([], "empty", [], [])), tmp_path / "empty.onnx")
    with pytest.raises(InputError, match="holds no nodes"):
        graph_counts(tmp_path / "empty.onnx")
