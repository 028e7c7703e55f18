"""What papers say of surrogates that carry over, on networks that were trained: ``benchmarks/local_tables.py`` made the
table, and ``benchmarks/surrogates.py`` prints the same figures."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from programs import benchmark


@pytest.fixture(scope="module")
def surrogates() -> ModuleType:
    return benchmark("surrogates")


def test_the_table_holds_what_its_plans_say(surrogates: ModuleType) -> None:
    """Of each table that was made, the first networks of its plan; and sizes are those of the networks."""
    tables = surrogates.tables
    held = surrogates.trained()
    assert held.keys() == tables.PLANS.keys()
    for name, rows in held.items():
        plan = tables.PLANS[name]()
        assert [(row.arch, row.recipe) for row in rows] == tables.drawn(plan)[: len(rows)], name
        assert all(0 < row.accuracy <= 1 for row in rows)
        assert [np.isnan(row.again) for row in rows] == [place >= plan.twice for place in range(len(rows))]
        if plan.data == "digits":
            size = tables.scores(plan, rows[-1].arch, "params", "macs")
            assert size == {"params": rows[-1].params, "macs": rows[-1].macs}


def test_luck_is_less_than_what_a_table_tells(surrogates: ModuleType) -> None:
    """Where networks were trained twice, they differ more among each other than from their second selves."""
    for rows in surrogates.trained().values():
        twice = np.array([(row.accuracy, row.again) for row in rows if not np.isnan(row.again)])
        assert not len(twice) or twice.std(axis=0).mean() > np.abs(twice[:, 0] - twice[:, 1]).mean()


def test_the_ranks_of_both_scores_say_something_of_transformers(surrogates: ModuleType) -> None:
    """As-ViT (P078): Kendall's tau above 0.3 over the table, with the scores that it holds."""
    rows = surrogates.trained()["vit"]
    told = surrogates.rank_sum([row.scores for row in rows], surrogates.tables.AS_VIT)
    assert len(rows) == 30
    assert surrogates.kendall(told, surrogates.accuracies(rows)) > 0.3


@pytest.mark.heavy
def test_trained_anew_a_network_comes_out_about_the_same(surrogates: ModuleType) -> None:
    """Other machines sum in another order, and a short training is rough."""
    tables = surrogates.tables
    plan = tables.PLANS["cells"]()
    for row in surrogates.trained()["cells"][:3]:
        again = tables.evaluated(plan, row.arch, row.recipe)
        assert again.accuracy == pytest.approx(row.accuracy, abs=0.1)


def ranks(surrogates: ModuleType) -> None:
    """P201: from 100 networks of a grammar trained on the digits, tau above 0.4 on others and above 0.3 on networks
    trained on CIFAR-10, on average; and above what their MACs say."""
    lines = [line for _, line in surrogates.grammar()]
    mean = {key: np.mean([line[key] for line in lines]) for key in lines[0]}
    assert mean["within"] > max(0.4, mean["macs within"])
    assert mean["across"] > max(0.3, mean["macs across"])


@pytest.mark.heavy
def test_grammar_surrogates_rank_within_a_task_and_across(surrogates: ModuleType) -> None:
    ranks(surrogates)


@pytest.mark.claim
def test_a_grammars_surrogate_ranks_and_saves_evolution_on_another_task_trainings(
    surrogates: ModuleType, data_dir: Path
) -> None:
    """P201, all of it: as above; and on CIFAR-10, evolution behind the surrogate trains fewer networks until one is as
    good as the best of 20, on average over seeds. What it trains is trained here: minutes."""
    ranks(surrogates)
    lines = [line for _, line in surrogates.evolutions()]
    assert np.mean([line["filtered"] for line in lines]) < np.mean([line["plain"] for line in lines])
