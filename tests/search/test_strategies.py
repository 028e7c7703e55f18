"""Every strategy passes the contract; each line here is one strategy."""

from __future__ import annotations

import random
import re
from functools import partial
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from contracts.strategy import CONDITIONAL, FLAT, StrategySuite, evaluate, history_of
from sartor.predict.ridge import Ridge
from sartor.records import Budget, Record
from sartor.search import pareto
from sartor.search.methods.bohb import bohb
from sartor.search.methods.brp import brp
from sartor.search.methods.eeea import eeea
from sartor.search.methods.evolution import evolution
from sartor.search.methods.fbnetv3 import fbnetv3
from sartor.search.methods.filtered import filtered
from sartor.search.methods.grid import grid
from sartor.search.methods.hyperband import asha, halving, hyperband
from sartor.search.methods.l2nas import l2nas
from sartor.search.methods.linas import linas
from sartor.search.methods.local import local_search
from sartor.search.methods.mcts import mcts
from sartor.search.methods.neural_predictor import neural_predictor
from sartor.search.methods.nsga2 import nsga2, offspring, survivors
from sartor.search.methods.optuna_samplers import optuna_cmaes, optuna_gp, optuna_nsga2, optuna_nsga3, optuna_tpe
from sartor.search.methods.ppo import ppo
from sartor.search.methods.random import random_search
from sartor.search.methods.reinforce import reinforce
from sartor.search.methods.smbo import smbo
from sartor.search.named import strategies
from sartor.search.strategy import fresh


class TestRandom(StrategySuite):
    strategy = staticmethod(random_search)


class TestGrid(StrategySuite):
    strategy = staticmethod(grid)


class TestLocalSearch(StrategySuite):
    strategy = staticmethod(local_search)


class TestEvolution(StrategySuite):
    strategy = staticmethod(evolution)


class TestFiltered(StrategySuite):
    strategy = staticmethod(partial(filtered, score=lambda archs: [len(arch) for arch in archs]))


class TestNsga2(StrategySuite):
    strategy = staticmethod(nsga2)


class TestNsga2SmallPopulation(StrategySuite):
    strategy = staticmethod(partial(nsga2, population=5, budget=Budget(max_latency_ms=0.3)))


class TestLinas(StrategySuite):
    strategy = staticmethod(partial(linas, population=30, generations=3, first=8))


class TestNeuralPredictor(StrategySuite):
    strategy = staticmethod(partial(neural_predictor, first=10, pool=30, predictor=Ridge))


class TestLinasWithBudget(StrategySuite):
    strategy = staticmethod(
        partial(linas, population=30, generations=3, first=8, budget=Budget(max_latency_ms=0.3, max_macs=1000))
    )


class TestOptunaTpe(StrategySuite):
    strategy = staticmethod(optuna_tpe)


class TestOptunaNsga2(StrategySuite):
    strategy = staticmethod(partial(optuna_nsga2, population=8))


class TestOptunaNsga3(StrategySuite):
    strategy = staticmethod(partial(optuna_nsga3, population=8))


@pytest.mark.heavy
class TestOptunaGp(StrategySuite):
    strategy = staticmethod(partial(optuna_gp, startup=28))


@pytest.mark.skipif(find_spec("cmaes") is None, reason="the package cmaes is not installed")
class TestOptunaCmaes(StrategySuite):
    strategy = staticmethod(optuna_cmaes)


class TestHalving(StrategySuite):
    strategy = staticmethod(halving)


class TestHyperband(StrategySuite):
    strategy = staticmethod(hyperband)


class TestAsha(StrategySuite):
    strategy = staticmethod(asha)


class TestBohb(StrategySuite):
    strategy = staticmethod(bohb)


class TestMcts(StrategySuite):
    strategy = staticmethod(mcts)


class TestMctsWithAMoveForEachOption(StrategySuite):
    strategy = staticmethod(partial(mcts, bisect=False))


class TestSmbo(StrategySuite):
    strategy = staticmethod(partial(smbo, samples=64))


class TestReinforce(StrategySuite):
    strategy = staticmethod(reinforce)


class TestPpo(StrategySuite):
    strategy = staticmethod(partial(ppo, memory=24))


class TestL2nas(StrategySuite):
    strategy = staticmethod(partial(l2nas, steps=8))


class TestBrp(StrategySuite):
    strategy = staticmethod(partial(brp, pool=60))


class TestEeea(StrategySuite):
    strategy = staticmethod(eeea)


class TestFbnetv3(StrategySuite):
    strategy = staticmethod(partial(fbnetv3, coarse=20, candidates=60, generations=2, population=10))


class TestFbnetv3WithABudget(StrategySuite):
    strategy = staticmethod(partial(fbnetv3, candidates=40, allowed=lambda arch: len(arch) % 2 == 0))


