"""Texts of archs and of exported networks, and a reader of several families."""

from __future__ import annotations

import random

import numpy as np
import pytest

from contracts.predictor import CELL, drawn, values_of
from sartor.errors import InputError
from sartor.predict.light import kendall
from sartor.predict.text import fit_reader, graph_text, ngrams, onnx_text


def test_runs_of_words_are_counted_within_a_line_and_across():
    found = ngrams("conv 3x3 conv\npool")
    assert found == {
        "conv": 2,
        "3x3": 1,
        "pool": 1,
        "conv 3x3": 1,
        "3x3 conv": 1,
        "conv 3x3 conv": 1,
        "conv / pool": 1,
    }
    assert not ngrams("")


def test_a_graphs_text_has_a_line_an_operator():
    arch = CELL.sample(random.Random(0))
    lines = graph_text(CELL.graph(arch)).splitlines()
    assert [line.split()[0] for line in lines] == [operator for *_, operator in CELL.links(arch)]


def test_an_exported_networks_text_has_a_line_an_operator_with_its_weights():
    import torch
    from torch import nn

    from sartor.export.onnx import to_onnx

    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(3, 8, 3, stride=2), nn.ReLU(), nn.Conv2d(8, 4, 1), nn.Flatten(), nn.Linear(36, 2))
    proto = to_onnx(network.eval(), (torch.randn(1, 3, 8, 8),))
    lines = onnx_text(proto).splitlines()
    assert [line.split("(")[0] for line in lines] == [node.op_type for node in proto.graph.node]
    convolutions = [line for line in lines if line.startswith("Conv(")]
    assert "kernel_shape=3x3" in convolutions[0]
    assert "strides=2x2" in convolutions[0]
    assert "8x3x3x3" in convolutions[0]
    assert convolutions[1].endswith("(Relu)")


def test_a_reader_of_two_families_ranks_a_third():
    """Three families whose values are in three units, and whose lines are of one language: what it learnt of the words
    of two holds for the third, of which it saw nothing."""
    rng = np.random.default_rng(0)
    words = ["conv 3x3", "conv 1x1", "pool 3x3", "skip"]
    worth = np.array([3.0, 1.0, -2.0, 0.0])

    def family(n: int, length: int, unit: float) -> tuple[list[str], np.ndarray]:
        counts = rng.integers(0, length, (n, len(words)))
        texts = ["\n".join(w for w, c in zip(words, row, strict=True) for _ in range(c)) for row in counts]
        return texts, unit * (counts @ worth)

    reader = fit_reader([family(60, 4, 1.0), family(60, 6, 100.0)])
    texts, values = family(80, 5, -0.001)
    assert kendall(reader(texts)[0], -values) > 0.6
    with pytest.raises(InputError, match="a value each"):
        fit_reader([(["conv"], np.zeros(0))])


def test_others_texts_teach():
    """Five archs of a space say little; a hundred texts of another, written alike, say what is good."""
    from sartor.predict.text import Text

    others = drawn(CELL, 100, seed=3)
    texts = [graph_text(CELL.graph(arch)) for arch in others]
    archs, unseen = drawn(CELL, 5), drawn(CELL, 100, seed=1)
    alone = Text(CELL).fit(archs, values_of(archs)).predict(unseen)[0]
    taught = Text(CELL, others=[(texts, 1e-3 * values_of(others))]).fit(archs, values_of(archs)).predict(unseen)[0]
    true = values_of(unseen)
    assert kendall(taught, true) > kendall(alone, true) + 0.1
