"""Path-level transformation: a reinforced controller that grows trees of paths (P178, arXiv:1806.02639)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from sartor.graph.grow import Kind, Layer
from sartor.search.growing.controller import FEATURES, SIZE, Action, Controller, features

BRANCHING: tuple[Kind, ...] = ("add", "concat", "deepen", "repeat")


class PathLevel(Controller):
    """A tree-structured LSTM reads the network as the tree of its modules, from the leaves up and from the root down
    (§3.4; the child-sum cell of arXiv:1503.00075), and a leaf becomes several that are added up or stand beside each
    other, or gets another behind it (§3.2). What it made are leaves of the tree, too: decision by decision a layer
    becomes a tree of paths. Each of ``decisions`` may also be to leave all as it is.

    Deviations: leaves are layers, not edges of identity that are replaced by layers, so that any network can come and
    every child computes what its parent does; one softmax over leaves and ways to grow.
    """

    def __init__(self, *, decisions: int = 3, lr: float = 1e-3, seed: int = 0):
        super().__init__(lr=lr)
        self.turns = ("path",) * decisions
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.embed = nn.Linear(FEATURES, SIZE)
            self.up = ChildSum(SIZE)
            self.down = nn.LSTMCell(SIZE, SIZE)
            self.score = nn.Linear(2 * SIZE, len(BRANCHING))
            self.leave = nn.Linear(SIZE, 1)

    def choose(self, found: Sequence[Layer], turn: str, generator: torch.Generator) -> list[Action]:
        root, leaves = self._states(found)
        places = [(i, k, layer.grows[kind]) for i, layer in enumerate(found) for k, kind in enumerate(BRANCHING)
                  if kind in layer.grows]  # fmt: skip
        scores = self.score(leaves)[[i for i, _, _ in places], [k for _, k, _ in places]]
        index = self._one_of(torch.cat([scores, self.leave(root)]), generator)
        return [(BRANCHING[places[index][1]], places[index][2])] if index < len(places) else []

    def _states(self, found: Sequence[Layer]) -> tuple[Tensor, Tensor]:
        """The root's state [SIZE], and of each leaf what is in it and what is around it [n, 2·SIZE]."""
        tree: dict[str, list[str]] = {}
        leaves = {layer.path: self.embed(features(layer)) for layer in found}
        for path in leaves:
            while path and path not in tree.setdefault(path.rpartition(".")[0], []):
                tree[path.rpartition(".")[0]].append(path)
                path = path.rpartition(".")[0]
        up: dict[str, tuple[Tensor, Tensor]] = {}

        def rise(path: str) -> tuple[Tensor, Tensor]:
            own = leaves.get(path, torch.zeros(SIZE))
            up[path] = self.up(own, [rise(child) for child in tree.get(path, [])])
            return up[path]

        around: dict[str, tuple[Tensor, Tensor]] = {}

        def sink(path: str, state: tuple[Tensor, Tensor]) -> None:
            around[path] = h, c = self.down(up[path][0][None], state)
            for child in tree.get(path, []):
                sink(child, (h, c))

        root, _ = rise("")
        sink("", (torch.zeros(1, SIZE), torch.zeros(1, SIZE)))
        states = [torch.cat([up[path][0], around[path][0][0]]) for path in leaves]
        return root, torch.stack(states) if states else torch.zeros(0, 2 * SIZE)


class ChildSum(nn.Module):
    """The child-sum tree LSTM (arXiv:1503.00075, equations 2 to 8)."""

    def __init__(self, size: int):
        super().__init__()
        self.gates = nn.Linear(2 * size, 3 * size)
        self.forget_own = nn.Linear(size, size)
        self.forget_child = nn.Linear(size, size, bias=False)

    def forward(self, x: Tensor, children: Sequence[tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
        total = torch.stack([h for h, _ in children]).sum(0) if children else torch.zeros_like(x)
        entered, shown, new = self.gates(torch.cat([x, total])).chunk(3)
        c = torch.sigmoid(entered) * torch.tanh(new)
        for child, cell in children:
            c = c + torch.sigmoid(self.forget_own(x) + self.forget_child(child)) * cell
        return torch.sigmoid(shown) * torch.tanh(c), c
