"""How much deeper, wider and finer a network of ``s`` times the multiply-accumulates is to be, by each rule.

A convolution's multiply-accumulates grow with depth, the square of the width and the square of the resolution, and its
activations with depth, width and the square of the resolution. So every rule's factors have d w² r² = s, but one whose
resolution ends (:func:`resnet_rs`).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from sartor.errors import InputError


@dataclass(frozen=True)
class Factors:
    """Of depth, width and resolution (pixels a side)."""

    depth: float
    width: float
    resolution: float

    @property
    def macs(self) -> float:
        return self.depth * self.width**2 * self.resolution**2

    @property
    def activations(self) -> float:
        return self.depth * self.width * self.resolution**2


Rule = Callable[[float], Factors]
"""The factors for ``s`` times the multiply-accumulates."""


def compound(depth: float, width: float, resolution: float) -> Rule:
    """The rule that shares the growth of multiply-accumulates so. ``compound(1, 1, 1)``: in three equal parts.

    Raises InputError for shares that are negative, or all zero.
    """
    shares = (depth, width, resolution)
    total = sum(shares)
    if not all(math.isfinite(share) and share >= 0 for share in shares) or not total:
        raise InputError(f"shares of depth, width and resolution are numbers from 0 on, and one is more, not {shares}")
    return lambda s: Factors(s ** (depth / total), s ** (width / total / 2), s ** (resolution / total / 2))


def fast(alpha: float = 0.8) -> Rule:
    """Fast compound scaling (P396, arXiv:2103.06877 §5.2): width takes ``alpha`` of the growth, depth and resolution
    half of the rest each. Activations grow as s^(1 - alpha/2): s^0.6, close to the root, where equal parts have s^0.83.
    Raises InputError for an alpha outside of 0 to 1."""
    if not 0 <= alpha <= 1:
        raise InputError(f"alpha is the width's share of the growth, from 0 to 1, not {alpha}")
    return compound((1 - alpha) / 2, alpha, (1 - alpha) / 2)


def efficientnet() -> Rule:
    """EfficientNet's compound scaling (arXiv:1905.11946 §3.3): depth 1.2^φ, width 1.1^φ, resolution 1.15^φ."""
    return compound(math.log(1.2), 2 * math.log(1.1), 2 * math.log(1.15))


PIXELS_SHARE = math.log(2**2) / math.log(27.9)
"""Of ResNet-RS's growth, what resolution takes: from ResNet-RS-50 at 160 pixels to 420 at 320, of 27.9 times its
multiply-accumulates as counted here, the square of the pixels a side grows 4 times."""
MOST_PIXELS = 2.0
"""ResNet-RS ends at twice its first resolution; EfficientNets go to 2.7 times theirs."""


def resnet_rs(*, overfits: bool = True) -> Rule:
    """ResNet-RS's two rules (P050, arXiv:2103.07579 §6): where networks overfit (long trainings, little data, as with
    ImageNet's 350 epochs there) they grow in depth, elsewhere in width; and resolution grows slowly, to twice as many
    pixels a side at most.

    The paper gives a family and no formula: the share of the resolution is read off it (``PIXELS_SHARE``).
    """

    def rule(s: float) -> Factors:
        pixels = min(MOST_PIXELS, max(1 / MOST_PIXELS, s ** (PIXELS_SHARE / 2)))
        rest = s / pixels**2
        return Factors(rest, 1.0, pixels) if overfits else Factors(1.0, math.sqrt(rest), pixels)

    return rule


RULES: dict[str, Rule] = {
    "fast": fast(),
    "uniform": compound(1, 1, 1),
    "efficientnet": efficientnet(),
    "depth": compound(1, 0, 0),
    "width": compound(0, 1, 0),
    "resolution": compound(0, 0, 1),
    "depth-width": compound(1, 1, 0),
    "resnet-rs": resnet_rs(),
    "resnet-rs-wide": resnet_rs(overfits=False),
}
