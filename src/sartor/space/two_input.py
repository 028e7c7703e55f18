"""Cells that hear two inputs, stacked as normal and reduction cells: DARTS's space and NASNet's. What an arch plans."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import combinations

from sartor.errors import InputError
from sartor.records import Option
from sartor.space.choice import Choice
from sartor.space.space import Space

CELLS = ("normal", "reduce")
"""The two cells an arch describes: one keeps the resolution, the other halves it and doubles the channels."""

DARTS_OPERATORS = (
    "none",
    "max_pool_3x3",
    "avg_pool_3x3",
    "skip_connect",
    "sep_conv_3x3",
    "sep_conv_5x5",
    "dil_conv_3x3",
    "dil_conv_5x5",
)
"""The eight of DARTS (arXiv:1806.09055 §3.1), in its order and by its names."""

NASNET_OPERATORS = (
    "skip_connect",
    "avg_pool_3x3",
    "max_pool_3x3",
    "max_pool_5x5",
    "max_pool_7x7",
    "conv_1x1",
    "conv_3x3",
    "conv_1x3_3x1",
    "conv_1x7_7x1",
    "dil_conv_3x3",
    "sep_conv_3x3",
    "sep_conv_5x5",
    "sep_conv_7x7",
)
"""The thirteen of NASNet (arXiv:1707.07012 §3), small before large, in DARTS's spelling."""


@dataclass(frozen=True)
class Step:
    """A new state: two earlier ones, 0 the output of the last cell but one, 1 that of the last, 2 the first new one;
    an operator on each; and how the results meet, ``add`` or ``concat``."""

    inputs: tuple[int, int]
    operators: tuple[str, str]
    combine: str = "add"


@dataclass(frozen=True)
class Plan:
    """A cell: its steps in order, and the states that are concatenated to its output."""

    steps: tuple[Step, ...]
    concat: tuple[int, ...]


def darts_space(*, nodes: int = 4, none: bool = False) -> Space:
    """DARTS's cells: every node adds two operators on two different states before it, and the output is all nodes.

    Liu et al., arXiv:1806.09055 §2.1 and §3.1. ``none``: whether an operator may be no edge at all; derived cells
    have none (§2.4), so that there are (∏ k(k+1)/2 · 7²)² archs, about 10¹⁸ of four nodes.
    """
    if nodes < 1:
        raise InputError(f"a cell has at least one node, not {nodes}")
    operators = DARTS_OPERATORS if none else DARTS_OPERATORS[1:]
    choices = []
    for cell in CELLS:
        for node in range(nodes):
            pairs = tuple(f"{a},{b}" for a, b in combinations(range(node + 2), 2))
            choices.append(Choice(f"{cell}.{node}.inputs", pairs))
            choices += [Choice(f"{cell}.{node}.op{side}", operators) for side in range(2)]
    return Space(tuple(choices))


def nasnet_space(*, blocks: int = 5, combine: tuple[str, ...] = ("add",)) -> Space:
    """NASNet's cells: every block draws two states, the same one even, and an operator on each (Zoph et al.,
    arXiv:1707.07012 §3.1, steps 1 to 5). There are (∏ (b+2)² · 13² · combinations)² archs.

    ``combine``: ways in which the results meet. Deviation: ``add`` alone; the paper's ``concat``, which none of its
    best cells has, is there by ``combine=("add", "concat")``.
    """
    if blocks < 1 or not combine or not set(combine) <= {"add", "concat"}:
        raise InputError(f"a cell has blocks, not {blocks}, that meet by add or concat, not {combine}")
    choices = []
    for cell in CELLS:
        for block in range(blocks):
            for side in range(2):
                choices.append(Choice(f"{cell}.{block}.input{side}", tuple(range(block + 2))))
                choices.append(Choice(f"{cell}.{block}.op{side}", NASNET_OPERATORS))
            choices.append(Choice(f"{cell}.{block}.combine", combine))
    return Space(tuple(choices))


def plan(arch: Mapping[str, Option], cell: str) -> Plan:
    """The ``cell`` (``normal`` or ``reduce``) of an arch of either space.

    A DARTS cell's output is all its nodes. A NASNet cell's is every state that no block hears, the cell's two inputs
    included, as the authors' code has it; so that nothing is built in vain.
    Raises InputError where the arch has no such cell.
    """
    darts = f"{cell}.0.inputs" in arch
    if not darts and f"{cell}.0.input0" not in arch:
        raise InputError(f"the arch has no {cell} cell: give one of darts_space or nasnet_space")
    steps: list[Step] = []
    while (name := f"{cell}.{len(steps)}") + ".op0" in arch:
        operators = (str(arch[f"{name}.op0"]), str(arch[f"{name}.op1"]))
        if darts:
            first, second = (int(part) for part in str(arch[f"{name}.inputs"]).split(","))
            steps.append(Step((first, second), operators))
        else:
            inputs = (int(arch[f"{name}.input0"]), int(arch[f"{name}.input1"]))
            steps.append(Step(inputs, operators, str(arch[f"{name}.combine"])))
    states = range(2 if darts else 0, len(steps) + 2)
    heard = set() if darts else {state for step in steps for state in step.inputs}
    return Plan(tuple(steps), tuple(state for state in states if state not in heard))