def test_every_named_strategy_passes_the_contract():
    """In this file or in one of its own: the suites are read, for they are not all loaded."""
    suite = re.compile(r"strategy = staticmethod\(\s*(?:partial\(\s*)?(\w+)")
    tested = {name for file in Path(__file__).parent.glob("test_*.py") for name in suite.findall(file.read_text())}
    assert {strategy.__name__ for strategy in strategies.values()} <= tested


def test_the_contract_collects_something():
    assert sum(name.startswith("test_") for name in dir(StrategySuite)) >= 9


def test_every_lists_each_arch_once():
    for space in (CONDITIONAL, FLAT):
        if space.count() > 10_000:
            continue
        archs = list(space.every())
        assert len(archs) == len(set(archs)) == space.count()
        assert all(space.contains(arch) for arch in archs)


def test_random_draws_uniformly_over_what_sample_draws():
    """Without a history, the strategy's archs are the space's own samples in order, repeats dropped."""
    rng, twin = random.Random(3), random.Random(3)
    drawn = dict.fromkeys(FLAT.sample(twin) for _ in range(50))
    assert random_search(FLAT, [], rng, len(drawn)) == list(drawn)


def test_fresh_falls_back_to_the_space_when_the_proposer_repeats_itself():
    stuck = CONDITIONAL.sample(random.Random(0))
    archs = fresh(CONDITIONAL, lambda: stuck, random.Random(1), 5, set())
    assert archs[0] == stuck
    assert len(set(archs)) == 5


points = st.lists(st.tuples(st.integers(0, 8), st.integers(0, 8)), min_size=1, max_size=25)


@given(points, st.data())
def test_survivors_are_sorted_by_constrained_domination(values, data):
    """No survivor is worse than one that follows it: feasible before infeasible, then rank, then excess."""
    cost = np.array(values, dtype=float)
    level = st.sampled_from([0.0, 0.0, 0.1, 0.7])
    excess = np.array(data.draw(st.lists(level, min_size=len(cost), max_size=len(cost))))
    order = survivors(cost, excess, len(cost))
    assert sorted(order) == list(range(len(cost)))
    assert sorted(excess[order] > 0) == list(excess[order] > 0)
    late = excess[order][excess[order] > 0]
    assert list(late) == sorted(late)
    fits = [i for i in order if excess[i] <= 0]
    if fits:
        ranks = pareto.ranks(cost[fits])
        assert list(ranks) == sorted(ranks)


@given(st.lists(st.tuples(st.integers(0, 6), st.sampled_from([0.0, 0.0, 0.3])), min_size=1, max_size=20))
def test_survivors_by_one_objective_are_those_by_two_that_agree(values):
    """The short cut keeps the costs that the general way keeps, in its order."""
    cost, excess = (np.array(column, dtype=float) for column in zip(*values, strict=True))
    alone, twice = (survivors(np.stack([cost] * m, axis=1), excess, len(cost)) for m in (1, 2))
    fits = int((excess <= 0).sum())
    assert list(cost[alone][:fits]) == list(cost[twice][:fits])
    assert list(excess[alone]) == list(excess[twice])


def test_nsga2_replays_generations():
    """Its parents are those of a run that held its population in memory, generation by generation."""
    history = history_of(FLAT, 40)
    population = 10
    cost = np.array([[-r.metrics["accuracy_val"], np.log(r.metrics["latency_ms"])] for r in history])
    alive: list[int] = []
    for start in range(0, 40, population):
        pool = alive + list(range(start, start + population))
        alive = [pool[i] for i in survivors(cost[pool], np.zeros(len(pool)), population)]
    parents = [history[i].arch for i in alive]
    for extra in (0, 4):  # an incomplete generation changes no parents
        more = [Record(f"b{i}", r.arch, metrics=r.metrics) for i, r in enumerate(history_of(FLAT, extra, seed=99))]
        rng = random.Random(9)
        seen = {record.arch for record in history + more}
        expected = fresh(FLAT, lambda: offspring(FLAT, parents, rng), rng, 6, seen)  # noqa: B023
        assert nsga2(FLAT, history + more, random.Random(9), 6, population=population) == expected


@pytest.mark.parametrize("strategy", [nsga2, linas])
def test_a_budget_moves_the_search_within_it(strategy):
    history = history_of(FLAT, 60)
    budget = Budget(max_latency_ms=float(np.quantile([r.metrics["latency_ms"] for r in history], 0.3)))

    def within(archs):
        return np.mean([evaluate(arch)["latency_ms"] <= budget.max_latency_ms for arch in archs])

    limited = within(strategy(FLAT, history, random.Random(0), 20, budget=budget))
    free = within(strategy(FLAT, history, random.Random(0), 20))
    assert limited > free
    assert limited >= 0.5
