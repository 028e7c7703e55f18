"""Operators that only regroup or reorder dimensions."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from sartor.graph.atoms import Atoms, Label, unlabelled
from sartor.graph.call import Call, Dims, Value


def regroup(atoms: Atoms, call: Call) -> Dims:
    """view, reshape, flatten, unflatten, squeeze, unsqueeze: whatever leaves the order of the entries as it is."""
    return reshaped(atoms, call.tensors()[0], call.shape, call.why)


def reshaped(atoms: Atoms, value: Value, shape: Sequence[int], why: str) -> Dims:
    """Labels of ``value`` viewed as ``shape``."""
    if 0 in value.shape:
        return tuple(unlabelled(size) for size in shape)
    out: list[Label] = []
    for old, new in blocks(value.shape, shape):
        labels = [value.dims[axis] for axis in old]
        sizes = [shape[axis] for axis in new]
        real = [label for label in labels if len(label) > 1]
        if len(real) == 1 and sizes.count(1) == len(sizes) - 1:
            out += [real[0] if size > 1 else unlabelled(1) for size in sizes]
        else:
            out += atoms.split(atoms.merge(labels), sizes, why)
    return tuple(out)


def blocks(old: Sequence[int], new: Sequence[int]) -> Iterator[tuple[list[int], list[int]]]:
    """The finest way to pair runs of dimensions of ``old`` and ``new`` that have the same number of entries.

    (2, 6, 4) viewed as (2, 2, 3, 4): 0 with 0, 1 with 1 and 2, 2 with 3.
    """
    i = j = 0
    while i < len(old) or j < len(new):
        first_i, first_j = i, j
        left = right = 1
        if i < len(old):
            left, i = left * old[i], i + 1
        if j < len(new):
            right, j = right * new[j], j + 1
        while left != right:
            if left < right:
                left, i = left * old[i], i + 1
            else:
                right, j = right * new[j], j + 1
        yield list(range(first_i, i)), list(range(first_j, j))


def permute(atoms: Atoms, call: Call) -> Dims:
    value = call["self"]
    return tuple(value.dims[axis] for axis in call["dims"])


def transpose(atoms: Atoms, call: Call) -> Dims:
    value = call["self"]
    a, b = (call.get(f"dim{i}", call.get(f"axis{i}")) for i in (0, 1))
    dims = list(value.dims)
    if dims:
        dims[a], dims[b] = dims[b], dims[a]
    return tuple(dims)


def reverse(atoms: Atoms, call: Call) -> Dims:
    """t(), .T: all dimensions in reverse order."""
    return tuple(reversed(call["self"].dims))


def last_two(atoms: Atoms, call: Call) -> Dims:
    dims = call["self"].dims
    return (*dims[:-2], dims[-1], dims[-2])


def movedim(atoms: Atoms, call: Call) -> Dims:
    value = call["self"]
    source, destination = (
        [axis % value.rank for axis in ([given] if isinstance(given, int) else given)]
        for given in (call["source"], call["destination"])
    )
    order: list[int | None] = [None] * value.rank
    for there, here in zip(destination, source, strict=True):
        order[there] = here
    rest = iter(axis for axis in range(value.rank) if axis not in source)
    return tuple(value.dims[next(rest) if axis is None else axis] for axis in order)


def expand(atoms: Atoms, call: Call) -> Dims:
    """New and repeated dimensions hold equal entries: any of them can go, and what they meet says which."""
    value = call.tensors()[0]
    new = len(call.shape) - value.rank
    dims: list[Label] = []
    for axis, size in enumerate(call.shape):
        kept = axis >= new and value.shape[axis - new] == size
        dims.append(value.dims[axis - new] if kept else _free(atoms, size))
    return tuple(dims)


def regroup_as(atoms: Atoms, call: Call) -> Dims:
    """view_as, reshape_as: the sizes are another tensor's, so that its dimensions go with these."""
    return _as_other(atoms, call, regroup(atoms, call))


def expand_as(atoms: Atoms, call: Call) -> Dims:
    return _as_other(atoms, call, expand(atoms, call))


def _as_other(atoms: Atoms, call: Call, dims: Dims) -> Dims:
    return tuple(atoms.unify(mine, its, call.why) for mine, its in zip(dims, call["other"].dims, strict=True))


def tile(atoms: Atoms, call: Call) -> Dims:
    """repeat, tile: entry i is at i, i + n, i + 2n: all of them go together."""
    value = call["self"]
    times = list(call.get("repeats", call.get("dims")))
    rank = max(len(times), value.rank)
    times = [1] * (rank - len(times)) + times
    held: list[Label] = [unlabelled(1)] * (rank - value.rank) + list(value.dims)
    return tuple(
        label if n == 1 else _free(atoms, n) if len(label) == 1 else atoms.merge([unlabelled(n), label])
        for label, n in zip(held, times, strict=True)
    )


