"""What the neural predictors are made of, against closed forms and other libraries."""

from __future__ import annotations

import math
import random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import norm

from contracts.predictor import CELL, drawn, values_of
from contracts.strategy import FLAT
from sartor.errors import InputError
from sartor.predict.bananas import Bananas
from sartor.predict.committee import MEMBERS, fit_committee, seeded
from sartor.predict.committee import drawn as weights
from sartor.predict.flan import Flan
from sartor.predict.gcn import GraphNetwork, both_ways
from sartor.predict.gennape import EIGENVALUES, Gennape, fuzzy_means, memberships, signature
from sartor.predict.graphs import Vocabulary
from sartor.predict.light import kendall
from sartor.predict.scores import NormalScores
from sartor.space.graph import INPUT, OUTPUT, ArchGraph


@given(st.lists(st.integers(-50, 50), min_size=2, max_size=30))
def test_normal_scores_keep_the_order_and_invert(values):
    y = np.array(values, dtype=float)
    scores = NormalScores.of(y)
    known = scores.inverse(scores(y), np.zeros(len(y)))[0]
    assert known == pytest.approx(y, abs=1e-6)
    if np.ptp(y) == 0:  # of one value nothing else is predicted
        return
    wider = np.concatenate([y, [y.min() - 3, y.max() + 3]])
    assert scores.inverse(scores(wider), np.zeros(len(wider)))[0] == pytest.approx(wider, abs=1e-6)
    assert (np.diff(scores(np.sort(np.unique(wider)))) > 0).all()


def test_normal_scores_of_distinct_values_are_normal_quantiles():
    scores = NormalScores.of(np.array([5.0, 1.0, 2.0]))
    assert scores(np.array([1.0, 2.0, 5.0])) == pytest.approx(norm.ppf([1 / 6, 3 / 6, 5 / 6]))


def test_seeded_leaves_generator_and_threads_where_they_were():
    import torch

    state, threads = torch.get_rng_state(), torch.get_num_threads()
    with seeded(5):
        first = torch.rand(3)
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.get_num_threads() == threads
    with seeded(5):
        assert torch.equal(torch.rand(3), first)


def test_a_committee_finds_a_line_and_knows_its_noise():
    x = np.random.default_rng(0).normal(size=(200, 3))
    noise = np.random.default_rng(1).normal(size=200)
    y = x @ [1.0, -2.0, 0.5] + 0.5 * noise
    made = fit_committee(
        lambda: {"w": weights(3, 1)},
        lambda p, given: (given["x"] @ p["w"])[..., 0],
        {"x": x},
        y,
        seed=0,
        epochs=60,
        rate=0.03,
    )
    assert made.parameters["w"].shape == (MEMBERS, 3, 1)
    assert made({"x": np.eye(3)})[0] == pytest.approx([1.0, -2.0, 0.5], abs=0.15)
    assert math.sqrt(made.noise) == pytest.approx(0.5, rel=0.15)


def test_a_node_hears_its_neighbours_and_itself_in_equal_parts():
    graphs = [CELL.graph(CELL.sample(random.Random(i))) for i in range(5)]
    arrays = both_ways(Vocabulary.of(graphs).arrays(graphs))
    for i, graph in enumerate(graphs):
        for node in range(len(graph)):
            before = {start for start, to in graph.links if to == node} | {node}
            after = {to for start, to in graph.links if start == node} | {node}
            assert set(np.flatnonzero(arrays["onwards"][i, node])) == before
            assert set(np.flatnonzero(arrays["back"][i, node])) == after
            assert arrays["onwards"][i, node].sum() == pytest.approx(1)


def test_what_was_not_seen_is_number_zero_and_what_was_keeps_its_number():
    first = Vocabulary.of([FLAT.graph(FLAT.sample(random.Random(0)))])
    second = Vocabulary.of([CELL.graph(CELL.sample(random.Random(0)))], first)
    assert first.labels.items() <= second.labels.items()
    unknown = first.arrays([CELL.graph(CELL.sample(random.Random(0)))])["labels"][0]
    assert unknown.tolist() == [first.labels[INPUT], *[0] * (len(unknown) - 2), first.labels[OUTPUT]]


@given(st.integers(0, 99))
def test_memberships_are_those_of_the_formula(seed: int):
    """Bezdek's: the inverse of the sum of ratios of squared distances, for a fuzziness of two."""
    rng = np.random.default_rng(seed)
    x, centres = rng.normal(size=(6, 2)), rng.normal(size=(3, 2))
    apart = ((x[:, None] - centres) ** 2).sum(axis=-1)
    wanted = 1 / (apart[:, :, None] / apart[:, None, :]).sum(axis=2)
    assert memberships(x, centres) == pytest.approx(wanted, rel=1e-6)
    assert memberships(x, centres).sum(axis=1) == pytest.approx(1)


def test_fuzzy_means_find_clusters_that_are_apart():
    rng = np.random.default_rng(0)
    true = np.array([[0.0, 0.0], [5.0, 0.0], [0.0, 5.0]])
    x = np.concatenate([centre + 0.1 * rng.normal(size=(30, 2)) for centre in true])
    found = fuzzy_means(x, 3, seed=1)
    assert np.sort(found.round(1), axis=0) == pytest.approx(np.sort(true, axis=0), abs=0.2)


