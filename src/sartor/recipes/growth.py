"""Small images first: what the early steps of a training learn is cheap to learn from fewer pixels.

Progressive resizing, as in EfficientNetV2's progressive learning (arXiv:2104.00298 §4), without its changes of
regularisation. ``benchmarks/recipe.py --variants base,growing`` compares a growth in four sizes with full size
(docs/log.md). Images under 16 pixels stay as they are.
"""

from __future__ import annotations

import random
from dataclasses import replace

from sartor.space import Space
from sartor.train.schedule import Schedule, Turn

ALONE_UNTIL = 0.5
"""Of the supernet's training: so long the largest arch, where a schedule trains it alone, sees the smallest images."""

SIDES = ((0.0, 0.75), (0.4, 0.875), (0.7, 1.0))
"""(progress, share of the side) of the members' training."""


def growing(schedule: Schedule) -> Schedule:
    """``schedule``, but where it trains nothing than the largest arch it does so at the space's smallest resolution."""

    def turns(space: Space, rng: random.Random, progress: float) -> list[Turn]:
        planned = schedule(space, rng, progress)
        largest = space.largest()
        if progress >= ALONE_UNTIL or len(planned) > 1 or planned[0].arch != largest:
            return planned
        return [replace(planned[0], arch=largest.replace(resolution=space.smallest()["resolution"]))]

    return turns


def side_at(side: int, progress: float) -> int:
    """Pixels a side at ``progress`` of the members' training, for a network of ``side``: a multiple of 4."""
    share = max(at for at in SIDES if at[0] <= progress)[1]
    return side if side < 16 or share == 1.0 else min(side, round(side * share / 4) * 4)
