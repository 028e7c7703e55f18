"""Files made by slicing are those that exporting makes."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sartor.errors import InputError
from sartor.export.drafts import Drafts
from sartor.export.onnx import onnx_of
from sartor.export.slicing import OnnxSlicer
from sartor.graph import Cut, Graph, trace
from sartor.models.elastic import elastify
from sartor.models.zoo import open_model

SHAPE = (3, 16, 16)


class Block(nn.Module):
    def __init__(self, width: int):
        super().__init__()
        self.a, self.n = nn.Conv2d(width, 2 * width, 1), nn.BatchNorm2d(2 * width)
        self.d, self.m = nn.Conv2d(2 * width, 2 * width, 3, padding=1, groups=2 * width), nn.BatchNorm2d(2 * width)
        self.b = nn.Conv2d(2 * width, width, 1)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.b(F.hardswish(self.m(self.d(F.relu(self.n(self.a(x)))))))


class Attention(nn.Module):
    def __init__(self, width: int, heads: int):
        super().__init__()
        self.heads = heads
        self.norm, self.qkv, self.out = nn.LayerNorm(width), nn.Linear(width, 3 * width), nn.Linear(width, width)

    def forward(self, x: Tensor) -> Tensor:
        n, t, _ = x.shape
        q, k, v = self.qkv(self.norm(x)).reshape(n, t, 3, self.heads, -1).permute(2, 0, 3, 1, 4).unbind(0)
        y = F.scaled_dot_product_attention(q, k, v)
        return x + self.out(y.transpose(1, 2).reshape(n, t, -1))


class Patches(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.embed = nn.Conv2d(3, 24, 4, 4)
        self.blocks = nn.Sequential(Attention(24, 3), Attention(24, 4))
        self.head = nn.Linear(24, 5)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.blocks(self.embed(x).flatten(2).transpose(1, 2)).mean(1))


class Shuffled(nn.Module):
    """Grouped convolutions, a channel shuffle, group norm, a split, a concatenation."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.g = nn.Conv2d(3, 16, 3, padding=1), nn.GroupNorm(4, 16)
        self.b, self.c = nn.Conv2d(16, 16, 1, groups=4), nn.Conv2d(8, 12, 1)
        self.head = nn.Linear(20, 5)

    def forward(self, x: Tensor) -> Tensor:
        y = self.b(F.relu(self.g(self.a(x))))
        y = y.unflatten(1, (4, 4)).transpose(1, 2).flatten(1, 2)
        one, other = y[:, :8], y[:, 8:]
        return self.head(torch.cat([one, F.relu(self.c(other))], 1).mean((2, 3)))


class Written(nn.Module):
    """A size written out in the code: its cuts are captured graphs."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Conv2d(3, 8, 1), nn.Linear(8 * 256, 5)

    def forward(self, x: Tensor) -> Tensor:
        return self.b(F.relu(self.a(x)).reshape(-1, 2048))


class Tokens(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.flatten(2).transpose(1, 2)


class Mean(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.mean(1)


class Mean2(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x.mean((2, 3))


def mobile() -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(3, 12, 3, 2, 1), nn.BatchNorm2d(12), nn.ReLU(), Block(12), Block(12), nn.ReLU(inplace=True),
        nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(12, 5),
    )  # fmt: skip


NETS: dict[str, Callable[[], nn.Module]] = {
    "mobile": mobile,
    "patches": Patches,
    "shuffled": Shuffled,
    "written": Written,
    "alike": lambda: nn.Sequential(nn.Conv2d(3, 24, 4, 4), Tokens(), Attention(24, 3), Attention(24, 3), Mean()),
    "grouped": lambda: nn.Sequential(
        nn.Conv2d(3, 12, 1),
        nn.ReLU(),
        nn.Conv2d(12, 24, 3, groups=3),
        nn.GroupNorm(6, 24),
        nn.ReLU(inplace=True),
        Mean2(),
    ),
}


def run(proto: onnx.ModelProto, images: np.ndarray) -> np.ndarray:
    onnx.checker.check_model(proto)
    session = ort.InferenceSession(proto.SerializeToString(), providers=["CPUExecutionProvider"])
    said: np.ndarray = session.run(None, {"images": images})[0]
    return said


def weights(proto: onnx.ModelProto) -> list[tuple[int, ...]]:
    """Shapes of all constants of more than one number, whether initialisers or nodes."""
    held = [tuple(t.dims) for t in proto.graph.initializer if t.data_type == onnx.TensorProto.FLOAT]
    held += [tuple(n.attribute[0].t.dims) for n in proto.graph.node if n.op_type == "Constant" and _is_float(n)]
    return sorted(dims for dims in held if np.prod(dims) > 1)


def _is_float(node: onnx.NodeProto) -> bool:
    return node.attribute[0].t.data_type == onnx.TensorProto.FLOAT


def alike(sliced: onnx.ModelProto, anew: onnx.ModelProto, shape: tuple[int, int, int] = SHAPE) -> None:
    """The same operators, weights of the same sizes, the same answers for any number of images."""
    ops = [[node.op_type for node in proto.graph.node if node.op_type != "Constant"] for proto in (sliced, anew)]
    assert ops[0] == ops[1]
    assert weights(sliced) == weights(anew)
    images = np.random.default_rng(0).standard_normal((3, *shape), dtype=np.float32)
    expected = run(anew, images)
    np.testing.assert_allclose(run(sliced, images), expected, atol=1e-5 * max(1.0, np.abs(expected).max()))


@pytest.mark.parametrize(
    ("name", "draft"),
    [*((name, True) for name in NETS), ("mobile", False), ("alike", False), ("shuffled", False)],
)
def test_a_sliced_file_is_the_exported_one(name: str, draft: bool) -> None:
    torch.manual_seed(0)
    model = NETS[name]().eval()
    graph = trace(model, torch.randn(2, *SHAPE))
    slicer = OnnxSlicer(graph, SHAPE, draft=draft)
    assert graph.groups
    rng = random.Random(0)
    for _ in range(4):  # another share of each group
        cut = graph.completed({g.name: rng.sample(range(g.size), rng.randint(1, g.size)) for g in graph.groups})
        alike(slicer.cut(cut), onnx_of(graph.slice(cut), SHAPE, draft=draft))
    alike(slicer.cut({}), onnx_of(model, SHAPE, draft=draft))


@pytest.mark.parametrize(("name", "draft"), [("mobile", True), ("patches", False)])
def test_of_every_arch_blocks_go_too(name: str, draft: bool) -> None:
    torch.manual_seed(0)
    supernet = elastify(NETS[name]().eval(), torch.randn(2, *SHAPE)).eval()
    slicer = OnnxSlicer(supernet.graph, SHAPE, draft=draft)
    rng = random.Random(0)
    archs = [supernet.space.smallest(), *(supernet.space.sample(rng) for _ in range(3))]
    assert any(supernet.removed(arch) for arch in archs)
    for arch in archs:
        sliced = slicer.cut(Cut(supernet.cut(arch).keep, supernet.removed(arch)))
        images = torch.randn(3, *SHAPE)
        with torch.no_grad():
            expected = supernet.extract(arch)(images).numpy()
        np.testing.assert_allclose(run(sliced, images.numpy()), expected, atol=1e-5 * max(1, np.abs(expected).max()))
        # Not more than an exporter leaves that folds a ReLU of a ReLU where a block between them went.
        assert len(sliced.graph.node) <= 1 + len(onnx_of(supernet.extract(arch), SHAPE, draft=draft).graph.node)


@pytest.mark.heavy
def test_of_a_known_network() -> None:
    """More are in ``benchmarks/slicing.py``."""
    torch.manual_seed(0)
    opened = open_model("timm:mobilenetv3_small_050")
    with torch.no_grad():  # biases that are zero are left out of files
        for p in opened.module.parameters():
            p.add_(0.01 * torch.randn(p.shape))
    graph = trace(opened.module.eval(), opened.inputs)
    slicer = OnnxSlicer(graph, opened.image_shape)
    cut = graph.random_cut(0.5)
    alike(slicer.cut(cut), onnx_of(graph.slice(cut), opened.image_shape), opened.image_shape)


class Halved(nn.Module):
    """Reads the first half of its channels, however many there are: each of its cuts has other operators."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.head = nn.Conv2d(3, 12, 1), nn.Linear(12, 5)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.a(x).chunk(2, 1)[0].mean((2, 3)).repeat(1, 2))


