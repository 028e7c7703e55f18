"""Archs as graphs, and encoded in bulk: against one at a time, and against paths counted another way."""

from __future__ import annotations

import random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sartor.errors import InputError
from sartor.records import Arch
from sartor.space import Choice, Space
from sartor.space.cell import Cell, nas_bench_201
from sartor.space.graph import ArchGraph, word
from space.spaces import enumerated, spaces


@given(spaces())
def test_encoding_many_is_encoding_each(space: Space):
    archs = list(enumerated(space))
    assert np.array_equal(space.encode_many(archs), np.stack([space.encode(arch) for arch in archs]))


@given(spaces(), st.data())
def test_codes_are_places_of_options_and_tell_strangers(space: Space, data: st.DataObject):
    archs = sorted(enumerated(space), key=lambda arch: arch.key)
    for arch, row in zip(archs, space.codes(archs), strict=True):
        held = {c.name: c.options[code] for c, code in zip(space.choices, row, strict=True) if code >= 0}
        assert Arch(held) == arch
    arch = data.draw(st.sampled_from(archs))
    name = data.draw(st.sampled_from(sorted(arch)))
    strange = [
        arch.replace(**{name: "no such option"}),
        arch.replace(stranger=1),
        Arch({k: v for k, v in arch.items() if k != name}),
        arch.replace(**{c.name: c.options[0] for c in space.choices if c.name not in arch}),  # what is not active
    ]
    for other in strange:
        if not space.contains(other):
            with pytest.raises(InputError, match="not an arch of this space"):
                space.codes([*archs, other])
        else:
            assert len(space.codes([other])) == 1


def test_equal_options_of_other_types_are_other_options():
    space = Space((Choice("width", (1, 2)),))
    for other in (True, 1.0):
        with pytest.raises(InputError):
            space.codes([Arch({"width": 1}), Arch({"width": other})])


def test_no_archs_have_no_rows():
    assert nas_bench_201().encode_many([]).shape == (0, 36)


@given(spaces(), st.integers(0, 99))
def test_a_space_without_links_is_a_chain_of_what_is_active(space: Space, seed: int):
    arch = space.sample(random.Random(seed))
    graph = space.graph(arch)
    assert graph.places[1:-1] == tuple(c.name for c in space.choices if c.name in arch)
    assert graph.links == tuple((i, i + 1) for i in range(len(arch) + 1))
    assert all(0 <= size <= 1 for size in graph.sizes)


@given(st.integers(0, 99))
def test_a_cells_graph_has_the_cells_paths(seed: int):
    """Ways through the graph, counted by powers of its adjacency, are the cell's own paths by length."""
    cell = nas_bench_201()
    arch = cell.sample(random.Random(seed))
    adjacency = cell.graph(arch).adjacency()
    operators = Cell(cell.choices, cell.edges, identity="no such operator")  # so that paths keep their identities
    lengths = [len(path) for path in operators.paths(arch)]
    power = adjacency
    for length in range(len(cell.edges) + 1):
        assert power[0, -1] == lengths.count(length), length
        power = power @ adjacency
    assert not np.tril(adjacency).any()


def test_words_leave_places_out():
    assert word("s2.width", 32) == word("width11", 32) == "width=32"
    assert word("7", 3) == "7=3"


@given(st.integers(2, 7), st.data())
def test_connected_keeps_what_lies_between_input_and_output(n: int, data: st.DataObject):
    """Powers of the adjacency matrix tell who reaches whom."""
    pairs = [(i, j) for j in range(n) for i in range(j)]
    links = tuple(sorted(data.draw(st.sets(st.sampled_from(pairs)))))
    labels = tuple(f"node{i}" for i in range(n))
    graph = ArchGraph(labels, ("",) * n, tuple(range(n)), links)
    reach = np.linalg.matrix_power(np.eye(n) + graph.adjacency(), n) > 0
    kept = [i for i in range(n) if i in (0, n - 1) or (reach[0, i] and reach[i, n - 1])]
    found = graph.connected()
    assert found.labels == tuple(labels[i] for i in kept)
    assert found.sizes == tuple(kept)
    assert np.array_equal(found.adjacency(), graph.adjacency()[np.ix_(kept, kept)])
