"""Everything that cannot be trained on is refused in one line that says what to do."""

from __future__ import annotations

import io
import os
import shutil
import tempfile
import zipfile
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from sartor.data import open_data
from sartor.errors import InputError

X = np.random.default_rng(0).integers(0, 256, (30, 6, 6, 3), dtype=np.uint8)
Y = np.arange(30) % 3
NOBODY = 65534
NAN = X / np.float32(255)
NAN[3, 2, 1, 0] = np.nan


def refused(source, message: str, **options) -> None:
    with pytest.raises(InputError, match=message) as error:
        open_data(source, **options)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("x", "y", "message"),
    [
        (NAN, Y, "x holds NaN"),
        (X / 255, Y, r"uint8.*not float64: convert with \(x \* 255\)"),
        (X.astype(np.int64), Y, "not int64: convert"),
        (X > 9, Y, "not bool: convert"),
        (X.transpose(0, 3, 1, 2), Y, r"channels first: convert with x.transpose\(0, 2, 3, 1\)"),
        (np.float32(1), Y, "a single number"),
        (np.concatenate([X, X[..., :1]], axis=3), Y, r"alpha channel: leave it out with x\[\.\.\., :3\]"),
        (X[..., :2], Y, r"\(N, H, W, 3\), not \(30, 6, 6, 2\)"),
        (X[0, 0], Y, "must have the shape"),
        (X[:0], Y[:0], "there are no images"),
        (X, Y[:-1], "one label for each of the 30 images"),
        (X, Y.astype(np.float32), "whole numbers or class names, not float32"),
        (X, np.where(Y == 1, np.nan, Y), "y holds NaN"),
        (X, np.where(Y == 1, -1, Y), "label -1 in train is out of range"),
        (X, np.where(Y == 1, 10**12, Y), "label 1000000000000 in train is out of range"),
        (X, np.where(Y == 1, 4, Y), "train has no images of '1', '3'"),
        (X, Y * 0, "one class"),
        (X, np.arange(30), "class '0' has 1 images, too few"),
        (X.astype(object), Y, "not object"),
    ],
)
def test_arrays(x, y, message, write):
    refused((x, y), message)
    if x.dtype != object:
        refused(write.npz(x=x, y=y), message)


def test_npz(write, tmp_path):
    refused(write.npz(images=X, labels=Y), "holds images, labels: it needs x")
    refused(write.npz(x=X.astype(object), y=Y), "Python objects")
    whole = write.npz(x=X, y=Y).read_bytes()
    for damaged in (b"", b"hello", whole[:200], whole[:-100], whole[:400] + bytes(100) + whole[500:]):
        path = tmp_path / "damaged.npz"
        path.write_bytes(damaged)
        refused(path, "damaged.npz")


@pytest.mark.parametrize("memory_share", [0, 0.25])
def test_an_npz_that_lies_about_its_size(memory_share, tmp_path):
    header, labels = io.BytesIO(), io.BytesIO()
    description = {"descr": "|u1", "fortran_order": False, "shape": (10**6, 10**5, 10**3)}
    np.lib.format.write_array_header_1_0(header, description)
    np.lib.format.write_array(labels, Y)
    with zipfile.ZipFile(tmp_path / "lie.npz", "w") as archive:
        archive.writestr("x.npy", header.getvalue() + bytes(1000))
        archive.writestr("y.npy", labels.getvalue())
    refused(tmp_path / "lie.npz", "lie.npz cannot be read", memory_share=memory_share)


def test_folders(write, tmp_path):
    empty = tmp_path / "empty"
    empty.mkdir()
    refused(empty, "has no class folders")
    refused(tmp_path / "nowhere", "does not exist: give a folder")
    Image.fromarray(X[0]).save(empty / "loose.png")
    refused(empty, "has no class folders")
    refused(empty / "loose.png", "not data Sartor reads")
    refused(write.folder(X, Y * 0, "one"), r"one class \(ant\)")
    (write.folder(X, Y, "hollow") / "dog").mkdir()
    refused(tmp_path / "hollow", "dog holds no images")


def test_folders_with_splits(write, tmp_path):
    write.folder(X, Y, "lack/train")
    write.folder(X[Y < 2], Y[Y < 2], "lack/val")
    refused(tmp_path / "lack", "val has no images of 'cat': add some, or remove val and it will be made")
    write.folder(X, Y, "more/train", names=("a", "b", "c"))
    write.folder(X, Y, "more/test", names=("a", "b", "d"))
    refused(tmp_path / "more", "has the class 'd', which train has not")
    write.folder(X, Y, "headless/test")
    refused(tmp_path / "headless", "has test but no train folder")
    write.folder(X, Y, "twice/train")
    write.folder(X, Y, "twice/val")
    write.folder(X, Y, "twice/valid")
    refused(tmp_path / "twice", "names a split twice")
    write.folder(X, Y, "other/train")
    write.folder(X, Y, "other/extra")
    refused(tmp_path / "other", r"and others \(extra\): move the others away")
    (write.folder(X, Y, "void/train").parent / "val").mkdir()
    refused(tmp_path / "void", "val of void is empty")