class Last(nn.Module):
    """A residual block that is the last layer, too: without it there would be nothing that makes the logits."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(12, 8), nn.Linear(8, 12)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.b(F.relu(self.a(x)))


class Scaled(nn.Module):
    """An operator that the draft exporter does not know."""

    def forward(self, x: Tensor) -> Tensor:
        return F.rms_norm(x, (16,)).mean((2, 3))


def written(model: nn.Module, cut: Callable[[Graph], Cut], tmp_path: Path) -> tuple[bool, list[str]]:
    """A draft of ``model`` after ``cut`` is the file that exporting makes: by which exporter, and what was said."""
    torch.manual_seed(0)
    graph = trace(model.eval(), torch.randn(2, *SHAPE))
    said: list[str] = []
    drafts = Drafts(graph, SHAPE, say=said.append)
    drafts.write(cut(graph), tmp_path / "cut.onnx", {"about": "it"})
    proto = onnx.load(str(tmp_path / "cut.onnx"))
    anew = onnx_of(graph.slice(cut(graph)), SHAPE, draft=drafts.draft)
    ops = [[node.op_type for node in p.graph.node if node.op_type != "Constant"] for p in (proto, anew)]
    assert ops[0] == ops[1]
    assert weights(proto) == weights(anew)
    assert [(entry.key, entry.value) for entry in proto.metadata_props] == [("about", "it")]
    return drafts.draft, said


def test_drafts_are_sliced_or_else_exported(tmp_path: Path) -> None:
    narrow = lambda graph: graph.random_cut(0.5)
    assert written(mobile(), lambda graph: Cut(narrow(graph).keep, ("3",)), tmp_path) == (True, [])
    drafted, (why,) = written(Halved(), narrow, tmp_path)
    assert drafted
    assert "the exported file is not sliced" in why
    last = nn.Sequential(nn.Conv2d(3, 12, 1), Mean2(), Last())
    drafted, (why,) = written(last, lambda graph: Cut(narrow(graph).keep, ("2",)), tmp_path)
    assert drafted
    assert "the file's last block cannot go" in why


@pytest.mark.heavy
def test_drafts_of_what_the_draft_exporter_does_not_know(tmp_path: Path) -> None:
    """Sliced from the file of the exporter that ships: one by one would take it seconds each."""
    model = nn.Sequential(nn.Conv2d(3, 12, 1), Scaled(), nn.Linear(12, 5))
    assert written(model, lambda graph: graph.random_cut(0.5), tmp_path) == (False, [])


def test_what_cannot_be_sliced_is_said() -> None:
    graph = trace(mobile().eval(), torch.randn(2, *SHAPE))
    slicer = OnnxSlicer(graph, SHAPE, draft=True, weights=False)
    with pytest.raises(InputError, match="no block that can go"):
        slicer.cut(Cut({}, ("0",)))
    with pytest.raises(InputError, match="there is no group"):
        slicer.cut({"nowhere": [0]})
