"""Rules of a grammar, and what each of its sorts can come to in how low a derivation."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import count
from typing import Any, TypeAlias

from sartor.errors import InputError
from sartor.records import Option

Sort: TypeAlias = Any
"""What may stand at a place, and what is known there: a symbol, a shape. Hashable."""
Result: TypeAlias = Any
"""What a derivation came to, as far as its siblings must know: a shape, or None. Hashable."""
Results = frozenset[Result]
Made = tuple[Result, ...]
"""What the parts of a rule that are there came to, in order."""


@dataclass(frozen=True)
class Part:
    """A part that a rule opens: its ``label`` among the rule's parts, its ``sort``, and what it may come to, where not
    everything will do."""

    label: str
    sort: Sort
    wanted: Results | None = None


@dataclass(frozen=True)
class Done:
    """A rule has all of its parts, and comes to ``result``."""

    result: Result = None


@dataclass(frozen=True, eq=False)
class Rule:
    """One way to derive a sort, called ``option`` in an arch; drawn in proportion to ``weight``. ``after(made)`` is the
    next part, the end, or None where parts that came to this cannot stand together."""

    option: Option
    after: Callable[[Made], Part | Done | None]
    weight: float = 1.0


@dataclass(frozen=True)
class Chart:
    """The ``rules`` of every sort that a start leads to, and the height of the lowest derivation of each sort that
    comes to each result: ``least[sort][result]``."""

    rules: Mapping[Sort, tuple[Rule, ...]]
    least: Mapping[Sort, Mapping[Result, int]]


def charted(start: Sort, rules: Callable[[Sort], tuple[Rule, ...]], height: int) -> Chart:
    """The chart of a grammar within ``height``. Raises InputError where a sort has two rules of one name.

    Facts in the order of their heights, each told once to whoever waits for it: Knuth's generalisation of Dijkstra's
    algorithm (1977, 10.1016/0020-0190(77)90002-3), with rules opened as an agenda parser opens them.
    """
    known: dict[Sort, tuple[Rule, ...]] = {}
    least: dict[Sort, dict[Result, int]] = {}
    waiting: dict[Sort, list[tuple[Sort, Rule, Made, int, Results | None]]] = {}
    agenda: list[tuple[int, int, Sort, Result]] = []
    turn = count()  # ties in the order of discovery: sorts and results need no order of their own
    todo: list[tuple[Sort, Rule, Made, int]] = []

    def begin(sort: Sort) -> None:
        known[sort] = tuple(rules(sort))
        least[sort], waiting[sort] = {}, []
        if len({rule.option for rule in known[sort]}) != len(known[sort]):
            raise InputError(f"{sort!r} has two rules of one name: {[rule.option for rule in known[sort]]}")
        todo.extend((sort, rule, (), 0) for rule in known[sort])

    def go_on() -> None:
        while todo:
            owner, rule, made, tall = todo.pop()
            step = rule.after(made)
            if isinstance(step, Done):
                if tall < height and step.result not in least[owner]:
                    heapq.heappush(agenda, (tall + 1, next(turn), owner, step.result))
            elif step is not None:
                if step.sort not in known:
                    begin(step.sort)
                waiting[step.sort].append((owner, rule, made, tall, step.wanted))
                for result, lowest in least[step.sort].items():
                    if step.wanted is None or result in step.wanted:
                        todo.append((owner, rule, (*made, result), max(tall, lowest)))

    begin(start)
    go_on()
    while agenda:
        tall, _, sort, result = heapq.heappop(agenda)
        if result not in least[sort]:
            least[sort][result] = tall
            for owner, rule, made, other, wanted in waiting[sort]:
                if wanted is None or result in wanted:
                    todo.append((owner, rule, (*made, result), max(tall, other)))
            go_on()
    return Chart(known, least)
