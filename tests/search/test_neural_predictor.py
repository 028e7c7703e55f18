"""Neural Predictor: the strategies' contract, a ranking that is right, and the paper's claim on a table."""

from __future__ import annotations

import random
from functools import partial

import numpy as np
import pytest

from contracts.strategy import FLAT, StrategySuite, evaluate, history_of
from sartor.predict.ridge import Ridge
from sartor.records import Record
from sartor.search.methods.evolution import evolution
from sartor.search.methods.neural_predictor import neural_predictor
from sartor.search.objective import Objective
from sartor.search.tables import open_known

ACCURACY = [Objective("accuracy_val", maximise=True)]


class TestNeuralPredictor(StrategySuite):
    strategy = staticmethod(partial(neural_predictor, first=10, pool=30, predictor=Ridge))


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


SEEDS = 20


@pytest.mark.claim
def test_finds_the_best_hundredth_more_often_than_evolution(data_dir):
    """P186: on NAS-Bench-201, after 100 random archs and the ten predicted best of 2000, the best of those 110 is in
    the table's top 1 %, by the validation accuracy that both see, on more of 20 seeds than regularised evolution's."""
    table = open_known("nb201:cifar10", data_dir)
    metric = table.objectives[0].metric
    bar = np.quantile([row[metric] for row in table.rows.values()], 0.99)
    found = {"predictor": 0, "evolution": 0}
    for seed in range(SEEDS):
        found["predictor"] += best_after(table, neural_predictor, seed) >= bar
        found["evolution"] += best_after(table, evolution, seed) >= bar
    print(found)
    assert found["predictor"] > found["evolution"]


def best_after(table, strategy, seed: int) -> float:
    """The best of 110 evaluations: 100 one at a time, as suits evolution, or at once, and ten."""
    history: list[Record] = []
    sizes = [100, 10] if strategy is neural_predictor else [1] * 110
    for n in sizes:
        rng = random.Random(f"{seed}:{len(history)}")
        archs = strategy(table.space, history, rng, n, objectives=table.objectives)
        history += [Record(f"a{len(history) + i}", arch, metrics=table.evaluate(arch)) for i, arch in enumerate(archs)]
    assert len(history) == 110
    return max(record.metrics[table.objectives[0].metric] for record in history)