def test_a_chains_signature_is_its_laplacians():
    """The normalised Laplacian of a path of n nodes has the eigenvalues 1 - cos(pi k / (n - 1))."""
    graph = FLAT.graph(FLAT.sample(random.Random(0)))
    n = len(graph)
    wanted = [1 - math.cos(math.pi * k / (n - 1)) for k in range(n)][:EIGENVALUES]
    assert signature(graph, {})[:EIGENVALUES] == pytest.approx(wanted, abs=1e-9)


def test_bananas_looks_at_the_end_that_it_is_told_to():
    """The share of the distance from the bound weighs errors near it most."""
    archs, others = drawn(CELL, 60), drawn(CELL, 200, seed=1)
    rng = np.random.default_rng(0)
    values = values_of(archs) + rng.normal(size=60)
    true = values_of(others)
    high, low = (Bananas(CELL, best=best).fit(archs, values).predict(others)[0] for best in ("high", "low"))
    top, bottom = true >= np.quantile(true, 0.8), true <= np.quantile(true, 0.2)
    errors = [np.abs(said - true) for said in (high, low)]
    assert errors[0][top].mean() / errors[0][bottom].mean() < errors[1][top].mean() / errors[1][bottom].mean()


@pytest.mark.heavy
def test_flan_goes_on_from_another_space():
    """Cells with two more operators' names: what was learnt of the ones that both have is kept."""
    archs, others = drawn(CELL, 8), drawn(CELL, 100, seed=1)
    much = drawn(CELL, 120, seed=2)
    source = Flan(CELL).fit(much, values_of(much))
    few = Flan(CELL).fit(archs, values_of(archs)).predict(others)[0]
    more = Flan(CELL, source=source).fit(archs, values_of(archs)).predict(others)[0]
    assert kendall(more, values_of(others)) > kendall(few, values_of(others)) + 0.1
    with pytest.raises(InputError, match="not been fitted"):
        Flan(CELL, source=Flan(CELL)).fit(archs, values_of(archs))
    with pytest.raises(InputError, match="same proxies"):
        Flan(CELL, source=source, proxies=lambda arch: (1.0,)).fit(archs, values_of(archs))


@pytest.mark.heavy
def test_gennape_ranks_archs_of_a_space_it_never_saw():
    """Cells of four nodes, from cells of four nodes without one operator: labels are the same, the space is another."""
    smaller = CELL.restrict({choice.name: [o for o in choice.options if o != "none"] for choice in CELL.choices})
    other = type(CELL)(smaller.choices, CELL.edges)
    archs = drawn(other, 80)
    fitted = Gennape(other).fit(archs, values_of(archs))
    unseen = drawn(CELL, 100, seed=1)
    with pytest.raises(InputError, match="not an arch"):
        fitted.predict(unseen)
    assert kendall(fitted.of(CELL).predict(unseen)[0], values_of(unseen)) > 0.5


def test_gennape_sees_the_graph_that_it_is_given():
    """The space's own, given, is what it sees anyhow; of graphs without links and words nothing is ranked."""
    archs, unseen = drawn(CELL, 12), drawn(CELL, 20, seed=1)
    made = [
        Gennape(CELL, epochs=2, unlabelled=8, graph=graph).fit(archs, values_of(archs)) for graph in (None, CELL.graph)
    ]
    first, second = (model.predict(unseen)[0] for model in made)
    assert (first == second).all()
    bare = made[0].of(CELL, lambda arch: ArchGraph((INPUT, OUTPUT), ("", ""), (0.0, 0.0), ((0, 1),)))
    assert np.ptp(bare.predict(unseen)[0]) == pytest.approx(0, abs=1e-9)
    assert np.ptp(first) > 0


@pytest.mark.heavy
def test_a_graph_network_learns_what_no_count_of_operators_tells():
    """The value is that of the longest way through convolutions: cells with as many of them differ."""
    archs, others = drawn(CELL, 100), drawn(CELL, 200, seed=1)

    def longest(arch):
        return max((sum("conv" in o for o in path) for path in CELL.paths(arch)), default=0)

    mean, _ = GraphNetwork(CELL).fit(archs, [longest(a) for a in archs]).predict(others)
    true = [longest(a) for a in others]
    assert kendall(mean, true) > kendall(values_of(others), true)


def test_a_graph_network_says_the_same_of_what_computes_the_same():
    """Operators that no output hears are no part of it: neither in what is learnt nor in what is predicted."""
    archs = drawn(CELL, 12)
    fitted = GraphNetwork(CELL, epochs=2).fit(archs, values_of(archs))
    cut = {"edge1": "none", "edge2": "none", "edge3": "nor_conv_3x3", "edge5": "none"}  # of node 2 nothing is heard
    heard = [CELL.canonical({**cut, "edge0": "avg_pool_3x3", "edge4": op}) for op in ("skip_connect", "nor_conv_1x1")]
    same = [CELL.canonical({**arch, "edge1": "nor_conv_3x3", "edge2": "avg_pool_3x3"}) for arch in heard]
    mean = fitted.predict([*heard, *same])[0]
    assert mean[:2] == pytest.approx(mean[2:], abs=1e-9)
    assert abs(mean[0] - mean[1]) > 1e-6
