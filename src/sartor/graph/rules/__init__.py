"""What each operator does to the labels of its tensors: one function an operator, one table of all.

A rule is ``rule(atoms, call) -> labels`` of the tensor the call returns (a list of them where it returns several). It
ties what must be cut together with ``atoms.unify``, freezes what must stay with ``atoms.freeze``, and says which labels
its output has. An operator without a rule freezes every tensor it takes.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from sartor.graph.atoms import Atoms
from sartor.graph.call import Call
from sartor.graph.rules import (
    attention,
    contract,
    create,
    elementwise,
    index,
    join,
    normalise,
    recurrent,
    reduce,
    shape,
    spatial,
    spectral,
)

Rule = Callable[[Atoms, Call], Any]

RULES: dict[str, Rule] = {
    **elementwise.RULES,
    **shape.RULES,
    **join.RULES,
    **contract.RULES,
    **attention.RULES,
    **normalise.RULES,
    **reduce.RULES,
    **spatial.RULES,
    **index.RULES,
    **create.RULES,
    **recurrent.RULES,
    **spectral.RULES,
}
"""By the operator's name with its overload, as ``str(node.target)`` has it."""
