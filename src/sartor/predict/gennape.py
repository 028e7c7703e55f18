"""GENNAPE: a graph encoder learnt by contrast, and predictor heads mixed by fuzzy clusters. Mills et al.,
arXiv:2211.17226.

Archs that nobody evaluated teach the encoder: of a batch, embeddings are to be as alike as the graphs are, by the
eigenvalues of their normalised Laplacians. The embeddings of the evaluated archs are clustered by fuzzy C-means; every
cluster has a head, and an arch's prediction is their mean, weighed by its membership. Then all of it is trained on the
values. Deviations: what graphs are alike by has the share of each operator beside the eigenvalues, for all chains of a
space have the same ones; the encoder is the convolution of :mod:`sartor.predict.gcn` on labels and sizes alone, so that
it reads graphs of any space; 4 clusters; no head of FLOPs.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike

from sartor.predict.committee import MEMBERS, Arrays, Committee, Inputs, Parameters, drawn, fit_committee, seeded, zeros
from sartor.predict.gcn import both_ways, looked_up
from sartor.predict.graphs import Vocabulary, chunks, graphs_of
from sartor.predict.predictor import Floats, checked, known, unfitted
from sartor.predict.scores import NormalScores
from sartor.records import Arch
from sartor.space.graph import ArchGraph
from sartor.space.space import Space

if TYPE_CHECKING:
    from torch import Tensor

WIDTH, HIDDEN, LAYERS = 32, 32, 3
CLUSTERS = 4
FUZZINESS = 2.0
EIGENVALUES = 8
UNLABELLED, STEPS, BATCH = 256, 60, 64
"""Archs drawn from the space to learn the encoder of, and how: steps, and archs in each."""
TEMPERATURE = 0.1


@dataclass(frozen=True)
class _Fitted:
    encoder: Parameters
    vocabulary: Vocabulary
    centres: Floats  # [clusters, WIDTH]
    committee: Committee
    scores: NormalScores

    def __call__(self, graphs: Sequence[ArchGraph]) -> tuple[Floats, Floats]:
        """Mean and deviation ``[n]`` of the normal score."""
        arrays = both_ways(self.vocabulary.arrays(graphs))
        shares = memberships(embedded(self.encoder, arrays), self.centres)
        return self.committee({**arrays, "shares": shares})


@dataclass
class Gennape:
    """See ``predictor.ArchPredictor``. ``contrast=False`` leaves the encoder's own training out. ``graph`` is what is
    seen of an arch (``operators.onnx_graph`` of its export, say, in which every space has the same words), else the
    space's own; ``unlabelled`` archs are drawn to learn the encoder of, beside those that were evaluated."""

    space: Space
    seed: int = 0
    contrast: bool = True
    epochs: int = 80
    graph: Callable[[Arch], ArchGraph] | None = None
    unlabelled: int = UNLABELLED
    _fitted: _Fitted | None = field(default=None, init=False, repr=False)

    def fit(self, archs: Sequence[Arch], values: ArrayLike) -> Gennape:
        y = checked(self.space, archs, values)
        graphs, scores = self._graphs(archs), NormalScores.of(y)
        rng = random.Random(self.seed)
        drawn_too = self._graphs([self.space.sample(rng) for _ in range(self.unlabelled)])
        vocabulary = Vocabulary.of([*graphs, *drawn_too])
        encoder = fit_encoder(vocabulary, [*graphs, *drawn_too], self.seed, STEPS if self.contrast else 0)
        arrays = both_ways(vocabulary.arrays(graphs))
        embeddings = embedded(encoder, arrays)
        centres = fuzzy_means(embeddings, CLUSTERS, self.seed)
        committee = fit_committee(
            lambda: _start(encoder),
            _forward,
            {**arrays, "shares": memberships(embeddings, centres)},
            scores(y),
            seed=self.seed,
            epochs=self.epochs,
            rate=1e-2,
            decay=1e-2,
        )
        self._fitted = _Fitted(encoder, vocabulary, centres, committee, scores)
        return self

    def predict(self, archs: Sequence[Arch]) -> tuple[Floats, Floats]:
        if self._fitted is None:
            raise unfitted("gennape")
        known(self.space, archs)
        said = [self._fitted(self._graphs(part)) for part in chunks(archs)]
        mean, deviation = np.hstack([np.stack(pair) for pair in said] or [np.zeros((2, 0))])
        return self._fitted.scores.inverse(mean, deviation)

    def _graphs(self, archs: Sequence[Arch]) -> list[ArchGraph]:
        return graphs_of(self.space, archs) if self.graph is None else [self.graph(arch) for arch in archs]

    def of(self, space: Space, graph: Callable[[Arch], ArchGraph] | None = None) -> Gennape:
        """What was fitted, for archs of another ``space``, of which ``graph`` is what is seen: their ranks may carry
        over, their unit is the old space's."""
        if self._fitted is None:
            raise unfitted("gennape")
        other = replace(self, space=space, graph=graph)
        other._fitted = self._fitted
        return other


def signature(graph: ArchGraph, labels: dict[str, int]) -> Floats:
    """What graphs are alike by ``[EIGENVALUES + labels]``: the smallest eigenvalues of the normalised Laplacian, and
    the share of nodes with each label."""
    adjacency = graph.adjacency()
    both = adjacency + adjacency.T
    degree = both.sum(axis=0)
    root = 1 / np.sqrt(np.where(degree > 0, degree, 1.0))
    values = np.linalg.eigvalsh(np.diag((degree > 0).astype(float)) - root[:, None] * both * root)[:EIGENVALUES]
    found = np.zeros(EIGENVALUES + len(labels) + 1)
    found[: len(values)] = values
    for label in graph.labels:
        found[EIGENVALUES + labels.get(label, 0)] += 1 / len(graph)
    return found


