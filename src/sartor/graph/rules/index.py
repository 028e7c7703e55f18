"""Operators that read tensors at positions other tensors name. A dimension read so keeps all its positions."""

from __future__ import annotations

import numpy as np

from sartor.graph.atoms import Atoms, Label, unlabelled
from sartor.graph.call import Call, Dims, Value
from sartor.graph.rules.elementwise import broadcast


def embedding(atoms: Atoms, call: Call) -> Dims:
    weight, indices = call["weight"], call["indices"]
    atoms.freeze(weight.dims[0], f"{call.why}: rows are told by their number")
    return (*indices.dims, weight.dims[1])


def index(atoms: Atoms, call: Call) -> Dims:
    """x[:, i, j]: dimensions with an index go, those of the indices, broadcast, come in their place. A mask takes as
    many as it has, and leaves one: as many positions as the data say."""
    masks = [at for at in call["indices"] if at is not None and at.boolean]
    if not masks:
        return _read(atoms, call)
    if len([at for at in call["indices"] if at is not None]) > 1:
        raise NotImplementedError("a mask beside other indices")
    value, mask = call["self"], masks[0]
    axis = next(i for i, at in enumerate(call["indices"]) if at is not None)
    for label in (*value.dims[axis : axis + mask.rank], *mask.dims):
        atoms.freeze(label, f"{call.why}: positions are told by their number")
    return (*value.dims[:axis], unlabelled(call.shape[axis]), *value.dims[axis + mask.rank :])


def found(atoms: Atoms, call: Call) -> list[Dims] | Dims:
    """nonzero, unique, bincount: what is found, and how much of it, depends on the data; all of it stays."""
    for value in call.tensors():
        for label in value.dims:
            atoms.freeze(label, f"{call.why}: positions are told by their number")
    out = [tuple(unlabelled(size) for size in shape or ()) for shape in call.shapes]
    return out if len(out) > 1 else out[0]


def placed(atoms: Atoms, call: Call) -> Dims:
    """bucketize, isin, searchsorted in one list: of each entry, where it is among others, which stay."""
    value, others = call.get("self", call.get("elements")), call.tensors()
    if not isinstance(value, Value) or any(other is not value and other.rank > 1 for other in others):
        raise NotImplementedError("in a list for each row")
    for other in others:
        for label in other.dims if other is not value else ():
            atoms.freeze(label, f"{call.why}: positions are told by their number")
    return value.dims


def _read(atoms: Atoms, call: Call) -> Dims:
    value: Value = call["self"]
    given: list[Value | None] = list(call["indices"])
    given += [None] * (value.rank - len(given))
    for label, at in zip(value.dims, given, strict=False):
        if at is not None:
            atoms.freeze(label, f"{call.why}: positions are told by their number")
    named = [i for i, at in enumerate(given) if at is not None]
    tensors = [at for at in given if at is not None]
    together = named == list(range(named[0], named[-1] + 1))
    first = named[0] if together else 0
    kept: list[Label] = [label for i, label in enumerate(value.dims) if i not in named]
    shape = np.broadcast_shapes(*(at.shape for at in tensors))
    new = broadcast(atoms, [at.dims for at in tensors], shape, call.why)
    return (*kept[:first], *new, *kept[first:])


def index_put(atoms: Atoms, call: Call) -> Dims:
    """x[:, i, j] = y: what is written is laid out like what would be read there. A mask takes as many dimensions as it
    has, and leaves one."""
    value, written = call["self"], call["values"]
    why = f"{call.why}: positions are told by their number"
    given = [at for at in call["indices"] if at is not None]
    for at in given:
        for label in at.dims:
            atoms.freeze(label, why)
    if not any(at.boolean for at in given):
        dims = _read(atoms, call)
        broadcast(atoms, [dims, written.dims], tuple(len(label) for label in dims), call.why)
        return value.dims
    if any(size > 1 for size in written.shape):
        if len(given) > 1:
            raise NotImplementedError("a mask beside other indices")
        first = next(i for i, at in enumerate(call["indices"]) if at is not None)
        rest = value.dims[first + given[0].rank :]
        n = written.shape[-len(rest) - 1] if written.rank > len(rest) else 1
        dims = (*value.dims[:first], unlabelled(n), *rest)
        broadcast(atoms, [dims, written.dims], tuple(len(label) for label in dims), call.why)
    axis = 0
    for at in call["indices"]:
        width = at.rank if at is not None and at.boolean else 1
        for label in value.dims[axis : axis + width] if at is not None else ():
            atoms.freeze(label, why)
        axis += width
    return value.dims


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


