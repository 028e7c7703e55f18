"""Spaces of layers in a row, each with an operator of its own: FBNet and NAS-Bench-Macro."""

from __future__ import annotations

from collections.abc import Sequence

from sartor.space.choice import Choice
from sartor.space.space import Space

FBNET_OPERATORS = ("skip", "k3_e1_g2", "k5_e1_g2", "k3_e1", "k5_e1", "k3_e3", "k5_e3", "k3_e6", "k5_e6")
"""Kernel, expansion, groups of the 1x1 convolutions; cheapest in MACs first."""
FBNET_TABLED = ("k3_e1", "k3_e1_g2", "k3_e3", "k3_e6", "k5_e1", "k5_e1_g2", "k5_e3", "k5_e6", "skip")
"""The same in the order of Table 2, which numbers them in published tables."""
FBNET_LAYERS = (1, 4, 4, 4, 4, 4, 1)

MACRO_OPERATORS = ("identity", "mb3_k3", "mb6_k5")
"""Of the digits 0, 1 and 2: nothing, and inverted residuals of expansion 3 and 6 with kernels 3 and 5."""
MACRO_LAYERS = (2, 3, 3)


def fbnet_space() -> Space:
    """FBNet (Wu et al., arXiv:1812.03443 §3.1, Tables 1 and 2): 22 layers, nine blocks for each: ``layer0`` to
    ``layer21``, 9²² networks. A skip is a choice everywhere, as the paper counts."""
    return Space(tuple(Choice(f"layer{i}", FBNET_OPERATORS) for i in range(sum(FBNET_LAYERS))))


def nas_bench_macro() -> Space:
    """NAS-Bench-Macro's 6,561 networks (Su et al., arXiv:2103.11922 §4.2): eight layers, ``layer0`` to ``layer7``,
    whose options are the digits of the benchmark's names, places in MACRO_OPERATORS."""
    digits = tuple(range(len(MACRO_OPERATORS)))
    return Space(tuple(Choice(f"layer{i}", digits) for i in range(sum(MACRO_LAYERS))))


def numbered(name: str, options: Sequence[object]) -> dict[str, object]:
    """``{name0: options[0], name1: …}``."""
    return {f"{name}{i}": option for i, option in enumerate(options)}
