"""What FLAN's paper says of twenty samples, on published cells with their zero-cost scores."""

from __future__ import annotations

import ast
import math

import numpy as np
import pytest

from sartor.predict.bananas import Bananas
from sartor.predict.flan import Flan
from sartor.predict.light import kendall
from sartor.records import Arch
from sartor.search.tables.rows import read_rows
from sartor.space import Space
from sartor.space.cell import nas_bench_201

OPERATORS = ("skip_connect", "none", "nor_conv_3x3", "nor_conv_1x1", "avg_pool_3x3")
EDGES = (0, 1, 3, 2, 4, 5)
"""The file's own numbers and order (NASLib's): of all orders of edges, this one agrees most with the accuracies in
``nb201.csv.gz``."""
SCORES = ("snip", "jacov", "grad_norm", "plain", "epe_nas", "fisher", "grasp", "l2_norm", "synflow", "nwot")
SEEDS, LEARNT, TESTED = 4, 20, 300


def logarithm(text: str) -> float:
    score = float(text or "nan")
    return math.copysign(math.log1p(abs(score)), score) if math.isfinite(score) else 0.0


@pytest.mark.claim
def test_twenty_samples_beat_an_adjacency_perceptron_and_zero_cost_scores_add_to_it(data_dir):
    """P274: of 725 trained cells of NAS-Bench-201, after twenty, the mean over seeds of Kendall's tau on 300 others."""
    cell = nas_bench_201()
    accuracy: dict[Arch, float] = {}
    scores: dict[Arch, list[float]] = {}
    for row in read_rows(data_dir / "nas" / "zero_cost_2022.csv.gz", "give the folder that holds nas/"):
        if (row["space"], row["task"]) == ("nasbench201", "cifar10"):
            numbers = ast.literal_eval(row["arch"])
            arch = cell.canonical({f"edge{i}": OPERATORS[numbers[edge]] for i, edge in enumerate(EDGES)})
            accuracy[arch] = float(row["val_accuracy"])
            scores[arch] = [logarithm(row[name]) for name in SCORES]
    archs = list(accuracy)
    makers = {
        "perceptron": lambda seed: Bananas(
            Space(cell.choices), seed
        ),  # of one-hot operators: a flat space has no paths
        "flan": lambda seed: Flan(cell, seed),
        "with scores": lambda seed: Flan(cell, seed, proxies=scores.__getitem__),
    }
    taus: dict[str, list[float]] = {name: [] for name in makers}
    for seed in range(SEEDS):
        order = np.random.default_rng(seed).permutation(len(archs))
        learnt, tested = ([archs[i] for i in part] for part in (order[:LEARNT], order[LEARNT : LEARNT + TESTED]))
        for name, make in makers.items():
            said = make(seed).fit(learnt, [accuracy[a] for a in learnt]).predict(tested)[0]
            taus[name].append(kendall(said, [accuracy[a] for a in tested]))
    means = {name: float(np.mean(found)) for name, found in taus.items()}
    print(means)
    assert means["flan"] > means["perceptron"] + 0.1
    assert means["with scores"] > means["flan"]
