"""Atoms: the smallest things that can be cut, and the ties between them.

Every dimension of every tensor has a **label**: a matrix ``[n, k]`` of atoms. Position ``i`` is cut exactly when any
atom of row ``i`` is cut; -1 is no atom, and a position without atoms is never cut. Two atoms a row are what a product
needs: in a projection to ``heads x channels`` entries, entry ``(h, d)`` goes with head ``h`` or with channel ``d``.

Three things happen to atoms, all of them for good: two atoms become one (``tie``), an atom becomes several others of
which any cuts it (``define``; a dimension was viewed as two), or an atom can never be cut (``freeze``). Every rule says
only which rows must be equal; :meth:`Atoms.unify` makes them so, in the worst case by freezing what differs. So a rule
can lose possible cuts, but cannot allow a wrong one.

Rejected: index maps between neighbouring layers, followed from each layer anew (DepGraph, arXiv:2301.12900): they know
no products, which is where attention, grouped convolutions and shuffles are; and one symbol a dimension, which cannot
tell what a channel shuffle does.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate

import numpy as np
from numpy.typing import NDArray

Label = NDArray[np.int64]
"""Atoms of one dimension, ``[n, k]``; -1 where there is none."""

Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]
NONE = -1


def unlabelled(n: int) -> Label:
    """A dimension of ``n`` positions that are never cut: batches, pixels, tokens."""
    return np.empty((n, 0), np.int64)


class Atoms:
    """All atoms of one traced network."""

    def __init__(self) -> None:
        self._n = 0
        self._parent: Ints = np.empty(0, np.int64)
        self._axis: Ints = np.empty(0, np.int64)
        self._axes = 0
        self._frozen: Bools = np.empty(0, bool)
        self._why: Ints = np.empty(0, np.int64)
        self._defined: Bools = np.empty(0, bool)
        self._definition: Label = np.empty((0, 2), np.int64)
        self._reasons: list[str] = []
        self._index: dict[str, int] = {}

    def __len__(self) -> int:
        return self._n

    def fresh(self, n: int) -> Label:
        """A label of ``n`` new atoms, one a position."""
        new = np.arange(self._n, self._n + n)
        self._n += n
        if self._n > len(self._parent):
            self._grow(max(1024, 2 * self._n))
        self._parent[new] = new
        self._axis[new] = self._axes
        self._axes += 1
        return new[:, None]

    def axis(self, atoms: Ints) -> Ints:
        """A number for the dimension each atom was made for: heads and the channels of a head have two."""
        return self._axis[atoms]

    def freeze(self, label: Label, why: str) -> None:
        """None of these positions is ever cut. The first reason given for an atom is kept."""
        if not label.size:
            return
        rows = self.resolve(label)
        self._freeze(rows[rows >= 0], why)

    def why(self, label: Label) -> list[str]:
        """The reasons why atoms of ``label`` are frozen, the most frequent first."""
        reached = self._leaves(label)
        reasons = self._why[reached[self._frozen[reached]]]
        found, counts = np.unique(reasons, return_counts=True)
        return [self._reasons[i] for i in found[np.argsort(-counts, kind="stable")]]

    def resolve(self, label: Label) -> Label:
        """``label`` in atoms that are neither tied to a smaller one, nor defined, nor frozen.

        Rows are sorted with the atoms first and have no atom twice; the width is that of the fullest row.
        """
        rows = label
        while rows.size:
            rows = self._find(rows)
            held = rows >= 0
            rows = np.where(held & self._frozen[rows], NONE, rows)
            defined = (rows >= 0) & self._defined[rows]
            columns = np.flatnonzero(defined.any(axis=0))
            if not len(columns):
                break
            parts = [np.where(defined[:, [c]], self._definition[rows[:, c]], NONE) for c in columns]
            rows = _compact(np.concatenate([np.where(defined, NONE, rows), *parts], axis=1))
        return _compact(rows)

    def unify(self, a: Label, b: Label, why: str) -> Label:
        """Make position ``i`` of ``a`` and of ``b`` be cut together, for every ``i``; return their common label.

        ``why``: what met here, for the report on what is frozen.
        """
        if len(a) != len(b):
            raise ValueError(f"labels of {len(a)} and {len(b)} positions cannot be tied ({why})")
        if a is b:
            return a
        while True:
            a, b = self.resolve(a), self.resolve(b)
            if a.shape == b.shape and bool((a == b).all()):
                return a
            only_a, only_b = _without(a, b), _without(b, a)
            count_a, count_b = (only_a >= 0).sum(axis=1), (only_b >= 0).sum(axis=1)
            lone = (count_a == 0) | (count_b == 0)
            extra = np.concatenate([only_a[lone].ravel(), only_b[lone].ravel()])
            if (extra >= 0).any():  # nothing there to go with: e.g. channels that meet a padding of zeros
                self._freeze(extra[extra >= 0], why)
                continue
            pairs = (count_a == 1) & (count_b == 1)
            if pairs.any():
                self._tie(only_a[pairs].max(axis=1), only_b[pairs].max(axis=1))
                continue
            if self._define_all(only_a, only_b, (count_a == 1) & (count_b > 1)):
                continue
            if self._define_all(only_b, only_a, (count_b == 1) & (count_a > 1)):
                continue
            if self._tie_alike(only_a, only_b):
                continue
            rest = np.concatenate([only_a.ravel(), only_b.ravel()])
            self._freeze(rest[rest >= 0], f"{why}: two different ways to divide the same channels")

    def merge(self, labels: Sequence[Label]) -> Label:
        """The label of several dimensions flattened into one, the last running fastest."""
        sizes = [len(label) for label in labels]
        columns = []
        for index, label in enumerate(labels):
            before, after = int(np.prod(sizes[:index])), int(np.prod(sizes[index + 1 :]))
            columns.append(np.tile(np.repeat(label, after, axis=0), (before, 1)))
        return np.concatenate(columns, axis=1) if columns else unlabelled(1)

    def split(self, label: Label, sizes: Sequence[int], why: str) -> list[Label]:
        """Labels of the dimensions that a dimension is viewed as; the inverse of :meth:`merge`.

        A position of a new dimension stands for a whole slice of the old one. Atoms that are spread over a slice
        belong to its dimension; an atom of which no single dimension tells is defined by one new atom in each.
        """
        n, sizes = len(label), tuple(int(size) for size in sizes)
        if n != int(np.prod(sizes)):
            raise ValueError(f"{n} positions cannot be viewed as {sizes} ({why})")
        rows = self.resolve(label)
        if not rows.size:
            return [unlabelled(size) for size in sizes]
        real = [axis for axis, size in enumerate(sizes) if size > 1]
        if not real:
            self.freeze(rows, why)
        if len(real) <= 1:
            return [rows if axis in real else unlabelled(size) for axis, size in enumerate(sizes)]
        coordinates = np.stack(np.unravel_index(np.arange(n), sizes), axis=1)
        position, column = np.nonzero(rows >= 0)
        atoms, inverse = np.unique(rows[position, column], return_inverse=True)
        at = coordinates[position]
        total = np.bincount(inverse)
        spread = {}  # whether an atom, where it is, is all along an axis
        for axis in real:
            others = np.delete(np.arange(len(sizes)), axis)
            line = np.ravel_multi_index(tuple(at[:, others].T), [sizes[o] for o in others])
            per_atom = n // sizes[axis]
            lines = np.bincount(np.unique(inverse * per_atom + line) // per_atom, minlength=len(atoms))
            spread[axis] = total == lines * sizes[axis]
        varies = np.stack([~spread[axis] for axis in real], axis=1)
        shared = varies.sum(axis=1) > 1
        parts: dict[int, list[tuple[Ints, Ints]]] = {axis: [] for axis in real}
        for index, axis in enumerate(real):
            mine = (varies[:, index] & ~shared)[inverse]
            parts[axis].append((at[mine, axis], atoms[inverse[mine]]))
        if shared.any():
            self._divide(atoms, inverse, at, varies & shared[:, None], real, sizes, parts)
        split = [
            _from_pairs(size, parts[axis]) if axis in parts else unlabelled(size) for axis, size in enumerate(sizes)
        ]
        self.unify(self.merge(split), label, why)
        return [self.resolve(part) for part in split]

    def removed(self, label: Label, cut: Bools) -> Bools:
        """Which positions go when the atoms marked in ``cut`` ``[len(self)]`` go."""
        rows = self.resolve(label)
        return np.asarray(np.where(rows >= 0, cut[rows], False).any(axis=1), dtype=bool)

    def _divide(
        self,
        atoms: Ints,
        inverse: Ints,
        at: Label,
        varies: Bools,
        real: Sequence[int],
        sizes: Sequence[int],
        parts: dict[int, list[tuple[Ints, Ints]]],
    ) -> None:
        """Define each atom that varies along several axes by one new atom on each of them."""
        new = {axis: self.fresh(sizes[axis])[:, 0] for axis in real}
        definition = np.full((len(atoms), len(real)), NONE)
        for index, axis in enumerate(real):
            mine = varies[inverse, index]
            if not mine.any():
                continue
            which, where = inverse[mine], at[mine, axis]
            first = np.full(len(atoms), -1)
            first[which[::-1]] = where[::-1]
            self._tie(new[axis][where], new[axis][first[which]])  # one atom: all places it is in go together
            definition[:, index] = np.where(varies[:, index], new[axis][first], NONE)
            places = np.unique(where)
            parts[axis].append((places, new[axis][places]))
        chosen = np.flatnonzero(varies.any(axis=1))
        self._define(atoms[chosen], definition[chosen])

    def _define_all(self, single: Label, several: Label, mask: Bools) -> bool:
        """Define the one atom of each masked row of ``single`` by the atoms of the same row of ``several``."""
        if not mask.any():
            return False
        names, first = np.unique(single[mask].max(axis=1), return_index=True)
        meanings = several[mask][first]
        # No circles: those that name each other come in the next turn.
        free = np.asarray(~np.isin(meanings, names).any(axis=1))
        if not free.any():
            free[0] = True
        self._define(names[free], meanings[free])
        return True

    def _tie_alike(self, a: Label, b: Label) -> bool:
        """Tie atoms of ``a`` and ``b`` that are in exactly the same rows: heads with heads, channels with channels."""
        marks = np.random.default_rng(0).integers(1, 2**62, len(a), dtype=np.uint64)
        sums = []
        for rows in (a, b):
            position, column = np.nonzero(rows >= 0)
            atoms, inverse = np.unique(rows[position, column], return_inverse=True)
            total = np.zeros(len(atoms), np.uint64)
            np.add.at(total, inverse, marks[position])
            values, first = np.unique(total, return_index=True)
            sums.append((values, atoms[first]))
        both, ia, ib = np.intersect1d(sums[0][0], sums[1][0], return_indices=True)
        if not len(both):
            return False
        self._tie(sums[0][1][ia], sums[1][1][ib])
        return True

    def _tie(self, a: Ints, b: Ints) -> None:
        """Make pairs of atoms one; only free ones are ever tied."""
        while True:
            a, b = self._find(a), self._find(b)
            apart = a != b
            if not apart.any():
                return
            a, b = a[apart], b[apart]
            low, high = np.minimum(a, b), np.maximum(a, b)
            np.minimum.at(self._parent, high, low)
            a, b = low, self._parent[high]  # apart still where one atom was tied to several

    def _define(self, names: Ints, meanings: Label) -> None:
        width = meanings.shape[1]
        if width > self._definition.shape[1]:
            more = np.full((len(self._definition), width - self._definition.shape[1]), NONE)
            self._definition = np.concatenate([self._definition, more], axis=1)
        self._definition[names] = NONE
        self._definition[names, :width] = meanings
        self._defined[names] = True

    def _freeze(self, atoms: Ints, why: str) -> None:
        new = atoms[~self._frozen[atoms]]
        self._why[new] = self._index.setdefault(why, len(self._index))
        if len(self._index) > len(self._reasons):
            self._reasons.append(why)
        self._frozen[new] = True

    def _find(self, atoms: Ints) -> Ints:
        found = atoms
        while True:
            up = np.where(found >= 0, self._parent[found], NONE)
            if np.array_equal(up, found):
                break
            found = up
        held = atoms >= 0
        self._parent[atoms[held]] = found[held]  # path compression
        return found

    def _leaves(self, label: Label) -> Ints:
        """Every atom that ``label`` stands on, frozen ones too."""
        found = np.unique(self._find(np.unique(label[label >= 0])))
        while True:
            more = self._definition[found[self._defined[found]]].ravel()
            wider = np.unique(self._find(np.union1d(found, more[more >= 0])))  # those of a definition may be tied
            if len(wider) == len(found):
                return found
            found = wider

    def _grow(self, capacity: int) -> None:
        more = capacity - len(self._parent)
        self._parent = np.concatenate([self._parent, np.zeros(more, np.int64)])
        self._axis = np.concatenate([self._axis, np.zeros(more, np.int64)])
        self._frozen = np.concatenate([self._frozen, np.zeros(more, bool)])
        self._why = np.concatenate([self._why, np.zeros(more, np.int64)])
        self._defined = np.concatenate([self._defined, np.zeros(more, bool)])
        self._definition = np.concatenate(
            [self._definition, np.full((more, self._definition.shape[1]), NONE, np.int64)]
        )


def _compact(rows: Label) -> Label:
    """Rows sorted with the atoms first, each once; no wider than the fullest row."""
    if rows.shape[1] > 1:
        rows = -np.sort(-rows, axis=1)
        twice = np.zeros(rows.shape, bool)
        twice[:, 1:] = (rows[:, 1:] == rows[:, :-1]) & (rows[:, 1:] >= 0)
        if twice.any():
            rows = -np.sort(-np.where(twice, NONE, rows), axis=1)
    return rows[:, : int((rows >= 0).sum(axis=1).max(initial=0))]


def _without(rows: Label, others: Label) -> Label:
    """``rows`` less the atoms that the same row of ``others`` has."""
    if not rows.shape[1] or not others.shape[1]:
        return rows
    return np.where((rows[:, :, None] == others[:, None, :]).any(axis=2), NONE, rows)


def _from_pairs(n: int, pairs: Sequence[tuple[Ints, Ints]]) -> Label:
    """The label of ``n`` positions with these (position, atom) pairs, each of which may come many times."""
    position = np.concatenate([p for p, _ in pairs]) if pairs else np.empty(0, np.int64)
    atoms = np.concatenate([a for _, a in pairs]) if pairs else np.empty(0, np.int64)
    if not len(position):
        return unlabelled(n)
    beyond = int(atoms.max()) + 1
    position, atoms = np.divmod(np.unique(position * beyond + atoms), beyond)
    counts = np.bincount(position, minlength=n)
    starts = np.array([0, *accumulate(counts)])[:-1]
    rows = np.full((n, int(counts.max())), NONE)
    rows[position, np.arange(len(position)) - starts[position]] = atoms
    return rows
