"""Hierarchical motifs: small graphs whose edges are smaller graphs, down to primitive operations.

Liu et al., P144 (arXiv:1711.00436 §2-3). A motif of level 2 is an acyclic graph whose edges are primitives or absent,
one of level 3 has motifs of level 2 on its edges, and so on; the single motif of the last level is the cell of a
network. A mutation draws a level, a motif of it, a node, one of the nodes before it, and what is on that edge: it adds,
alters or removes an edge. Without torch: :mod:`sartor.models.motifs` builds the networks.

Deviations. A motif whose output hears nothing of its input is no network, so only genotypes all of whose motifs are
connected are in the space, and a mutation that cuts one is drawn again. Samples are uniform over these: what the
paper's walk of 1,000 mutations from the identity tends to.
"""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import product
from math import prod

from sartor.errors import InputError
from sartor.records import Arch, Option
from sartor.space.choice import Choice
from sartor.space.space import Space

ABSENT = "none"
TRIES = 100
"""Mutations drawn before the few that there may be are listed."""
PRIMITIVES = ("identity", "avg_pool3", "max_pool3", "depthwise3", "conv1", "separable3")
"""The paper's six, §4.1."""


@dataclass(frozen=True)
class Motifs(Space):
    """``levels``: of each level from 2 on, how many motifs of how many nodes. The choice ``2.0.1>3`` is what is on the
    edge from node 1 to node 3 of level 2's motif 0: ``none``, or a primitive or a motif of the level below, by name."""

    levels: tuple[tuple[int, int], ...] = ()

    def motifs(self) -> Iterator[tuple[str, int]]:
        """The name of each motif, and its number of nodes: small levels first."""
        for level, (count, nodes) in enumerate(self.levels, start=2):
            for number in range(count):
                yield f"{level}.{number}", nodes

    @property
    def top(self) -> str:
        """The name of the motif that is the cell."""
        return f"{len(self.levels) + 1}.0"

    def edges(self, motif: str) -> list[Choice]:
        """The choices of one motif."""
        return self._edges[motif]

    @cached_property
    def _edges(self) -> dict[str, list[Choice]]:
        found: dict[str, list[Choice]] = {}
        for choice in self.choices:
            found.setdefault(choice.name.rpartition(".")[0], []).append(choice)
        return found

    def links(self, arch: Mapping[str, Option], motif: str) -> dict[tuple[int, int], str]:
        """What is on each edge of ``motif`` that lies on a path from its input to its output: others compute nothing
        that is used."""
        there = {_ends(c.name): str(arch[c.name]) for c in self.edges(motif) if arch[c.name] != ABSENT}
        last = max(_ends(c.name)[1] for c in self.edges(motif))
        heard, used = {0}, {last}
        for _, (start, to) in sorted((edge[1], edge) for edge in there):
            if start in heard:
                heard.add(to)
        for start, to in sorted(there, reverse=True):
            if to in used:
                used.add(start)
        return {(s, t): held for (s, t), held in sorted(there.items()) if s in heard and t in used}

    def canonical(self, options: Mapping[str, Option]) -> Arch:
        """The arch of ``options``. Raises InputError where a motif's output hears nothing of its input."""
        arch = super().canonical(options)
        for motif, _ in self.motifs():
            if not self.links(arch, motif):
                raise InputError(f"motif {motif} has no path from its input to its output: add an edge")
        return arch

    def sample(self, rng: random.Random) -> Arch:
        """Uniform over the connected genotypes: each motif is drawn until it is connected."""
        held: dict[str, Option] = {}
        for motif, _ in self.motifs():
            while True:
                drawn: dict[str, Option] = {c.name: rng.choice(c.options) for c in self.edges(motif)}
                if self.links(drawn, motif):
                    break
            held |= drawn
        return Arch(held)

    def mutate(self, arch: Arch, rng: random.Random, rate: float = 0.1) -> Arch:
        """The paper's mutation, and as many more as ``rate`` of the edges are; never back to ``arch``."""
        found, more = arch, sum(rng.random() < rate for _ in self.choices)
        for _ in range(TRIES):
            for _ in range(1 + more):
                found = self._mutated(found, rng)
            if found != arch:
                return found
        near = list(self.neighbours(arch))  # few edges, or one that would have to change with another
        return rng.choice(near) if near else next((other for other in self.every() if other != arch), arch)

    def _mutated(self, arch: Arch, rng: random.Random) -> Arch:
        """One edge that holds something else, the motif still connected; ``arch`` where what was drawn cuts it."""
        level = rng.randrange(len(self.levels))
        count, nodes = self.levels[level]
        motif = f"{level + 2}.{rng.randrange(count)}"
        to = rng.randrange(1, nodes)
        name = f"{motif}.{rng.randrange(to)}>{to}"
        options = next(choice.options for choice in self.edges(motif) if choice.name == name)
        found = arch.replace(**{name: rng.choice(options)})
        return found if self.links(found, motif) else arch

    def cross(self, a: Arch, b: Arch, rng: random.Random) -> Arch:
        """Each motif from either parent, whole. The paper has no crossover."""
        of = {motif: rng.choice((a, b)) for motif, _ in self.motifs()}
        return Arch({choice.name: of[choice.name.rpartition(".")[0]][choice.name] for choice in self.choices})

    def neighbours(self, arch: Arch) -> Iterator[Arch]:
        return (found for found in super().neighbours(arch) if self.contains(found))

    def smallest(self) -> Arch:
        """Only the edge from input to output is there, in every motif: an identity where that is a primitive."""
        held: dict[str, Option] = {}
        for motif, nodes in self.motifs():
            for choice in self.edges(motif):
                present = [option for option in choice.options if option != ABSENT]
                direct = _ends(choice.name) == (0, nodes - 1)
                held[choice.name] = present[0] if direct or ABSENT not in choice.options else ABSENT
        return self.canonical(held)

    def every(self) -> Iterator[Arch]:
        each = []
        for motif, _ in self.motifs():
            edges = self.edges(motif)
            drawn = ({c.name: o for c, o in zip(edges, held, strict=True)} for held in product(*_options(edges)))
            each.append([held for held in drawn if self.links(held, motif)])
        return (Arch({k: v for held in motifs for k, v in held.items()}) for motifs in product(*each))

    def count(self) -> int:
        """The exact number of connected genotypes: motif by motif, over the sets of nodes that hear the input."""
        return prod(_connected(self.edges(motif), nodes) for motif, nodes in self.motifs())

    def restrict(self, options: Mapping[str, Sequence[Option]]) -> Space:
        found = dataclasses.replace(self, choices=super().restrict(options).choices)
        if not found.count():
            raise InputError("no connected genotype has these options: allow more of an edge")
        return found


