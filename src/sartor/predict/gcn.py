"""Neural Predictor: a graph network on the arch's operators and links. Wen et al., arXiv:1912.00848 §3.

A layer is the mean of one graph convolution along the links and one against them, each over row-normalised links with
the node itself; after three layers the nodes' mean goes through one hidden layer. Nodes that no output hears are left
out, as NAS-Bench-101, which the paper's cells are of, leaves them out before it trains a cell. The mean is over as many
nodes as the archs that were learnt of have on average, not the arch's own: how much a cell does counts, too, and the
usual code for cells whose operators may be absent counts those as nodes. Deviations: 32 channels, not 144 (and
64 after the mean), which fits a hundred archs in seconds; targets are normal scores, where the paper squashes
accuracies between bounds (:mod:`sartor.predict.scores`); five networks that each leave out a fold, where the paper has
one, for the deviation (:mod:`sartor.predict.committee`); what stands at no place of a cell but at one of a chain has
that place's embedding, too, for a mean over nodes forgets where they stood.

It is one of the paper's three steps; ``search.methods.neural_predictor`` is all of them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike

from sartor.predict.committee import Arrays, Committee, Inputs, Parameters, drawn, fit_committee, zeros
from sartor.predict.graphs import Vocabulary, chunks, graphs_of
from sartor.predict.predictor import Floats, checked, known, unfitted
from sartor.predict.scores import NormalScores
from sartor.records import Arch
from sartor.space.graph import ArchGraph
from sartor.space.space import Space

if TYPE_CHECKING:
    from torch import Tensor

WIDTH, HIDDEN, LAYERS = 32, 64, 3


@dataclass
class GraphNetwork:
    """See ``predictor.ArchPredictor``."""

    space: Space
    seed: int = 0
    epochs: int = 100
    _fitted: tuple[Committee, Vocabulary, float, NormalScores] | None = field(default=None, init=False, repr=False)

    def fit(self, archs: Sequence[Arch], values: ArrayLike) -> GraphNetwork:
        y = checked(self.space, archs, values)
        graphs, scores = _heard(self.space, archs), NormalScores.of(y)
        vocabulary, usual = Vocabulary.of(graphs), float(np.mean([len(graph) for graph in graphs]))
        committee = fit_committee(
            lambda: _start(len(vocabulary.labels) + 1, len(vocabulary.placed) + 1),
            _forward,
            _inputs(vocabulary, graphs, usual),
            scores(y),
            seed=self.seed,
            epochs=self.epochs,
            rate=1e-2,
            decay=1e-2,
        )
        self._fitted = committee, vocabulary, usual, scores
        return self

    def predict(self, archs: Sequence[Arch]) -> tuple[Floats, Floats]:
        if self._fitted is None:
            raise unfitted("the graph network")
        known(self.space, archs)
        committee, vocabulary, usual, scores = self._fitted
        graphs = _heard(self.space, archs)
        numbers: dict[ArchGraph, int] = {}
        places = [numbers.setdefault(graph, len(numbers)) for graph in graphs]  # archs may compute the same
        said = [committee(_inputs(vocabulary, part, usual)) for part in chunks(list(numbers))]
        mean, deviation = np.hstack([np.stack(pair) for pair in said] or [np.zeros((2, 0))])[:, places]
        return scores.inverse(mean, deviation)


def _heard(space: Space, archs: Sequence[Arch]) -> list[ArchGraph]:
    return [graph.connected() for graph in graphs_of(space, archs)]


def _inputs(vocabulary: Vocabulary, graphs: Sequence[ArchGraph], usual: float) -> Arrays:
    """``usual``: what the sum over nodes is divided by."""
    arrays = both_ways(vocabulary.arrays(graphs))
    return {**{k: v for k, v in arrays.items() if k != "mask"}, "share": arrays["mask"] / usual}


def both_ways(arrays: Arrays) -> Arrays:
    """With ``onwards`` and ``back`` in the place of ``links``: a row's node hears the nodes that lead to it, or those
    it leads to, and itself, in equal parts."""
    links = np.asarray(arrays["links"], dtype=np.float64) + np.eye(arrays["links"].shape[-1])
    back, onwards = (m / m.sum(axis=-1, keepdims=True) for m in (links, links.transpose(0, 2, 1)))
    return {**{k: v for k, v in arrays.items() if k != "links"}, "onwards": onwards, "back": back}


def looked_up(table: Tensor, numbers: Tensor) -> Tensor:
    """Rows ``[members, batch, nodes, d]`` of ``table`` ``[members, words, d]``, each member's of its own."""
    import torch

    return table[torch.arange(len(table))[:, None, None], numbers]


def _start(labels: int, placed: int) -> Parameters:
    found = {
        "labels": drawn(labels, WIDTH) * labels**0.5 / 2,
        "placed": drawn(placed, WIDTH) * placed**0.5 / 2,
        "size": drawn(1, WIDTH) / 2,
        "head": drawn(WIDTH, HIDDEN),
        "head_bias": zeros(HIDDEN),
        "out": drawn(HIDDEN, 1) / 4,
    }
    for i in range(LAYERS):
        found |= {f"onwards{i}": drawn(WIDTH, WIDTH), f"back{i}": drawn(WIDTH, WIDTH)}
    return found


def _forward(p: Parameters, inputs: Inputs) -> Tensor:
    h = looked_up(p["labels"], inputs["labels"]) + looked_up(p["placed"], inputs["placed"])
    h = h + inputs["sizes"][..., None] * p["size"][:, None]
    for i in range(LAYERS):
        ahead = inputs["onwards"] @ (h @ p[f"onwards{i}"][:, None])
        behind = inputs["back"] @ (h @ p[f"back{i}"][:, None])
        h = (ahead.relu() + behind.relu()) / 2
    mean = (h * inputs["share"][..., None]).sum(dim=2)
    hidden = (mean @ p["head"] + p["head_bias"][:, None]).relu()
    return (hidden @ p["out"])[..., 0]
