"""Random networks: whatever the generator makes runs, and every cut of it is exact."""

from __future__ import annotations

from pathlib import Path

import onnx
import onnxruntime as ort
import pytest
import torch

from sartor.errors import InputError
from sartor.export.onnx import to_onnx
from sartor.graph import trace
from sartor.graph.generate import random_network
from sartor.graph.grow import widen

TOLERANCE = 5e-5
"""Of the output's scale, or of 1 where the outputs are smaller: sums in another order."""

FOUND = (6, 19)
"""Seeds that once showed a defect. Both: an operator that PyTorch does not tag as pointwise had no rule (hardswish)."""


def check(seed: int) -> int:
    """Cut one network twice; return how many groups it had."""
    net, x = random_network(seed)
    graph = trace(net, x)
    assert not graph.frozen, f"seed {seed}: {graph.frozen[0]}"
    for keep in (0.5, 0.8):
        cut = graph.random_cut(keep, seed)
        with torch.no_grad():
            expected = graph.mask(cut)(*x)
            found = graph.slice(cut).eval()(*x)
        assert found.shape == expected.shape
        scale = max(1.0, float(expected.abs().max()))
        assert float((found - expected).abs().max()) <= TOLERANCE * scale, f"seed {seed}"
    return len(graph.groups)


@pytest.mark.parametrize("first", range(0, 60, 20))
def test_cuts_of_random_networks_are_exact(first: int) -> None:
    assert sum(check(seed) for seed in range(first, first + 20)) > 20 * 2, "there is something to cut"


@pytest.mark.heavy
@pytest.mark.parametrize("first", range(1000, 1500, 50))
def test_cuts_of_many_random_networks_are_exact(first: int) -> None:
    assert sum(check(seed) for seed in range(first, first + 50)) > 50 * 2


@pytest.mark.parametrize("first", range(3000, 3060, 20))
def test_random_networks_grow(first: int) -> None:
    """Whatever can be widened computes the same; most can in some group."""
    widened = 0
    for seed in range(first, first + 20):
        net, x = random_network(seed)
        graph = trace(net.eval(), x)
        if not graph.groups:
            continue
        group = graph.groups[seed % len(graph.groups)]
        try:
            wide = widen(graph, {group.name: group.size + 2}, seed=seed)
        except InputError:
            continue
        with torch.no_grad():
            expected, found = net(*x), wide.eval()(*x)
        assert float((found - expected).abs().max()) <= TOLERANCE * max(1.0, float(expected.abs().max())), seed
        widened += 1
    assert widened >= 5


@pytest.mark.heavy
@pytest.mark.parametrize("first", range(4000, 4040, 10))
def test_cuts_of_random_networks_export(first: int, tmp_path: Path) -> None:
    """P417: what the runtime says of the file is what the cut network says."""
    for seed in range(first, first + 10):
        net, x = random_network(seed)
        graph = trace(net.eval(), x)
        small = graph.slice(graph.random_cut(0.5, seed)).eval()
        with torch.no_grad():
            expected = small(*x)
            onnx.save(to_onnx(small, x), str(tmp_path / "model.onnx"))
        session = ort.InferenceSession(str(tmp_path / "model.onnx"), providers=["CPUExecutionProvider"])
        feeds = {i.name: t.numpy() for i, t in zip(session.get_inputs(), x, strict=True)}
        found = torch.from_numpy(session.run(None, feeds)[0])
        scale = max(1.0, float(expected.abs().max()))
        assert float((found - expected).abs().max()) <= 2 * TOLERANCE * scale, f"seed {seed}"


@pytest.mark.parametrize("seed", FOUND)
def test_what_was_once_wrong(seed: int) -> None:
    check(seed)


def test_generated_networks_run() -> None:
    """NeuRI's measure: over 95 % of what is generated is valid. Here everything is, and networks differ."""
    kinds = set()
    for seed in range(2000, 2100):
        net, x = random_network(seed)
        with torch.no_grad():
            y = net(*x)
        assert y.shape == (2, 3)
        assert bool(y.isfinite().all())
        kinds.add(tuple(str(step) for step in net.get_submodule("steps").children()))
    assert len(kinds) == 100
