"""What a constant of an exported file stands for: which dimensions of the graph explain how cuts change it."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from sartor.errors import InputError
from sartor.graph import Cut, Graph
from sartor.graph.atoms import Label
from sartor.graph.kept import Kept

MULTIPLES = (2, 3, 4, 6, 8, 9, 12, 16)
"""Of a dimension that a number may be: an offset into queries, keys and values is one or two times their size."""

POWERS = (1.0, -1.0, 0.5, -0.5, 0.25, -0.25)
"""Of a dimension that a factor may be: means divide by it, attention by its root, queries and keys by that of it."""

MOST_TRIED = 4096
"""Combinations of dimensions that a weight is compared with."""


class Rule(Protocol):
    """What a cut makes of a constant's value."""

    @property
    def key(self) -> Any:
        """Equal where rules are."""

    def apply(self, value: np.ndarray, kept: Kept) -> np.ndarray: ...


@dataclass(frozen=True, eq=False)
class Entries:
    """Along each dimension the entries go that go of its label; all stay where it is None."""

    labels: tuple[Label | None, ...]

    @property
    def key(self) -> Any:
        return tuple(id(label) for label in self.labels)

    def apply(self, value: np.ndarray, kept: Kept) -> np.ndarray:
        for axis, label in enumerate(self.labels):
            rows = None if label is None else kept.rows(label)
            if rows is not None:
                value = value.compress(rows, axis)
        return value


@dataclass(frozen=True, eq=False)
class Count:
    """A whole number: ``times`` as many as are left of the first ``upto`` positions of ``label``, and ``over`` as many
    parts of it; of a sum, the other number in ``plus``."""

    label: Label
    upto: int
    times: int = 1
    over: int = 1
    plus: Count | int = 0

    def of_all(self, cuts: Sequence[Kept]) -> tuple[int, ...]:
        return tuple(self.of(kept) for kept in cuts)

    @property
    def key(self) -> Any:
        plus = self.plus if isinstance(self.plus, int) else self.plus.key
        return id(self.label), self.upto, self.times, self.over, plus

    def of(self, kept: Kept) -> int:
        rows = kept.rows(self.label)
        left = self.upto if rows is None else int(rows[: self.upto].sum())
        return left * self.times // self.over + (self.plus if isinstance(self.plus, int) else self.plus.of(kept))


@dataclass(frozen=True, eq=False)
class Counted:
    """Whole numbers, each a count or itself."""

    shape: tuple[int, ...]
    dtype: np.dtype
    numbers: tuple[Count | int, ...]

    @property
    def key(self) -> Any:
        return tuple(number if isinstance(number, int) else number.key for number in self.numbers)

    def of(self, kept: Kept) -> np.ndarray:
        found = [number if isinstance(number, int) else number.of(kept) for number in self.numbers]
        return np.array(found, self.dtype).reshape(self.shape)

    def apply(self, value: np.ndarray, kept: Kept) -> np.ndarray:
        return self.of(kept)


@dataclass(frozen=True, eq=False)
class Factor:
    """A number that is ``power`` of how much is left of a dimension."""

    label: Label
    power: float

    @property
    def key(self) -> Any:
        return id(self.label), self.power

    def apply(self, value: np.ndarray, kept: Kept) -> np.ndarray:
        return np.asarray(value * (kept.count(self.label) / len(self.label)) ** self.power, value.dtype)


