"""A space of multi-stage vision transformers."""

from __future__ import annotations

from sartor.errors import InputError
from sartor.space.choice import Choice
from sartor.space.space import Space

PER_HEAD = 8
"""Channels of an attention head, at every width: heads are then a choice of their own."""


def vit_space(resolution: int, *, width: int = 32, depth: int = 3, stages: int = 2) -> Space:
    """The sub-networks of one enlarged network (ViT-ResNAS, P067, arXiv:2109.00642): per stage the width of the
    embedding, heads, expansion of the perceptron and depth.

    ``width`` is the widest first stage; each later stage doubles it on a quarter of the tokens. ``resolution`` (pixels
    a side) is fixed, because positions are learnt. Raises InputError for a width under twice that of a head.
    """
    if width < 2 * PER_HEAD:
        raise InputError(f"width must be at least {2 * PER_HEAD}, not {width}: a head has {PER_HEAD} channels")
    choices = [Choice("resolution", (resolution,))]
    for stage in range(stages):
        widest = width * 2**stage
        widths = sorted({max(PER_HEAD, widest * quarters // 4 // PER_HEAD * PER_HEAD) for quarters in (2, 3, 4)})
        most = widest // PER_HEAD
        choices += [
            Choice(f"s{stage}.width", tuple(widths)),
            Choice(f"s{stage}.heads", tuple(sorted({max(1, most * quarters // 4) for quarters in (1, 2, 3, 4)}))),
            Choice(f"s{stage}.expand", (1, 2, 4)),
            Choice(f"s{stage}.depth", tuple(range(1, depth + 1))),
        ]
    return Space(tuple(choices))
