"""EAS: a reinforced controller that widens and deepens (P040, arXiv:1707.04873)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from sartor.graph.grow import Kind, Layer
from sartor.search.growing.controller import FEATURES, SIZE, Action, Controller, features

DEEPER: tuple[Kind, ...] = ("deepen", "repeat")


class EAS(Controller):
    """A bidirectional LSTM reads the layers in order (§3.1). The Net2Wider actor says for each of them whether its
    group becomes wider (§3.2); the Net2Deeper actor chooses one place for a new layer or block (§3.3).

    A child takes ``deeper`` decisions of the one, then ``wider`` of the other (§4.1: 5 and 4). Deviations: one softmax
    over all places instead of an index of the block and one within it, as a network need not have blocks; kernels of
    new layers are 3, or their neighbour's; and a residual block can be repeated.
    """

    def __init__(self, *, deeper: int = 2, wider: int = 2, lr: float = 1e-3, seed: int = 0):
        super().__init__(lr=lr)
        self.turns = ("deeper",) * deeper + ("wider",) * wider
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.encoder = nn.LSTM(FEATURES, SIZE, bidirectional=True)
            self.wider = nn.Linear(2 * SIZE, 1)
            self.deeper = nn.Linear(2 * SIZE, len(DEEPER))

    def choose(self, found: Sequence[Layer], turn: str, generator: torch.Generator) -> list[Action]:
        kinds: tuple[Kind, ...] = ("widen",) if turn == "wider" else DEEPER
        places = [(i, k, layer.grows[kind]) for i, layer in enumerate(found) for k, kind in enumerate(kinds)
                  if kind in layer.grows]  # fmt: skip
        if not places:
            return []
        states, _ = self.encoder(torch.stack([features(layer) for layer in found]))
        rows, columns = [i for i, _, _ in places], [k for _, k, _ in places]
        if turn == "wider":
            drawn = self._some_of(self.wider(states)[rows, columns], generator)
            return [("widen", place) for (_, _, place), yes in zip(places, drawn, strict=True) if yes]
        _, kind, place = places[self._one_of(self.deeper(states)[rows, columns], generator)]
        return [(DEEPER[kind], place)]
