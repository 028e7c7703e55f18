"""Prediction from an exported file: equal to doing the steps by hand, whatever form the images come in."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image

from report.fabricated import COLOURS, MEAN, STD, colour_metadata, colour_network
from sartor.data.decode import decode
from sartor.errors import InputError
from sartor.serve.predict import BATCH, Classifier, Preprocessing, _resized, metadata

SIDE = 8


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Classifier:
    path = tmp_path_factory.mktemp("model") / "model.onnx"
    return Classifier(colour_network(path, side=SIDE, metadata=colour_metadata(side=SIDE)))


def by_hand(image: np.ndarray) -> np.ndarray:
    """The colour network in numpy: softmax of ten times the mean of each normalised channel. image: uint8 [3, H, W]."""
    logits = 10 * (image.reshape(3, -1).mean(axis=1) / 255 - np.array(MEAN)) / np.array(STD)
    powers = np.exp(logits - logits.max())
    return powers / powers.sum()


def solid(path: Path, colour: tuple[int, ...], mode: str = "RGB", size: tuple[int, int] = (13, 9)) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new(mode, size, colour).save(path)
    return path


@settings(max_examples=30)
@given(hnp.arrays(np.uint8, st.tuples(st.integers(1, 4), st.just(SIDE), st.just(SIDE), st.just(3))))
def test_arrays_are_classified_as_by_hand(model: Classifier, images: np.ndarray) -> None:
    for image, prediction in zip(images, model.predict(images), strict=True):
        expected = by_hand(image.transpose(2, 0, 1))
        assert prediction.probabilities == pytest.approx(tuple(expected), abs=1e-4)
        assert sum(prediction.probabilities) == pytest.approx(1)
        assert prediction.probability == max(prediction.probabilities)
        assert prediction.class_name == COLOURS[prediction.label]


@settings(max_examples=30)
@given(st.integers(5, 24), st.integers(5, 24), st.sampled_from(["L", "RGB", "RGBA"]), st.integers(0, 2**32 - 1))
def test_an_array_and_its_png_get_the_same_answer(
    model: Classifier, tmp_path_factory: pytest.TempPathFactory, height: int, width: int, mode: str, seed: int
) -> None:
    """Other sizes, grey and transparency go through the rules that files go through."""
    shape = (height, width) if mode == "L" else (height, width, len(mode))
    pixels = np.random.default_rng(seed).integers(0, 256, shape, dtype=np.uint8)
    file = tmp_path_factory.mktemp("same") / "image.png"
    Image.fromarray(pixels).save(file)
    (from_array,), (from_file,) = model.predict(pixels[None]), model.predict([file])
    assert from_array.probabilities == from_file.probabilities
    assert from_file.probabilities == pytest.approx(tuple(by_hand(decode(file, 3, SIDE))), abs=1e-4)


def test_floats_are_the_same_images(model: Classifier) -> None:
    images = np.random.default_rng(0).integers(0, 256, (3, SIDE, SIDE, 3), dtype=np.uint8)
    assert model.predict(images / 255) == model.predict((images / 255).astype(np.float32)) == model.predict(images)


def test_any_number_of_images(model: Classifier) -> None:
    images = np.random.default_rng(0).integers(0, 256, (2 * BATCH + 3, SIDE, SIDE, 3), dtype=np.uint8)
    together = model.predict(images)
    assert len(together) == len(images)
    assert model.predict(images[:0]) == []
    alone = model.predict(images[BATCH : BATCH + 1])[0]
    assert together[BATCH].probabilities == pytest.approx(alone.probabilities, abs=1e-6)


def test_a_folder_is_searched_and_bad_files_are_named(model: Classifier, tmp_path: Path) -> None:
    solid(tmp_path / "b" / "green.png", (0, 250, 0))
    solid(tmp_path / "a" / "red.JPG", (250, 0, 0))
    solid(tmp_path / "c" / "blue.gif", (0, 0, 250))
    solid(tmp_path / ".hidden" / "x.png", (0, 0, 0))
    (tmp_path / "broken.png").write_bytes((tmp_path / "b" / "green.png").read_bytes()[:40])
    (tmp_path / "notes.txt").write_text("no image")
    found = {Path(p.file or "").name: p for p in model.predict(tmp_path)}
    assert {name: p.class_name for name, p in found.items() if p.error is None} == {
        "red.JPG": "red",
        "green.png": "green",
        "blue.gif": "blue",
    }
    assert found.keys() - {"red.JPG", "green.png", "blue.gif"} == {"broken.png"}
    broken = found["broken.png"]
    assert (broken.label, broken.class_name, broken.probabilities) == (-1, "", ())
    assert json.loads(json.dumps(broken.to_dict())) == {"file": str(tmp_path / "broken.png"), "error": broken.error}


def test_the_order_is_the_order_asked_for(model: Classifier, tmp_path: Path) -> None:
    files = [tmp_path / "missing.png"]
    files += [solid(tmp_path / f"{i}.png", tuple(np.roll((250, 5, 5), i))) for i in (2, 0, 1)]  # type: ignore[arg-type]
    predictions = model.predict(files)
    assert [p.file for p in predictions] == [str(f) for f in files]
    assert [p.class_name for p in predictions] == ["", "blue", "red", "green"]
    assert predictions[0].error == "no such file or directory"


def test_predictions_are_json(model: Classifier, tmp_path: Path) -> None:
    (prediction,) = model.predict(solid(tmp_path / "red.png", (250, 0, 0)))
    value = json.loads(json.dumps(prediction.to_dict(), allow_nan=False))
    assert value["class_name"] == "red"
    assert value["probabilities"] == list(prediction.probabilities)


def test_an_empty_folder_is_an_error(model: Classifier, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="holds no images"):
        model.predict(tmp_path)


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (np.zeros((SIDE, SIDE), np.uint8), r"pass images\[None\]"),
        (np.zeros((SIDE, SIDE, 3), np.uint8), r"pass images\[None\]"),
        (np.zeros((1, SIDE, SIDE, 2), np.uint8), "with C 1, 3 or 4"),
        (np.zeros((1, 3, SIDE, SIDE), np.uint8), "with C 1, 3 or 4"),
        (np.zeros((1, 0, SIDE, 3), np.uint8), "no pixels"),
        (np.zeros((1, SIDE, SIDE, 3), np.int64), "not int64"),
        (np.full((1, SIDE, SIDE, 3), np.nan), "divide them by 255"),
        (np.full((1, SIDE, SIDE, 3), 255.0), "divide them by 255"),
    ],
    ids=str,
)
def test_arrays_of_another_kind_are_refused(model: Classifier, images: np.ndarray, message: str) -> None:
    with pytest.raises(InputError, match=message):
        model.predict(images)


@pytest.mark.parametrize("side", [8, 16, 28])
def test_a_smaller_network_gets_what_training_resized(side: int) -> None:
    """Independent implementation: PyTorch's antialiased bilinear resize, which training uses."""
    import torch

    images = np.random.default_rng(0).normal(size=(2, 3, 32, 32)).astype(np.float32)
    expected = torch.nn.functional.interpolate(torch.from_numpy(images), (side, side), mode="bilinear", antialias=True)
    scale = float(expected.abs().max())
    np.testing.assert_allclose(_resized(images, side), expected.numpy(), rtol=0, atol=1e-5 * scale)


