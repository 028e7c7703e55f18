"""Proxies as an evaluator, and ranks by several of them."""

from __future__ import annotations

import math
import random

import numpy as np
import pytest
import torch

from sartor.errors import InputError
from sartor.models.buildable import conv_problem, nb201_problem
from sartor.search import run
from sartor.search.objective import Objective
from sartor.search.proxies import proxies, proxy_evaluator, rank_sum, rank_sum_evaluator

PROBLEM = nb201_problem(8, channels=4, cells=1)
BATCH = (torch.randn(8, 3, 8, 8, generator=torch.Generator().manual_seed(0)), torch.arange(8))


def test_a_search_by_a_proxy_finds_better_than_it_began_with():
    evaluate = proxy_evaluator(PROBLEM, ["synflow", "params"], BATCH)
    history = run(PROBLEM.space, evaluate, "evolution", 40, seed=1, objectives=[Objective("synflow", maximise=True)])
    scores = [record.metrics["synflow"] for record in history]
    assert max(scores[10:]) > max(scores[:10])
    best = max(history, key=lambda record: record.metrics["synflow"])
    assert evaluate(best.arch) == best.metrics


def test_an_evaluator_draws_the_same_weights_of_an_arch_and_leaves_the_generator():
    evaluate = proxy_evaluator(PROBLEM, ["snip"], BATCH, seed=3)
    arch = PROBLEM.space.sample(random.Random(0))
    state = torch.get_rng_state()
    found = evaluate(arch)
    assert torch.equal(torch.get_rng_state(), state)
    torch.manual_seed(99)
    assert evaluate(arch) == found
    torch.manual_seed(3)
    assert proxies["snip"](PROBLEM.build(arch), *BATCH) == found["snip"]


def test_a_batch_may_depend_on_the_arch():
    problem = conv_problem(32)
    labels = torch.arange(4)
    evaluate = proxy_evaluator(problem, ["macs"], lambda arch: (problem.inputs(arch, 4), labels))
    archs = (problem.space.smallest(), problem.space.largest())
    assert evaluate(archs[0])["macs"] < evaluate(archs[1])["macs"]


def test_names_are_checked():
    for names in ([], ["synflaw"]):
        with pytest.raises(InputError):
            proxy_evaluator(PROBLEM, names, BATCH)
    with pytest.raises(InputError):
        rank_sum_evaluator(lambda arch: {"a": 1.0}, ["a"], [])


def test_ranks_are_means_over_proxies():
    scores = [{"a": 1.0, "b": 30.0}, {"a": 2.0, "b": 10.0}, {"a": 3.0, "b": 20.0}, {"a": math.nan}]
    found = rank_sum(scores, ["a", "b"])
    assert found == pytest.approx([(1 + 3) / 6, (2 + 1) / 6, (3 + 2) / 6, 0])
    assert rank_sum(scores, ["a"]) == pytest.approx(np.array([1, 2, 3, 0]) / 3)
    assert rank_sum([{"a": 1.0}, {"a": 1.0}], ["a"]) == pytest.approx([0.5, 0.5])
    assert rank_sum([], ["a"]).shape == (0,)
    stretched = [{"a": math.exp(s.get("a", math.nan))} for s in scores]
    assert rank_sum(stretched, ["a"]) == pytest.approx(rank_sum(scores, ["a"]))  # scales do not matter


def test_a_rank_among_fixed_archs_orders_as_ranks_among_them_do():
    rng = random.Random(0)
    evaluate = proxy_evaluator(PROBLEM, ["params", "synflow"], BATCH)
    archs = list(dict.fromkeys(PROBLEM.space.sample(rng) for _ in range(12)))
    scores = [evaluate(arch) for arch in archs]
    ranked = rank_sum_evaluator(evaluate, ["params", "synflow"], scores)
    found = [ranked(arch)["rank_sum"] for arch in archs]
    expected = rank_sum(scores, ["params", "synflow"])
    assert np.argsort(found, kind="stable").tolist() == np.argsort(expected, kind="stable").tolist()
    assert ranked(archs[0]).keys() == {"params", "synflow", "rank_sum"}
    lost = rank_sum_evaluator(lambda arch: {"a": math.nan}, ["a"], [{"a": 1.0}, {"a": 2.0}])
    assert lost(archs[0])["rank_sum"] == 0
