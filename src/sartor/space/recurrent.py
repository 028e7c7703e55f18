"""A space of recurrent cells: a tree of gated steps, each with a state to start from and an activation."""

from __future__ import annotations

from sartor.errors import InputError
from sartor.space.choice import Choice
from sartor.space.space import Space

ACTIVATIONS = ("identity", "relu", "sigmoid", "tanh")
"""The four of DARTS's recurrent cells (arXiv:1806.09055 §3.1)."""


def recurrent_space(*, nodes: int = 8) -> Space:
    """DARTS's and ENAS's recurrent cells: node i goes on from one of the states 0 to i−1 with one of four activations.

    Liu et al., arXiv:1806.09055 §3.1.2; Pham et al., arXiv:1802.03268 §2.2. nodes! · 4^nodes archs.
    """
    if nodes < 1:
        raise InputError(f"a cell has at least one node, not {nodes}")
    choices = []
    for node in range(1, nodes + 1):
        choices += [Choice(f"{node}.from", tuple(range(node))), Choice(f"{node}.op", ACTIVATIONS)]
    return Space(tuple(choices))
