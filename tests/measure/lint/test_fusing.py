"""Pairs of convolutions that could be one: found, fused exactly where they can be, and timed."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from torch import nn

from sartor.errors import InputError
from sartor.measure.file_of import exported
from sartor.measure.graph_counts import graph_counts
from sartor.measure.lint.fusing import constants, lint_fusing, pairs, with_fused
from sartor.measure.lint.lint import lint_model
from sartor.measure.runnable import load, tensors
from sartor.measure.targets.named import open_target

SHAPE = (3, 12, 12)


def mobile(middle: nn.Module, *, stride: int = 1, bias: bool = True) -> nn.Module:
    """A stem, an expansion and a depthwise layer, a projection; then a depthwise and a pointwise layer."""
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(8, 24, 1, bias=bias),
        middle,
        nn.Conv2d(24, 24, 3, stride, padding=1, groups=24),
        nn.ReLU6(),
        nn.Conv2d(24, 8, 1),
        nn.MaxPool2d(2),
        nn.Conv2d(8, 8, 3, padding=1, groups=8, bias=bias),
        middle,
        nn.Conv2d(8, 16, 1),
    ).eval()


def found(model: nn.Module, folder: Path):
    file = exported(model, SHAPE, folder / "model.onnx")
    proto = load(file)
    values = tensors(proto, file)
    return file, proto, values, pairs(proto, values)


@pytest.mark.parametrize("middle", [nn.Identity(), nn.ReLU6(), nn.SiLU(), nn.Hardswish(), nn.PReLU(1)])
def test_pairs_are_found_across_an_activation(middle, tmp_path):
    *_, there = found(mobile(middle), tmp_path)
    assert [(p.channels, p.pixels, p.kernel) for p in there] == [((8, 24), (12, 12), 3), ((8, 16), (6, 6), 3)]
    assert [p.exact for p in there] == [False, isinstance(middle, nn.Identity)]  # the first has a bias at a border
    first, second = there
    assert first.macs == (8 * 24 + 9 * 24) * 144
    assert first.fused_macs == 9 * 8 * 24 * 144
    assert second.macs == (9 * 8 + 8 * 16) * 36
    assert second.fused_macs == 9 * 8 * 16 * 36


@pytest.mark.parametrize("stride", [1, 2])
def test_fused_is_the_same_where_nothing_stands_between(stride, tmp_path):
    """Without a bias before a padded layer, which the border would see."""
    file, proto, values, there = found(mobile(nn.Identity(), stride=stride, bias=False), tmp_path)
    assert all(pair.exact for pair in there)
    other = tmp_path / "fused.onnx"
    onnx.save(with_fused(proto, there, constants(proto, values)), other)
    target = open_target("onnxruntime")
    x = np.random.default_rng(0).standard_normal((2, *SHAPE)).astype(np.float32)
    (before,), (after,) = list(target.run(file, [x])), list(target.run(other, [x]))
    assert np.abs(after - before).max() <= 1e-5 * np.abs(before).max()
    more = sum(pair.fused_macs - pair.macs for pair in there)
    assert graph_counts(other).macs == graph_counts(file).macs + more


def test_biases_reach_through_a_layer_but_not_into_a_border(tmp_path):
    file, proto, values, there = found(mobile(nn.Identity()), tmp_path)
    other = tmp_path / "fused.onnx"
    onnx.save(with_fused(proto, there[1:], constants(proto, values)), other)
    x = np.random.default_rng(0).standard_normal((1, *SHAPE)).astype(np.float32)
    target = open_target("onnxruntime")
    (before,), (after,) = list(target.run(file, [x])), list(target.run(other, [x]))
    assert np.abs(after - before).max() <= 1e-5 * np.abs(before).max()  # depthwise first: the border is its own
    onnx.save(with_fused(proto, there[:1], constants(proto, values)), other)
    (whole,) = list(target.run(other, [x]))
    assert np.abs(whole - before).max() > 1e-3, "expansion first: its bias does not reach into the border"


class Branch(nn.Module):
    """The depthwise layer's input is read twice: what is fused would be missing."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Conv2d(3, 8, 1), nn.Conv2d(8, 8, 3, padding=1, groups=8)

    def forward(self, x):
        y = self.a(x)
        return self.b(y) + y


def test_what_others_read_is_no_pair(tmp_path):
    assert found(Branch(), tmp_path)[3] == []


def test_full_and_grouped_layers_are_no_pair(tmp_path):
    model = nn.Sequential(nn.Conv2d(3, 8, 1), nn.Conv2d(8, 8, 3, groups=2), nn.Conv2d(8, 8, 3), nn.Conv2d(8, 4, 1))
    assert found(model.eval(), tmp_path)[3] == []


def test_on_an_array_few_channels_are_better_fused_and_many_are_not(tmp_path):
    """A depthwise layer is a product of one column a channel there: as many folds as channels."""

    def separable(channels: int) -> nn.Module:
        return nn.Sequential(
            nn.Conv2d(3, channels, 3, padding=1),
            nn.Conv2d(channels, channels, 3, padding=1, groups=channels),
            nn.ReLU(),
            nn.Conv2d(channels, channels, 1),
        ).eval()

    target = open_target("systolic:16x16,bandwidth=1000GB")
    few, many = (lint_fusing(found(separable(c), tmp_path)[0], target) for c in (16, 512))
    assert [p.faster for p in few.pairs] == [True]
    assert few.pays
    assert few.latency_ms < few.before_ms
    assert [p.faster for p in many.pairs] == [False]
    assert (many.pays, many.latency_ms) == (False, None)
    (pair,) = many.pairs
    assert pair.fused_ms > pair.pair_ms


def test_a_file_is_linted_without_what_made_it(tmp_path):
    file = found(mobile(nn.ReLU6()), tmp_path)[0]
    said = lint_model(str(file), target="systolic:16x16")
    assert said["shapes"] is None
    assert len(said["fusing"]["pairs"]) == 2


def test_it_is_part_of_what_is_measured(tmp_path):
    """As text and as JSON, by the command line."""
    from typer.testing import CliRunner

    from sartor.cli import app

    file = found(mobile(nn.Identity()), tmp_path)[0]
    arguments = ["measure", str(file), "--target", "systolic:16x16", "--lint"]
    said = CliRunner().invoke(app, [*arguments, "--json"])
    lint = json.loads(said.stdout)["lint"]
    assert [pair["channels"] for pair in lint["fusing"]["pairs"]] == [[8, 24], [8, 16]]
    text = CliRunner().invoke(app, arguments).stdout
    assert "pairs: " in text
    assert "those of a file are given" in text


def test_broken_files_end_in_one_line(tmp_path):
    (tmp_path / "broken.onnx").write_bytes(b"no")
    with pytest.raises(InputError):
        lint_model(str(tmp_path / "broken.onnx"), target="systolic:16x16")
