"""Neural Predictor: the strategies' contract, a ranking that is right, and one of a table."""

from __future__ import annotations

import random
from functools import partial

import numpy as np
import pytest

from contracts.strategy import FLAT, StrategySuite, evaluate, history_of
from sartor.predict.ridge import Ridge
from sartor.records import Record
from sartor.search.methods.neural_predictor import neural_predictor
from sartor.search.objective import Objective
from sartor.search.tables import open_known

ACCURACY = [Objective("accuracy_val", maximise=True)]


class TestWithTheDefaults(StrategySuite):
    strategy = staticmethod(neural_predictor)


def test_what_is_predicted_best_comes_first_and_only_the_first_archs_teach():
    history = history_of(FLAT, 40)
    propose = partial(neural_predictor, objectives=ACCURACY, first=40, pool=300, predictor=Ridge)
    archs = propose(FLAT, history, random.Random(0), 10)
    found = np.mean([evaluate(arch)["accuracy_val"] for arch in archs])
    assert found > max(record.metrics["accuracy_val"] for record in history) * 0.95
    misleading = [Record("x", arch, metrics={"accuracy_val": 0.0}) for arch in archs]
    again = propose(FLAT, [*history, *misleading], random.Random(0), 10)
    assert np.mean([evaluate(arch)["accuracy_val"] for arch in again]) > 0.95 * found


@pytest.mark.heavy
def test_the_ten_predicted_best_of_a_table_are_of_its_best(data_dir):
    """After a hundred random cells of NAS-Bench-201, the middle one of the ten predicted best of two thousand is among
    the table's best tenth."""
    table = open_known("nb201:cifar10", data_dir)
    objectives, metric = table.objectives, table.objectives[0].metric
    drawn = random.Random(0).sample(list(table.rows), 100)
    history = [Record(f"a{i}", arch, metrics=table.evaluate(arch)) for i, arch in enumerate(drawn)]
    archs = neural_predictor(table.space, history, random.Random(0), 10, objectives=objectives)
    found = np.median([table.evaluate(arch)[metric] for arch in archs])
    assert found > np.quantile([row[metric] for row in table.rows.values()], 0.9)


def test_of_the_bad_it_is_learnt_only_that_they_are():
    """How bad the worst three tenths are changes nothing, and changes the ranking where there is one stage."""
    plain = history_of(FLAT, 40)  # of which some are as good as others
    history = [
        Record(r.name, r.arch, metrics={"accuracy_val": r.metrics["accuracy_val"] + 1e-6 * i})
        for i, r in enumerate(plain)
    ]
    worst = sorted(history, key=lambda record: record.metrics["accuracy_val"])[:12]
    worse = [
        Record(r.name, r.arch, metrics={"accuracy_val": -float(i)} if r in worst else r.metrics)
        for i, r in enumerate(history)
    ]

    def proposed(records, kept):
        given = {"objectives": ACCURACY, "first": 40, "pool": 100, "predictor": Ridge, "kept": kept}
        return neural_predictor(FLAT, records, random.Random(0), 10, **given)

    assert proposed(history, 0.7) == proposed(worse, 0.7)
    assert proposed(history, 1.0) != proposed(worse, 1.0)
