"""An arch as a labelled graph: what graph predictors see of it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

INPUT, OUTPUT = "input", "output"
"""The labels of a graph's first and last node."""


@dataclass(frozen=True)
class ArchGraph:
    """An acyclic graph whose nodes are operators. Node 0 is the input and the last the output; every link goes from a
    lower node to a higher.

    ``labels`` name what a node does, in words that other spaces may share (``kernel=3``); ``places`` name where it
    stands, and are of this space alone (``kernel7``), or empty where the links say it all; ``sizes`` are the ranks of
    its option among the choice's, in [0, 1].
    """

    labels: tuple[str, ...]
    places: tuple[str, ...]
    sizes: tuple[float, ...]
    links: tuple[tuple[int, int], ...]

    def __len__(self) -> int:
        return len(self.labels)

    def connected(self) -> ArchGraph:
        """The nodes that lie on a way from the input to the output, and those two: what others do, no output hears."""
        ahead, behind = {0}, {len(self) - 1}
        for start, to in sorted(self.links):
            if start in ahead:
                ahead.add(to)
        for start, to in sorted(self.links, reverse=True):
            if to in behind:
                behind.add(start)
        kept = sorted((ahead & behind) | {0, len(self) - 1})
        place = {node: i for i, node in enumerate(kept)}
        links = tuple((place[a], place[b]) for a, b in self.links if a in place and b in place)
        labels, places = tuple(self.labels[i] for i in kept), tuple(self.places[i] for i in kept)
        return ArchGraph(labels, places, tuple(self.sizes[i] for i in kept), links)

    def adjacency(self) -> NDArray[np.float64]:
        """``[n, n]``: 1 where a link goes from the row's node to the column's."""
        matrix = np.zeros((len(self), len(self)))
        for start, to in self.links:
            matrix[start, to] = 1.0
        return matrix


def word(choice: str, option: object) -> str:
    """The label of a choice's option without the choice's place: ``word("s2.width", 32)`` is ``width=32``, and so is
    that of ``width11``."""
    return f"{choice.rpartition('.')[2].rstrip('0123456789') or choice}={option}"