def repeat_interleave(atoms: Atoms, call: Call) -> Dims:
    """Each entry ``repeats`` times in a row."""
    value, axis, n = call["self"], call["dim"], call["repeats"]
    if axis is None:
        return (atoms.merge([*value.dims, unlabelled(n)]),)
    axis %= value.rank
    return (*value.dims[:axis], atoms.merge([value.dims[axis], unlabelled(n)]), *value.dims[axis + 1 :])


def pixel_shuffle(atoms: Atoms, call: Call) -> Dims:
    """Channels (c, r, r) to c channels of r times the side."""
    value, r = call["self"], call["upscale_factor"]
    *batch, channels, height, width = value.dims
    label, *inside = atoms.split(channels, (len(channels) // r**2, r, r), call.why)
    for part in inside:
        atoms.freeze(part, f"{call.why}: these channels are pixels")
    return (*batch, label, atoms.merge([height, unlabelled(r)]), atoms.merge([width, unlabelled(r)]))


def pixel_unshuffle(atoms: Atoms, call: Call) -> Dims:
    value, r = call["self"], call["downscale_factor"]
    *batch, channels, height, width = value.dims
    for label in (height, width):
        atoms.freeze(label, f"{call.why}: these pixels become channels")
    return (*batch, atoms.merge([channels, unlabelled(r * r)]), *(unlabelled(size) for size in call.shape[-2:]))


def channel_shuffle(atoms: Atoms, call: Call) -> Dims:
    """(groups, c) channels to (c, groups)."""
    value, groups = call["self"], call["groups"]
    channels = value.dims[1]
    outer, inner = atoms.split(channels, (groups, len(channels) // groups), call.why)
    atoms.freeze(outer, f"{call.why}: its number of groups is fixed")
    return (value.dims[0], atoms.merge([inner, outer]), *value.dims[2:])


def diagonal(atoms: Atoms, call: Call) -> Dims:
    """Entry i of the last dimension is (i, i) of two. Beside the middle, positions would be told by their number."""
    value = call["self"]
    pair = [call["dim1"] % value.rank, call["dim2"] % value.rank]
    first, second = (value.dims[axis] for axis in pair)
    rest = tuple(label for axis, label in enumerate(value.dims) if axis not in pair)
    if call["offset"] == 0 and len(first) == len(second):
        return (*rest, atoms.unify(first, second, call.why))
    for label in (first, second):
        atoms.freeze(label, f"{call.why}: positions are told by their number")
    return (*rest, unlabelled(call.shape[-1]))


def diag_embed(atoms: Atoms, call: Call) -> Dims:
    """Entry i to (i, i) of two dimensions, the others zero."""
    value, rank = call["self"], len(call.shape)
    if call["offset"]:
        raise NotImplementedError("a diagonal beside the middle")
    pair = [call["dim1"] % rank, call["dim2"] % rank]
    rest = iter(value.dims[:-1])
    return tuple(value.dims[-1] if axis in pair else next(rest) for axis in range(rank))


def _free(atoms: Atoms, size: int) -> Label:
    return atoms.fresh(size) if size > 1 else unlabelled(size)


RULES = {
    **dict.fromkeys(
        (
            "aten.view.default",
            "aten._unsafe_view.default",
            "aten.reshape.default",
            "aten.flatten.using_ints",
            "aten.unflatten.int",
            "aten.ravel.default",
            "aten.squeeze.default",
            "aten.squeeze.dim",
            "aten.squeeze.dims",
            "aten.squeeze_.dim",
            "aten.unsqueeze.default",
            "aten.unsqueeze_.default",
        ),
        regroup,
    ),
    **dict.fromkeys(("aten.view_as.default", "aten.reshape_as.default"), regroup_as),
    **dict.fromkeys(("aten.expand.default", "aten.broadcast_to.default"), expand),
    "aten.expand_as.default": expand_as,
    **dict.fromkeys(("aten.repeat.default", "aten.tile.default"), tile),
    **dict.fromkeys(
        (
            "aten.transpose.int",
            "aten.transpose_.default",
            *(f"aten.swap{what}{form}.default" for what in ("axes", "dims") for form in ("", "_")),
        ),
        transpose,
    ),
    **dict.fromkeys(("aten.t.default", "aten.numpy_T.default"), reverse),
    **dict.fromkeys(("aten.mT.default", "aten.adjoint.default", "aten.mH.default"), last_two),
    **dict.fromkeys(
        ("aten.movedim.intlist", "aten.movedim.int", "aten.moveaxis.intlist", "aten.moveaxis.int"), movedim
    ),
    "aten.permute.default": permute,
    "aten.repeat_interleave.self_int": repeat_interleave,
    "aten.diagonal.default": diagonal,
    "aten.diag_embed.default": diag_embed,
    "aten.pixel_shuffle.default": pixel_shuffle,
    "aten.pixel_unshuffle.default": pixel_unshuffle,
    "aten.channel_shuffle.default": channel_shuffle,
    "aten.native_channel_shuffle.default": channel_shuffle,
}
