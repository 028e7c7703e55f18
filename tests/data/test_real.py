"""Real sets, where they are: CIFAR-10 as parquet, ants and bees as folders of photos."""

from __future__ import annotations

import io

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
from PIL import Image

from sartor.data import in_order, open_data


@pytest.fixture(scope="module")
def cifar10(data_dir):
    if not (data_dir / "cifar10").is_dir():
        pytest.skip(f"no cifar10 in {data_dir}")
    return data_dir / "cifar10"


@pytest.fixture(scope="module")
def hymenoptera(data_dir):
    if not (data_dir / "hymenoptera").is_dir():
        pytest.skip(f"no hymenoptera in {data_dir}")
    return data_dir / "hymenoptera"


def test_cifar10(cifar10):
    data = open_data(cifar10)
    assert (data.channels, data.resolution, data.train.in_memory, data.skipped) == (3, 32, True, ())
    assert data.classes[0] == "airplane"
    assert data.splits["train"]["per_class"] == [4500] * 10
    assert data.splits["val"]["per_class"] == [500] * 10
    assert data.splits["test"] == {**data.splits["test"], "n": 10_000, "made": False}
    rows = [int(name.removeprefix("test:")) for name in data.members("test")[:50]]
    table = pq.read_table(cifar10 / "test.parquet").take(rows).to_pylist()
    pixels, labels = next(in_order(data.test, 50))
    for image, label, row in zip(pixels.numpy(), labels.tolist(), table, strict=True):
        expected = np.asarray(Image.open(io.BytesIO(row["image"]["bytes"])).convert("RGB"))
        assert (image == expected.transpose(2, 0, 1)).all()
        assert label == row["label"]


def test_cifar10_streams_the_same(cifar10):
    test = cifar10 / "test.parquet"
    held, streamed = open_data(test), open_data(test, memory_share=0, workers=1)
    some = np.arange(0, 8000, 160)
    assert torch.equal(held.train.take(some), streamed.train.take(some))
    assert held.splits == streamed.splits


def test_hymenoptera(hymenoptera):
    data = open_data(hymenoptera)
    assert data.classes == ("ants", "bees")
    assert (data.channels, data.resolution, data.skipped) == (3, 224, ())
    files = {split: len(list((hymenoptera / split).rglob("*.jpg"))) for split in ("train", "val")}
    assert len(data.val) == files["val"]
    assert len(data.train) + len(data.test) == files["train"]
    assert [data.splits[s]["made"] for s in ("train", "val", "test")] == [True, False, True]
