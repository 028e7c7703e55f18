"""Neural Predictor: the strategies' contract, a ranking that is right, and one of a table."""

from __future__ import annotations

import random
from functools import partial

import numpy as np
import pytest
from scipy.stats import fisher_exact

from contracts.strategy import FLAT, StrategySuite, evaluate, history_of
from sartor.predict.ridge import Ridge
from sartor.records import Record
from sartor.search import run
from sartor.search.methods.evolution import evolution
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


@pytest.mark.claim
def test_the_best_hundredth_is_found_more_often_than_by_evolution(data_dir):
    """NAS-Bench-201 on CIFAR-10 and CIFAR-100, 20 seeds of each, 110 evaluations: a hundred random cells and the ten
    predicted best, by the accuracy that a search sees. Surely more often (Fisher's exact test, for which evolution has
    60 seeds) than regularised evolution as NAS-Bench-101 has it, with a population of 100 of which 10 compete. As it is
    tuned here, evolution finds one as often, so what is asked is that it does not do so surely more often; and of the
    last ten evaluations, which are what is predicted, twice as many are of the best hundredth as of evolution's."""
    ways = {
        "predictor": (partial(neural_predictor, pool=4000), 10, 20),
        "published": (partial(evolution, population=100, sample=10), 1, 60),
        "tuned": (evolution, 1, 20),
    }
    runs: dict[str, list[list[bool]]] = {name: [] for name in ways}
    for images in ("cifar10", "cifar100"):
        table = open_known(f"nb201:{images}", data_dir)
        metric = table.objectives[0].metric
        bar = np.quantile([row[metric] for row in table.rows.values()], 0.99)
        for name, (strategy, batch, seeds) in ways.items():
            for seed in range(seeds):
                history = run(
                    table.space, table.evaluate, strategy, 110, seed, objectives=table.objectives, batch=batch
                )
                runs[name].append([record.metrics[metric] >= bar for record in history])
    hits = {name: sum(any(good) for good in all_runs) for name, all_runs in runs.items()}
    late = {name: float(np.mean([good[100:] for good in all_runs])) for name, all_runs in runs.items()}
    print({name: f"{hits[name]} of {len(runs[name])}, {100 * late[name]:.0f} % of the last ten" for name in ways})

    def surely_more(one: str, other: str) -> bool:
        counts = [[hits[name], len(runs[name]) - hits[name]] for name in (one, other)]
        return bool(fisher_exact(counts, alternative="greater").pvalue < 0.05)

    assert surely_more("predictor", "published")
    assert not surely_more("tuned", "predictor")
    assert late["predictor"] > 2 * max(late["published"], late["tuned"])
