"""RENA's policy network: an LSTM over a network's layers, and a controller each to insert, remove and scale them.

Zhou et al., arXiv:1806.07912 §3: layers are embedded by looking up their options, the LSTM's states are the network's
embedding, and each controller reads those.
"""

from __future__ import annotations

import math
import random
from functools import cached_property
from itertools import pairwise
from typing import TYPE_CHECKING

from sartor.records import Arch
from sartor.search.edits import KINDS, Edit, Editor

if TYPE_CHECKING:
    from torch import Tensor, nn

SIZE = 32
"""Of a layer's embedding and of the LSTM's states."""


class Controllers:
    """What says how archs are edited. Weights are drawn from torch's generator, those of the last layers as zeros: at
    first every edit of a kind is as likely as any other."""

    def __init__(self, editor: Editor):
        from torch import nn

        self.editor = editor
        sizes = [len(a.options) for a in editor.attributes]
        self._looked_up = [nn.Embedding(size + 1, SIZE) for size in sizes]  # the last: not there
        self._lstm = nn.LSTM(SIZE, SIZE, bidirectional=True)
        heads = {"kind": len(KINDS), "remove": 1, "scale": sum(sizes), "gap": 1, "options": sum(sizes)}
        inputs = {"gap": 4 * SIZE, "options": 4 * SIZE + SIZE}
        self._heads = {name: nn.Linear(inputs.get(name, 2 * SIZE), n) for name, n in heads.items()}
        for head in self._heads.values():
            nn.init.zeros_(head.weight)
            nn.init.zeros_(head.bias)

    @property
    def parameters(self) -> list[nn.Parameter]:
        return [p for part in (*self._looked_up, self._lstm, *self._heads.values()) for p in part.parameters()]

    def law(self, arch: Arch) -> Law:
        return Law(self, arch)

    def draw(self, arch: Arch, rng: random.Random) -> Edit | None:
        """An edit of ``arch``; None where there is none."""
        import torch

        with torch.no_grad():
            return self.law(arch).draw(rng)

    def embedded(self, row: tuple[int, ...]) -> Tensor:
        """``[SIZE]``, of a layer, or of the first attributes of one."""
        import torch

        found = torch.zeros(SIZE)
        for table, place in zip(self._looked_up, row, strict=False):
            found = found + table.weight[place]
        return found

    def read(self, rows: list[tuple[int, ...]]) -> Tensor:
        """``[layers, 2 SIZE]``: the LSTM's states."""
        import torch

        states: Tensor = self._lstm(torch.stack([self.embedded(row) for row in rows]))[0]
        return states

    def head(self, name: str, x: Tensor) -> Tensor:
        scores: Tensor = self._heads[name](x)
        return scores

    @cached_property
    def spans(self) -> list[slice]:
        """Of each attribute, where its options are among all of them."""
        ends = [0]
        for a in self.editor.attributes:
            ends.append(ends[-1] + len(a.options))
        return [slice(start, end) for start, end in pairwise(ends)]


class Law:
    """The distribution of one arch's edits."""

    def __init__(self, controllers: Controllers, arch: Arch):
        import torch

        self._controllers, self._arch = controllers, arch
        rows = controllers.editor.rows(arch)
        self._states = controllers.read(rows)
        changes = controllers.editor.changes(arch)
        self._edits = {kind: [edit for edit in changes if edit.kind == kind] for kind in ("remove", "scale")}
        room = controllers.editor.has_room(arch)
        there = {"insert": room, "remove": bool(self._edits["remove"]), "scale": bool(self._edits["scale"])}
        self._log: dict[str, Tensor] = {}
        if self._edits["remove"]:
            self._log["remove"] = controllers.head("remove", self._states)[:, 0].log_softmax(0)
        if self._edits["scale"]:
            scores = controllers.head("scale", self._states)
            columns = [self._changed(rows[edit.place], edit.options) for edit in self._edits["scale"]]
            self._log["scale"] = scores[[edit.place for edit in self._edits["scale"]], columns].log_softmax(0)
        if room:
            around = torch.cat([torch.zeros(1, 2 * SIZE), self._states, torch.zeros(1, 2 * SIZE)])
            self._gaps = torch.cat([around[:-1], around[1:]], dim=1)
            self._log["insert"] = controllers.head("gap", self._gaps)[:, 0].log_softmax(0)
        self._there = any(there.values())
        hidden = torch.tensor([0.0 if there[kind] else -math.inf for kind in KINDS])
        self._kinds = (controllers.head("kind", self._states.mean(0)) + hidden).log_softmax(0)

    def log_probability(self, edit: Edit) -> Tensor:
        """Of an edit of this arch, []."""
        kind = self._kinds[KINDS.index(edit.kind)]
        if edit.kind != "insert":
            return kind + self._log[edit.kind][self._edits[edit.kind].index(edit)]
        found = kind + self._log["insert"][edit.place]
        for j, option in enumerate(edit.options):
            found = found + self._options(edit.place, edit.options[:j])[option]
        return found

    def likelihood(self, child: Arch) -> Tensor | None:
        """The logarithm of the probability of ``child``, []; None where no edit leads to it."""
        import torch

        edits = self._controllers.editor.between(self._arch, child)
        return torch.logsumexp(torch.stack([self.log_probability(e) for e in edits]), 0) if edits else None

    @property
    def entropy(self) -> Tensor:
        """Of what is done and where, [], without an inserted layer's options, of which there are too many to sum."""
        total = self._entropy(self._kinds)
        for kind, log in self._log.items():
            total = total + self._kinds[KINDS.index(kind)].exp() * self._entropy(log)
        return total

    def draw(self, rng: random.Random) -> Edit | None:
        if not self._there:
            return None
        kind = KINDS[_drawn(self._kinds, rng)]
        place = _drawn(self._log[kind], rng)
        if kind != "insert":
            return self._edits[kind][place]
        options: tuple[int, ...] = ()
        for _ in self._controllers.spans:
            options = (*options, _drawn(self._options(place, options), rng))
        return Edit("insert", place, options)

    def _options(self, place: int, earlier: tuple[int, ...]) -> Tensor:
        """Log-probabilities of the next attribute's options, given the ``earlier`` ones of the layer put in there."""
        import torch

        read = torch.cat([self._gaps[place], self._controllers.embedded(earlier)])
        return self._controllers.head("options", read)[self._controllers.spans[len(earlier)]].log_softmax(0)

    def _changed(self, before: tuple[int, ...], after: tuple[int, ...]) -> int:
        """The place, among all attributes' options, of the one that is new."""
        j = next(j for j, (a, b) in enumerate(zip(before, after, strict=True)) if a != b)
        return self._controllers.spans[j].start + after[j]

    @staticmethod
    def _entropy(log: Tensor) -> Tensor:
        p = log.exp()
        return -(p * log.clamp(min=-1e9)).sum()


def _drawn(log: Tensor, rng: random.Random) -> int:
    return int(rng.choices(range(len(log)), log.exp().tolist())[0])
