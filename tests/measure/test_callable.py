"""``sartor.measure`` is a package and a function: any module with any inputs, a name, a file."""

from __future__ import annotations

import inspect
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import sartor
from contracts.target import SHAPE, network
from sartor.errors import InputError
from sartor.export.onnx import export_onnx, onnx_with, write_onnx
from sartor.measure.counts import counts, counts_of
from sartor.measure.model import measure_model

WORDS, WIDTH = 50, 16


class Tagger(nn.Module):
    """Token ids and a mask by name, a flag that is no tensor; a dict with two tensors out."""

    def __init__(self) -> None:
        super().__init__()
        self.words = nn.Embedding(WORDS, WIDTH)
        self.attention = nn.MultiheadAttention(WIDTH, 2, batch_first=True)
        self.tags = nn.Linear(WIDTH, 4)

    def forward(self, tokens: Tensor, hidden: Tensor, loudly: bool = False) -> dict[str, Tensor]:
        x = self.words(tokens)
        y, _ = self.attention(x, x, x, key_padding_mask=hidden, need_weights=False)
        return {"tags": self.tags(y * 2 if loudly else y), "states": y}


@pytest.fixture(scope="module")
def tagged() -> tuple[Tagger, dict[str, Any], dict[str, Any]]:
    module = Tagger()
    example = {"tokens": torch.randint(WORDS, (2, 12)), "hidden": torch.zeros(2, 12, dtype=torch.bool), "loudly": True}
    return module, example, sartor.measure(module, example, runs=5)


def test_tokens_and_a_mask_are_the_example_as_they_are(tagged: tuple[Tagger, dict[str, Any], dict[str, Any]]) -> None:
    module, example, report = tagged
    found = counts_of(module, example)
    assert report["model"] == "Tagger"
    assert (report["params"], report["macs"]) == (found.params, found.macs)
    assert report["inputs"] == [
        {"name": "tokens", "shape": [2, 12], "dtype": "int64"},
        {"name": "hidden", "shape": [2, 12], "dtype": "bool"},
    ]
    assert report["input_shape"] == [2, 12]
    assert report["batch"] == 1
    assert 0 < report["latency_ci_ms"][0] <= report["latency_ms"] <= report["latency_ci_ms"][1]
    # The states are held while the tags are made, and nothing can be held twice over.
    assert 2 * 12 * (WIDTH + 4) * 4 <= report["peak_activation_bytes"] <= found.read_bytes + found.written_bytes
    json.dumps(report, allow_nan=False)


def test_images_are_counted_by_one_and_timed_as_many(tmp_path: Path) -> None:
    module = network(8)
    report = sartor.measure(module, torch.zeros(4, *SHAPE), runs=5)
    assert report["macs"] == counts(module, SHAPE).macs
    assert (report["batch"], report["input_shape"]) == (4, [1, *SHAPE])
    assert sartor.measure(module, (torch.zeros(4, *SHAPE),), runs=5, batch=2)["batch"] == 2
    export_onnx(module, SHAPE, tmp_path / "model.onnx")
    file = sartor.measure(tmp_path / "model.onnx", runs=5)
    assert (file["params"], file["macs"]) == (report["params"], report["macs"])
    assert {*file} ^ {*report} <= {"timed_at", "not_kept"}


def test_what_the_verb_prints(tmp_path: Path) -> None:
    export_onnx(network(8), SHAPE, tmp_path / "model.onnx", draft=True)
    command = [sys.executable, "-m", "sartor.cli", "measure", str(tmp_path), "--json", "--runs", "5"]
    printed = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    perhaps = {"timed_at", "not_kept"}  # told where the machine was quiet, and where it was not
    called = sartor.measure(str(tmp_path), runs=5)
    assert [key for key in printed if key not in perhaps] == [key for key in called if key not in perhaps]


def test_a_named_model_has_the_same_weights_each_time(tmp_path: Path) -> None:
    """And leaves the caller's random numbers alone."""
    (tmp_path / "nets.py").write_text(
        "from torch import nn\ndef small():\n    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.Flatten()), (3, 8, 8)\n"
    )
    sizes = [sartor.measure(f"{tmp_path}/nets.py:small", torch.zeros(1, 3, side, side), runs=5) for side in (8, 16)]
    assert [size["input_shape"] for size in sizes] == [[1, 3, 8, 8], [1, 3, 16, 16]], (
        "the example is taken, not its own"
    )
    torch.manual_seed(3)
    expected = torch.rand(1)
    torch.manual_seed(3)
    sartor.measure(f"{tmp_path}/nets.py:small", runs=5)
    assert torch.equal(torch.rand(1), expected)


