"""Poisoned spaces: what is added is bad and nothing else changes; searches on them; options that do harm."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import pytest

from contracts.strategy import CONDITIONAL
from sartor.errors import InputError
from sartor.records import Arch
from sartor.search.audit.gap import setting_gap
from sartor.search.audit.poison import COPIES, KINDS, WORST, harmful, poisoned, robustness
from sartor.search.named import run
from sartor.search.objective import Objective
from sartor.search.tables import Table, open_known
from sartor.search.tables.table import table_of
from sartor.space import Choice, Space
from sartor.space.listed import Listed

VAL, TEST = Objective("val", maximise=True), Objective("test", maximise=True)
OPS = ("conv", "pool", "skip", "none")
GOOD = {"conv": 3.0, "pool": 1.0, "skip": 2.0, "none": -4.0}


def sums(share: float = 1.0) -> Table:
    """Four operators, each worth its own: ``none`` is harmful wherever it stands. Of a ``share`` of the archs."""
    space = Space(tuple(Choice(f"op{i}", OPS) for i in range(4)))
    rng = random.Random(0)
    rows = []
    for arch in space.every():
        if rng.random() < share:
            value = sum(GOOD[str(o)] for o in arch.values())
            rows.append((dict(arch), {"val": value + rng.gauss(0, 0.2), "test": value}))
    return table_of("sums", space, rows, [VAL], TEST)


def conditional(share: float = 1.0) -> Table:
    rng = random.Random(1)
    held = [arch for arch in CONDITIONAL.every() if rng.random() < share]
    rows = [(dict(a), {"val": float(a["width"]) - float(a.get("kernel", 9)), "test": 1.0}) for a in held]
    return table_of("conditional", CONDITIONAL, rows, [VAL], TEST)


TABLES = {
    "sums": sums,
    "listed": lambda: sums(0.5),
    "conditional": conditional,
    "listed conditional": lambda: conditional(0.7),
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", TABLES)
def test_what_was_there_stays_and_what_is_added_is_bad(name: str, kind: str):
    table = TABLES[name]()
    held = poisoned(table, 2, kind=kind)
    everything = list(held.table.space.every())
    assert len(everything) == len(set(everything)) == held.table.space.count()
    clean = [arch for arch in everything if not held.hit(arch)]
    assert set(clean) == set(table.rows)
    assert len(everything) > len(clean)
    worst = min(row["val"] for row in table.rows.values())
    for arch in everything:
        assert held.table.space.contains(arch)
        assert Space(held.table.space.choices).contains(arch), "in the form that every space has"
        if not held.hit(arch):
            assert held.table.evaluate(arch) == table.evaluate(arch)
        elif kind == WORST:
            assert held.table.evaluate(arch)["val"] == worst
        else:  # a copy is what it is a copy of
            twin = Arch({n: next((o for o in OPS if str(v).startswith(f"{o} (")), v) for n, v in arch.items()})
            if "conditional" not in name:
                assert held.table.evaluate(arch) == table.evaluate(twin)
            assert np.isfinite(held.table.judge(arch))
    assert held.table.best == table.best
    assert all(len(options) == 2 for options in held.bad.values())
    rng = random.Random(0)
    for _ in range(50):
        assert held.table.space.contains(held.table.space.mutate(held.table.space.sample(rng), rng))


def test_copies_are_of_the_least_effective_option():
    held = poisoned(sums(), 1)
    assert held.bad == {f"op{i}": ("none (copy 1)",) for i in range(4)}
    assert isinstance(poisoned(sums(0.5), 1).table.space, Listed)


@pytest.mark.parametrize(("instances", "kind"), [(0, COPIES), (-1, WORST), (1, "arsenic")])
def test_senseless_poison(instances: int, kind: str):
    with pytest.raises(InputError, match="poison is one instance"):
        poisoned(sums(), instances, kind=kind)


def test_poison_takes_random_searchs_evaluations_and_a_strategy_that_learns_spares_some():
    """With c copies of one of four operators at four places, a clean arch is drawn with chance (4 / (4 + c))⁴; P143's
    point: more instances of the same bad option do more harm."""
    entries = robustness(sums(), ["evolution"], 60, 8, instances=(1, 4), batch=4)
    of = {(e["strategy"], e["instances"]): e for e in entries}
    for n in (1, 4):
        share = 1 - (4 / (4 + n)) ** 4
        assert of["random", n]["drawn"] == pytest.approx(share, abs=4 * np.sqrt(share * (1 - share) / 480))
        assert of["random", n]["drawn"] == of["evolution", n]["drawn_random"]
        assert of["evolution", n]["drawn_late"] < of["random", n]["drawn_late"]
        assert of["evolution", n]["found"] > of["random", n]["found"]
        assert of["random", n]["beside_random"] is None
    assert of["random", 4]["found"] < of["random", 1]["found"] < of["random", 1]["clean"]
    assert of["random", 4]["beside_clean"]["verdict"] == "worse"
    assert of["evolution", 4]["beside_random"]["effect"] > 0


def test_harmful_options_are_named_and_no_others():
    """In a poisoned space, from 300 random archs: each ``none`` and each copy of it, and first of all."""
    held = poisoned(sums(), 1)
    history = run(held.table.space, held.table.evaluate, "random", 300, 0, objectives=[VAL], batch=50)
    found = harmful(held.table, history)
    named = [(e["choice"], e["option"]) for e in found]
    assert set(named[:8]) == {(f"op{i}", o) for i in range(4) for o in ("none", "none (copy 1)")}
    assert all(e["worse"] > 0.5 and e["p_holm"] <= 0.05 for e in found)
    assert "conv" not in {option for _, option in named}
    flat = table_of("flat", held.table.space, [(dict(r.arch), {"val": 1.0, "test": 1.0}) for r in history], [VAL], TEST)
    assert harmful(flat, run(flat.space, flat.evaluate, "random", 100, 0, objectives=[VAL])) == []
    assert harmful(flat, []) == []


def test_poison_of_really_trained_cells(data_dir: Path):
    """NAS-Bench-201 with three more copies of each edge's least effective operator: every poisoned cell is one that was
    trained; random search finds worse ones."""
    table = open_known("nb201:cifar10", data_dir)
    held = poisoned(table, 3)
    assert held.table.space.count() == 8**6
    rng = random.Random(0)
    for _ in range(100):
        arch = held.table.space.sample(rng)
        clean = Arch({n: str(o).split(" (copy")[0] for n, o in arch.items()})
        assert held.table.evaluate(arch) == table.evaluate(clean)
    entries = robustness(table, [], 30, 8, instances=(3,), batch=30)
    assert entries[0]["beside_clean"]["mean_difference"] < 0
    assert entries[0]["drawn"] > 0.9


# --- another setting --------------------------------------------------------------------------------------------------


def depths(turn: float) -> Table:
    """Cells at three depths: at the deepest, ``turn`` of what makes a cell good makes it bad."""
    space = Space((Choice("depth", (2, 8, 20)), *(Choice(f"op{i}", tuple(range(4))) for i in range(4))))
    rng = np.random.default_rng(0)
    worth = rng.random((4, 4))
    rows = []
    for arch in space.every():
        parts = [worth[i, int(arch[f"op{i}"])] for i in range(4)]
        deep = turn if arch["depth"] == 20 else 0.0
        rows.append((dict(arch), {"val": float(sum(parts[:2]) + (1 - 2 * deep) * sum(parts[2:]))}))
    return table_of("depths", space, rows, [VAL], VAL)


def test_a_gap_between_settings_is_seen_and_none_where_there_is_none():
    """P131's depth gap, planted between 8 and 20 cells and not between 2 and 8."""
    shallow, deep, ends = setting_gap(depths(0.5), "depth")
    assert [e["options"] for e in (shallow, deep, ends)] == [[2, 8], [8, 20], [2, 20]]
    assert (shallow["tau"]["value"], shallow["kept"]) == (pytest.approx(1), 1)
    assert deep["tau"]["high"] < 0.8
    assert deep["tau"]["value"] == pytest.approx(ends["tau"]["value"])
    assert deep["kept"] < 1
    assert deep["tau"]["n"] == 256
    assert setting_gap(depths(1.0), "depth")[1]["tau"]["value"] < deep["tau"]["value"]


def test_settings_that_there_are_not():
    with pytest.raises(InputError, match=r"no choice 'width' of two options: choose from depth, op0"):
        setting_gap(depths(0.0), "width")
    one = table_of("one", Space((Choice("x", (1,)),)), [({"x": 1}, {"val": 1.0})], [VAL], VAL)
    with pytest.raises(InputError, match="choose from none"):
        setting_gap(one, "x")


def test_archs_that_exist_in_one_setting_only_are_left_out():
    table = depths(0.0)
    few = {arch: row for arch, row in table.rows.items() if arch["depth"] != 20 or arch["op0"] == 0}
    sparse = table_of("sparse", table.space, [(dict(a), r) for a, r in few.items()], [VAL], VAL)
    assert [e["tau"]["n"] for e in setting_gap(sparse, "depth")] == [256, 64, 64]
    none = {arch: row for arch, row in table.rows.items() if (arch["depth"] == 2) == (arch["op0"] == 0)}
    apart = table_of("apart", table.space, [(dict(a), r) for a, r in none.items()], [VAL], VAL)
    assert setting_gap(apart, "depth")[0]["tau"]["value"] is None
