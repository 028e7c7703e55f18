"""Operators that sum products over a dimension: linear layers, matrix products, convolutions.

What is summed over must be cut on both sides together; what is cut from a sum was zero in it.
"""

from __future__ import annotations

from sartor.graph.atoms import Atoms, Label, unlabelled
from sartor.graph.call import CONVOLUTIONS, Call, Dims, Value
from sartor.graph.rules.elementwise import broadcast


def linear(atoms: Atoms, call: Call) -> Dims:
    """[..., i] by [o, i] plus [o] → [..., o]."""
    x, weight, bias = call["input"], call["weight"], call["bias"]
    atoms.unify(weight.dims[-1], x.dims[-1], call.why)
    if weight.rank == 1:
        return x.dims[:-1]
    if bias is not None and bias.rank:
        broadcast(atoms, [(weight.dims[0],), bias.dims], (weight.shape[0],), call.why)
    return (*x.dims[:-1], weight.dims[0])


def matmul(atoms: Atoms, call: Call) -> Dims:
    """matmul, mm, bmm, mv, dot with the usual treatment of vectors and batches."""
    a, b = call["self"], call.get("other", call.get("mat2", call.get("vec", call.get("tensor"))))
    return product(atoms, a, b, call.why)


def product(atoms: Atoms, a: Value, b: Value, why: str) -> Dims:
    atoms.unify(a.dims[-1], b.dims[-2] if b.rank > 1 else b.dims[-1], why)
    heads = [value.dims[:-2] for value in (a, b)]
    shape = _broadcast_shape([tuple(len(label) for label in dims) for dims in heads])
    batch = broadcast(atoms, heads, shape, why)
    return (*batch, *(a.dims[-2:-1]), *(b.dims[-1:] if b.rank > 1 else ()))


def addmm(atoms: Atoms, call: Call) -> Dims:
    """addmm, baddbmm: a bias and a product."""
    a, b = (call.get(one, call.get(other)) for one, other in (("mat1", "batch1"), ("mat2", "batch2")))
    return broadcast(atoms, [product(atoms, a, b, call.why), call["self"].dims], call.shape, call.why)


def bilinear(atoms: Atoms, call: Call) -> Dims:
    a, b, weight, bias = (call[name] for name in ("input1", "input2", "weight", "bias"))
    atoms.unify(weight.dims[1], a.dims[-1], call.why)
    atoms.unify(weight.dims[2], b.dims[-1], call.why)
    if bias is not None:
        atoms.unify(weight.dims[0], bias.dims[0], call.why)
    shape = call.shape[:-1]
    return (*broadcast(atoms, [a.dims[:-1], b.dims[:-1]], shape, call.why), weight.dims[0])


def outer(atoms: Atoms, call: Call) -> Dims:
    return (*call["self"].dims, *call["vec2"].dims)


def inner(atoms: Atoms, call: Call) -> Dims:
    """[..., i] by [..., i] → both's other dimensions."""
    a, b = call["self"], call["other"]
    if not a.rank or not b.rank:
        return (*a.dims, *b.dims)
    atoms.unify(a.dims[-1], b.dims[-1], call.why)
    return (*a.dims[:-1], *b.dims[:-1])


def tensordot(atoms: Atoms, call: Call) -> Dims:
    a, b = call["self"], call["other"]
    summed = [[axis % value.rank for axis in call[name]] for value, name in ((a, "dims_self"), (b, "dims_other"))]
    for i, j in zip(*summed, strict=True):
        atoms.unify(a.dims[i], b.dims[j], call.why)
    return tuple(
        value.dims[i] for value, gone in zip((a, b), summed, strict=True) for i in range(value.rank) if i not in gone
    )


def kron(atoms: Atoms, call: Call) -> Dims:
    """Entry (i, j) of a dimension is entry i of the one by entry j of the other."""
    a, b = call["self"], call["other"]
    rank = max(a.rank, b.rank)
    ours, theirs = ((*[unlabelled(1)] * (rank - value.rank), *value.dims) for value in (a, b))
    return tuple(atoms.merge([x, y]) for x, y in zip(ours, theirs, strict=True))


