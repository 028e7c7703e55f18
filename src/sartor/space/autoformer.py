"""AutoFormer's space of vision transformers: one width, and of each layer its heads and the ratio of its perceptron."""

from __future__ import annotations

from dataclasses import dataclass

from sartor.space.choice import Choice
from sartor.space.space import Space


@dataclass(frozen=True)
class Ranges:
    """What a space's dimensions range over. S3 (P254, arXiv:2111.14725 §3.2) moves these while it searches."""

    widths: tuple[int, ...]
    depths: tuple[int, ...]
    heads: tuple[int, ...]
    ratios: tuple[float, ...]


TINY = Ranges((192, 216, 240), (12, 13, 14), (3, 4), (3.5, 4.0))
SMALL = Ranges((320, 384, 448), (12, 13, 14), (5, 6, 7), (3.0, 3.5, 4.0))
BASE = Ranges((528, 576, 624), (14, 15, 16), (8, 9, 10), (3.0, 3.5, 4.0))


def autoformer_space(ranges: Ranges = TINY) -> Space:
    """AutoFormer (arXiv:2107.00651 §3.3, Table 1): ``width``, ``depth``, and of layer i ``heads{i}``, whose queries,
    keys and values have 64 channels each, and ``ratio{i}``, hidden channels of the perceptron over the width.

    TINY, SMALL and BASE are the paper's three supernets. Its AutoFormer-T has ratios of 3, and so is no arch of TINY.
    """
    choices = [Choice("width", ranges.widths), Choice("depth", ranges.depths)]
    for layer in range(max(ranges.depths)):
        deeper = tuple(depth for depth in ranges.depths if depth > layer)
        when = None if deeper == ranges.depths else ("depth", deeper)
        choices += [Choice(f"heads{layer}", ranges.heads, when), Choice(f"ratio{layer}", ranges.ratios, when)]
    return Space(tuple(choices))