def test_two_outputs_or_another_type_are_measured_too() -> None:
    class Two(nn.Module):
        def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
            return x * 2, x + 1

    assert sartor.measure(Two(), torch.zeros(1, *SHAPE), runs=5)["batch"] == 1
    assert sartor.measure(Two(), torch.zeros(1, 3, dtype=torch.float64), runs=5)["inputs"][0]["dtype"] == "float64"


class Deciding(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x if x.sum() > 0 else x + 1


@pytest.mark.parametrize(
    ("arguments", "options", "message"),
    [
        ((nn.ReLU(),), {}, "give example inputs"),
        ((3,), {}, "its name, a file or an nn.Module, not int"),
        ((nn.ReLU(), 3), {}, "a tensor, a tuple or a dict of tensors, not int"),
        ((nn.ReLU(), torch.zeros(0, *SHAPE)), {}, "an example input is empty"),
        ((nn.ReLU(), torch.zeros(1, *SHAPE)), {"batch": 0}, "one example at least, not 0"),
        ((nn.ReLU(), torch.zeros(3, dtype=torch.int64)), {"batch": 2}, "give an example of 2 rows"),
        ((nn.ReLU(), (None,)), {}, "ReLU does not run on inputs of NoneType"),
        ((nn.Embedding(4, 2), torch.zeros(2)), {}, r"Embedding does not run on inputs of \(2,\)"),
        ((Deciding(), torch.zeros(1, 3)), {}, r"test_callable\.py:\d+ \(return x if x\.sum"),
    ],
)
def test_bad_calls_are_one_line(arguments: tuple[Any, ...], options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        sartor.measure(*arguments, **options)
    assert "\n" not in str(caught.value)


class Named(nn.Module):
    """Something of two inputs, one of which it can do without."""

    def __init__(self) -> None:
        super().__init__()
        self.images, self.words = nn.Conv2d(3, 4, 3), nn.Linear(8, 2)

    def forward(self, words: Tensor | None = None, pixels: Tensor | None = None) -> Tensor:
        return self.images(pixels) if words is None else self.words(words)


def test_images_by_name_keep_it() -> None:
    """They are not given as the first argument, which is something else."""
    report = sartor.measure(Named(), {"pixels": torch.zeros(1, *SHAPE)}, runs=5)
    assert report["macs"] == 4 * 3 * 9 * (SHAPE[1] - 2) * (SHAPE[2] - 2)


def test_a_file_of_one_example_is_not_said_to_take_more(tmp_path: Path) -> None:
    image = torch.zeros(1, *SHAPE)
    write_onnx(onnx_with(network(8), (image,)), tmp_path / "fixed.onnx")
    assert sartor.measure(tmp_path / "fixed.onnx", runs=5)["batch"] == 1
    with pytest.raises(InputError, match="fixes how many examples"):
        sartor.measure(tmp_path / "fixed.onnx", runs=5, batch=8)


def test_what_has_no_images_is_not_linted(monkeypatch: pytest.MonkeyPatch) -> None:
    """Which shows before anything is timed."""
    monkeypatch.setattr("sartor.measure.model._timed", None)
    with pytest.raises(InputError, match="Embedding takes no images"):
        sartor.measure(nn.Embedding(4, 2), torch.zeros(3, dtype=torch.int64), lint=True)


def test_a_file_takes_no_example(tmp_path: Path) -> None:
    export_onnx(network(8), SHAPE, tmp_path / "model.onnx", draft=True)
    with pytest.raises(InputError, match="inputs of its own"):
        sartor.measure(tmp_path, torch.zeros(1, *SHAPE))


def test_it_is_the_package_too() -> None:
    """One signature, no torch before a call, and submodules where they were."""
    assert inspect.signature(sartor.measure) == inspect.signature(measure_model)
    code = (
        "import sys, sartor, sartor.measure.device\n"
        "assert callable(sartor.measure) and sartor.measure is sys.modules['sartor.measure']\n"
        "assert sartor.measure.device.fingerprint() and 'torch' not in sys.modules\n"
        "import sartor.measure.targets.named\n"
        "assert sartor.measure.targets.named.TARGETS\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