def grouped_product(atoms: Atoms, call: Call) -> Dims:
    """Rows [s, i], sorted by their expert, by [e, i, o] → [s, o]; ``offs``: where the rows of each expert end."""
    x, weight = (call.get(name, call.get(other)) for name, other in (("input", "self"), ("weight", "mat2")))
    if x.rank != 2 or weight.rank != 3 or call.get("bias") is not None:
        raise NotImplementedError("experts' products in another layout")
    atoms.freeze(weight.dims[0], f"{call.why}: experts are told by their number")
    atoms.freeze(x.dims[0], f"{call.why}: rows are told by their number")
    atoms.unify(x.dims[1], weight.dims[1], call.why)
    return (x.dims[0], weight.dims[2])


def addmv(atoms: Atoms, call: Call) -> Dims:
    return broadcast(
        atoms, [product(atoms, call["mat"], call["vec"], call.why), call["self"].dims], call.shape, call.why
    )


def addr(atoms: Atoms, call: Call) -> Dims:
    return broadcast(atoms, [(*call["vec1"].dims, *call["vec2"].dims), call["self"].dims], call.shape, call.why)


def products(atoms: Atoms, call: Call) -> Dims:
    """multi_dot, chain_matmul: one matrix after the other."""
    values: list[Value] = call.get("tensors", call.get("matrices"))
    dims = values[0].dims
    for value in values[1:]:
        dims = product(atoms, Value(dims), value, call.why)
    return dims


def trace(atoms: Atoms, call: Call) -> Dims:
    """The sum of entries (i, i)."""
    rows, columns = call["self"].dims
    if len(rows) != len(columns):
        raise NotImplementedError("of a matrix that is not square")
    atoms.unify(rows, columns, call.why)
    return ()


def cross(atoms: Atoms, call: Call) -> Dims:
    """Three entries, told by their number."""
    a, b = call["self"], call["other"]
    dims = broadcast(atoms, [a.dims, b.dims], call.shape, call.why)
    axis = call["dim"]
    atoms.freeze(dims[list(call.shape).index(3) if axis is None else axis], f"{call.why}: which of three it is counts")
    return dims


def distances(atoms: Atoms, call: Call) -> Dims:
    """cdist: [..., p, i] and [..., r, i] → [..., p, r]; what is cut is as far from itself as nothing."""
    a, b = call["x1"], call["x2"]
    atoms.unify(a.dims[-1], b.dims[-1], call.why)
    batch = broadcast(atoms, [a.dims[:-2], b.dims[:-2]], call.shape[:-2], call.why)
    return (*batch, a.dims[-2], b.dims[-2])


def cosine(atoms: Atoms, call: Call) -> Dims:
    """cosine_similarity: products summed over ``dim``, and lengths of what is kept."""
    a, b = call["x1"], call["x2"]
    dims = broadcast(atoms, [a.dims, b.dims], _broadcast_shape([a.shape, b.shape]), call.why)
    axis = call["dim"] % len(dims)
    return (*dims[:axis], *dims[axis + 1 :])


def einsum(atoms: Atoms, call: Call) -> Dims:
    """A letter is one dimension, wherever it stands."""
    values: list[Value] = call["tensors"]
    equation = call["equation"].replace(" ", "")
    left, arrow, right = equation.partition("->")
    terms = left.split(",")
    if not arrow:
        letters = sorted({c for c in left if c.isalpha() and left.count(c) == 1})
        right = ("..." if "..." in left else "") + "".join(letters)
    known: dict[str, Label] = {}
    dots: list[Dims] = []
    for term, value in zip(terms, values, strict=True):
        before, ellipsis, after = term.partition("...")
        middle = value.rank - len(before) - len(after)
        if ellipsis:
            dots.append(value.dims[len(before) : len(before) + middle])
        names = [*before, *([None] * middle if ellipsis else []), *after]
        for name, label in zip(names, value.dims, strict=True):
            if name is None:
                continue
            held = known.get(name)
            if held is None or len(held) == 1 < len(label):
                known[name] = label
            elif len(label) > 1:
                known[name] = atoms.unify(held, label, call.why)
    dims: list[Label] = []
    before, ellipsis, after = right.partition("...")
    dims += [known[name] for name in before]
    if ellipsis:
        shape = _broadcast_shape([tuple(len(label) for label in d) for d in dots])
        dims += broadcast(atoms, dots, shape, call.why)
    return (*dims, *(known[name] for name in after))


