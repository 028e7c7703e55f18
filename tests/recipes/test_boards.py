"""Recipes on targets that are not this machine: what does not fit a board is not shipped, records name the board."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from sartor.errors import BudgetError
from sartor.recipes.prune import prune_model

NETS = """
from torch import nn

def network(width):
    class Net(nn.Sequential):
        pass
    net = Net(nn.Conv2d(3, width, 3, padding=1), nn.ReLU(), nn.Conv2d(width, width, 3, padding=1), nn.ReLU(),
              nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(width, 10))
    net.input_shape = (3, 32, 32)
    return net

def small():
    return network(8)

def wide():
    return network(128)
"""


@pytest.mark.heavy
def test_prune_ships_what_fits_the_board_and_nothing_else(tmp_path: Path) -> None:
    (tmp_path / "nets.py").write_text(NETS)
    board = "mcu:stm32f412"
    pruned = prune_model(f"{tmp_path / 'nets.py'}:small", macs=0.5, target=board, out=tmp_path / "small", verbosity=0)
    assert pruned.after["latency_ms"] < pruned.before["latency_ms"]
    assert (pruned.path / "model.onnx").is_file()
    assert json.loads((pruned.path / "pruned.json").read_text())["device"]["cpu"].startswith("stm32f412")
    with pytest.raises(BudgetError, match=r"does not fit mcu:stm32f412 \(activations take .* too few: most at"):
        prune_model(f"{tmp_path / 'nets.py'}:wide", macs=0.9, target=board, out=tmp_path / "wide", verbosity=0)
    assert not (tmp_path / "wide" / "model.onnx").exists()
