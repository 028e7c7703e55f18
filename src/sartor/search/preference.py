"""From what a person prefers, and may spend, to the widths of a network of several tasks.

The rule of Efficient Controllable Multi-Task Architectures (P001, arXiv:2308.11744 §3.3): a decoder gets of what the
encoder leaves of the budget as much as its task is preferred; the encoder is searched for. Ours tries encoders of one
share each, where the paper runs an evolution.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from sartor.errors import BudgetError, InputError
from sartor.records import Arch
from sartor.space import Space

Decoders = Mapping[str, Sequence[str]]
"""By task: the names of its decoder's choices. All other choices are the encoder's."""


def preferred(
    space: Space,
    decoders: Decoders,
    preference: Mapping[str, float],
    *,
    macs: Callable[[Arch], int],
    max_macs: int,
    score: Callable[[Arch], Mapping[str, float]],
) -> Arch:
    """The arch of at most ``max_macs`` for a ``preference`` of tasks (numbers of which only the ratios count).

    ``score(arch)``: by task, higher is better; the encoder is the one under which their mean, weighted by the
    preference, is highest. Raises InputError for tasks there are not, BudgetError where nothing is within the budget.
    """
    _check(space, decoders, preference)
    shares = {task: preference[task] / sum(preference.values()) for task in decoders}
    own = {name for names in decoders.values() for name in names}
    places = max(len(choice.options) for choice in space.choices)
    found: list[tuple[float, Arch]] = []
    for place in range(places):
        base = {c.name: c.options[0 if c.name in own else _at(c.options, place, places)] for c in space.choices}
        left = max_macs - macs(space.canonical(base))
        if left < 0:
            continue
        arch = space.canonical(_widened(space, base, decoders, shares, macs, max_macs, left))
        if arch not in [a for _, a in found]:
            scores = score(arch)
            found.append((sum(shares[task] * scores[task] for task in decoders), arch))
    if not found:
        least = macs(space.smallest())
        raise BudgetError(f"{max_macs:,} multiply-accumulates cannot be met: {least:,} is the least")
    return max(found, key=lambda pair: pair[0])[1]


def _widened(
    space: Space,
    base: Mapping[str, Any],
    decoders: Decoders,
    shares: Mapping[str, float],
    macs: Callable[[Arch], int],
    max_macs: int,
    left: int,
) -> dict[str, Any]:
    """``base`` with decoders as wide as their part of what is ``left``; then, the preferred first, as what remains."""
    options = dict(base)
    start = macs(space.canonical(base))
    for whole in (False, True):
        for task in sorted(decoders, key=lambda task: -shares[task]):
            for wider in _levels(space, decoders[task]):
                alone, together = {**base, **wider}, {**options, **wider}
                cost, total = macs(space.canonical(alone)) - start, macs(space.canonical(together))
                grows = all(wider[name] >= options[name] for name in wider)
                if grows and total <= max_macs and (whole or cost <= shares[task] * left):
                    options = together
    return options


def _levels(space: Space, names: Sequence[str]) -> list[dict[str, Any]]:
    """A decoder's options, all as far up in their lists, the smallest first."""
    choices = [choice for choice in space.choices if choice.name in names]
    places = max(len(choice.options) for choice in choices)
    return [{c.name: c.options[_at(c.options, place, places)] for c in choices} for place in range(places)]


def _at(options: Sequence[Any], place: int, places: int) -> int:
    return round(place * (len(options) - 1) / max(1, places - 1))


def _check(space: Space, decoders: Decoders, preference: Mapping[str, float]) -> None:
    known = {choice.name for choice in space.choices}
    for task, names in decoders.items():
        if not names:
            raise InputError(f"the decoder of {task!r} has no choices: name those that widen it")
        for name in names:
            if name not in known:
                raise InputError(f"there is no choice {name!r} in the space, for the decoder of {task!r}")
    twice = [name for name, n in Counter(name for names in decoders.values() for name in names).items() if n > 1]
    if twice:
        raise InputError(f"the choice {twice[0]!r} is named twice: a choice widens one decoder, or the encoder")
    if set(preference) != set(decoders):
        raise InputError(f"a preference is one number for each of {', '.join(sorted(decoders))}")
    if not all(math.isfinite(p) and p >= 0 for p in preference.values()) or not sum(preference.values()) > 0:
        raise InputError(f"a preference is numbers from 0 on, one of them above it, not {dict(preference)}")
