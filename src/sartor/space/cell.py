"""Cells: operators on the edges of a small acyclic graph, and the paths that an input takes through it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import product

import numpy as np
from numpy.typing import NDArray

from sartor.records import Arch
from sartor.space.choice import Choice
from sartor.space.graph import INPUT, OUTPUT, ArchGraph
from sartor.space.space import Space

Link = tuple[int, int, str]
"""From a node, to a node, by an operator."""

NB201_OPERATORS = ("none", "skip_connect", "nor_conv_1x1", "nor_conv_3x3", "avg_pool_3x3")


MIXTURE = 2.0
"""The weight of a mixture of operators beside that of a path, in a cell's features. A choice."""


@dataclass(frozen=True)
class Cell(Space):
    """A space whose ``choices`` are the operators of ``edges``, one each, in order. Node 0 is the input, the highest
    the output. An ``absent`` operator is no edge, and an ``identity`` one leaves what passes as it is."""

    edges: tuple[tuple[int, int], ...] = ()
    absent: str = "none"
    identity: str = "skip_connect"

    def links(self, arch: Arch) -> list[Link]:
        """The edges that are there, with their operators."""
        operators = [str(arch[choice.name]) for choice in self.choices]
        return [(*e, op) for e, op in zip(self.edges, operators, strict=True) if op != self.absent]

    def paths(self, arch: Arch) -> list[tuple[str, ...]]:
        """The operators on each path from the input to the output, without identities; as often as there are paths."""
        links, last = self.links(arch), max(to for _, to in self.edges)

        def onwards(node: int) -> Iterator[tuple[str, ...]]:
            if node == last:
                yield ()
            for start, to, operator in links:
                if start == node:
                    for rest in onwards(to):
                        yield rest if operator == self.identity else (operator, *rest)

        return list(onwards(0))

    def graph(self, arch: Arch) -> ArchGraph:
        """The cell with its operators as nodes, for those are what predictors learn of: one leads to all that start
        where it ends. Labels and links say all that there is of a node, so it has no place."""
        links = self.links(arch)
        last, out = max(to for _, to in self.edges), len(links) + 1
        pairs = [(0, i) for i, (start, _, _) in enumerate(links, 1) if start == 0]
        for i, (_, middle, _) in enumerate(links, 1):
            pairs += [(i, j) for j, (start, _, _) in enumerate(links, 1) if start == middle]
            if middle == last:
                pairs.append((i, out))
        labels = (INPUT, *(operator for *_, operator in links), OUTPUT)
        return ArchGraph(labels, ("",) * len(labels), (0.0,) * len(labels), tuple(sorted(pairs)))

    @cached_property
    def every_path(self) -> dict[tuple[str, ...], int]:
        """Each path that an arch may have, and its place: short ones first."""
        operators = sorted({str(o) for c in self.choices for o in c.options} - {self.absent, self.identity})
        longest = max(len(path) for path in _routes(self.edges))
        return {
            path: place
            for place, path in enumerate(p for n in range(longest + 1) for p in product(operators, repeat=n))
        }

    def expression(self, arch: Arch) -> str:
        """What the output is of the input ``x``, a sum in the order of its terms: equal where archs compute the same
        but for that order, for identities are worked out and what is absent adds nothing. ``0`` where the output
        hears nothing."""
        heard: dict[int, list[str]] = {0: ["x"]}
        for node in range(1, max(to for _, to in self.edges) + 1):
            terms: list[str] = []
            for start, to, operator in self.links(arch):
                if to == node and heard[start]:
                    terms += heard[start] if operator == self.identity else [f"{operator}({'+'.join(heard[start])})"]
            heard[node] = sorted(terms)
        return "+".join(heard[max(heard)]) or "0"

    def encode_paths(self, arch: Arch) -> NDArray[np.float64]:
        """Which paths the arch has ``[paths]``, 1 or 0. White et al., arXiv:1910.11858 §3. Deviation: identities are no
        part of a path, so that archs which compute the same are encoded alike."""
        code = np.zeros(len(self.every_path))
        code[[self.every_path[path] for path in self.paths(arch)]] = 1
        return code

    @cached_property
    def every_mixture(self) -> dict[tuple[str, ...], int]:
        """The operators of each path that an arch may have, in no order, and its place."""
        return {held: place for place, held in enumerate(dict.fromkeys(tuple(sorted(p)) for p in self.every_path))}

    def features_many(self, archs: Sequence[Arch]) -> NDArray[np.float64]:
        width = len(self.every_path) + len(self.every_mixture)
        return np.array([self.features(arch) for arch in archs]).reshape(len(archs), width)

    def features(self, arch: Arch) -> NDArray[np.float64]:
        """How many paths there are of each kind ``[paths]``, and which mixtures of operators lie on one ``[mixtures]``,
        1 or 0, which count twice.

        Rejected: which paths there are (``encode_paths``), and operators edge by edge. Kendall's tau of a Gaussian
        process was lower with either by far: ``benchmarks/features.py``.
        """
        counts, mixtures = np.zeros(len(self.every_path)), np.zeros(len(self.every_mixture))
        for path in self.paths(arch):
            counts[self.every_path[path]] += 1
            mixtures[self.every_mixture[tuple(sorted(path))]] = 1
        return np.concatenate([counts, MIXTURE * mixtures])


def nas_bench_201() -> Cell:
    """NAS-Bench-201's 15,625 cells: every node hears all before it. Dong & Yang, arXiv:2001.00326 §2.1."""
    edges = tuple((start, to) for to in range(1, 4) for start in range(to))
    return Cell(tuple(Choice(f"edge{i}", NB201_OPERATORS) for i in range(6)), edges)


def _routes(edges: tuple[tuple[int, int], ...]) -> list[list[tuple[int, int]]]:
    """Every way from node 0 to the highest."""
    last = max(to for _, to in edges)

    def onwards(node: int) -> Iterator[list[tuple[int, int]]]:
        if node == last:
            yield []
        for edge in edges:
            if edge[0] == node:
                for rest in onwards(edge[1]):
                    yield [edge, *rest]

    return list(onwards(0))
