"""What every criterion ends with: the options that look worst are left out."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TypeAlias

from sartor.errors import InputError
from sartor.records import Option
from sartor.search.objective import Objective
from sartor.search.strategy import History
from sartor.space.space import Space

Criterion: TypeAlias = Callable[[Space, History, Sequence[Objective]], Space]
"""``(space, history, objectives)`` → a space with some of its options."""

Losses: TypeAlias = Mapping[str, Mapping[Option, float]]
"""Choice → option → how much is lost by it; 0 for a choice's best. What was not seen is absent."""


def without_worst(space: Space, losses: Losses, share: float) -> Space:
    """``space`` without the ``share`` of its options that lose most; a choice keeps one at least, and what loses
    nothing stays. Raises InputError where the share is not in [0, 1)."""
    if not 0 <= share < 1:
        raise InputError(f"the share of options to drop must be at least 0 and below 1, not {share!r}")
    kept = {choice.name: list(choice.options) for choice in space.choices}
    ranked = sorted(
        (
            (loss, c.name, o)
            for c in space.choices
            for o in c.options
            if (loss := losses.get(c.name, {}).get(o, 0.0)) > 0
        ),
        key=lambda entry: -entry[0],
    )
    left = round(share * sum(len(options) for options in kept.values()))
    for _, name, option in ranked:
        if not left:
            break
        if len(kept[name]) > 1:
            kept[name].remove(option)
            left -= 1
    return space.restrict(kept)
