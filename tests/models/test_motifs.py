"""Hierarchical motifs: counted, moved within, assembled; and searched on real digits."""

from __future__ import annotations

import random
from collections import Counter
from functools import partial
from itertools import product

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from contracts.space import SpaceSuite
from sartor.errors import InputError
from sartor.models.motifs import build_motifs
from sartor.records import Arch
from sartor.search.methods.evolution import evolution
from sartor.search.named import run
from sartor.search.objective import Objective
from sartor.space.motifs import ABSENT, PRIMITIVES, motifs

PAPER = motifs()
SMALL = motifs(((1, 3), (1, 3)), primitives=("identity", "conv1"))


class TestPaper(SpaceSuite):
    space = PAPER


class TestSmall(SpaceSuite):
    space = motifs(((1, 2), (2, 3), (1, 3)), primitives=("conv1", "max_pool3"))


def test_the_paper_has_six_motifs_of_four_nodes_and_a_cell_of_five():
    assert [choice.options for choice in PAPER.choices] == [(ABSENT, *PRIMITIVES)] * 36 + [
        (ABSENT, *(f"2.{i}" for i in range(6)))
    ] * 10


def reaches(edges: dict[tuple[int, int], str], last: int) -> bool:
    """Whether there is a path from 0 to ``last``: by powers of the adjacency matrix."""
    there = np.zeros((last + 1, last + 1))
    for (start, to), held in edges.items():
        there[start, to] = held != ABSENT
    return np.linalg.matrix_power(np.eye(last + 1) + there, last + 1)[0, last] > 0


@pytest.mark.parametrize("nodes", [2, 3, 4])
def test_count_and_every_are_those_of_plain_enumeration(nodes: int):
    space = motifs(((1, nodes),), primitives=("identity", "conv1"))
    ends = [(start, to) for to in range(1, nodes) for start in range(to)]
    held = product((ABSENT, "identity", "conv1"), repeat=len(ends))
    expected = [edges for h in held if reaches(edges := dict(zip(ends, h, strict=True)), nodes - 1)]
    names = {tuple(f"2.0.{s}>{t}" for s, t in edges) for edges in expected}
    assert len(names) == 1
    assert space.count() == len(expected)
    archs = {Arch({f"2.0.{s}>{t}": o for (s, t), o in edges.items()}) for edges in expected}
    assert set(space.every()) == archs


def test_levels_multiply():
    assert SMALL.count() == len(list(SMALL.every())) == len(set(SMALL.every()))
    assert all(SMALL.contains(arch) for arch in SMALL.every())


def test_samples_are_uniform_over_connected_genotypes():
    from scipy.stats import chisquare

    rng, archs = random.Random(0), list(SMALL.every())
    seen = Counter(SMALL.sample(rng) for _ in range(40 * len(archs)))
    assert set(seen) == set(archs)
    assert chisquare([seen[arch] for arch in archs]).pvalue > 1e-3


def test_ten_thousand_mutations_stay_in_the_space():
    rng, arch = random.Random(0), PAPER.smallest()
    kinds = Counter()
    for _ in range(10_000):
        before, arch = arch, PAPER.mutate(arch, rng, 0.0)
        (name,) = [name for name in arch if arch[name] != before[name]]
        kinds["add" if before[name] == ABSENT else "remove" if arch[name] == ABSENT else "alter"] += 1
        assert PAPER.contains(arch)
    assert min(kinds[k] for k in ("add", "remove", "alter")) > 500


@given(st.integers(0, 2**32))
def test_a_genotype_is_a_network(seed: int):
    """Flattened: every weight is used, and the output hears the input."""
    space = motifs(((2, 3), (1, 4)))
    arch = space.sample(random.Random(seed))
    network = build_motifs(space, arch, width=4, cells=2).train()
    x = torch.randn(2, 3, 8, 8, requires_grad=True)
    out = network(x)
    assert out.shape == (2, 10)
    out.square().sum().backward()
    assert all(p.grad is not None for p in network.parameters())
    assert x.grad is not None


