"""GRAF: a random forest on what can be counted in an arch's graph, and on zero-cost proxies beside it.

Kadlecová et al., arXiv:2408.16551 §4; as a surrogate of expressive spaces, with proxies: Qin et al., P201
(arXiv:2504.12971). For sets of operators: how often they occur, the shortest path through nothing else, the most of
them on one path, and how many lead out of the input, into the output and, on average, into and out of a node.
Deviations: operators are nodes, so a path's length is its number of operators; with more than SMALL operators, the sets
are each alone and all but each, where the paper has every set (of five).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from itertools import combinations

import numpy as np
from numpy.typing import ArrayLike

from sartor.errors import InputError
from sartor.predict.forest import Forest, fit_forest
from sartor.predict.predictor import Floats, checked, unfitted
from sartor.records import Arch
from sartor.space.graph import INPUT, OUTPUT, ArchGraph
from sartor.space.space import Space

SMALL = 5
"""Up to so many operators, every set of them is asked about."""

Proxies = Callable[[Arch], Sequence[float]]
"""Zero-cost scores of an arch, the same ones in the same order for each."""


def zero_cost_of(proxies: Proxies | None, archs: Sequence[Arch]) -> Floats:
    """The scores of ``archs`` ``[n, scores]``, of which there are none where there are no proxies. Raises InputError
    where they are not finite numbers, as many of each."""
    if proxies is None or not len(archs):
        return np.zeros((len(archs), 0))
    try:
        scores = np.array([[float(s) for s in proxies(arch)] for arch in archs])
    except (TypeError, ValueError) as error:
        raise InputError(f"proxies must return as many numbers for every arch: {error}") from None
    if not np.isfinite(scores).all():
        raise InputError("proxies must return finite numbers: use a low one where a score cannot be computed")
    return scores


def sets_of(operators: Sequence[str]) -> list[tuple[str, ...]]:
    """The sets of operators that are asked about."""
    n = len(operators)
    if n <= SMALL:
        return [chosen for size in range(1, n + 1) for chosen in combinations(operators, size)]
    return [*((o,) for o in operators), *(tuple(p for p in operators if p != o) for o in operators)]


def graph_features(graph: ArchGraph, operators: Sequence[str], sets: Sequence[Sequence[str]]) -> Floats:
    """``[operators + 6 sets]``: how often each operator occurs; and of each set the length of the shortest path from
    input to output through no other operators (one more than there are nodes where there is none), the most of its
    operators on one path, how many of them the input leads to, how many lead to the output, and the average node's
    number of them before and after it."""
    nodes = len(graph)
    allowed = np.array([[label in chosen for label in graph.labels] for chosen in map(set, sets)]).reshape(-1, nodes)
    through = allowed.copy()
    through[:, [0, -1]] = True
    shortest, longest = np.full((len(sets), nodes), np.inf), np.full((len(sets), nodes), -np.inf)
    shortest[:, 0] = longest[:, 0] = 0
    before, after = np.zeros((len(sets), nodes)), np.zeros((len(sets), nodes))
    for start, to in sorted(graph.links, key=lambda link: link[1]):
        step = np.where(through[:, to], shortest[:, start] + (to != nodes - 1), np.inf)
        shortest[:, to] = np.minimum(shortest[:, to], step)
        longest[:, to] = np.maximum(longest[:, to], longest[:, start] + allowed[:, to])
        before[:, to] += allowed[:, start]
        after[:, start] += allowed[:, to]
    counts = [graph.labels.count(operator) for operator in operators]
    short = np.where(np.isfinite(shortest[:, -1]), shortest[:, -1], nodes + 1)
    long = np.where(np.isfinite(longest[:, -1]), longest[:, -1], 0)
    columns = (short, long, after[:, 0], before[:, -1], before.mean(axis=1), after.mean(axis=1))
    return np.concatenate([np.array(counts, dtype=np.float64), *columns])


@dataclass
class Graf:
    """See ``predictor.ArchPredictor``. Beside the graph's features it has the space's own encoding, which says what
    stands where, and what ``proxies`` return."""

    space: Space
    seed: int = 0
    proxies: Proxies | None = None
    _fitted: tuple[Forest, tuple[str, ...]] | None = field(default=None, init=False, repr=False)

    def fit(self, archs: Sequence[Arch], values: ArrayLike) -> Graf:
        y = checked(self.space, archs, values)
        seen = {label for arch in archs for label in self.space.graph(arch).labels}
        operators = tuple(sorted(seen - {INPUT, OUTPUT}))
        self._fitted = fit_forest(self._columns(archs, operators), y, self.seed), operators
        return self

    def predict(self, archs: Sequence[Arch]) -> tuple[Floats, Floats]:
        if self._fitted is None:
            raise unfitted("graf")
        forest, operators = self._fitted
        return forest(self._columns(archs, operators))

    def of(self, proxies: Proxies | None) -> Graf:
        """What was fitted, for the same space on another task, where ``proxies`` return the same scores of archs, as
        they are on that task's data: ranks may carry over, the unit is the old task's."""
        if self._fitted is None:
            raise unfitted("graf")
        if (proxies is None) != (self.proxies is None):
            raise InputError("graf was fitted with proxies, or without: give the same ones of the other task")
        other = replace(self, proxies=proxies)
        other._fitted = self._fitted
        return other

    def _columns(self, archs: Sequence[Arch], operators: tuple[str, ...]) -> Floats:
        encoded = self.space.encode_many(archs)
        if not archs:
            return np.zeros((0, 1))
        sets = sets_of(operators)
        counted = np.stack([graph_features(self.space.graph(arch), operators, sets) for arch in archs])
        scores = zero_cost_of(self.proxies, archs)  # trees see their order alone, and hold single precision
        return np.hstack([counted, encoded, np.sign(scores) * np.log1p(np.abs(scores))])
