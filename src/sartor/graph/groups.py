"""Groups: atoms made for one dimension that stand in the same dimensions of the same tensors, each cut by itself."""

from __future__ import annotations

import fnmatch
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from sartor.graph.atoms import Atoms, Ints
from sartor.graph.call import Value


@dataclass(frozen=True)
class Tie:
    """A dimension of a parameter or buffer that a group cuts; ``entries`` of it go with each of the group's."""

    tensor: str
    dim: int
    entries: int


@dataclass(frozen=True, eq=False)
class Group:
    """What can be cut together in ``size`` steps: the channels of a stage, the heads of an attention, hidden units.

    Entry ``i`` of the group is ``granularity`` entries of the first dimension in ``ties``, and as many of each other
    dimension as its tie says. ``atoms`` are the entries' own numbers.
    """

    name: str
    size: int
    granularity: int
    ties: tuple[Tie, ...]
    atoms: Ints

    def __str__(self) -> str:
        of = f" of {self.granularity}" if self.granularity > 1 else ""
        return f"{self.name}: {self.size}{of}, in {len(self.ties)} dimensions"


def groups_of(atoms: Atoms, tensors: Mapping[str, Value]) -> tuple[Group, ...]:
    """Every group of at least two entries, in the order of the tensors; named after the first that it makes."""
    marks = np.random.default_rng(0)
    signature = np.zeros(len(atoms), np.uint64)
    places: list[tuple[str, int, Ints, Ints]] = []
    first_seen = np.full(len(atoms), np.iinfo(np.int64).max)
    clock = 0
    for name, value in tensors.items():
        for dim, label in enumerate(value.dims):
            rows = atoms.resolve(label)
            if not rows.size:
                continue
            position, column = np.nonzero(rows >= 0)
            found, index, counts = np.unique(rows[position, column], return_index=True, return_counts=True)
            mark = marks.integers(1, 2**62, dtype=np.uint64)
            with np.errstate(over="ignore"):
                signature[found] += mark * counts.astype(np.uint64)
            first_seen[found] = np.minimum(first_seen[found], clock + position[index])
            clock += len(rows)
            places.append((name, dim, found, counts))
    held = np.flatnonzero(first_seen < np.iinfo(np.int64).max)
    held = held[np.argsort(first_seen[held], kind="stable")]
    with np.errstate(over="ignore"):
        key = signature[held] + atoms.axis(held).astype(np.uint64) * marks.integers(1, 2**62, dtype=np.uint64)
    kinds, start, kind = np.unique(key, return_index=True, return_inverse=True)
    members = [held[kind == k] for k in range(len(kinds))]
    number = np.full(len(atoms), -1)
    for k, found in enumerate(members):
        number[found] = k
    ties: list[list[Tie]] = [[] for _ in kinds]
    for name, dim, found, counts in places:
        which, first = np.unique(number[found], return_index=True)
        for k, i in zip(which, first, strict=True):
            ties[k].append(Tie(name, dim, int(counts[i])))
    groups = []
    taken: Counter[str] = Counter()
    for k in np.argsort(start, kind="stable"):
        if len(members[k]) < 2:
            continue
        made = min(ties[k], key=lambda tie: (tie.dim > 0, "weight" not in tie.tensor))  # the first of the likeliest
        name = made.tensor.rpartition(".")[0] or made.tensor
        taken[name] += 1
        if taken[name] > 1:
            name = f"{name}/{taken[name]}"
        order = (made, *(tie for tie in ties[k] if tie is not made))
        groups.append(Group(name, len(members[k]), made.entries, order, members[k]))
    return tuple(groups)


def protected(group: Group, patterns: Sequence[str]) -> bool:
    """Whether ``group`` cuts a tensor or layer that one of ``patterns`` names: ``head``, ``layer4``, ``blocks.0.*``."""
    owners = {tie.tensor.rpartition(".")[0] for tie in group.ties} | {tie.tensor for tie in group.ties}
    return any(matches(owner, patterns) for owner in owners)


def matches(path: str, patterns: Sequence[str]) -> bool:
    """Whether one of ``patterns`` names ``path``, or what it is in."""
    return any(fnmatch.fnmatchcase(path, pattern) or path.startswith(f"{pattern}.") for pattern in patterns)