class Matcher:
    """Finds the rule of a constant from what it is in the whole network's file and in those of ``cuts``."""

    def __init__(self, graph: Graph, cuts: Sequence[Cut], imagined: Sequence[Cut] = ()):
        self._kept = [graph.kept(cut) for cut in cuts]
        self._imagined = [graph.kept(cut) for cut in imagined]
        self._labels: dict[tuple[int, ...], dict[bytes, Label]] = {}
        # Groups too: numbers of heads and of groups of channels need not be dimensions of anything.
        for label in (*(group.atoms[:, None] for group in graph.groups), *graph.labels):
            counts = (len(label), *(kept.count(label) for kept in self._kept))
            if any(count != len(label) for count in counts):
                rows = b"".join(_rows(kept, label).tobytes() for kept in self._kept)
                self._labels.setdefault(counts, {}).setdefault(rows, label)

    def rule(self, value: np.ndarray, others: Sequence[np.ndarray]) -> Rule | None:
        """None where no cut changes it. Raises InputError where no rule explains what they do."""
        if all(value.shape == other.shape and np.array_equal(value, other) for other in others):
            return None
        if any(value.ndim != other.ndim for other in others):
            raise _unknown(value)
        if any(value.shape != other.shape for other in others):
            return self._entries(value, others)
        if value.dtype.kind in "iu":
            rows = zip(value.reshape(-1).tolist(), *(other.reshape(-1).tolist() for other in others), strict=True)
            return Counted(value.shape, value.dtype, tuple(self._number(row) for row in rows))
        if value.size == 1:
            return self._factor(value, others)
        raise _unknown(value)

    def _entries(self, value: np.ndarray, others: Sequence[np.ndarray]) -> Entries:
        options: list[list[Label | None]] = []
        for sizes in zip(value.shape, *(other.shape for other in others), strict=True):
            same = all(size == sizes[0] for size in sizes)
            options.append([None] if same else list(self._labels.get(sizes, {}).values()))
        right = {}
        for labels in itertools.islice(itertools.product(*options), MOST_TRIED):
            rule = Entries(labels)
            found = (rule.apply(value, kept) for kept in self._kept)
            if all(np.allclose(a, b, rtol=1e-5, atol=1e-7) for a, b in zip(found, others, strict=True)):
                right[
                    tuple(_rows(kept, la).tobytes() for la in labels if la is not None for kept in self._imagined)
                ] = rule
        if len(right) != 1:
            raise _unknown(value)
        return next(iter(right.values()))

    def _number(self, row: tuple[int, ...]) -> Count | int:
        if len(set(row)) == 1:
            return row[0]
        for kind in (self._plain, self._multiples, self._prefixes, self._sums):
            found = {count.of_all(self._imagined): count for count in kind(row)}
            if len(found) == 1:
                return next(iter(found.values()))
            if found:
                raise InputError(
                    f"several dimensions could be the number {row[0]} of the file: its cuts are exported anew"
                )
        raise InputError(f"no dimension explains the number {row[0]} of the file: its cuts are exported anew")

    def _plain(self, row: tuple[int, ...]) -> Iterator[Count]:
        return (Count(label, row[0]) for label in self._of_counts(row))

    def _multiples(self, row: tuple[int, ...]) -> Iterator[Count]:
        for times in MULTIPLES:
            if all(number % times == 0 for number in row):
                for label in self._of_counts(tuple(number // times for number in row)):
                    yield Count(label, row[0] // times, times)
            for label in self._of_counts(tuple(number * times for number in row)):
                yield Count(label, row[0] * times, over=times)

    def _prefixes(self, row: tuple[int, ...]) -> Iterator[Count]:
        for label in self._all():
            if 0 < row[0] < len(label):
                count = Count(label, row[0])
                if count.of_all(self._kept) == row[1:]:
                    yield count

    def _sums(self, row: tuple[int, ...]) -> Iterator[Count]:
        for counts, labels in self._labels.items():
            rest = tuple(number - count for number, count in zip(row, counts, strict=True))
            for label in labels.values():
                if len(set(rest)) == 1:
                    yield Count(label, counts[0], plus=rest[0])
                for other in self._of_counts(rest):
                    yield Count(label, counts[0], plus=Count(other, rest[0]))

    def _factor(self, value: np.ndarray, others: Sequence[np.ndarray]) -> Factor:
        found = {}
        for label, power in itertools.product(self._all(), POWERS):
            rule = Factor(label, power)
            if all(
                np.allclose(rule.apply(value, kept), other, rtol=1e-5)
                for kept, other in zip(self._kept, others, strict=True)
            ):
                found[tuple(float(rule.apply(value, kept).reshape(-1)[0]) for kept in self._imagined)] = rule
        if len(found) != 1:
            raise _unknown(value)
        return next(iter(found.values()))

    def _of_counts(self, counts: tuple[int, ...]) -> Iterable[Label]:
        return self._labels.get(counts, {}).values()

    def _all(self) -> Iterable[Label]:
        return (label for labels in self._labels.values() for label in labels.values())


def _rows(kept: Kept, label: Label) -> np.ndarray:
    rows = kept.rows(label)
    return np.ones(len(label), bool) if rows is None else rows


def _unknown(value: np.ndarray) -> InputError:
    shape = "x".join(map(str, value.shape)) or "one number"
    return InputError(f"no dimensions explain how a constant of the file ({shape}) is cut: cuts are exported anew")
