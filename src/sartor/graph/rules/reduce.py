"""Operators that leave one number of a dimension. Of one that is cut, only what is kept counts."""

from __future__ import annotations

from collections.abc import Sequence

from sartor.graph.atoms import Atoms, Label, unlabelled
from sartor.graph.call import Call, Dims, Value


def axes_of(call: Call, value: Value) -> list[int]:
    given = call.get("dim", call.get("axis"))
    if given is None or given == []:
        return list(range(value.rank))
    return [axis % value.rank for axis in ([given] if isinstance(given, int) else given)] if value.rank else []


def reduced(value: Value, axes: Sequence[int], keepdim: bool) -> Dims:
    dims: list[Label] = []
    for axis, label in enumerate(value.dims):
        if axis not in axes:
            dims.append(label)
        elif keepdim:
            dims.append(unlabelled(1))
    return tuple(dims)


def reduction(atoms: Atoms, call: Call) -> Dims:
    value = call.tensors()[0]
    return reduced(value, axes_of(call, value), bool(call.get("keepdim", False)))


def reductions(atoms: Atoms, call: Call) -> list[Dims]:
    return [reduction(atoms, call) for _ in call.shapes]


def positions(atoms: Atoms, call: Call) -> Dims:
    """argmax: which position it was is an answer that a cut would change."""
    value = call.tensors()[0]
    for axis in axes_of(call, value):
        atoms.freeze(value.dims[axis], f"{call.why}: positions are told by their number")
    return reduction(atoms, call)


def values_and_positions(atoms: Atoms, call: Call) -> list[Dims]:
    """max, min: where only the value is read, it is that of what is kept."""
    if call.used is not None and 1 not in call.used:
        return reductions(atoms, call)
    return medians(atoms, call)


def medians(atoms: Atoms, call: Call) -> list[Dims]:
    return [positions(atoms, call) for _ in call.shapes]


def quantiles(atoms: Atoms, call: Call) -> Dims:
    """One of every number that is asked for, in front; which position it was, the others tell: all of them stay."""
    dims, asked = positions(atoms, call), call["q"]
    if not isinstance(asked, Value):
        return dims
    for label in asked.dims:
        atoms.freeze(label, f"{call.why}: positions are told by their number")
    return (*(unlabelled(size) for size in asked.shape), *dims)


def norm(atoms: Atoms, call: Call) -> Dims:
    """Of a vector, or of all entries; a matrix's own only where zeros change nothing: not the smallest of something."""
    order = call.get("ord", call.get("p"))
    if isinstance(order, (int, float)) and order < 0:
        raise NotImplementedError(f"a norm of order {order}")
    return reduction(atoms, call)


def ranked(atoms: Atoms, call: Call) -> list[Dims]:
    """topk, sort: the positions found have no labels."""
    value = call.tensors()[0]
    axis = call.get("dim", -1) % value.rank
    atoms.freeze(value.dims[axis], f"{call.why}: positions are told by their number")
    out: list[Dims] = []
    for shape in call.shapes:
        assert shape is not None
        out.append((*value.dims[:axis], unlabelled(shape[axis]), *value.dims[axis + 1 :]))
    return out


RULES = {
    **dict.fromkeys(
        (
            "aten.mean.default",
            "aten.mean.dim",
            "aten.sum.default",
            "aten.sum.dim_IntList",
            "aten.amax.default",
            "aten.amin.default",
            "aten.max.default",
            "aten.min.default",
            "aten.logsumexp.default",
            "aten.all.default",
            "aten.any.default",
            "aten.any.dim",
            "aten.all.dim",
            "aten.all.dims",
            "aten.any.dims",
            "aten.count_nonzero.default",
            "aten.count_nonzero.dim_IntList",
            "aten.nansum.default",
            "aten.frobenius_norm.dim",
            "aten.var.default",
            "aten.var.dim",
            "aten.var.correction",
            "aten.std.default",
            "aten.std.dim",
            "aten.std.correction",
            "aten.prod.default",
            "aten.prod.dim_int",
        ),
        reduction,
    ),
    **dict.fromkeys(
        (
            *(f"aten.{name}_mean.{form}" for name in ("var", "std") for form in ("default", "dim", "correction")),
            "aten.aminmax.default",
        ),
        reductions,
    ),
    **dict.fromkeys(("aten.argmax.default", "aten.argmin.default"), positions),
    **dict.fromkeys(("aten.median.default", "aten.nanmedian.default", "aten.nanmean.default"), positions),
    **dict.fromkeys(("aten.quantile.default", "aten.quantile.scalar"), quantiles),
    **dict.fromkeys(
        (
            "aten.linalg_norm.default",
            "aten.linalg_vector_norm.default",
            "aten.norm.Scalar",
            "aten.norm.ScalarOpt_dim",
            "aten.linalg_norm.ord_str",
            "aten.linalg_matrix_norm.default",
            "aten.linalg_matrix_norm.str_ord",
        ),
        norm,
    ),
    **dict.fromkeys(("aten.max.dim", "aten.min.dim"), values_and_positions),
    **dict.fromkeys(("aten.median.dim", "aten.nanmedian.dim", "aten.mode.default", "aten.kthvalue.default"), medians),
    **dict.fromkeys(("aten.topk.default", "aten.sort.default", "aten.sort.stable"), ranked),
}
