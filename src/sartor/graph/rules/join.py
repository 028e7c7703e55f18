"""Operators that put tensors beside each other, or take them apart along one dimension."""

from __future__ import annotations

import numpy as np

from sartor.graph.atoms import NONE, Atoms, Label, unlabelled
from sartor.graph.call import SPLITS, Call, Dims, Value
from sartor.graph.rules.elementwise import broadcast


def stacked(labels: list[Label]) -> Label:
    """Labels one after the other along the same dimension."""
    width = max((label.shape[1] for label in labels), default=0)
    padded = [np.pad(label, ((0, 0), (0, width - label.shape[1])), constant_values=NONE) for label in labels]
    return np.concatenate(padded) if padded else unlabelled(0)


def cat(atoms: Atoms, call: Call) -> Dims:
    values = [value for value in call["tensors"] if value.shape != (0,)]  # torch lets empty ones through
    axis = call.get("dim", 0) % values[0].rank
    dims = []
    for i, size in enumerate(call.shape):
        if i == axis:
            dims.append(stacked([value.dims[i] for value in values]))
        else:
            dims.append(broadcast(atoms, [(value.dims[i],) for value in values], (size,), call.why)[0])
    return tuple(dims)


def stack(atoms: Atoms, call: Call) -> Dims:
    values: list[Value] = call["tensors"]
    axis = call.get("dim", 0) % (values[0].rank + 1)
    dims = broadcast(atoms, [value.dims for value in values], values[0].shape, call.why)
    return (*dims[:axis], unlabelled(len(values)), *dims[axis:])


def hstack(atoms: Atoms, call: Call) -> Dims:
    axis = {"hstack": 1, "vstack": 0, "dstack": 2}[call.op.split(".")[1]]
    values: list[Value] = call["tensors"]
    if values[0].rank <= axis or axis == 0:
        raise NotImplementedError(f"{call.op} of tensors of {values[0].rank} dimensions")
    return cat(atoms, Call(call.op, {"tensors": values, "dim": axis}, call.shapes, call.where))


def split(atoms: Atoms, call: Call) -> list[Dims]:
    """split, chunk, tensor_split, split_with_sizes: the parts have the rows they are made of."""
    value = call["self"]
    axis = call.get("dim", 0) % value.rank
    parts: list[Dims] = []
    start = 0
    for shape in call.shapes:
        assert shape is not None
        label = value.dims[axis][start : start + shape[axis]]
        parts.append((*value.dims[:axis], label, *value.dims[axis + 1 :]))
        start += shape[axis]
    return parts


def unbind(atoms: Atoms, call: Call) -> list[Dims]:
    value = call["self"]
    axis = call.get("dim", 0) % value.rank
    atoms.freeze(value.dims[axis], f"{call.why}: each position is used by itself")
    rest = (*value.dims[:axis], *value.dims[axis + 1 :])
    return [rest for _ in call.shapes]


def select(atoms: Atoms, call: Call) -> Dims:
    value = call["self"]
    axis, index = call["dim"] % value.rank, call["index"]
    position = np.arange(len(value.dims[axis]))[index]
    atoms.freeze(value.dims[axis][[position]], f"{call.why}: this position is used by itself")
    return (*value.dims[:axis], *value.dims[axis + 1 :])


def narrow(atoms: Atoms, call: Call) -> Dims:
    """slice, narrow: a run of rows. With a step, rows go in whole runs of ``step``, so that every step-th one is what
    it was; where runs do not fill the dimension, positions would be told by their number: frozen."""
    value = call["self"]
    axis = call["dim"] % value.rank if value.rank else 0
    label = value.dims[axis]
    if "length" in call.arguments:
        start = call["start"] % max(1, len(label))
        chosen = slice(start, start + call["length"])
    else:
        chosen = slice(call["start"], call["end"], call["step"])
        step, whole = call["step"], call["end"] is None or call["end"] >= len(label)
        if step != 1 and whole and 0 <= (call["start"] or 0) < step and len(label) % step == 0:
            within = atoms.split(label, (len(label) // step, step), call.why)[1]
            atoms.freeze(within, f"{call.why}: every {step}th position is taken")
        elif step != 1:
            atoms.freeze(label, f"{call.why}: every {step}th position is taken")
    return (*value.dims[:axis], label[chosen], *value.dims[axis + 1 :])


def pad(atoms: Atoms, call: Call) -> Dims:
    """Padding is never cut. Padding with what is there tells positions by their number: frozen."""
    value = call["self"]
    amounts = list(call.get("pad", call.get("padding")))
    constant = call.get("mode", "constant") == "constant" and "reflect" not in call.op and "replic" not in call.op
    dims = list(value.dims)
    for i in range(len(amounts) // 2):
        before, after = amounts[2 * i : 2 * i + 2]
        axis = value.rank - 1 - i
        label = dims[axis]
        if not before and not after:
            continue
        if not constant:
            atoms.freeze(label, f"{call.why}: the padding is made of other positions")
        if min(before, after) < 0:
            atoms.freeze(label, f"{call.why}: positions at the ends are dropped")
            dims[axis] = unlabelled(call.shape[axis])
        else:
            dims[axis] = stacked([unlabelled(before), label, unlabelled(after)])
    return tuple(dims)


def roll(atoms: Atoms, call: Call) -> Dims:
    value = call["self"]
    axes = call["dims"] or range(value.rank)
    for axis in axes:
        atoms.freeze(value.dims[axis], f"{call.why}: the order of positions counts")
    return value.dims


def differences(atoms: Atoms, call: Call) -> Dims:
    """diff: neighbours along ``dim``, told by their number."""
    values = [call.get(name) for name in ("prepend", "self", "append") if call.get(name) is not None]
    rank, shape = call["self"].rank, call.shape
    axis = call["dim"] % rank
    for value in values:
        atoms.freeze(value.dims[axis], f"{call.why}: the order of positions counts")
    rows = [
        broadcast(atoms, [(value.dims[i],) for value in values], (shape[i],), call.why)[0]
        for i in range(rank)
        if i != axis
    ]
    return (*rows[:axis], unlabelled(shape[axis]), *rows[axis:])


RULES = {
    "aten.cat.default": cat,
    "aten.concat.default": cat,
    "aten.concatenate.default": cat,
    "aten.hstack.default": hstack,
    "aten.stack.default": stack,
    "aten.select.int": select,
    "aten.slice.Tensor": narrow,
    "aten.narrow.default": narrow,
    "aten.roll.default": roll,
    "aten.diff.default": differences,
    **dict.fromkeys(SPLITS, split),
    "aten.unbind.int": unbind,
    **dict.fromkeys(
        (
            "aten.pad.default",
            "aten.constant_pad_nd.default",
            "aten.reflection_pad1d.default",
            "aten.reflection_pad2d.default",
            "aten.replication_pad1d.default",
            "aten.replication_pad2d.default",
        ),
        pad,
    ),
}
