"""Archs' graphs as arrays for networks."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from sartor.predict.committee import Arrays
from sartor.records import Arch
from sartor.space.graph import ArchGraph
from sartor.space.space import Space

T = TypeVar("T")

CHUNK = 1000
"""Archs whose graphs are predicted at a time."""


@dataclass(frozen=True)
class Vocabulary:
    """Numbers of labels, and of labels at their places; 0 is whatever was not seen."""

    labels: dict[str, int]
    placed: dict[tuple[str, str], int]

    @classmethod
    def of(cls, graphs: Iterable[ArchGraph], before: Vocabulary | None = None) -> Vocabulary:
        """Of all that is in ``graphs``. What ``before`` has keeps its numbers."""
        labels = dict(before.labels) if before else {}
        placed = dict(before.placed) if before else {}
        for graph in graphs:
            for label, place in zip(graph.labels, graph.places, strict=True):
                labels.setdefault(label, len(labels) + 1)
                placed.setdefault((place, label), len(placed) + 1)
        return cls(labels, placed)

    def arrays(self, graphs: Sequence[ArchGraph]) -> Arrays:
        """``labels``, ``placed``, ``sizes`` and ``mask`` ``[n, nodes]``, and ``links`` ``[n, nodes, nodes]``, 1 from a
        row's node to a column's. Smaller graphs are filled up: their mask is 0 there."""
        n, nodes = len(graphs), max(len(graph) for graph in graphs)
        labels, placed = np.zeros((n, nodes), np.int64), np.zeros((n, nodes), np.int64)
        sizes, mask = np.zeros((n, nodes)), np.zeros((n, nodes))
        links = np.zeros((n, nodes, nodes), np.float32)
        for i, graph in enumerate(graphs):
            size = len(graph)
            labels[i, :size] = [self.labels.get(label, 0) for label in graph.labels]
            pairs = zip(graph.places, graph.labels, strict=True)
            placed[i, :size] = [self.placed.get(pair, 0) for pair in pairs]
            sizes[i, :size], mask[i, :size] = graph.sizes, 1.0
            if graph.links:
                start, to = zip(*graph.links, strict=True)
                links[i, start, to] = 1.0
        return {"labels": labels, "placed": placed, "sizes": sizes, "mask": mask, "links": links}


def graphs_of(space: Space, archs: Sequence[Arch]) -> list[ArchGraph]:
    return [space.graph(arch) for arch in archs]


def chunks(held: Sequence[T]) -> Iterator[Sequence[T]]:
    """What is ``held`` by the CHUNK."""
    return (held[i : i + CHUNK] for i in range(0, len(held), CHUNK))
