"""A file's units cover it once, keep its arithmetic, and compute what it computes."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
import pytest

from sartor.compress.quantize import quantize_int8
from sartor.errors import InputError
from sartor.export.onnx import export_onnx
from sartor.measure.feeds import random_feeds
from sartor.measure.file_of import onnx_of
from sartor.measure.graph_counts import graph_counts
from sartor.measure.runnable import optimised
from sartor.measure.units.features import NAMES, features, kind
from sartor.measure.units.split import Unit, units
from sartor.models import build, input_shape
from sartor.space import conv_space


def drawn(folder: Path, seed: int, side: int = 16) -> Path:
    """A network of the space that is searched, in a file."""
    arch = conv_space(side).sample(random.Random(seed))
    network = build(arch, channels=3, classes=10, full_resolution=side)
    export_onnx(network, input_shape(arch, 3), folder / f"{seed}.onnx", draft=True)
    return folder / f"{seed}.onnx"


def by_units(file: Path, parts: tuple[Unit, ...]) -> dict[str, np.ndarray]:
    """Every tensor between units, each unit run by itself as soon as what it reads is there."""
    known: dict[str, np.ndarray] = random_feeds(file)
    waiting = list(parts)
    while waiting:
        ready = [unit for unit in waiting if set(unit.fed) <= set(known)]
        assert ready, "units wait for each other"
        for unit in ready:
            session = ort.InferenceSession(unit.to_onnx().SerializeToString(), providers=["CPUExecutionProvider"])
            made = session.run(list(unit.made), {name: known[name] for name in unit.fed})
            known |= dict(zip(unit.made, made, strict=True))
            waiting.remove(unit)
    return known


def whole(file: Path) -> dict[str, np.ndarray]:
    session = ort.InferenceSession(str(file), providers=["CPUExecutionProvider"])
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(names, random_feeds(file)), strict=True))


@pytest.mark.parametrize("seed", range(6))
def test_units_one_after_the_other_compute_what_the_file_does(tmp_path: Path, seed: int) -> None:
    file = drawn(tmp_path, seed)
    found = by_units(file, units(file))
    for name, expected in whole(file).items():
        np.testing.assert_allclose(found[name], expected, rtol=1e-4, atol=1e-5 * np.abs(expected).max())


@pytest.mark.parametrize("spec", ["timm:vit_tiny_patch16_224", "torchvision:shufflenet_v2_x0_5"])
def test_attention_and_shuffles_too(spec: str) -> None:
    with onnx_of(spec) as file:
        parts = units(file)
        found = by_units(file, parts)
        for name, expected in whole(file).items():
            np.testing.assert_allclose(found[name], expected, rtol=1e-3, atol=1e-3 * np.abs(expected).max())
        assert sum(unit.macs for unit in parts) == graph_counts(file).macs


def test_an_8_bit_file_has_8_bit_units(tmp_path: Path) -> None:
    file = drawn(tmp_path, 1)
    images = [np.random.default_rng(0).standard_normal((4, *random_feeds(file)["images"].shape[1:]), dtype=np.float32)]
    quantize_int8(file, tmp_path / "int8.onnx", images, method="minmax")
    parts = units(tmp_path / "int8.onnx")
    found = by_units(tmp_path / "int8.onnx", parts)
    for name, expected in whole(tmp_path / "int8.onnx").items():
        assert np.abs(found[name] - expected).max() <= 0.1 * np.abs(expected).max()  # a step or two of 8 bits
    kinds = [kind(unit) for unit in parts if unit.anchor == "Conv"]
    assert sum("int8" in name for name in kinds) > len(kinds) / 2
    narrow = [unit for unit in parts if unit.anchor == "Conv" and "int8" in kind(unit)]
    for unit in narrow:  # alone as in the network: with its weights in 8 bits the runtime has a kernel for it
        onnx.save(unit.to_onnx(), tmp_path / "unit.onnx")
        assert "QLinearConv" in {node.op_type for node in optimised(tmp_path / "unit.onnx").graph.node}
    assert sum(unit.macs for unit in parts) == graph_counts(tmp_path / "int8.onnx").macs


def test_what_follows_a_convolution_is_in_its_unit(tmp_path: Path) -> None:
    for unit in units(drawn(tmp_path, 0)):
        computing = [node.op_type for node in unit.nodes if node.op_type in ("Conv", "Gemm", "GlobalAveragePool")]
        assert len(computing) == 1, [node.op_type for node in unit.nodes]
        assert unit.anchor == computing[0]


def test_a_key_says_what_is_done_and_not_with_which_weights(tmp_path: Path) -> None:
    arch = conv_space(16).sample(random.Random(3))
    keys = []
    for name in ("a", "b"):
        network = build(arch, channels=3, classes=10, full_resolution=16)  # other weights
        export_onnx(network, input_shape(arch, 3), tmp_path / f"{name}.onnx", draft=True)
        keys.append([unit.key for unit in units(tmp_path / f"{name}.onnx")])
    assert keys[0] == keys[1]
    seen: dict[str, tuple[object, ...]] = {}
    for seed in range(8):
        for unit in units(drawn(tmp_path, seed)):
            shapes = [unit.values[name].shape for name in (*unit.fed, *unit.made)]
            said = (kind(unit), features(unit), [node.op_type for node in unit.nodes], shapes)
            assert seen.setdefault(unit.key, said) == said
            assert len(features(unit)) == len(NAMES)
    assert len(seen) > 50


@pytest.mark.parametrize("content", [b"", b"no model", onnx.helper.make_model(onnx.GraphProto()).SerializeToString()])
def test_what_is_no_network_is_refused_in_one_line(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "x.onnx").write_bytes(content)
    with pytest.raises(InputError, match=r"x\.onnx is no ONNX file") as caught:
        units(tmp_path / "x.onnx")
    assert "\n" not in str(caught.value)
