"""Accuracy measured from the file against accuracy computed from the module."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from contracts.target import SHAPE, network
from sartor.errors import InputError
from sartor.export.onnx import export_onnx
from sartor.measure.accuracy import accuracy
from sartor.measure.device import fingerprint, versions
from sartor.measure.targets.onnxruntime import OnnxRuntime


@pytest.fixture
def file(tmp_path: Path) -> Path:
    export_onnx(network(16), SHAPE, tmp_path / "m.onnx", draft=True)
    return tmp_path / "m.onnx"


def test_it_is_the_modules(file: Path) -> None:
    rng = np.random.default_rng(0)
    images = rng.standard_normal((50, *SHAPE), np.float32)
    labels = rng.integers(0, 10, 50)
    with torch.no_grad():
        eager = network(16)(torch.from_numpy(images)).argmax(1).numpy()
    labels[:20] = eager[:20]
    batches = [(images[i : i + 16], labels[i : i + 16]) for i in range(0, 50, 16)]  # the last one is ragged
    value, predictions = accuracy(OnnxRuntime(1), file, iter(batches))
    assert predictions.dtype == np.int64
    assert np.array_equal(predictions, eager)
    assert value == np.mean(eager == labels)


def test_what_does_not_pair_is_refused(file: Path) -> None:
    with pytest.raises(InputError, match="at least one batch"):
        accuracy(OnnxRuntime(1), file, [])
    with pytest.raises(InputError, match="2 images and 3 labels"):
        accuracy(OnnxRuntime(1), file, [(np.zeros((2, *SHAPE), np.float32), np.zeros(3, np.int64))])


def test_the_device_and_the_versions_are_known() -> None:
    device = fingerprint()
    assert device["cpu"]
    assert device["cores"] >= 1
    assert device["memory_bytes"] > 2**28
    assert {"sartor", "torch", "onnx", "onnxruntime", "numpy"} <= set(versions())
    assert versions()["torch"] == torch.__version__
