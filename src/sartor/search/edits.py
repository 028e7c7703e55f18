"""Edits of a network's layers: one put in, one taken out, one option changed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

from sartor.records import Arch, Option
from sartor.space.choice import Choice
from sartor.space.layers import Layer, Layers
from sartor.space.space import Space

KINDS = ("insert", "remove", "scale")


@dataclass(frozen=True)
class Edit:
    """What is done at ``place``: a layer of ``options`` is put in before the one that is there; that one is taken out;
    or it gets ``options`` (one place of an option for each attribute, -1 for one it has not) instead of its own."""

    kind: str
    place: int
    options: tuple[int, ...] = ()


@dataclass(frozen=True)
class Editor:
    """Archs of ``space`` as rows of options, and the edits of them. The layers of a :class:`Layers` are rows; an arch
    of any other space is one, of which nothing can be put in or taken out."""

    space: Space

    @cached_property
    def attributes(self) -> tuple[Choice, ...]:
        return self.space.attributes if isinstance(self.space, Layers) else self.space.choices

    def rows(self, arch: Arch) -> list[tuple[int, ...]]:
        """Of each layer the place of every attribute's option; -1 where it has not that attribute."""
        layers: Sequence[Layer] = self.space.layers(arch) if isinstance(self.space, Layers) else [arch]
        return [
            tuple(a.options.index(layer[a.name]) if a.name in layer else -1 for a in self.attributes)
            for layer in layers
        ]

    def done(self, arch: Arch, edit: Edit) -> Arch:
        """``arch`` after ``edit``."""
        rows = self.rows(arch)
        if edit.kind == "remove":
            del rows[edit.place]
        elif edit.kind == "insert":
            rows.insert(edit.place, edit.options)
        else:
            rows[edit.place] = edit.options
        held = [self._held(row) for row in rows]
        if isinstance(self.space, Layers):
            return self.space.arch_of(held)
        return self.space.decide(lambda choice: held[0].get(choice.name, choice.options[0]))

    def changes(self, arch: Arch) -> list[Edit]:
        """Layers taken out, where one is left, and changed: an attribute of numbers to the next option up or down, any
        other to each of its options."""
        rows = self.rows(arch)
        out = [Edit("remove", i) for i in range(len(rows))] if len(rows) > 1 else []
        return out + [Edit("scale", i, other) for i, row in enumerate(rows) for other in self._scaled(row)]

    def has_room(self, arch: Arch) -> bool:
        """Whether one more layer can be put in."""
        return isinstance(self.space, Layers) and len(self.rows(arch)) < self.space.most

    def between(self, parent: Arch, child: Arch) -> list[Edit]:
        """Every edit that makes ``child`` of ``parent``."""
        before, after = self.rows(parent), self.rows(child)
        if len(after) == len(before) + 1:
            return [Edit("insert", i, row) for i, row in enumerate(after) if before == after[:i] + after[i + 1 :]]
        if len(after) == len(before) - 1:
            return [Edit("remove", i) for i in range(len(before)) if after == before[:i] + before[i + 1 :]]
        if isinstance(self.space, Layers):
            other = [i for i, (a, b) in enumerate(zip(before, after, strict=False)) if a != b]
            if len(before) != len(after) or len(other) != 1 or after[other[0]] not in self._scaled(before[other[0]]):
                return []
            return [Edit("scale", other[0], after[other[0]])]
        return [edit for edit in self.changes(parent) if self.done(parent, edit) == child]  # conditions follow

    def _scaled(self, row: tuple[int, ...]) -> Iterator[tuple[int, ...]]:
        for j, (held, attribute) in enumerate(zip(row, self.attributes, strict=True)):
            if held < 0:
                continue
            size = len(attribute.options)
            others = (held - 1, held + 1) if attribute.ordered else range(size)
            yield from ((*row[:j], other, *row[j + 1 :]) for other in others if other != held and 0 <= other < size)

    def _held(self, row: Sequence[int]) -> dict[str, Option]:
        return {a.name: a.options[place] for a, place in zip(self.attributes, row, strict=True) if place >= 0}
