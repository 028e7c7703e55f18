"""The numbers in a graph that stand for dimensions, after a cut: sizes of views, splits and groups.

One function an operator: it returns the arguments that change, by the schema's names.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from sartor.graph.atoms import Atoms, Label
from sartor.graph.call import CONVOLUTIONS, SPLITS, Call, Dims

Kept = Callable[[Label], int]
"""How many positions of a label are kept."""
Changed = dict[str, Any]
Constants = Callable[[Atoms, Call, list[Dims], Kept], Changed]


def sizes(name: str) -> Constants:
    """A list of the output's sizes under ``name``; -1 stays what it is."""

    def changed(atoms: Atoms, call: Call, out: list[Dims], kept: Kept) -> Changed:
        given = call[name]
        labels = out[0][len(out[0]) - len(given) :]
        return _if_other(name, given, [s if s == -1 else kept(label) for s, label in zip(given, labels, strict=True)])

    return changed


def unflatten(atoms: Atoms, call: Call, out: list[Dims], kept: Kept) -> Changed:
    axis, given = call["dim"] % call["self"].rank, call["sizes"]
    labels = out[0][axis : axis + len(given)]
    return _if_other("sizes", given, [s if s == -1 else kept(label) for s, label in zip(given, labels, strict=True)])


def split(atoms: Atoms, call: Call, out: list[Dims], kept: Kept) -> Changed:
    """Parts of other sizes: ``split_sizes``, whatever the operator was."""
    axis = call.get("dim", 0) % call["self"].rank
    before = [len(dims[axis]) for dims in out]
    return _if_other("split_sizes", before, [kept(dims[axis]) for dims in out])


def select(atoms: Atoms, call: Call, out: list[Dims], kept: Kept) -> Changed:
    value = call["self"]
    label = value.dims[call["dim"] % value.rank]
    index = range(len(label))[call["index"]]
    return _if_other("index", index, kept(label[:index])) if call["index"] >= 0 else _from_the_end(label, index, kept)


def _from_the_end(label: Label, index: int, kept: Kept) -> Changed:
    return _if_other("index", index - len(label), -kept(label[index:]))


def narrow(atoms: Atoms, call: Call, out: list[Dims], kept: Kept) -> Changed:
    """Bounds as numbers from the start: one from the end counts what was cut before it."""
    value = call["self"]
    axis = call["dim"] % value.rank
    label = value.dims[axis]
    if kept(label) == len(label):
        return {}
    if "length" in call.arguments:
        start = call["start"] % max(1, len(label))
        return {
            **_if_other("start", call["start"], kept(label[:start])),
            **_if_other("length", call["length"], kept(out[0][axis])),
        }
    if call["step"] != 1:
        return {}
    start, end, _ = slice(call["start"], call["end"], 1).indices(len(label))
    new = kept(label[:start]), kept(label[: max(start, end)])
    whole = call["end"] is None or call["end"] >= len(label)
    return {
        **({} if call["start"] is None else _if_other("start", call["start"], new[0])),
        **({} if whole else _if_other("end", call["end"], new[1])),
    }


def tile(atoms: Atoms, call: Call, out: list[Dims], kept: Kept) -> Changed:
    """Repeats of a dimension of one entry make a dimension of their own size."""
    name = "repeats" if "repeats" in call.arguments else "dims"
    times = list(call[name])
    old = call["self"].shape
    shift = len(out[0]) - len(times)
    new = [
        kept(out[0][i + shift]) if i + len(old) < len(times) or old[i - len(times)] == 1 else n
        for i, n in enumerate(times)
    ]
    return _if_other(name, times, new)


def repeated(atoms: Atoms, call: Call, out: list[Dims], kept: Kept) -> Changed:
    """repeat_interleave: callers may say how many entries it makes."""
    given, axis = call["output_size"], call["dim"]
    if given is None:
        return {}
    return _if_other("output_size", given, kept(out[0][0 if axis is None else axis % len(out[0])]))


def convolution(atoms: Atoms, call: Call, out: list[Dims], kept: Kept) -> Changed:
    x, weight, groups = call["input"], call["weight"], call["groups"]
    if groups == 1:
        return {}
    channels = x.dims[x.rank - weight.rank + 1]
    transposed = "transpose" in call.op or bool(call.get("transposed", False))
    side = out[0][x.rank - weight.rank + 1] if transposed else channels
    return _if_other("groups", groups, kept(side) // kept(weight.dims[1]))


def normalized_shape(atoms: Atoms, call: Call, out: list[Dims], kept: Kept) -> Changed:
    given = call["normalized_shape"]
    labels = out[0][len(out[0]) - len(given) :]
    return _if_other("normalized_shape", given, [kept(label) for label in labels])


def group_norm(atoms: Atoms, call: Call, out: list[Dims], kept: Kept) -> Changed:
    channels, groups = out[0][1], call["num_groups"]
    if groups == 1:
        return {}
    outer = atoms.split(channels, (groups, len(channels) // groups), call.why)[0]
    return _if_other("num_groups", groups, kept(outer))


def _if_other(name: str, before: Any, after: Any) -> Changed:
    same = list(before) == list(after) if isinstance(before, Sequence) else before == after
    return {} if same else {name: after}


CONSTANTS: dict[str, Constants] = {
    **dict.fromkeys(
        (
            "aten.view.default",
            "aten._unsafe_view.default",
            "aten.expand.default",
            "aten.broadcast_to.default",
            *(f"aten.{name}.default" for name in ("zeros", "ones", "full", "new_zeros", "new_ones", "new_full")),
            "aten.new_empty.default",
            "aten.empty.memory_format",
        ),
        sizes("size"),
    ),
    "aten.reshape.default": sizes("shape"),
    "aten.unflatten.int": unflatten,
    **dict.fromkeys(SPLITS, split),
    "aten.select.int": select,
    "aten.slice.Tensor": narrow,
    "aten.narrow.default": narrow,
    "aten.repeat.default": tile,
    "aten.tile.default": tile,
    "aten.repeat_interleave.self_int": repeated,
    **dict.fromkeys(CONVOLUTIONS, convolution),
    "aten.layer_norm.default": normalized_shape,
    "aten.rms_norm.default": normalized_shape,
    "aten.group_norm.default": group_norm,
}
