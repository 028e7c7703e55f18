"""Spaces that are languages: an arch is a derivation tree, and its choices are named by their places in it.

A grammar says which :class:`Rule` may stand at a place of a *sort*. A rule opens parts one after the other, and may
look at what the parts before came to (their *results*, such as the shape of a tensor) to say what the next one is: an
L-attributed grammar. Which results a sort can come to within a height is known beforehand, so that nothing is drawn
that cannot be finished: no dead ends, no backtracking, and the exact probability and number of derivations.

Rejected: a declared choice for every place there could be. Their number grows exponentially with the height.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial

import numpy as np
from numpy.typing import NDArray

from sartor.errors import InputError
from sartor.records import Arch, Option
from sartor.space.chart import Chart, Done, Made, Part, Result, Results, Rule, Sort, charted
from sartor.space.choice import Choice
from sartor.space.graph import INPUT, OUTPUT, ArchGraph, word
from sartor.space.node import Draw, Node, arch_of, below, named, other, same, this, weighted
from sartor.space.projection import PROJECTED, project
from sartor.space.space import Space


@dataclass(frozen=True)
class Derivations(Space):
    """The derivations of ``start`` by ``rules(sort)`` that are at most ``height`` places tall.

    ``choices`` is empty: the choices of an arch are :meth:`made`. Rules come small to large. A mutation derives one
    place anew, and what stood elsewhere stays where it still fits; a crossover puts a part of one parent in the place
    of the other's that has the same sort and came to the same result.

    Raises InputError where nothing can be derived.
    """

    start: Sort = None
    rules: Callable[[Sort], tuple[Rule, ...]] = lambda sort: ()
    height: int = 1
    root: str = "net"

    def __post_init__(self) -> None:
        if self.height < 1 or not self._results(self.start, self.height):
            raise InputError(f"nothing can be derived from {self.start!r} within a height of {self.height}: allow more")

    # -- what can be derived, and in how many ways

    @cached_property
    def _chart(self) -> Chart:
        return charted(self.start, self.rules, self.height)

    def _results(self, sort: Sort, height: int) -> Results:
        """All that a sort can come to."""
        key = (sort, height)
        if key not in self._memo_results:
            found = self._chart.least.get(sort, {})
            self._memo_results[key] = frozenset(r for r, least in found.items() if least <= height)
        return self._memo_results[key]

    def _fits(self, part: Part, height: int) -> Results:
        results = self._results(part.sort, height)
        return results if part.wanted is None else results & part.wanted

    def _can(self, rule: Rule, made: Made, height: int, wanted: Results) -> bool:
        """Whether a rule whose first parts came to ``made`` can come to one of ``wanted``."""
        key = (rule, made, height, wanted)
        if key not in self._memo_can:
            step = rule.after(made)
            if isinstance(step, Done):
                self._memo_can[key] = step.result in wanted
            else:
                self._memo_can[key] = step is not None and any(
                    self._can(rule, (*made, m), height, wanted) for m in self._fits(step, height - 1)
                )
        return self._memo_can[key]

    def _ways(self, sort: Sort, height: int) -> Mapping[Result, int]:
        """In how many ways a sort comes to each of its results."""
        key = (sort, height)
        if key not in self._memo_ways:
            total: dict[Result, int] = {}
            if height > 0:
                for rule in self._chart.rules[sort]:
                    self._add_ways(rule, (), height, 1, total)
            self._memo_ways[key] = total
        return self._memo_ways[key]

    def _add_ways(self, rule: Rule, made: Made, height: int, ways: int, total: dict[Result, int]) -> None:
        step = rule.after(made)
        if isinstance(step, Done):
            total[step.result] = total.get(step.result, 0) + ways
        elif step is not None:
            mine = self._ways(step.sort, height - 1)
            for result in mine if step.wanted is None else step.wanted & mine.keys():
                self._add_ways(rule, (*made, result), height, ways * mine[result], total)

    def count(self) -> int:
        """The exact number of derivations, of any size: by dynamic programming over sorts, results and heights."""
        return sum(self._ways(self.start, self.height).values())

    # -- one derivation

    def _grow(self, name: str, sort: Sort, height: int, wanted: Results, draw: Draw) -> Node:
        """A derivation that comes to one of ``wanted``, which is possible."""
        viable = self._viable(sort, height, wanted)
        rule = draw(name, viable)
        parts: list[Node] = []
        made: Made = ()
        while isinstance(step := rule.after(made), Part):
            fits = self._completing(rule, made, step, height, wanted)
            parts.append(self._grow(f"{name}.{step.label}", step.sort, height - 1, fits, draw))
            made = (*made, parts[-1].result)
        assert step is not None  # what fits was chosen so that the rule ends
        return Node(name, sort, height, wanted, viable, rule, tuple(parts), step.result)

    def _viable(self, sort: Sort, height: int, wanted: Results) -> tuple[Rule, ...]:
        key = (sort, height, wanted)
        if key not in self._memo_viable:
            fit = (rule for rule in self._chart.rules[sort] if self._can(rule, (), height, wanted))
            self._memo_viable[key] = tuple(fit)
        return self._memo_viable[key]

    def _completing(self, rule: Rule, made: Made, step: Part, height: int, wanted: Results) -> Results:
        """What the next part may come to, so that the rule can come to one of ``wanted``."""
        key = (rule, made, height, wanted)
        if key not in self._memo_completing:
            self._memo_completing[key] = frozenset(
                m for m in self._fits(step, height - 1) if self._can(rule, (*made, m), height, wanted)
            )
        return self._memo_completing[key]

    def _derive(self, draw: Draw) -> Node:
        return self._grow(self.root, self.start, self.height, self._results(self.start, self.height), draw)

    def derivation(self, arch: Mapping[str, Option]) -> Node:
        """The tree of ``arch``; places that it does not come to are ignored. Raises InputError where it has no rule
        that fits."""

        def follow(name: str, viable: Sequence[Rule]) -> Rule:
            return named(name, viable, arch.get(name, "absent"))

        return self._derive(follow)

    def spelled(self, options: Sequence[Option]) -> Arch:
        """The arch of the sequence of choices that derives it. Raises InputError where it is none."""
        left = iter(options)

        def follow(name: str, viable: Sequence[Rule]) -> Rule:
            held = next(left, "the end")
            return named(name, viable, held)

        arch = arch_of(self._derive(follow))
        if (more := next(left, None)) is not None:
            raise InputError(f"the derivation is complete before {more!r}: end there")
        return arch

    def canonical(self, options: Mapping[str, Option]) -> Arch:
        """The arch of ``options``: places that are not there are dropped. Raises InputError where one is missing."""
        return arch_of(self.derivation(options))

    def decide(self, pick: Callable[[Choice], Option]) -> Arch:
        """The derivation that ``pick`` leads to, asked at each place with the options that fit there."""

        def follow(name: str, viable: Sequence[Rule]) -> Rule:
            return named(name, viable, pick(Choice(name, tuple(rule.option for rule in viable))))

        return arch_of(self._derive(follow))

    def made(self, arch: Arch) -> tuple[Choice, ...]:
        """The choices of ``arch``, in the order of its derivation, each with the options that fitted there."""
        nodes = self.derivation(arch).walk()
        return tuple(Choice(node.name, tuple(rule.option for rule in node.viable)) for node in nodes)

    def log_probability(self, arch: Arch) -> float:
        """The natural logarithm of the probability with which :meth:`sample` draws ``arch``."""
        return sum(
            math.log(node.rule.weight) - math.log(sum(rule.weight for rule in node.viable))
            for node in self.derivation(arch).walk()
        )

    def sample(self, rng: random.Random) -> Arch:
        """A derivation drawn from the root on, each rule in proportion to its weight among those that can be finished:
        the probabilities of a probabilistic grammar, renormalised at every place."""
        return arch_of(self._derive(lambda _, viable: weighted(viable, rng)))

    def smallest(self) -> Arch:
        """The arch of first options."""
        return arch_of(self._derive(lambda _, viable: viable[0]))

    def largest(self) -> Arch:
        """A derivation with the last options down one side, and the first elsewhere. Deviation from ``Space``: that of
        last options everywhere has as many places as a full tree has leaves."""
        side = self.root

        def last(name: str, viable: Sequence[Rule]) -> Rule:
            nonlocal side
            if name.rpartition(".")[0] in ("", side):
                side = name
                return viable[-1]
            return viable[0]

        return arch_of(self._derive(last))

    # -- from one derivation to another

    def _kept(self, arch: Mapping[str, Option], place: str, new: Draw, rest: Draw) -> Arch:
        """``arch`` with what ``new`` draws at ``place``, and ``rest`` below it and where the old does not fit."""

        def draw(name: str, viable: Sequence[Rule]) -> Rule:
            if name == place:
                return new(name, viable)
            if not name.startswith(place + "."):
                for rule in viable:
                    if same(rule.option, arch.get(name)):
                        return rule
            return rest(name, viable)

        return arch_of(self._derive(draw))

    def mutate(self, arch: Arch, rng: random.Random, rate: float = 0.1) -> Arch:
        """``arch`` with one place derived anew by another rule, and every other that has two with probability ``rate``.
        Places are drawn uniformly, as einspace's are; what comes after and no longer fits is drawn."""
        free = [node.name for node in self.derivation(arch).walk() if len(node.viable) > 1]
        if not free:
            return arch
        forced = rng.choice(free)
        more = [name for name in free if name != forced and not name.startswith(forced + ".") and rng.random() < rate]
        for place in (*more, forced):  # the forced one last, so that the others cannot undo it
            held = arch.get(place)
            if held is None:
                continue
            another = partial(other, held, rng)
            arch = self._kept(arch, place, another, lambda _, viable: weighted(viable, rng))
        return arch

    def cross(self, a: Arch, b: Arch, rng: random.Random) -> Arch:
        """``a`` with one of its parts replaced by one of ``b`` of the same sort and result that is low enough; ``a``
        where there is none."""
        if a == b:
            return a
        given: dict[tuple[Sort, Result], list[tuple[Node, dict[str, Option]]]] = {}
        for node in self.derivation(b).walk():
            if node.name != self.root:
                given.setdefault((node.sort, node.result), []).append((node, below(node)))
        pairs = []
        for mine in self.derivation(a).walk():
            if mine.name != self.root and (like := given.get((mine.sort, mine.result))):
                old = below(mine)
                pairs += [(mine, new) for node, new in like if node.tallness <= mine.height and new != old]
        if not pairs:
            return a
        place, new = rng.choice(pairs)
        kept = {name: option for name, option in a.items() if not f"{name}.".startswith(f"{place.name}.")}
        return Arch(kept | {place.name + name: option for name, option in new.items()})

    def neighbours(self, arch: Arch) -> Iterator[Arch]:
        """The archs with another option in one place; places that are new have their first."""
        first: Draw = lambda _, viable: viable[0]
        for node in self.derivation(arch).walk():
            for rule in node.viable:
                if rule is not node.rule:
                    yield self._kept(arch, node.name, partial(this, rule), first)

    def every(self) -> Iterator[Arch]:
        """Every derivation, in the order of the rules. Of a small space."""

        def of(name: str, sort: Sort, height: int) -> Iterator[tuple[dict[str, Option], Result]]:
            for rule in self._chart.rules[sort] if height > 0 else ():
                if self._can(rule, (), height, self._results(sort, height)):
                    yield from on(name, rule, (), {name: rule.option}, height)

        def on(
            name: str, rule: Rule, made: Made, held: dict[str, Option], height: int
        ) -> Iterator[tuple[dict[str, Option], Result]]:
            step = rule.after(made)
            if isinstance(step, Done):
                yield held, step.result
            elif step is not None:
                for inside, result in of(f"{name}.{step.label}", step.sort, height - 1):
                    if step.wanted is None or result in step.wanted:
                        yield from on(name, rule, (*made, result), held | inside, height)

        return (Arch(held) for held, _ in of(self.root, self.start, self.height))

    def encode(self, arch: Arch) -> NDArray[np.float64]:
        """A vector of fixed length: two random projections, of which option stands at which place, and of which option
        stands in which part of which; then the number of places and the height. Archs differ in it but for the
        accident of a projection; inner products count what two archs share, give or take."""
        root = self.derivation(arch)
        here = [f"{node.name}={node.option!r}" for node in root.walk()]
        pairs = [
            f"{node.option!r}.{part.name.rpartition('.')[2]}={part.option!r}"
            for node in root.walk()
            for part in node.parts
        ]
        size = np.array([len(here), root.tallness], dtype=np.float64)
        return np.concatenate([project(here, PROJECTED), project(pairs, PROJECTED), size])

    def encode_many(self, archs: Sequence[Arch]) -> NDArray[np.float64]:
        """:meth:`encode` of each ``[n, d]``."""
        return np.array([self.encode(arch) for arch in archs]).reshape(len(archs), 2 * PROJECTED + 2)

    def check(self, archs: Sequence[Arch]) -> None:
        """Raises InputError with the first of ``archs`` that is no derivation."""
        for arch in archs:
            if self.canonical(arch) != arch:
                raise InputError(f"{arch} is not an arch of this space: give archs that it drew or contains")

    def codes(self, archs: Sequence[Arch]) -> NDArray[np.int32]:
        raise InputError("derivations have places of their own each: take encode_many or graph")

    def graph(self, arch: Arch) -> ArchGraph:
        """The tree, from its root to its leaves, which lead to the output."""
        nodes = list(self.derivation(arch).walk())
        number = {node.name: i for i, node in enumerate(nodes, 1)}
        links = [(0, 1)]
        for node in nodes:
            parts = [number[part.name] for part in node.parts] or [len(nodes) + 1]
            links += [(number[node.name], part) for part in parts]
        labels = (INPUT, *(word(node.name, node.option) for node in nodes), OUTPUT)
        sizes = (0.0, *(node.viable.index(node.rule) / max(1, len(node.viable) - 1) for node in nodes), 0.0)
        return ArchGraph(labels, (INPUT, *number, OUTPUT), sizes, tuple(sorted(links)))

    def restrict(self, options: Mapping[str, Sequence[Option]]) -> Space:
        raise InputError("a grammar's space is not restricted by choices: give the grammar fewer rules")

    @cached_property
    def _memo_results(self) -> dict[tuple[Sort, int], Results]:
        return {}

    @cached_property
    def _memo_can(self) -> dict[tuple[Rule, Made, int, Results], bool]:
        return {}

    @cached_property
    def _memo_viable(self) -> dict[tuple[Sort, int, Results], tuple[Rule, ...]]:
        return {}

    @cached_property
    def _memo_completing(self) -> dict[tuple[Rule, Made, int, Results], Results]:
        return {}

    @cached_property
    def _memo_ways(self) -> dict[tuple[Sort, int], Mapping[Result, int]]:
        return {}
