"""What a cut leaves, and what it must leave."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from sartor.graph.atoms import Bools, Ints, Label
from sartor.graph.couple import Coupled
from sartor.graph.cut import Cut, atoms_cut
from sartor.graph.groups import Group

SQUEEZES = ("aten.squeeze.default", "aten.squeeze.dim", "aten.squeeze.dims")


@dataclass(frozen=True)
class Need:
    """A dimension of which at least ``entries`` must stay, and what it is to leave fewer."""

    label: Label
    entries: int
    why: str


class Kept:
    """What a cut leaves of every label; ``gone`` says of each atom whether it goes."""

    def __init__(self, coupled: Coupled, gone: Bools):
        self._coupled = coupled
        self.gone = gone
        self._known: dict[int, tuple[Label, Bools | None]] = {}
        self._counts: dict[int, tuple[Label, int]] = {}

    def rows(self, label: Label) -> Bools | None:
        """Which positions stay; None where all do."""
        held = self._known.get(id(label))
        if held is None or held[0] is not label:
            atoms = self._coupled.resolved(label)
            gone: Bools = np.asarray(np.where(atoms >= 0, self.gone[atoms], False).any(axis=1), dtype=bool)
            held = (label, ~gone if bool(gone.any()) else None)
            self._known[id(label)] = held
        return held[1]

    def count(self, label: Label) -> int:
        held = self._counts.get(id(label))
        if held is None or held[0] is not label:
            rows = self.rows(label)
            held = self._counts[id(label)] = label, len(label) if rows is None else int(rows.sum())
        return held[1]

    def starved(self, needs: Sequence[Need]) -> Need | None:
        """The first need that is not met."""
        return next((need for need in needs if self.count(need.label) < need.entries), None)


def needs_of(coupled: Coupled) -> list[Need]:
    """Of every dimension of every tensor and of what every operator takes."""
    needs = {
        id(label): Need(label, 1, f"the cut leaves nothing of {name}")
        for name, value in coupled.tensors.items()
        for label in value.dims
        if len(label)
    }
    for call in coupled.calls.values():
        for label in (label for value in call.tensors() for label in value.dims if len(label)):
            if call.op in SQUEEZES and len(label) > 1:
                needs[id(label)] = Need(label, 2, f"the cut leaves fewer than two entries, and {call.why} drops one")
            elif id(label) not in needs:
                needs[id(label)] = Need(label, 1, f"the cut leaves nothing of what {call.why} takes")
    return list(needs.values())


def completed(
    groups: Sequence[Group], coupled: Coupled, needs: Sequence[Need], cut: Cut, orders: Mapping[str, Sequence[int]]
) -> Cut:
    """``cut`` with entries put back, the first by ``orders``, until every need is met: each round adds some."""
    while True:
        kept = Kept(coupled, atoms_cut(groups, cut, len(coupled.atoms)))
        need = kept.starved(needs)
        if need is None:
            return cut
        owners, entries, ranks = _places(groups, len(coupled.atoms), orders)
        atoms = coupled.resolved(need.label)
        lost = (atoms >= 0) & kept.gone[atoms]
        # The position whose worst lost atom is the best; those that stay are no candidates.
        worst = np.where(lost.any(axis=1), np.where(lost, ranks[atoms], -1).max(axis=1), np.iinfo(np.int64).max)
        position = int(worst.argmin())
        back = {name: set(held) for name, held in cut.keep.items()}
        for atom in atoms[position][lost[position]]:
            back[groups[owners[atom]].name].add(int(entries[atom]))
        cut = Cut({name: tuple(sorted(held)) for name, held in back.items()})


def _places(groups: Sequence[Group], n: int, orders: Mapping[str, Sequence[int]]) -> tuple[Ints, Ints, Ints]:
    """For each of ``n`` atoms the index of its group, its entry there, and the entry's rank by ``orders``; -1: none."""
    owners, entries, ranks = np.full(n, -1), np.full(n, -1), np.full(n, -1)
    for index, group in enumerate(groups):
        order = list(orders.get(group.name, range(group.size)))
        owners[group.atoms] = index
        entries[group.atoms] = np.arange(group.size)
        ranks[group.atoms[order]] = np.arange(group.size)
    return owners, entries, ranks
