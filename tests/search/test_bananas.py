"""BANANAS: the strategies' contract, and a real table, at the size of the paper's proposals."""

from __future__ import annotations

import random

import numpy as np

from contracts.strategy import FLAT, StrategySuite, evaluate, history_of
from sartor.records import Record
from sartor.search.contest import contest
from sartor.search.methods.bananas import bananas
from sartor.search.objective import Objective
from sartor.search.tables import open_known

ACCURACY = [Objective("accuracy_val", maximise=True)]


class TestBananas(StrategySuite):
    strategy = staticmethod(bananas)


def test_candidates_are_mutants_of_the_best_and_the_better_ones_are_taken():
    history = history_of(FLAT, 40)
    best = max(record.metrics["accuracy_val"] for record in history)
    archs = bananas(FLAT, history, random.Random(0), 10, objectives=ACCURACY)
    drawn = [evaluate(FLAT.sample(random.Random(seed)))["accuracy_val"] for seed in range(50)]
    found = [evaluate(arch)["accuracy_val"] for arch in archs]
    assert np.mean(found) > (best + np.mean(drawn)) / 2


def test_between_two_fits_only_the_parents_change():
    """The ensemble is that of the last full ten, so what came after it is not learnt of, and yet mutated."""
    history = history_of(FLAT, 25)
    fitted_to = history[:20]
    said = [bananas(FLAT, h, random.Random(1), 5, objectives=ACCURACY) for h in (history, fitted_to)]
    better = [*history, Record("a25", FLAT.largest(), metrics={"accuracy_val": 1e3})]
    near = bananas(FLAT, better, random.Random(1), 60, objectives=ACCURACY)
    assert said[0] != said[1]
    differ = [sum(arch[c.name] != FLAT.largest()[c.name] for c in FLAT.choices) for arch in near]
    assert min(differ) == 1


def test_a_real_table_is_searched_better_than_by_chance(data_dir):
    table = open_known("macro:cifar10", data_dir)
    runs = list(contest(table, ["random", "bananas"], 100, 3, batch=10))
    away = {
        name: [table.best - r["best_so_far"][-1] for r in runs if r["strategy"] == name]
        for name in ("random", "bananas")
    }
    assert np.mean(away["bananas"]) < 0.5 * np.mean(away["random"])