def test_folders_of_what_is_no_image(write):
    folder = write.folder(X, Y)
    for path in folder.rglob("*.png"):
        path.write_bytes(b"hello")
    refused(folder, "no image of folder can be read; the first: .*0000.png: not an image")


def test_pipes_in_a_folder_are_not_waited_for(write):
    folder = write.folder(X, Y)
    os.mkfifo(folder / "ant" / "pipe.png")
    assert sum(split["n"] for split in open_data(folder).splits.values()) == 30


def test_folders_that_may_not_be_read(write):
    """Asked by somebody who is not root, who may read everything."""
    source = write.folder(X, Y)
    user = os.geteuid()
    with tempfile.TemporaryDirectory() as open_to_all:
        folder = shutil.copytree(source, Path(open_to_all) / "photos")
        Path(open_to_all).chmod(0o755)
        folder.chmod(0)
        try:
            if user == 0:
                os.seteuid(NOBODY)
            refused(folder, "permission denied")
        finally:
            os.seteuid(user)
            folder.chmod(0o700)


def test_an_image_that_may_not_be_read_is_skipped(write):
    """Asked by somebody who is not root, as above."""
    source = write.folder(np.repeat(X, 10, axis=0), np.repeat(Y, 10))
    assert not open_data(source).skipped  # and all that decoding imports is there before the user changes
    user = os.geteuid()
    with tempfile.TemporaryDirectory() as open_to_all:
        folder = shutil.copytree(source, Path(open_to_all) / "photos")
        Path(open_to_all).chmod(0o755)
        hidden = sorted(folder.rglob("*.png"))[0]
        hidden.chmod(0)
        try:
            if user == 0:
                os.seteuid(NOBODY)
            data = open_data(folder)
        finally:
            os.seteuid(user)
    assert len(data.skipped) == 1
    assert hidden.name in data.skipped[0]
    assert "permission denied" in data.skipped[0].lower()


def test_parquet(write, tmp_path):
    path = tmp_path / "broken.parquet"
    for content in (b"", b"PAR1 nonsense", write.parquet(X, Y).read_bytes()[:-50]):
        path.write_bytes(content)
        refused(path, "broken.parquet cannot be read as parquet")
    pq.write_table(pa.table({"image": [b"x"], "target": [1]}), path)
    refused(path, "has the columns image, target: it needs image")
    pq.write_table(pa.table({"image": ["a.png"], "label": [1]}), path)
    refused(path, "column image is string, not a struct with the image's bytes")
    pq.write_table(pa.table({"image": [b"x"], "label": [0.5]}), path)
    refused(path, "column label is double")
    pq.write_table(pa.table({"image": [b"x", b"y"], "label": [0, None]}), path)
    refused(path, "1 rows have no label")
    refused(write.parquet(X, Y + 1), "label 3 in train is out of range")
    refused(write.parquet(X, np.where(Y == 0, -1, Y)), "label -1 in train is out of range")
    refused(write.parquet(X[:0], Y[:0]), "train of set is empty")


def test_parquet_rows_without_bytes_are_unreadable(write):
    data = [None] * 4 + [open_png(image) for image in X[4:]]
    refused(write.parquet(X, Y, data=data), r"4 of 30 images cannot be read.*set:0 \(not an image")


def open_png(image: np.ndarray) -> bytes:
    file = io.BytesIO()
    Image.fromarray(image).save(file, "PNG")
    return file.getvalue()


def test_parquet_folders(write, tmp_path):
    write.parquet(X, Y, "mixed/train.parquet")
    write.parquet(X, Y, "mixed/more.parquet")
    refused(tmp_path / "mixed", "more.parquet is in no split while others are")
    write.parquet(X, Y, "headless/test.parquet")
    refused(tmp_path / "headless", r"has test but no train\*.parquet")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"seed": -1}, "seed"),
        ({"resolution": 0}, "resolution"),
        ({"memory_share": 2}, "memory_share"),
        ({"val_fraction": 0}, "val_fraction"),
        ({"val_fraction": 0.5, "test_fraction": 0.5}, "below 1 together"),
        ({"workers": 0}, "workers"),
    ],
)
def test_arguments(options, message):
    refused((X, Y), message, **options)


def test_other_things():
    refused(3, "not int")
    refused((X, Y, Y), "a pair")
    refused(open_data((X, Y)), "open it again at 9", resolution=9)


def test_a_class_folder_named_in_another_encoding(tmp_path: Path) -> None:
    """Bytes that are no UTF-8, as an old archive leaves them: its images are read, its name is written as an escape."""
    rng = np.random.default_rng(0)
    for name in (b"m\xfcller", b"smith"):
        folder = os.path.join(os.fsencode(tmp_path), name)
        os.mkdir(folder)
        for index in range(12):
            pixels = rng.integers(0, 255, (8, 8), dtype=np.uint8)
            Image.fromarray(pixels).save(os.path.join(os.fsdecode(folder), f"{index}.png"))
    dataset = open_data(tmp_path)
    assert dataset.classes == ("m\\udcfcller", "smith")
    "".join(dataset.classes).encode()
    assert len(dataset.train) + len(dataset.val) + len(dataset.test) == 24
