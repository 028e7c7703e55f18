"""Operators that read tensors at positions other tensors name. A dimension read so keeps all its positions."""

from __future__ import annotations

from sartor.graph.atoms import Atoms, Label, unlabelled
from sartor.graph.call import Call, Dims, Value
from sartor.graph.rules.elementwise import broadcast


def embedding(atoms: Atoms, call: Call) -> Dims:
    weight, indices = call["weight"], call["indices"]
    atoms.freeze(weight.dims[0], f"{call.why}: rows are told by their number")
    return (*indices.dims, weight.dims[1])


def index(atoms: Atoms, call: Call) -> Dims:
    """x[:, i, j]: dimensions with an index go, those of the indices, broadcast, come in their place."""
    value: Value = call["self"]
    given: list[Value | None] = list(call["indices"])
    given += [None] * (value.rank - len(given))
    for label, at in zip(value.dims, given, strict=False):
        if at is not None:
            atoms.freeze(label, f"{call.why}: positions are told by their number")
    named = [i for i, at in enumerate(given) if at is not None]
    tensors = [at for at in given if at is not None]
    if any(at.boolean for at in tensors):
        raise NotImplementedError("an index that is a mask: how many positions it leaves depends on the data")
    rank = max(at.rank for at in tensors)
    together = named == list(range(named[0], named[-1] + 1))
    first = named[0] if together else 0
    kept: list[Label] = [label for i, label in enumerate(value.dims) if i not in named]
    new = broadcast(atoms, [at.dims for at in tensors], call.shape[first : first + rank], call.why)
    return (*kept[:first], *new, *kept[first:])


def index_select(atoms: Atoms, call: Call) -> Dims:
    value = call["self"]
    axis = call["dim"] % value.rank
    atoms.freeze(value.dims[axis], f"{call.why}: positions are told by their number")
    at = call["index"].dims
    return (*value.dims[:axis], at[0] if at else unlabelled(1), *value.dims[axis + 1 :])


def one_hot(atoms: Atoms, call: Call) -> Dims:
    return (*call["self"].dims, unlabelled(call.shape[-1]))


def gather(atoms: Atoms, call: Call) -> Dims:
    """Along ``dim`` positions are told by their number; the other dimensions of the index run over a part of theirs."""
    value, at = call["self"], call["index"]
    axis = call["dim"] % value.rank
    atoms.freeze(value.dims[axis], f"{call.why}: positions are told by their number")
    dims: list[Label] = []
    for i, (label, own) in enumerate(zip(value.dims, at.dims, strict=True)):
        if i == axis:
            dims.append(own)
        elif len(label) == len(own):
            dims.append(atoms.unify(label, own, call.why))
        else:
            atoms.freeze(label, f"{call.why}: only the first positions are read")
            dims.append(own)
    return tuple(dims)


RULES = {
    "aten.embedding.default": embedding,
    "aten.index.Tensor": index,
    "aten.index_select.default": index_select,
    "aten.gather.default": gather,
    "aten.one_hot.default": one_hot,
}
