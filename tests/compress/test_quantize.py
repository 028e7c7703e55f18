"""8-bit files: as accurate on real images, a quarter of the size, and every clipping rule against its definition."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.datasets import load_digits
from torch import nn

from sartor.compress.isa import cpu_flags, has_int8_dot, needs_reduced_range
from sartor.compress.quantize import METHODS, _by_mse, _by_percentile, _histogram, quantize_int8
from sartor.errors import InputError
from sartor.export.onnx import export_onnx


class Small(nn.Module):
    def __init__(self, width: int = 32) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(1, width, 3, padding=1, bias=False), nn.BatchNorm2d(width), nn.ReLU())
        self.body = nn.Sequential(nn.Conv2d(width, width, 3, padding=1, bias=False), nn.BatchNorm2d(width))
        self.down = nn.Sequential(
            nn.Conv2d(width, 2 * width, 3, 2, 1, bias=False), nn.BatchNorm2d(2 * width), nn.ReLU()
        )
        self.head = nn.Linear(2 * width, 10)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.stem(x)
        return self.head(self.down((x + self.body(x)).relu()).mean((2, 3)))


@pytest.fixture(scope="module")
def digits() -> tuple[np.ndarray, np.ndarray]:
    """1,797 handwritten digits, normalised: float32 [n, 1, 8, 8] and labels; the last 500 are for testing."""
    bunch = load_digits()
    images = (bunch.images[:, None] / 16 - 0.3).astype(np.float32) / np.float32(0.4)
    order = np.random.default_rng(0).permutation(len(images))
    return images[order], bunch.target[order]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory, digits: tuple[np.ndarray, np.ndarray]) -> Path:
    torch.manual_seed(0)
    images, labels = torch.from_numpy(digits[0][:-500]), torch.from_numpy(digits[1][:-500])
    model, steps = Small(), 150
    optimiser = torch.optim.SGD(model.parameters(), 0.1, momentum=0.9, nesterov=True)
    schedule = torch.optim.lr_scheduler.LinearLR(optimiser, 1.0, 0.01, steps)
    for _ in range(steps):
        batch = torch.randint(len(images), (64,))
        optimiser.zero_grad()
        nn.functional.cross_entropy(model(images[batch]), labels[batch]).backward()
        optimiser.step()
        schedule.step()
    file = tmp_path_factory.mktemp("trained") / "model.onnx"
    export_onnx(model, (1, 8, 8), file, metadata={"sartor": "{}", "more": "kept"})
    return file


def logits(file: Path, images: np.ndarray) -> np.ndarray:
    return ort.InferenceSession(str(file), providers=["CPUExecutionProvider"]).run(None, {"images": images})[0]


@pytest.mark.parametrize("method", METHODS)
def test_top1_and_error_on_real_images(
    trained: Path, digits: tuple[np.ndarray, np.ndarray], tmp_path: Path, method: str
) -> None:
    images, labels = digits
    calibration = [images[i : i + 60] for i in range(0, 200, 60)]  # ragged on purpose
    quantize_int8(trained, tmp_path / "q.onnx", calibration, method=method)  # type: ignore[arg-type]
    full, small = logits(trained, images[-500:]), logits(tmp_path / "q.onnx", images[-500:])
    assert (full.argmax(1) == labels[-500:]).mean() > 0.95
    same, off = (0.98, 0.05) if has_int8_dot() else (0.96, 0.1)  # weights have 7 bits where sums would saturate
    assert (full.argmax(1) == small.argmax(1)).mean() >= same
    assert np.sqrt(np.mean((full - small) ** 2)) <= off * full.std()


def test_the_file_as_promised(
    trained: Path, digits: tuple[np.ndarray, np.ndarray], tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "folder" / "q.onnx"
    quantize_int8(trained, out, [digits[0][:64]])
    assert capfd.readouterr() == ("", "")
    assert [f.name for f in out.parent.iterdir()] == ["q.onnx"]
    onnx.checker.check_model(str(out), full_check=True)
    proto = onnx.load(str(out))
    assert {p.key: p.value for p in proto.metadata_props} == {"sartor": "{}", "more": "kept"}
    assert proto.graph.input[0].type.tensor_type.shape.dim[0].dim_param
    for n in (1, 7):
        assert logits(out, digits[0][:n]).shape == (n, 10)
    assert out.stat().st_size < 0.45 * trained.stat().st_size  # this small, names and nodes are a third of the file

    stored = {t.name: t for t in proto.graph.initializer}
    weights = [t for t in stored.values() if len(t.dims) == 4]
    assert {t.data_type for t in weights} == {onnx.TensorProto.INT8}
    fed = {i: n for n in proto.graph.node if n.op_type == "DequantizeLinear" for i in n.input[:1]}
    scales = [stored[fed[t.name].input[1]] for t in weights]
    assert [tuple(s.dims) for s in scales] == [(t.dims[0],) for t in weights], "one scale a channel"
    zero_points = [stored[n.input[2]] for n in proto.graph.node if n.op_type == "QuantizeLinear"]
    assert {z.data_type for z in zero_points} == {onnx.TensorProto.UINT8}


def test_excluded_nodes_stay_fp32(trained: Path, digits: tuple[np.ndarray, np.ndarray], tmp_path: Path) -> None:
    names = [node.name for node in onnx.load(str(trained)).graph.node if node.op_type == "Conv"]
    quantize_int8(trained, tmp_path / "q.onnx", [digits[0][:32]], exclude=names[:1])
    convs = [t for t in onnx.load(str(tmp_path / "q.onnx")).graph.initializer if len(t.dims) == 4]
    assert sorted(t.data_type for t in convs) == sorted([onnx.TensorProto.FLOAT, *[onnx.TensorProto.INT8] * 2])
    with pytest.raises(InputError, match="no node named nothing"):
        quantize_int8(trained, tmp_path / "q.onnx", [digits[0][:32]], exclude=["nothing"])


@pytest.mark.parametrize(
    ("calibration", "message"),
    [
        ([], "at least one batch"),
        ([np.zeros((4, 1, 8, 8), np.float64)], "float32 batches"),
        ([np.zeros((1, 8, 8), np.float32)], "float32 batches"),
        ([np.full((4, 1, 8, 8), np.nan, np.float32)], "NaN"),
    ],
)
def test_bad_calibration_is_one_line(
    trained: Path, tmp_path: Path, calibration: list[np.ndarray], message: str
) -> None:
    with pytest.raises(InputError, match=message):
        quantize_int8(trained, tmp_path / "q.onnx", calibration)
    assert not (tmp_path / "q.onnx").exists()


def test_bad_files_and_methods_are_one_line(
    trained: Path, digits: tuple[np.ndarray, np.ndarray], tmp_path: Path
) -> None:
    batch = [digits[0][:16]]
    with pytest.raises(InputError, match="choose one of minmax, percentile, mse"):
        quantize_int8(trained, tmp_path / "q.onnx", batch, method="guess")  # type: ignore[arg-type]
    with pytest.raises(InputError, match="cannot be prepared"):
        quantize_int8(tmp_path / "absent.onnx", tmp_path / "q.onnx", batch)
    quantize_int8(trained, tmp_path / "q.onnx", batch)
    with pytest.raises(InputError, match="already quantised"):
        quantize_int8(tmp_path / "q.onnx", tmp_path / "qq.onnx", batch)


values = st.integers(0, 2**32 - 1).map(
    lambda seed: np.random.default_rng(seed).standard_t(3, 4000).astype(np.float32)  # heavy tails: clipping pays
)


@given(values)
def test_percentile_is_numpys(x: np.ndarray) -> None:
    low, high = float(x.min()), float(x.max())
    a, b = _by_percentile(_histogram(x, low, high), low, high)
    width = (high - low) / 2048
    assert a == pytest.approx(np.quantile(x, 0.00005), abs=2 * width + float(np.sort(x)[1] - low))
    assert b == pytest.approx(np.quantile(x, 0.99995), abs=2 * width + float(high - np.sort(x)[-2]))


@given(values)
def test_mse_finds_the_least_error(x: np.ndarray) -> None:
    """Among the same clippings, each tried by quantising for real. 10%: rounding's luck with the few largest values."""

    def error(a: float, b: float) -> float:
        step = (b - a) / 255
        zero = np.round(-a / step)
        rounded = (np.clip(np.round(x / step) + zero, 0, 255) - zero) * step
        return float(np.mean((x - rounded) ** 2))

    low, high = float(x.min()), float(x.max())
    a, b = _by_mse(_histogram(x, low, high), low, high)
    assert low <= a <= 0 <= b <= high
    assert error(a, b) <= 1.1 * min(error(low * f, high * f) for f in np.linspace(1.0, 0.3, 36))


def test_what_the_cpu_can() -> None:
    assert has_int8_dot() == bool(cpu_flags() & {"avx512_vnni", "avx_vnni", "amx_int8", "asimddp"})
    assert not (has_int8_dot() and needs_reduced_range())