def test_a_smaller_network_predicts(tmp_path: Path) -> None:
    small = Classifier(colour_network(tmp_path / "model.onnx", side=SIDE, metadata=colour_metadata(side=4 * SIDE)))
    image = np.random.default_rng(0).integers(0, 256, (4 * SIDE, 4 * SIDE, 3), dtype=np.uint8)
    # Means survive halving by area only inside; the border is weighted otherwise, hence the wide tolerance.
    expected = by_hand(image.transpose(2, 0, 1))
    assert small.predict(image[None])[0].probabilities == pytest.approx(tuple(expected), abs=0.05)


def test_a_folder_with_a_model_opens_like_its_file(model: Classifier) -> None:
    images = np.zeros((1, SIDE, SIDE, 3), np.uint8)
    assert Classifier(model.path.parent).predict(images) == model.predict(images)


def test_metadata_goes_around() -> None:
    data = {"classes": COLOURS, "channels": 3, "resolution": 32, "mean": MEAN, "std": STD}
    (text,) = metadata(data, "m1").values()
    assert Preprocessing.from_json(text, Path("x")) == Preprocessing(COLOURS, 3, 32, MEAN, STD, "m1")


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"format": 2}, "format 2"),
        ({"channels": 1, "mean": [0.5], "std": [0.5]}, "takes 3 channels"),
        ({"classes": ["a", "b"]}, "tells 3 classes apart"),
        ({"mean": [0.5]}, "do not fit together"),
        ({"std": [0.0, 1.0, 1.0]}, "do not fit together"),
        ({"mean": ["a", "b", "c"]}, "damaged metadata"),
        ({"resolution": None}, "damaged metadata"),
    ],
    ids=str,
)
def test_a_file_that_does_not_fit_itself_is_refused(tmp_path: Path, changed: dict[str, Any], message: str) -> None:
    path = colour_network(tmp_path / "m.onnx", side=SIDE, metadata=colour_metadata(side=SIDE, **changed))
    with pytest.raises(InputError, match=message) as caught:
        Classifier(path)
    assert "\n" not in str(caught.value)


def test_other_files_are_refused_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="not exported by Sartor"):
        Classifier(colour_network(tmp_path / "bare.onnx"))
    (tmp_path / "broken.onnx").write_bytes(b"not a model")
    with pytest.raises(InputError, match="ONNX Runtime can open") as caught:
        Classifier(tmp_path / "broken.onnx")
    assert "\n" not in str(caught.value)
    with pytest.raises(InputError, match="there is no"):
        Classifier(tmp_path)


def test_predicting_needs_no_torch(model: Classifier, tmp_path: Path) -> None:
    """A fresh interpreter classifies a file and never imports torch: prediction starts fast, on small machines too."""
    image = solid(tmp_path / "red.png", (250, 0, 0))
    code = (
        "import sys\nfrom sartor.serve.predict import Classifier\n"
        f"print(Classifier({str(model.path)!r}).predict({str(image)!r})[0].class_name, 'torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=_environment())
    assert done.stdout.split() == ["red", "False"]


def _environment() -> dict[str, str]:
    import os

    import sartor

    (folder,) = list(sartor.__path__)
    return {**os.environ, "PYTHONPATH": str(Path(folder).parent)}
