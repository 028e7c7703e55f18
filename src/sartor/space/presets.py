"""Ready spaces, as plain functions of a few numbers."""

from __future__ import annotations

import math

from sartor.errors import InputError
from sartor.space.choice import Choice
from sartor.space.space import Space

OPERATORS = ("mbconv", "fused", "residual", "pooled")
"""The operators a stage can be built of, cheapest in MACs first."""


def conv_space(
    resolution: int,
    *,
    width: int = 64,
    depth: int = 2,
    operators: tuple[str, ...] = OPERATORS,
) -> Space:
    """The factorised hierarchical space of MnasNet (P277, arXiv:1807.11626 §4.1): decisions are made per stage, so a
    stage's blocks agree and stages differ.

    Per stage: operator (MBConv, fused-MBConv, regular 3x3 residual, the same that halves by max pooling),
    squeeze-excite, kernel 3/5/7, expansion, width, depth; and the input resolution. ``width`` is the widest first
    stage; later stages double it. ``depth`` is the deepest stage. The last of ``operators`` is the largest arch's.
    The number of stages follows from ``resolution`` (pixels, a side): each halves, down to a few pixels.

    Widths are multiples of 16, the block of the CPU's vector kernels. The residual blocks are 3x3 only: their two
    dense kernels would cost 2.8 (5x5) and 5.4 (7x7) times as much.
    Raises InputError for a resolution under 8 or an unknown operator.
    """
    if resolution < 8:
        raise InputError(f"images of {resolution} pixels a side are too small: at least 8 are needed")
    unknown = set(operators) - set(OPERATORS)
    if unknown or not operators:
        raise InputError(f"unknown operators {sorted(unknown)}: choose from {', '.join(OPERATORS)}")
    choices = [Choice("resolution", _resolutions(resolution)), Choice("stem.width", _widths(width // 2))]
    for stage in range(stages(resolution)):
        name = f"s{stage}"
        choices += [
            Choice(f"{name}.op", tuple(dict.fromkeys(operators))),
            Choice(f"{name}.width", _widths(width * 2**stage)),
            Choice(f"{name}.depth", tuple(range(1, depth + 1))),
            Choice(f"{name}.se", (False, True)),
        ]
        inverted = tuple(o for o in ("mbconv", "fused") if o in operators)
        if inverted:
            choices.append(Choice(f"{name}.expand", (1, 2, 4), when=(f"{name}.op", inverted)))
            choices.append(Choice(f"{name}.kernel", (3, 5, 7), when=(f"{name}.op", inverted)))
    return Space(tuple(choices))


def stages(resolution: int) -> int:
    """How many stages a resolution gets: 2 up to 22 pixels, 3 up to 45, 4 up to 90, 5 from there on."""
    return max(2, min(5, round(math.log2(resolution)) - 2))


def _resolutions(full: int) -> tuple[int, ...]:
    """Full size, three quarters and five eighths of it, in multiples of 4: enough to trade pixels for time."""
    if full < 16:
        return (full,)
    return tuple(sorted({max(8, round(full * share / 4) * 4) for share in (0.625, 0.75, 0.875)} | {full}))


def _widths(largest: int) -> tuple[int, ...]:
    """Eighths of ``largest``, in multiples of 16."""
    return tuple(sorted({max(16, round(largest * eighths / 128) * 16) for eighths in range(1, 9)}))
