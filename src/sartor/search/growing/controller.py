"""What controllers of growth have in common: layers as numbers, decisions drawn and remembered, REINFORCE."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from sartor.graph.grow import Kind, Layer

Action = tuple[Kind, str]
"""How a network grows, and where: see ``sartor.graph.grow.grown``."""

FEATURES = 9
SIZE = 50
"""Of hidden states (arXiv:1707.04873 §4.1)."""


def features(layer: Layer) -> Tensor:
    """[FEATURES]: a layer as numbers of about one. (The papers embed a vocabulary of layers; these have no words, as
    any network may come.)"""
    kinds = [float(layer.kind == kind) for kind in ("linear", "conv", "grouped")]
    sizes = [math.log2(size) / 8 for size in (layer.inputs, layer.outputs)]
    allowed = [float(kind in layer.grows) for kind in ("widen", "deepen")]
    return torch.tensor([*kinds, *sizes, layer.kernel / 8, float(layer.stride > 1), *allowed])


class Controller(nn.Module):
    """Chooses how networks grow, and learns which choices make good ones: Williams' REINFORCE, with the moving average
    of rewards as its baseline (arXiv:1707.04873 §3.1).

    A reward is tan(accuracy · π/2), for which the last points count most. Deviation: the advantage is divided by the
    rewards' running spread, so that one learning rate does for all tasks.
    """

    turns: Sequence[str] = ()
    """What each decision of a child is about, in order."""

    def __init__(self, *, lr: float = 1e-3, decay: float = 0.95):
        super().__init__()
        self._lr, self._decay = lr, decay
        self._optimiser: torch.optim.Optimizer | None = None
        self._chosen: list[Tensor] = []
        self._mean: float | None = None
        self._square = 0.0

    def choose(self, found: Sequence[Layer], turn: str, generator: torch.Generator) -> list[Action]:
        """The actions of one decision; what it leaves as it is has none."""
        raise NotImplementedError

    def begin(self) -> None:
        """A new child: decisions from here on are its own."""
        self._chosen = []

    @property
    def log_probability(self) -> Tensor:
        """Of the decisions since :meth:`begin`."""
        return torch.stack(self._chosen).sum() if self._chosen else torch.zeros(())

    def learn(self, children: Sequence[tuple[Tensor, float]]) -> None:
        """A step on children's log-probabilities and their accuracies, 0 to 1."""
        if self._optimiser is None:
            self._optimiser = torch.optim.Adam(self.parameters(), lr=self._lr)
        rewards = [math.tan(min(accuracy, 0.999) * math.pi / 2) for _, accuracy in children]
        mean = sum(rewards) / len(rewards)
        baseline = mean if self._mean is None else self._mean
        spread = sum((reward - baseline) ** 2 for reward in rewards) / len(rewards)
        self._square = spread if self._mean is None else self._decay * self._square + (1 - self._decay) * spread
        self._mean = mean if self._mean is None else self._decay * self._mean + (1 - self._decay) * mean
        scale = math.sqrt(self._square) or 1.0
        loss = sum((baseline - reward) / scale * p for (p, _), reward in zip(children, rewards, strict=True))
        if isinstance(loss, Tensor) and loss.requires_grad:
            self._optimiser.zero_grad()
            (loss / len(children)).backward()
            self._optimiser.step()

    def _one_of(self, scores: Tensor, generator: torch.Generator) -> int:
        """The index drawn by a softmax of ``scores`` [n]."""
        log_p = torch.log_softmax(scores, 0)
        index = int(torch.multinomial(log_p.detach().exp(), 1, generator=generator))
        self._chosen.append(log_p[index])
        return index

    def _some_of(self, scores: Tensor, generator: torch.Generator) -> list[bool]:
        """Yes or no for each of ``scores`` [n], by its sigmoid."""
        p = torch.sigmoid(scores)
        drawn = torch.rand(p.shape, generator=generator) < p.detach()
        self._chosen.append(torch.where(drawn, p, 1 - p).clamp(min=1e-6).log().sum())
        return [bool(d) for d in drawn]
