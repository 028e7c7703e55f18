"""The preflight: layer by layer, what can be cut and why the rest cannot."""

from __future__ import annotations

import json

import pytest
import torch
from torch import Tensor, nn

from graph.nets import NETS, example
from sartor.graph import trace
from sartor.graph.preflight import preflight, totals
from sartor.measure.cuts import possible_cuts


class Odd(nn.Module):
    """Its middle layer meets an operator that orders channels."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.middle, self.last = nn.Linear(4, 8), nn.Linear(8, 8), nn.Linear(8, 3)

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.middle(self.first(x)).sort(-1).values)


def test_layers_say_what_stays_and_why() -> None:
    graph = trace(Odd(), torch.randn(2, 4))
    layers = {layer.name: layer for layer in preflight(graph)}
    assert list(layers) == ["first", "middle", "last"]
    assert layers["first"].groups == ("first",)
    assert layers["first"].share == 1
    assert layers["middle"].groups == ("first",)
    assert any("sort" in why for why in layers["middle"].stays)
    assert layers["last"].groups == ()
    assert layers["last"].share == 0
    assert any("the model's output" in why for why in layers["last"].stays)
    assert layers["middle"].shape == (8, 8)
    assert layers["middle"].params == 72


@pytest.mark.parametrize("name", ["residual", "attention", "grouped", "lstm"])
def test_an_entry_is_worth_what_cutting_it_saves(name: str) -> None:
    torch.manual_seed(0)
    net, inputs = NETS[name]()
    graph = trace(net.eval(), example(inputs))
    found = totals(graph)
    assert json.loads(json.dumps(found)) == found
    assert found["params"] == sum(p.numel() for p in net.parameters())
    for group in found["groups"]:
        small = graph.slice({group["name"]: range(group["size"] - 1)})
        assert found["params"] - group["params"] == sum(p.numel() for p in small.parameters())
        assert found["macs"] - group["macs"] == trace(small, example(inputs)).macs()
    least = graph.slice({group.name: [0] for group in graph.groups})
    assert found["least_params"] == sum(p.numel() for p in least.parameters())


def test_by_name() -> None:
    found = possible_cuts("timm:resnet10t")
    assert found["layers"][0]["name"] == "conv1.0"
    assert found["least_macs"] < found["macs"] / 50
