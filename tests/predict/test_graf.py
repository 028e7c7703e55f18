"""GRAF's features against networkx's paths, and its proxies."""

from __future__ import annotations

import random

import networkx as nx
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from contracts.predictor import CELL, drawn, values_of
from sartor.errors import InputError
from sartor.predict.graf import SMALL, Graf, graph_features, sets_of
from sartor.predict.light import kendall
from sartor.records import Arch
from sartor.space.cell import NB201_OPERATORS


def test_few_operators_are_asked_about_in_every_set_and_many_alone_and_without_each():
    assert len(sets_of("abcde")) == 2**SMALL - 1
    assert sets_of("abcdef") == [*(tuple(c) for c in "abcdef"), *(tuple("abcdef".replace(c, "")) for c in "abcdef")]


@given(st.integers(0, 10_000))
def test_features_are_those_of_networkx(seed: int):
    graph = CELL.graph(CELL.sample(random.Random(seed)))
    operators = NB201_OPERATORS[1:]
    sets = sets_of(operators)
    found = graph_features(graph, operators, sets)
    whole = nx.DiGraph(list(graph.links))
    whole.add_nodes_from(range(len(graph)))
    end = len(graph) - 1
    paths = [path[1:-1] for path in nx.all_simple_paths(whole, 0, end)]
    assert found[: len(operators)].tolist() == [graph.labels.count(o) for o in operators]
    columns = found[len(operators) :].reshape(6, len(sets))
    for i, chosen in enumerate(sets):
        inside = [n for n in whole if graph.labels[n] in chosen]
        through = [len(path) for path in paths if set(path) <= set(inside)]
        counted = [len(set(path) & set(inside)) for path in paths]
        assert columns[0, i] == min(through, default=len(graph) + 1)
        assert columns[1, i] == max(counted, default=0)
        assert columns[2, i] == len(set(whole.successors(0)) & set(inside))
        assert columns[3, i] == len(set(whole.predecessors(end)) & set(inside))
        assert columns[4, i] == pytest.approx(np.mean([len(set(whole.predecessors(n)) & set(inside)) for n in whole]))
        assert columns[5, i] == pytest.approx(np.mean([len(set(whole.successors(n)) & set(inside)) for n in whole]))


def test_a_proxy_that_knows_is_listened_to():
    """Values that no feature of the graph tells, and a proxy that does."""
    archs, others = drawn(CELL, 60), drawn(CELL, 100, seed=1)

    def luck(arch: Arch) -> float:
        return int(arch.key, 16) % 1000 / 1000

    values, true = np.array([luck(a) for a in archs]), [luck(a) for a in others]
    blind = Graf(CELL).fit(archs, values).predict(others)[0]
    told = Graf(CELL, proxies=lambda arch: (luck(arch),)).fit(archs, values).predict(others)[0]
    assert kendall(told, true) > 0.7 > abs(kendall(blind, true)) + 0.4


@pytest.mark.parametrize("wrong", [lambda arch: (float("nan"),), lambda arch: ("high",), lambda arch: None])
def test_a_proxy_that_returns_no_numbers_is_told_off(wrong):
    archs = drawn(CELL, 10)
    with pytest.raises(InputError, match="proxies must return"):
        Graf(CELL, proxies=wrong).fit(archs, values_of(archs))


def test_what_was_fitted_hears_another_tasks_proxies():
    """Trees that follow a proxy rank by that of the other task; a model without proxies hears none there, either."""
    archs, others = drawn(CELL, 60), drawn(CELL, 100, seed=1)

    def luck(arch: Arch) -> float:
        return int(arch.key, 16) % 1000 / 1000

    fitted = Graf(CELL, proxies=lambda arch: (luck(arch),)).fit(archs, [luck(a) for a in archs])
    moved = fitted.of(lambda arch: (1 - luck(arch),))
    assert kendall(moved.predict(others)[0], np.array([luck(a) for a in others])) < -0.7
    assert kendall(fitted.predict(others)[0], np.array([luck(a) for a in others])) > 0.7
    with pytest.raises(InputError, match="with proxies, or without"):
        fitted.of(None)
    with pytest.raises(InputError, match="not been fitted"):
        Graf(CELL).of(None)
