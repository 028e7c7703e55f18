"""Sizes that are suggested: on a simulated array whose steps are known, everything follows from counting folds."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest
import torch
from torch import nn

from sartor.errors import InputError
from sartor.graph import trace
from sartor.measure.file_of import exported
from sartor.measure.lint.products import axes_of, products
from sartor.measure.lint.shapes import Shapes, lint_shapes
from sartor.measure.targets.named import open_target

ARRAY = "systolic:16x16,bandwidth=1000GB"


def net(a: int, b: int) -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, a, 1),
        nn.ReLU(),
        nn.Conv2d(a, b, 1),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(b, 10),
    ).eval()


@pytest.fixture(scope="module")
def shapes() -> Shapes:
    return lint_shapes(net(65, 47), (3, 12, 12), open_target(ARRAY), within=0.1)


def test_sizes_beside_a_step_are_moved_to_one_and_pay(shapes):
    assert {(s.kind, s.axis): s.size for s in shapes.steps if s.kind != "linear"} == {
        ("convolution 1x1", "in"): 16,
        ("convolution 1x1", "out"): 16,
    }
    assert {m.group: (m.size, m.step) for m in shapes.misfits} == {"0": (65, 16), "2": (47, 16)}
    moves = {m.group: {t.sizes[m.group]: t.pays for t in m.tried} for m in shapes.misfits}
    assert moves["0"] == {64: True, 80: False}  # 80 has as many folds as 65
    assert moves["2"] == {32: False, 48: False}  # 32 is faster by no more than it is smaller; 48 no faster than 47
    assert shapes.suggestion is not None
    assert shapes.suggestion.sizes["0"] == 64
    assert shapes.suggestion.latency_ms < shapes.suggestion.before_ms
    assert abs(shapes.suggestion.params / shapes.params - 1) <= 0.1


def test_what_is_suggested_is_what_the_network_takes_built_by_hand(shapes, tmp_path):
    """The same sizes written down: the same parameters, multiply-accumulates and cycles."""
    said = shapes.suggestion
    by_hand = net(said.sizes.get("0", 65), said.sizes.get("2", 47))
    graph = trace(by_hand, torch.zeros(1, 3, 12, 12))
    assert (graph.params(), graph.macs()) == (said.params, said.macs)
    file = exported(by_hand, (3, 12, 12), tmp_path / "by_hand.onnx")
    assert open_target(ARRAY).latency_ms(file).median_ms == pytest.approx(said.latency_ms)


def test_a_network_on_every_step_is_left_alone():
    shapes = lint_shapes(net(64, 48), (3, 12, 12), open_target(ARRAY))
    assert (shapes.misfits, shapes.suggestion) == ((), None)


def test_more_parameters_than_allowed_are_not_suggested():
    """Both sides of the only step are further away than a hundredth of the parameters."""
    shapes = lint_shapes(net(24, 24), (3, 12, 12), open_target(ARRAY), within=0.01)
    assert shapes.misfits
    assert shapes.suggestion is None


def test_groups_know_their_products():
    graph = trace(net(6, 8), torch.zeros(1, 3, 12, 12))
    known = products(graph)
    assert {path: product.macs for path, product in known.items()} == {"0": 3 * 6 * 144, "2": 6 * 8 * 144, "6": 80}
    assert sum(product.macs for product in known.values()) == graph.macs()
    assert axes_of(graph, known) == {"0": [("0", "out", 1), ("2", "in", 1)], "2": [("2", "out", 1), ("6", "in", 1)]}


@pytest.mark.parametrize("bad", [{"within": 1.5}, {"within": -0.1}, {"most": 0}])
def test_nonsense_is_refused(bad):
    with pytest.raises(InputError):
        lint_shapes(net(6, 8), (3, 8, 8), open_target(ARRAY), **bad)


@pytest.mark.claim
def test_this_cpu_has_steps_and_a_network_beside_them_is_faster_on_them():
    """P203: products of this CPU have steps; a network beside them is flagged; and the suggestion, with at most 2 %
    more or fewer parameters, is faster from end to end, timed once more as it would be built by hand."""
    torch.manual_seed(0)

    def network(a: int, b: int, c: int) -> nn.Module:
        return nn.Sequential(
            nn.Conv2d(3, a, 3, 2, 1),
            nn.ReLU(),
            nn.Conv2d(a, b, 3, 1, 1),
            nn.ReLU(),
            nn.Conv2d(b, c, 3, 2, 1),
            nn.ReLU(),
            nn.Conv2d(c, c, 3, 1, 1),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            nn.Linear(c, 10),
        ).eval()

    target = open_target("onnxruntime")
    found = lint_shapes(network(66, 62, 130), (3, 32, 32), target)
    assert max(step.size for step in found.steps) > 1
    assert found.misfits
    best = found.suggestion
    assert best is not None
    assert abs(best.params / found.params - 1) <= 0.02
    assert best.macs > 0.9 * found_macs(network(66, 62, 130))
    sizes = [best.sizes.get(name, size) for name, size in (("0", 66), ("2", 62), ("4", 130))]
    last = best.sizes.get("6", 130)
    by_hand = network(*sizes)
    by_hand[6], by_hand[9] = nn.Conv2d(sizes[2], last, 3, 1, 1), nn.Linear(last, 10)
    with tempfile.TemporaryDirectory() as folder:
        files = [
            exported(model, (3, 32, 32), Path(folder) / f"{place}.onnx")
            for place, model in enumerate((network(66, 62, 130), by_hand))
        ]
        before, after = target.latencies(files)
    assert after.median_ms < before.median_ms


def found_macs(model: nn.Module) -> int:
    return trace(model, torch.zeros(1, 3, 32, 32)).macs()