def convolution(atoms: Atoms, call: Call) -> Dims:
    """[n, i, ...] by [o, i / groups, ...] → [n, o, ...]. Kernels and pixels are not cut.

    With groups both sides are (groups, channels of a group): a group goes on both sides, and channels at the same
    places in every group, so that what is left is a grouped convolution again.
    """
    x, weight, bias = call["input"], call["weight"], call["bias"]
    transposed = "transpose" in call.op or bool(call.get("transposed", False))
    groups, why = int(call["groups"]), call.why
    batch = x.dims[: x.rank - (weight.rank - 1)]  # none where a single image is given
    channels = x.dims[len(batch)]
    for label in (*x.dims[len(batch) + 1 :], *weight.dims[2:]):
        atoms.freeze(label, f"{why}: positions under a kernel")
    if transposed:
        taken, made = weight.dims[0], weight.dims[1]  # [i, o / groups, ...]
    else:
        made, taken = weight.dims[0], weight.dims[1]
    if groups == 1:
        atoms.unify(taken, channels, why)
        out = made
    elif transposed:
        atoms.unify(taken, channels, why)
        out = atoms.merge([atoms.split(channels, (groups, len(channels) // groups), why)[0], made])
    else:
        out = made
        (outer_in, inner_in), (outer_out, _) = (
            atoms.split(side, (groups, len(side) // groups), why) for side in (channels, out)
        )
        atoms.unify(outer_in, outer_out, why)
        atoms.unify(taken, inner_in, why)
    if bias is not None:
        atoms.unify(out, bias.dims[0], why)
    pixels = tuple(unlabelled(size) for size in call.shape[len(batch) + 1 :])
    return (*batch, atoms.resolve(out), *pixels)


def _broadcast_shape(shapes: list[tuple[int, ...]]) -> tuple[int, ...]:
    rank = max((len(shape) for shape in shapes), default=0)
    padded = [(1,) * (rank - len(shape)) + shape for shape in shapes]
    return tuple(max(sizes) if 0 not in sizes else 0 for sizes in zip(*padded, strict=True))


RULES = {
    "aten.linear.default": linear,
    **dict.fromkeys(
        (
            "aten.matmul.default",
            "aten.linalg_matmul.default",
            "aten.mm.default",
            "aten.bmm.default",
            "aten.mv.default",
            "aten.dot.default",
            "aten.vdot.default",
        ),
        matmul,
    ),
    "aten.addmm.default": addmm,
    "aten.addmv.default": addmv,
    "aten.addr.default": addr,
    **dict.fromkeys(("aten.linalg_multi_dot.default", "aten.chain_matmul.default"), products),
    "aten.trace.default": trace,
    **dict.fromkeys(("aten.cross.default", "aten.linalg_cross.default"), cross),
    "aten.baddbmm.default": addmm,
    "aten.bilinear.default": bilinear,
    "aten.outer.default": outer,
    "aten.ger.default": outer,
    "aten.inner.default": inner,
    "aten.tensordot.default": tensordot,
    "aten.kron.default": kron,
    **dict.fromkeys(("aten._grouped_mm.default", "transformers.grouped_mm_fallback.default"), grouped_product),
    "aten.cdist.default": distances,
    "aten.cosine_similarity.default": cosine,
    "aten.einsum.default": einsum,
    **dict.fromkeys(CONVOLUTIONS, convolution),
}
