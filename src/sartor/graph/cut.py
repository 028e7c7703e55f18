"""A cut: which entries of which groups stay."""

from __future__ import annotations

import random
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from sartor.errors import InputError
from sartor.graph.atoms import Bools
from sartor.graph.groups import Group


@dataclass(frozen=True)
class Cut:
    """Kept entries by the name of their group, ascending; groups that are not named keep all. ``without``: paths of
    blocks that go."""

    keep: Mapping[str, tuple[int, ...]]
    without: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, list[int]]:
        """What is kept."""
        return {name: list(kept) for name, kept in self.keep.items()}

    @staticmethod
    def of(groups: Sequence[Group], keep: Mapping[str, Iterable[int]] | Cut, blocks: Iterable[str] = ()) -> Cut:
        """``keep`` checked against ``groups`` and ``blocks``. Raises InputError for groups, entries and blocks that
        there are not, and groups of which nothing is left."""
        keep, without = (keep.keep, keep.without) if isinstance(keep, Cut) else (keep, ())
        strangers = set(without) - set(blocks)
        if strangers:
            raise InputError(f"{sorted(strangers)[0]!r} is no block that can go: see Graph.blocks")
        known = {group.name: group for group in groups}
        kept: dict[str, tuple[int, ...]] = {}
        for name, entries in keep.items():
            if name not in known:
                raise InputError(f"there is no group {name!r}: see the names of Graph.groups")
            size = known[name].size
            chosen = sorted({_whole(entry, name) for entry in entries})
            if not chosen:
                raise InputError(f"the cut keeps nothing of group {name!r}: keep at least one of its {size} entries")
            if chosen[0] < 0 or chosen[-1] >= size:
                wrong = chosen[0] if chosen[0] < 0 else chosen[-1]
                raise InputError(f"group {name!r} has entries 0 to {size - 1}, not {wrong}")
            kept[name] = tuple(chosen)
        return Cut(kept, without)


def random_cut(groups: Sequence[Group], keep: float, seed: int) -> Cut:
    """A share ``keep`` of each group's entries, at least one, drawn with ``seed``."""
    if not 0 < keep <= 1:
        raise InputError(f"keep is a share above 0 and up to 1, not {keep}")
    rng = random.Random(seed)
    return Cut(
        {group.name: tuple(sorted(rng.sample(range(group.size), max(1, round(keep * group.size))))) for group in groups}
    )


def atoms_cut(groups: Sequence[Group], cut: Cut, n: int) -> Bools:
    """Which of ``n`` atoms go."""
    gone = np.zeros(n, bool)
    for group in groups:
        if group.name in cut.keep:
            gone[np.delete(group.atoms, list(cut.keep[group.name]))] = True
    return gone


def _whole(entry: Any, name: str) -> int:
    try:
        if int(entry) == entry:
            return int(entry)
    except (TypeError, ValueError):
        pass
    raise InputError(f"the entries to keep of group {name!r} are whole numbers, not {entry!r}")