def fit_encoder(vocabulary: Vocabulary, graphs: Sequence[ArchGraph], seed: int, steps: int) -> Parameters:
    """The encoder's parameters, with one member, after ``steps`` of contrast among ``graphs``: the cross entropy of who
    is like whom by their embeddings from who is by their signatures."""
    import torch

    labels = len(vocabulary.labels) + 1
    signatures = np.stack([signature(graph, vocabulary.labels) for graph in graphs])
    arrays = {name: torch.from_numpy(array) for name, array in both_ways(vocabulary.arrays(graphs)).items()}
    arrays = {name: t if t.dtype == torch.int64 else t.float() for name, t in arrays.items()}
    with seeded(seed):
        rng = np.random.default_rng(seed)
        found = {"labels": torch.randn(1, labels, WIDTH), "size": drawn(1, WIDTH, members=1) / 2}
        for i in range(LAYERS):
            found |= {f"onwards{i}": drawn(WIDTH, WIDTH, members=1), f"back{i}": drawn(WIDTH, WIDTH, members=1)}
        free = [tensor.requires_grad_() for tensor in found.values()]
        optimiser = torch.optim.AdamW(free, lr=3e-3)
        for _ in range(steps):
            rows = rng.permutation(len(graphs))[:BATCH]
            apart = ((signatures[rows, None] - signatures[None, rows]) ** 2).sum(axis=-1)
            apart[np.diag_indices(len(rows))] = np.inf
            alike = np.exp(-apart / max(1e-9, float(np.median(apart[np.isfinite(apart)]))) * 4)
            wanted = torch.from_numpy(alike / alike.sum(axis=1, keepdims=True)).float()
            said = _encoded(found, {name: tensor[rows][None] for name, tensor in arrays.items()})[0]
            said = torch.nn.functional.normalize(said, dim=-1)
            logits = (said @ said.T / TEMPERATURE).masked_fill(torch.eye(len(rows)) > 0, -1e9)
            optimiser.zero_grad()
            (-(wanted * logits.log_softmax(dim=-1)).sum(dim=-1).mean()).backward()
            optimiser.step()
    return {name: tensor.detach() for name, tensor in found.items()}


def embedded(encoder: Parameters, arrays: Arrays) -> Floats:
    """Unit embeddings ``[n, WIDTH]``."""
    import torch

    tensors = {name: torch.from_numpy(array)[None] for name, array in arrays.items()}
    with torch.no_grad():
        said = _encoded(encoder, {k: t if t.dtype == torch.int64 else t.float() for k, t in tensors.items()})[0]
    found = said.double().numpy()
    return np.asarray(found / np.maximum(1e-9, np.linalg.norm(found, axis=1, keepdims=True)))


def fuzzy_means(x: Floats, clusters: int, seed: int, rounds: int = 50) -> Floats:
    """Centres ``[clusters, d]`` of fuzzy C-means on ``x`` ``[n, d]``. Bezdek, Computers & Geosciences 10 (1984)."""
    rng = np.random.default_rng(seed)
    centres = x[rng.choice(len(x), clusters, replace=len(x) < clusters)]
    for _ in range(rounds):
        weights = memberships(x, centres) ** FUZZINESS
        centres = (weights.T @ x) / np.maximum(1e-12, weights.sum(axis=0)[:, None])
    return np.asarray(centres)


def memberships(x: Floats, centres: Floats) -> Floats:
    """How much each row is of each cluster ``[n, clusters]``; a row's sum is 1."""
    apart = ((x[:, None] - centres[None]) ** 2).sum(axis=-1) + 1e-12
    near = (apart.min(axis=1, keepdims=True) / apart) ** (1 / (FUZZINESS - 1))
    return np.asarray(near / near.sum(axis=1, keepdims=True))


def _start(encoder: Parameters) -> Parameters:
    found = {name: tensor.repeat(MEMBERS, *[1] * (tensor.dim() - 1)) for name, tensor in encoder.items()}
    found |= {"head": drawn(CLUSTERS, WIDTH, HIDDEN), "head_bias": zeros(CLUSTERS, 1, HIDDEN)}
    return {**found, "out": drawn(CLUSTERS, HIDDEN, 1) / 4}


def _encoded(p: Parameters, inputs: Inputs) -> Tensor:
    """The nodes' mean ``[members, batch, WIDTH]``."""
    h = looked_up(p["labels"], inputs["labels"]) + inputs["sizes"][..., None] * p["size"][:, None]
    for i in range(LAYERS):
        ahead = inputs["onwards"] @ (h @ p[f"onwards{i}"][:, None])
        behind = inputs["back"] @ (h @ p[f"back{i}"][:, None])
        h = (ahead.relu() + behind.relu()) / 2
    mask = inputs["mask"][..., None]
    return (h * mask).sum(dim=2) / mask.sum(dim=2)


def _forward(p: Parameters, inputs: Inputs) -> Tensor:
    x = _encoded(p, inputs)[:, None]  # [members, 1, batch, WIDTH], for every cluster's head
    said = ((x @ p["head"] + p["head_bias"]).relu() @ p["out"])[..., 0]
    return (said * inputs["shares"].transpose(-1, -2)).sum(dim=1)