def motifs(levels: Sequence[tuple[int, int]] = ((6, 4), (1, 5)), *, primitives: Sequence[str] = PRIMITIVES) -> Motifs:
    """The genotypes with ``levels`` of so many motifs of so many nodes; by default the paper's, §4.1: six motifs of
    four nodes, and a cell of five.

    Raises InputError for levels that are empty, motifs of fewer than two nodes, and a last level of several motifs.
    """
    if not levels or levels[-1][0] != 1 or any(count < 1 or nodes < 2 for count, nodes in levels):
        raise InputError(f"levels are (motifs, nodes from 2 on), the last of one motif, not {list(levels)}")
    unknown = sorted(set(primitives) - set(PRIMITIVES))
    if unknown or not primitives:
        raise InputError(f"primitives are some of {', '.join(PRIMITIVES)}, not {', '.join(unknown) or 'none'}")
    choices, below = [], tuple(p for p in PRIMITIVES if p in primitives)
    for level, (count, nodes) in enumerate(levels, start=2):
        for number in range(count):
            for to in range(1, nodes):
                choices += [Choice(f"{level}.{number}.{start}>{to}", (ABSENT, *below)) for start in range(to)]
        below = tuple(f"{level}.{number}" for number in range(count))
    return Motifs(tuple(choices), tuple((int(c), int(n)) for c, n in levels))


def _ends(name: str) -> tuple[int, int]:
    start, to = name.rpartition(".")[2].split(">")
    return int(start), int(to)


def _options(edges: Sequence[Choice]) -> list[tuple[Option, ...]]:
    return [choice.options for choice in edges]


def _connected(edges: Sequence[Choice], nodes: int) -> int:
    """Assignments with a path from node 0 to the last."""
    ways = {frozenset((0,)): 1}
    for to in range(1, nodes):
        into = {_ends(c.name)[0]: c.options for c in edges if _ends(c.name)[1] == to}
        everything = prod(len(options) for options in into.values())
        found: dict[frozenset[int], int] = {}
        for heard, n in ways.items():
            silent = prod((ABSENT in options) if start in heard else len(options) for start, options in into.items())
            for after, m in ((heard, silent), (heard | {to}, everything - silent)):
                if m:
                    found[after] = found.get(after, 0) + n * m
        ways = found
    return sum(n for heard, n in ways.items() if nodes - 1 in heard)
