"""What every space must keep. Give yours the suite by subclassing it in a test file:

    class TestMine(SpaceSuite):
        space = my_space()

A space of this contract has ``choices``, ``sample``, ``mutate``, ``cross``, ``encode``, ``contains`` and ``count``.
"""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import pytest

from sartor.records import Arch

N_SEEDS = 40


class SpaceSuite:
    """Subclass with ``space = ...``."""

    space: Any = None

    @pytest.fixture
    def mine(self) -> Any:
        assert self.space is not None, "set `space = ...` in the class"
        return self.space

    @pytest.fixture
    def archs(self, mine: Any) -> list[Arch]:
        return [mine.sample(random.Random(seed)) for seed in range(N_SEEDS)]

    def test_samples_are_archs_of_the_space(self, mine: Any, archs: list[Arch]):
        assert all(isinstance(arch, Arch) and mine.contains(arch) for arch in archs)

    def test_sampling_is_a_function_of_the_generator(self, mine: Any, archs: list[Arch]):
        assert archs == [mine.sample(random.Random(seed)) for seed in range(N_SEEDS)]

    def test_an_arch_survives_json(self, mine: Any, archs: list[Arch]):
        for arch in archs:
            twin = Arch.from_json(arch.to_json())
            assert (twin, twin.key, hash(twin)) == (arch, arch.key, hash(arch))
            assert mine.contains(twin)

    def test_options_held_are_options_declared(self, mine: Any, archs: list[Arch]):
        declared = {choice.name: choice.options for choice in mine.choices}
        assert all(option in declared[name] for arch in archs for name, option in arch.items())

    def test_contains_refuses_what_is_missing_unknown_or_extra(self, mine: Any, archs: list[Arch]):
        for arch in archs:
            assert not mine.contains(Arch({**arch, "no such choice": 1}))
            for name in arch:
                assert not mine.contains(Arch({k: v for k, v in arch.items() if k != name}))
                assert not mine.contains(arch.replace(**{name: "no such option"}))

    @pytest.mark.parametrize("rate", [0.0, 0.1, 1.0])
    def test_mutants_are_other_archs_of_the_space(self, mine: Any, archs: list[Arch], rate: float):
        for seed, arch in enumerate(archs):
            before = arch.to_json()
            mutant = mine.mutate(arch, random.Random(seed), rate)
            assert mine.contains(mutant)
            assert mutant != arch or mine.count() == 1
            assert arch.to_json() == before

    def test_children_are_archs_of_the_space_with_their_parents_options(self, mine: Any, archs: list[Arch]):
        for seed, (a, b) in enumerate(zip(archs, reversed(archs), strict=True)):
            child = mine.cross(a, b, random.Random(seed))
            assert mine.contains(child)
            for name, option in child.items():
                held = {p[name] for p in (a, b) if name in p}
                assert not held or option in held
            assert mine.cross(a, a, random.Random(seed)) == a

    def test_encodings_are_finite_vectors_of_one_length_that_tell_archs_apart(self, mine: Any, archs: list[Arch]):
        codes = [mine.encode(arch) for arch in archs]
        assert {(code.ndim, code.dtype.kind) for code in codes} == {(1, "f")}
        assert len({code.shape for code in codes}) == 1
        assert all(np.isfinite(code).all() for code in codes)
        assert len({code.tobytes() for code in codes}) == len(set(archs))

    def test_is_at_least_as_large_as_what_was_drawn_from_it(self, mine: Any, archs: list[Arch]):
        size = mine.count() if hasattr(mine, "count") else len(mine)  # len() has a limit, spaces have none
        assert size >= len(set(archs))

    def test_encodes_many_as_it_encodes_each(self, mine: Any, archs: list[Arch]):
        assert np.allclose(mine.encode_many(archs), np.stack([mine.encode(arch) for arch in archs]))
        assert len(mine.encode_many([])) == 0

    def test_an_arch_is_a_graph_from_its_input_to_its_output(self, mine: Any, archs: list[Arch]):
        for arch in archs[:10]:
            graph = mine.graph(arch)
            assert len(graph.labels) == len(graph.places) == len(graph.sizes) == len(graph)
            assert all(0 <= start < to < len(graph) for start, to in graph.links)
            assert all(0 <= size <= 1 for size in graph.sizes)
