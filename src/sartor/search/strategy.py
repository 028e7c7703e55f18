"""What a strategy is, and what all of them need: archs that nobody has evaluated."""

from __future__ import annotations

import random
from collections.abc import Callable, Collection, Sequence
from typing import TypeAlias

from sartor.errors import InputError
from sartor.records import Arch, Record
from sartor.space.derivation import Derivations
from sartor.space.space import Space

History: TypeAlias = Sequence[Record]
Strategy: TypeAlias = Callable[[Space, History, random.Random, int], list[Arch]]
"""``(space, history, rng, n) -> archs``: up to n archs to evaluate next, most wanted first.

They are distinct, canonical, and not in the history; fewer than n only when the space has no more. A strategy holds no
state: the same history and the same rng state give the same archs, which is what makes resuming a replay.
"""

ENUMERABLE = 100_000
"""Spaces up to this size are listed when drawing finds nothing new; larger ones practically never run dry."""


def declared(space: Space) -> Space:
    """``space``. Raises InputError where its choices are made on the way, as a grammar's are: who models each choice
    must know all of them before."""
    if isinstance(space, Derivations):
        raise InputError(
            "this strategy models choices that are declared, and a grammar's are made on the way: "
            "take random, evolution, local, mcts, bayes or smbo"
        )
    return space


def fresh(
    space: Space,
    propose: Callable[[], Arch],
    rng: random.Random,
    n: int,
    seen: Collection[Arch],
    *,
    patience: int = 20,
) -> list[Arch]:
    """Up to n distinct archs that are not in ``seen``: from ``propose``, and where it repeats itself, drawn at random.

    ``patience`` repeats are borne for each arch wanted. When random draws repeat as well, what is left of a space of up
    to ENUMERABLE archs is listed and drawn from; fewer than n are returned only when nothing is left.
    """
    taken = set(seen)
    found: list[Arch] = []
    for source in (propose, lambda: space.sample(rng)):
        repeats = 0
        while len(found) < n and repeats < patience * n:
            arch = source()
            if arch in taken:
                repeats += 1
                continue
            taken.add(arch)
            found.append(arch)
    if len(found) < n and space.count() <= ENUMERABLE:
        left = [arch for arch in space.every() if arch not in taken]
        found += rng.sample(left, min(n - len(found), len(left)))
    return found
