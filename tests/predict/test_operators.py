"""Exported networks as operators, against counts by hooks and against another exporter."""

from __future__ import annotations

import random

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper
from torch import nn

from sartor.errors import InputError
from sartor.export.onnx import onnx_of
from sartor.models.buildable import Buildable, macro_problem, nb201_problem
from sartor.predict.operators import onnx_graph, operators_of
from sartor.predict.text import onnx_text
from sartor.search.proxies import proxies
from sartor.space.graph import INPUT, OUTPUT

SPACES = {
    "cells": nb201_problem(8, channels=4, cells=1),
    "mobile": macro_problem(resolution=8, stem=4, last=32),
}


@settings(max_examples=4)
@given(st.sampled_from(list(SPACES)), st.integers(0, 1000))
def test_macs_are_those_that_hooks_count(name: str, seed: int) -> None:
    buildable: Buildable = SPACES[name]
    network = buildable.build(buildable.space.sample(random.Random(seed)))
    operators = operators_of(onnx_of(network, (3, 8, 8), draft=True))
    x = torch.zeros(1, 3, 8, 8)
    assert sum(operator.macs for operator in operators) == proxies["macs"](network, x, torch.zeros(1))


class Attention(nn.Module):
    """Whose export is mostly arithmetic of shapes."""

    def __init__(self) -> None:
        super().__init__()
        self.heads = nn.Linear(16, 48)
        self.out = nn.Linear(16, 5)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        tokens = x.flatten(2).transpose(1, 2)
        b, n, _ = tokens.shape
        q, k, v = self.heads(tokens).reshape(b, n, 3, 4, 4).permute(2, 0, 3, 1, 4).unbind(0)
        heard = (q @ k.transpose(2, 3)).softmax(-1) @ v
        return self.out(heard.transpose(1, 2).reshape(b, n, 16).mean(1))


def test_arithmetic_of_shapes_is_left_out_and_attention_is_counted() -> None:
    proto = onnx_of(Attention(), (16, 4, 4), draft=True)
    operators = operators_of(proto)
    assert {"Shape", "Constant", "ConstantOfShape"} & {node.op_type for node in proto.graph.node}
    assert not {"Shape", "Constant", "ConstantOfShape"} & {operator.name for operator in operators}
    tokens, width = 16, 16
    projections = 3 * tokens * width * width
    assert sum(operator.macs for operator in operators) == projections + 2 * tokens * tokens * width + width * 5
    assert "MatMul() 4x16x16 (" in onnx_text(proto)


def test_a_graph_is_linked_as_the_model_is_and_ends_in_its_output() -> None:
    network = nn.Sequential(nn.Conv2d(3, 8, 3, stride=2, padding=1), nn.ReLU(), nn.Conv2d(8, 8, 3, groups=8))
    graph = onnx_graph(onnx_of(nn.Sequential(network, nn.Flatten(), nn.Linear(32, 2)), (3, 8, 8), draft=True))
    assert graph.labels == (INPUT, "Conv 3x3 /2", "Relu", "Conv 3x3 depthwise", "Flatten", "Conv 1x1", OUTPUT)
    assert graph.links == tuple((i, i + 1) for i in range(6))
    assert graph.sizes[1] > graph.sizes[3] > graph.sizes[5] > graph.sizes[2] == 0


def test_a_model_that_cannot_be_run_is_told_off() -> None:
    node = helper.make_node("Relu", ["x"], ["y"])
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["n", 3, "h"]) for name in "xy"]
    broken = helper.make_model(helper.make_graph([node, helper.make_node("None", ["y"], ["z"])], "g", [values[0]], []))
    with pytest.raises(InputError, match="export it anew"):
        operators_of(broken)
