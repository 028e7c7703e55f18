"""FLAN: dense graph flow and attention over the arch's graph, and what was learnt of another space.

Akhauri & Abdelfattah, arXiv:2403.02484 §4. A layer is the mean of two: dense graph flow, where what arrives over the
links passes a gate of the node's operator and is added to what was there; and graph attention, gated the same.
Zero-cost scores are embedded beside the graph's output. The loss asks pairs to be ranked by a margin. Transfer:
``source`` is a predictor fitted to another space, whose network training goes on from; operators of the same name keep
what was learnt of them, and a learnt vector tells the spaces apart. Deviations: three layers of 32 (the paper has five
of 128), no backward pass; a squared error beside the ranks, so that predictions have a unit
(:mod:`sartor.predict.scores`); the space's vector is added to every node, where the paper has one row of operators a
space and nothing is shared by name; no learnt encodings (CATE, Arch2Vec), which would have to be trained on the space
first.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike

from sartor.errors import InputError
from sartor.predict.committee import MEMBERS, Arrays, Committee, Inputs, Parameters, drawn, fit_committee, zeros
from sartor.predict.gcn import looked_up
from sartor.predict.graf import Proxies, zero_cost_of
from sartor.predict.graphs import Vocabulary, chunks, graphs_of
from sartor.predict.predictor import Floats, checked, known, unfitted
from sartor.predict.scores import NormalScores
from sartor.records import Arch
from sartor.space.graph import ArchGraph
from sartor.space.space import Space

if TYPE_CHECKING:
    from torch import Tensor

WIDTH, HIDDEN, LAYERS = 32, 64, 3
MARGIN = 0.1
"""By how much the better of two is to be ahead; the paper's."""


@dataclass(frozen=True)
class _View:
    """What the network sees of archs."""

    vocabulary: Vocabulary
    centre: Floats  # of the zero-cost scores
    scale: Floats

    def __call__(self, graphs: Sequence[ArchGraph], zero_cost: Floats) -> Arrays:
        scaled = np.clip((zero_cost - self.centre) / self.scale, -5, 5)
        return {**self.vocabulary.arrays(graphs), "proxies": scaled}


@dataclass(frozen=True)
class _Fitted:
    committee: Committee
    view: _View
    scores: NormalScores


@dataclass
class Flan:
    """See ``predictor.ArchPredictor``. ``proxies``: zero-cost scores; of ``source``'s kind where there is one."""

    space: Space
    seed: int = 0
    proxies: Proxies | None = None
    source: Flan | None = None
    epochs: int = 50
    _fitted: _Fitted | None = field(default=None, init=False, repr=False)

    def fit(self, archs: Sequence[Arch], values: ArrayLike) -> Flan:
        y = checked(self.space, archs, values)
        graphs, scores, zero_cost = graphs_of(self.space, archs), NormalScores.of(y), zero_cost_of(self.proxies, archs)
        before = None
        if self.source is not None:
            before = self.source._fitted
            if before is None:
                raise unfitted("the source of flan")
            if len(before.view.centre) != zero_cost.shape[1]:
                raise InputError("flan and its source need the same proxies: give both, or neither")
        vocabulary = Vocabulary.of(graphs, before.view.vocabulary if before else None)
        scale = zero_cost.std(axis=0)
        view = _View(vocabulary, zero_cost.mean(axis=0), np.where(scale > 0, scale, 1.0))
        committee = fit_committee(
            lambda: _start(vocabulary, zero_cost.shape[1], before.committee if before else None),
            _forward,
            view(graphs, zero_cost),
            scores(y),
            seed=self.seed,
            loss=_ranked,
            epochs=self.epochs,
            rate=1e-2 if before is None else 3e-3,
            decay=1e-2,
        )
        self._fitted = _Fitted(committee, view, scores)
        return self

    def predict(self, archs: Sequence[Arch]) -> tuple[Floats, Floats]:
        if self._fitted is None:
            raise unfitted("flan")
        known(self.space, archs)
        fitted = self._fitted
        views = (fitted.view(graphs_of(self.space, part), zero_cost_of(self.proxies, part)) for part in chunks(archs))
        said = [fitted.committee(view) for view in views]
        mean, deviation = np.hstack([np.stack(pair) for pair in said] or [np.zeros((2, 0))])
        return fitted.scores.inverse(mean, deviation)


