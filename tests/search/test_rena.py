"""RENA: edits lead from network to network, their probabilities are a distribution, and what is rewarded is done."""

from __future__ import annotations

import random
from functools import partial
from itertools import product

import pytest
import torch

from contracts.strategy import CONDITIONAL, StrategySuite
from sartor.records import Arch
from sartor.search.edit_policy import Controllers
from sartor.search.edits import Edit, Editor
from sartor.search.loop import search
from sartor.search.methods.rena import rena
from sartor.search.objective import Objective
from sartor.space import Choice
from sartor.space.layers import layers_space

SMALL = layers_space(3, (Choice("op", ("a", "b", "c")), Choice("width", (1, 2, 4))))
ROWS = list(product(range(3), range(3)))


class TestRena(StrategySuite):
    strategy = staticmethod(partial(rena, memory=24, batch=8))


def every(editor: Editor, arch: Arch) -> list[Edit]:
    """All that may be done to an arch of SMALL."""
    added = [Edit("insert", i, row) for i in range(arch["depth"] + 1) for row in ROWS] if arch["depth"] < 3 else []
    return editor.changes(arch) + added


@pytest.mark.parametrize("seed", range(6))
def test_edits_are_found_again_and_can_be_undone(seed: int):
    editor, arch = Editor(SMALL), SMALL.sample(random.Random(seed))
    for edit in every(editor, arch):
        child = editor.done(arch, edit)
        assert SMALL.contains(child)
        assert child != arch
        assert edit in editor.between(arch, child)
        assert all(editor.done(arch, other) == child for other in editor.between(arch, child))
        assert editor.between(child, arch)
    far = SMALL.arch_of([{"op": "a", "width": 1}])
    assert editor.between(SMALL.arch_of([{"op": "b", "width": 4}]), far) == []
    assert editor.between(arch, arch) == []


def test_a_scaled_number_is_the_next_one_and_a_name_any_other():
    editor, arch = Editor(SMALL), SMALL.arch_of([{"op": "b", "width": 1}])
    found = {editor.done(arch, edit) for edit in editor.changes(arch)}
    wanted = [("a", 1), ("c", 1), ("b", 2)]
    assert found == {SMALL.arch_of([{"op": op, "width": width}]) for op, width in wanted}


def test_of_any_other_space_an_arch_is_one_layer_whose_conditions_follow():
    editor = Editor(CONDITIONAL)
    arch = CONDITIONAL.canonical({"op": "residual", "width": 32, "depth": 2, "se": False})
    assert not editor.has_room(arch)
    found = [editor.done(arch, edit) for edit in editor.changes(arch)]
    assert CONDITIONAL.canonical({**arch, "op": "mbconv", "kernel": 3}) in found
    assert all(CONDITIONAL.contains(child) and editor.between(arch, child) for child in found)


@pytest.mark.parametrize("layers", [1, 2, 3])
def test_probabilities_of_edits_sum_to_one_and_are_those_drawn(layers: int):
    """Also after weights have moved; and a child is as likely as all edits to it together."""
    torch.manual_seed(0)
    controllers, editor = Controllers(Editor(SMALL)), Editor(SMALL)
    for parameter in controllers.parameters:
        parameter.data += 0.3 * torch.randn_like(parameter)
    arch = SMALL.arch_of([{"op": "a", "width": 2}] * layers)
    with torch.no_grad():
        law = controllers.law(arch)
        likely = {edit: float(law.log_probability(edit).exp()) for edit in every(editor, arch)}
        assert sum(likely.values()) == pytest.approx(1, abs=1e-5)
        children: dict[Arch, float] = {}
        for edit, p in likely.items():
            child = editor.done(arch, edit)
            children[child] = children.get(child, 0.0) + p
        for child, p in children.items():
            assert float(law.likelihood(child).exp()) == pytest.approx(p, rel=1e-4)
        assert law.likelihood(arch) is None
        rng, kinds = random.Random(0), {}
        for _ in range(600):
            kind = law.draw(rng).kind
            kinds[kind] = kinds.get(kind, 0) + 1 / 600
    for kind, share in kinds.items():
        wanted = sum(p for edit, p in likely.items() if edit.kind == kind)
        assert share == pytest.approx(wanted, abs=4 * (wanted * (1 - wanted) / 600) ** 0.5 + 1e-9)


def test_what_is_rewarded_is_done_more_often():
    """Depth alone is rewarded: from a third of the children, put-in layers come to be in nearly all of them."""
    space = layers_space(30, SMALL.attributes)
    start = space.arch_of([{"op": "a", "width": 1}] * 5)
    strategy = partial(rena, first=1, lr=0.03, objectives=[Objective("depth", maximise=True)])
    history = search(
        space, lambda arch: {"depth": arch["depth"]}, strategy, evaluations=81, seed=0, batch=10, initial=[start]
    )
    deeper = []
    for begin in range(1, 81, 10):
        best = sorted((record.arch["depth"] for record in history[:begin]), reverse=True)[:5]
        deeper.append(sum(record.arch["depth"] > best[-1] for record in history[begin : begin + 10]))
    assert sum(deeper[-2:]) > 14 > 8 > deeper[0]