def test_a_motif_is_its_graph():
    """Two edges into the output, an identity and what a node in between makes of a pool: by hand."""
    space = motifs(((1, 3),))
    held = {"2.0.0>1": "max_pool3", "2.0.0>2": "identity", "2.0.1>2": "avg_pool3"}
    cell = build_motifs(space, Arch(held), width=4, cells=1).eval().layers[1]
    x = torch.randn(2, 4, 6, 6)
    both = torch.cat([x, nn.functional.avg_pool2d(nn.functional.max_pool2d(x, 3, 1, 1), 3, 1, 1)], 1)
    torch.testing.assert_close(cell(x), cell.reduce(both))


def test_edges_to_nowhere_are_left_out():
    space = motifs(((1, 4),))
    held = dict.fromkeys(space.largest(), ABSENT) | {"2.0.0>3": "conv1", "2.0.0>1": "conv1", "2.0.2>3": "conv1"}
    assert space.links(held, "2.0") == {(0, 3): "conv1"}


def test_restricting_keeps_what_is_connected():
    found = SMALL.restrict({"2.0.0>2": (ABSENT,)})
    assert found.count() == len(list(found.every())) < SMALL.count()
    assert all(SMALL.contains(arch) for arch in found.every())
    with pytest.raises(InputError, match="no connected genotype"):
        SMALL.restrict({"2.0.0>2": (ABSENT,), "2.0.0>1": (ABSENT,)})


@pytest.mark.parametrize(
    ("levels", "primitives", "fix"),
    [
        ((), PRIMITIVES, "levels"),
        (((1, 1),), PRIMITIVES, "levels"),
        (((2, 3),), PRIMITIVES, "levels"),
        (((1, 3),), ("conv9",), "conv9"),
        (((1, 3),), (), "none"),
    ],
)
def test_refuses_bad_input(levels, primitives, fix):
    with pytest.raises(InputError, match=fix):
        motifs(levels, primitives=primitives)


def test_a_genotype_that_is_cut_is_refused():
    with pytest.raises(InputError, match="no path"):
        SMALL.canonical(dict.fromkeys(SMALL.smallest(), ABSENT))
    assert not SMALL.contains(Arch(dict.fromkeys(SMALL.smallest(), ABSENT)))


def test_evolution_beats_random_search_on_planted_edges():
    """How many edges are as planted: the cheap evaluator."""
    goal = PAPER.sample(random.Random(99))
    evaluate = lambda arch: {"same": sum(arch[name] == goal[name] for name in goal)}
    search = partial(run, PAPER, evaluate, budget=150, objectives=[Objective("same", maximise=True)])
    best = lambda name: [max(r.metrics["same"] for r in search(strategy=name, seed=seed)) for seed in range(4)]
    assert min(best("evolution")) > max(best("random"))


@pytest.mark.claim
def test_tournaments_beat_random_search_on_digits():
    """Small networks of the space trained on scikit-learn's digits, each once: both searches ask the same table."""
    from sklearn.datasets import load_digits

    space = motifs(((2, 3), (1, 3)))
    digits = load_digits()
    x = torch.from_numpy(digits.images.astype(np.float32) / 8 - 1)[:, None]
    y = torch.from_numpy(digits.target)
    known: dict[Arch, float] = {}

    def evaluate(arch: Arch) -> dict[str, float]:
        if arch not in known:
            torch.manual_seed(0)
            network = build_motifs(space, arch, channels=1, width=4, cells=1).train()
            optimiser = torch.optim.AdamW(network.parameters(), lr=5e-3)
            for _ in range(25):
                pick = torch.randint(900, (64,))
                loss = nn.functional.cross_entropy(network(x[pick]), y[pick])
                optimiser.zero_grad()
                loss.backward()
                optimiser.step()
            with torch.no_grad():
                known[arch] = float((network.eval()(x[900:]).argmax(1) == y[900:]).float().mean())
        return {"accuracy": known[arch]}

    goal = [Objective("accuracy", maximise=True)]
    # The paper's tournament takes the best of a share of all; the nearest here draws from the latest.
    strategies = {"random": "random", "evolution": partial(evolution, population=6, sample=3)}
    best = {
        name: [
            max(r.metrics["accuracy"] for r in run(space, evaluate, strategy, 30, seed, objectives=goal))
            for seed in range(3)
        ]
        for name, strategy in strategies.items()
    }
    assert np.mean(best["evolution"]) > np.mean(best["random"])