def _start(vocabulary: Vocabulary, proxies: int, before: Committee | None) -> Parameters:
    """Fresh weights; of ``before`` those that it has, with its words' rows first."""
    import torch

    labels, placed = len(vocabulary.labels) + 1, len(vocabulary.placed) + 1
    found = {
        "labels": torch.randn(MEMBERS, labels, WIDTH),
        "placed": torch.randn(MEMBERS, placed, WIDTH) / 2,
        "size": drawn(1, WIDTH) / 2,
        "space": zeros(1, WIDTH),
        "head": drawn(2 * WIDTH, HIDDEN),
        "head_bias": zeros(HIDDEN),
        "out": drawn(HIDDEN, 1) / 4,
        "proxies": drawn(proxies, WIDTH) if proxies else zeros(0, WIDTH),
    }
    for i in range(LAYERS):
        found |= {f"flow{i}": drawn(WIDTH, WIDTH) / 2, f"flow_gate{i}": drawn(WIDTH, WIDTH) / 2}
        found |= {f"heed{i}": drawn(WIDTH, WIDTH), f"heed_gate{i}": drawn(WIDTH, WIDTH) / 2}
        found |= {f"to{i}": drawn(WIDTH, 1) / 2, f"from{i}": drawn(WIDTH, 1) / 2}
    for name, tensor in (before.parameters if before else {}).items():
        if name in ("labels", "placed"):
            found[name][:, : tensor.shape[1]] = tensor
        elif name != "space":
            found[name] = tensor.clone()
    return found


def _forward(p: Parameters, inputs: Inputs) -> Tensor:
    operator = looked_up(p["labels"], inputs["labels"]) + looked_up(p["placed"], inputs["placed"])
    operator = operator + inputs["sizes"][..., None] * p["size"][:, None] + p["space"][:, None]
    mask = inputs["mask"][..., None]
    into = inputs["links"].transpose(-1, -2)  # a row's node hears those that lead to it
    hears = into + into.new_ones(into.shape[-1]).diag()
    h = operator
    for i in range(LAYERS):
        sent = h @ p[f"flow{i}"][:, None]
        flow = (operator @ p[f"flow_gate{i}"][:, None]).sigmoid() * (into @ sent) + sent
        heard = h @ p[f"heed{i}"][:, None]
        logits = heard @ p[f"to{i}"][:, None] + (heard @ p[f"from{i}"][:, None]).transpose(-1, -2)
        weights = logits.maximum(0.2 * logits).masked_fill(hears == 0, -1e9).softmax(dim=-1)
        heed = (operator @ p[f"heed_gate{i}"][:, None]).sigmoid() * (weights @ heard)
        h = ((flow + _normal(heed)) / 2).relu()
    mean = (h * mask).sum(dim=2) / mask.sum(dim=2)
    joined = _joined(mean, inputs["proxies"] @ p["proxies"])
    hidden = (joined @ p["head"] + p["head_bias"][:, None]).relu()
    return (hidden @ p["out"])[..., 0]


def _joined(graph: Tensor, proxies: Tensor) -> Tensor:
    import torch

    return torch.cat([graph, proxies.relu()], dim=-1)


def _normal(h: Tensor) -> Tensor:
    return (h - h.mean(dim=-1, keepdim=True)) / (h.var(dim=-1, keepdim=True, unbiased=False) + 1e-5).sqrt()


def _ranked(said: Tensor, wanted: Tensor) -> Tensor:
    """Pairs that are not ahead by the margin, and the squared error."""
    apart = said[:, :, None] - said[:, None, :]
    better = (wanted[:, :, None] > wanted[:, None, :]).float()
    hinge = ((MARGIN - apart).relu() * better).sum(dim=(1, 2)) / better.sum(dim=(1, 2)).clamp(min=1)
    return hinge + ((said - wanted) ** 2).mean(dim=1)