def take_along(atoms: Atoms, call: Call) -> Dims:
    """take_along_dim: :func:`gather`, whose index may be broadcast."""
    if call["dim"] is None:
        raise NotImplementedError("of all entries in a row")
    arguments = {"self": call["self"], "index": call["indices"], "dim": call["dim"]}
    return gather(atoms, Call(call.op, arguments, call.shapes, call.where))


def scatter(atoms: Atoms, call: Call) -> Dims:
    """The inverse of :func:`gather`: positions along ``dim`` are told by their number; the other dimensions are the
    same in all three, or the index runs over a part of them."""
    value, at, written = call["self"], call["index"], call.get("src")
    axis = call["dim"] % value.rank
    others = [at, written] if isinstance(written, Value) else [at]
    for i, label in enumerate(value.dims):
        for other in others:
            if i != axis and len(other.dims[i]) == len(label):
                atoms.unify(label, other.dims[i], call.why)
            else:
                atoms.freeze(label, f"{call.why}: positions are told by their number")
                atoms.freeze(other.dims[i], f"{call.why}: positions are told by their number")
    return value.dims


def index_add(atoms: Atoms, call: Call) -> Dims:
    """index_add, index_copy, index_fill: rows along ``dim`` are told by their number; the others are the same."""
    value, written = call["self"], call.get("source")
    axis = call["dim"] % value.rank if value.rank else 0
    for label in (*value.dims[axis : axis + 1], *call["index"].dims):
        atoms.freeze(label, f"{call.why}: positions are told by their number")
    for i, label in enumerate(written.dims if isinstance(written, Value) else ()):
        if i == axis:
            atoms.freeze(label, f"{call.why}: positions are told by their number")
        else:
            atoms.unify(label, value.dims[i], call.why)
    return value.dims


def embedding_bag(atoms: Atoms, call: Call) -> list[Dims]:
    """Rows of the table summed, averaged, or the largest of: [bags, width]. The rest is for the backward pass."""
    weight = call["weight"]
    for label in (weight.dims[0], *call["indices"].dims, *call["offsets"].dims):
        atoms.freeze(label, f"{call.why}: rows are told by their number")
    first, *rest = call.shapes
    assert first is not None
    more = [tuple(unlabelled(size) for size in shape or ()) for shape in rest]
    return [(unlabelled(first[0]), weight.dims[1]), *more]


RULES = {
    "aten.embedding.default": embedding,
    "aten.index.Tensor": index,
    "aten.index_select.default": index_select,
    "aten.gather.default": gather,
    "aten.one_hot.default": one_hot,
    "aten.index_put.default": index_put,
    **dict.fromkeys((f"aten.scatter.{form}" for form in ("src", "value", "reduce", "value_reduce")), scatter),
    "aten.scatter_add.default": scatter,
    "aten.scatter_reduce.two": scatter,
    **dict.fromkeys(("aten.index_add.default", "aten.index_copy.default", "aten.index_reduce.default"), index_add),
    **dict.fromkeys(("aten.index_fill.int_Scalar", "aten.index_fill.int_Tensor"), index_add),
    "aten.embedding_bag.padding_idx": embedding_bag,
    "aten._unsafe_index.Tensor": index,
    "aten.take_along_dim.default": take_along,
    **dict.fromkeys(
        (
            *(f"aten.{name}.default" for name in ("nonzero", "nonzero_numpy", "nonzero_static", "where")),
            *(f"aten.{name}.default" for name in ("masked_select", "bincount", "histc", "multinomial")),
            *(f"aten.{name}.default" for name in ("_unique2", "unique_dim", "unique_consecutive")),
        ),
        found,
    ),
    **dict.fromkeys(
        (
            "aten.bucketize.Tensor",
            "aten.searchsorted.Tensor",
            "aten.isin.Tensor_Tensor",
            "aten.isin.Tensor_Scalar",
        ),
        placed,
    ),
}
