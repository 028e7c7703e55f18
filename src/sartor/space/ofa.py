"""Once-for-All's MobileNetV3 space: elastic depth, kernel, expansion and resolution."""

from __future__ import annotations

from collections.abc import Sequence

from sartor.space.choice import Choice
from sartor.space.space import Space

STAGES = 5
DEPTHS = (2, 3, 4)
KERNELS = (3, 5, 7)
EXPANSIONS = (3, 4, 6)
RESOLUTIONS = tuple(range(128, 225, 4))


def ofa_space(*, resolutions: Sequence[int] = RESOLUTIONS) -> Space:
    """Once-for-All (Cai et al., arXiv:1908.09791 §3): five stages of two to four blocks, each block with its kernel and
    expansion; what is deeper than its stage is no choice. 7,371 to the power of 5 networks, each at ``resolutions``
    (pixels a side).

    Choices: ``resolution``; of stage s ``depth{s}``; of its block i ``kernel{4 s + i}`` and ``expand{4 s + i}``, the
    order in which OFA's own lists have them.
    """
    choices = [Choice("resolution", tuple(resolutions))]
    most = DEPTHS[-1]
    for stage in range(STAGES):
        choices.append(Choice(f"depth{stage}", DEPTHS))
        for block in range(most):
            when = None if block < DEPTHS[0] else (f"depth{stage}", tuple(d for d in DEPTHS if d > block))
            choices.append(Choice(f"kernel{most * stage + block}", KERNELS, when))
            choices.append(Choice(f"expand{most * stage + block}", EXPANSIONS, when))
    return Space(tuple(choices))
