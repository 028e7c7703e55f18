"""Spaces searched as one: an architecture and its training recipe, a network and how each layer is quantised."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from sartor.errors import InputError
from sartor.records import Arch
from sartor.space.choice import Choice
from sartor.space.constrained import Constrained, Constraint
from sartor.space.derivation import Derivations
from sartor.space.fidelity import Fidelities
from sartor.space.listed import Listed
from sartor.space.space import Space


def join(spaces: Mapping[str, Space]) -> Space:
    """The product of ``spaces``: their choices, named ``key.choice``. :func:`part` takes an arch apart again.

    Constraints go along. Raises InputError where there are none, a key is empty or has a dot, or a space is a list of
    archs, of which what is not there could not be said, a grammar, or has fidelities, which belong to the whole.
    """
    if not spaces:
        raise InputError("nothing to join: give one space at least")
    choices: list[Choice] = []
    constraints: list[Constraint] = []
    for key, space in spaces.items():
        if not key or "." in key:
            raise InputError(f"the name of a joined space must be without dots and not empty, not {key!r}")
        if isinstance(space, Listed):
            raise InputError(f"{key} is a list of archs, which cannot be joined: give a space of choices")
        if isinstance(space, (Derivations, Fidelities)):
            what = "a grammar's space" if isinstance(space, Derivations) else "a space with fidelities"
            raise InputError(f"{key} is {what}, which cannot be joined: join plain spaces of choices")
        if isinstance(space, Constrained):
            for constraint in space.constraints:
                names = tuple(f"{key}.{name}" for name in constraint.choices)
                constraints.append(Constraint(f"{key}.{constraint.name}", names, constraint.holds))
        for choice in space.choices:
            when = None if choice.when is None else (f"{key}.{choice.when[0]}", choice.when[1])
            choices.append(Choice(f"{key}.{choice.name}", choice.options, when))
    return Constrained(tuple(choices), tuple(constraints)) if constraints else Space(tuple(choices))


def part(arch: Mapping[str, str | int | float | bool], key: str) -> Arch:
    """What ``arch`` has of the joined space ``key``: an arch of that space. Raises InputError where it has nothing."""
    found = {name[len(key) + 1 :]: option for name, option in arch.items() if name.startswith(f"{key}.")}
    if not found:
        raise InputError(f"no choice begins with {key}.: the arch is not of a space that was joined as {key!r}")
    return Arch(found)


def with_bits(space: Space, layers: Sequence[str], bits: Sequence[int] = (4, 8)) -> Space:
    """``space`` as ``arch`` and the bits of each of ``layers`` as ``bits``: SimQ-NAS's joint space (P166,
    arXiv:2312.13301). ``linas`` with accuracy and size or latency as its objectives is its search."""
    return join({"arch": space, "bits": Space(tuple(Choice(layer, tuple(bits)) for layer in layers))})
