"""Multiply-accumulates of a graph after a cut, counted without making the cut."""

from __future__ import annotations

import math
from collections.abc import Callable

from sartor.graph.atoms import Label
from sartor.graph.call import CONVOLUTIONS, Call, Dims

Kept = Callable[[Label], int]
"""How many positions of a label are kept."""
Macs = Callable[[Call, Dims, Kept], int]
"""Multiply-accumulates of a call whose (first) output has these labels."""


def _product(dims: Dims, kept: Kept) -> int:
    return math.prod(kept(label) for label in dims)


def linear(call: Call, out: Dims, kept: Kept) -> int:
    return _product(out, kept) * kept(call["input"].dims[-1])


def matmul(call: Call, out: Dims, kept: Kept) -> int:
    """matmul, mm, bmm, addmm, baddbmm: every entry of the output sums over the last dimension of the left factor."""
    left = next(call[name] for name in ("mat1", "batch1", "self") if call.get(name) is not None)
    return _product(out, kept) * kept(left.dims[-1])


def convolution(call: Call, out: Dims, kept: Kept) -> int:
    """Every output entry sums over a group's channels and the kernel; transposed, every input entry is spread so."""
    x, weight = call["input"], call["weight"]
    transposed = "transpose" in call.op or bool(call.get("transposed", False))
    return _product(x.dims if transposed else out, kept) * _product(weight.dims[1:], kept)


def attention(call: Call, out: Dims, kept: Kept) -> int:
    q, k, v = call["query"], call["key"], call["value"]
    return _product(out[:-1], kept) * kept(k.dims[-2]) * (kept(q.dims[-1]) + kept(v.dims[-1]))


def einsum(call: Call, out: Dims, kept: Kept) -> int:
    """One product for every combination of the letters: what a single contraction of two tensors costs."""
    sizes: dict[str, int] = {}
    left = call["equation"].replace(" ", "").partition("->")[0]
    dots = 1
    for term, value in zip(left.split(","), call["tensors"], strict=True):
        before, ellipsis, after = term.partition("...")
        for letter, label in zip(before, value.dims, strict=False):
            sizes[letter] = max(sizes.get(letter, 1), kept(label))
        for letter, label in zip(reversed(after), reversed(value.dims), strict=False):
            sizes[letter] = max(sizes.get(letter, 1), kept(label))
        if ellipsis:
            dots = max(dots, _product(value.dims[len(before) : value.rank - len(after)], kept))
    return dots * math.prod(sizes.values())


def recurrent(call: Call, out: Dims, kept: Kept) -> int:
    """Each weight matrix once a time step and sequence."""
    steps = _product(call["input"].dims[:-1], kept)
    return steps * sum(_product(value.dims, kept) for value in call["params"] if value.rank == 2)


def cell(call: Call, out: Dims, kept: Kept) -> int:
    rows = _product(call["input"].dims[:-1], kept)
    return rows * sum(_product(call[name].dims, kept) for name in ("w_ih", "w_hh"))


MACS: dict[str, Macs] = {
    "aten.linear.default": linear,
    **dict.fromkeys(
        (
            "aten.matmul.default",
            "aten.mm.default",
            "aten.bmm.default",
            "aten.linalg_matmul.default",
            "aten.mv.default",
            "aten.dot.default",
            "aten.addmm.default",
            "aten.baddbmm.default",
        ),
        matmul,
    ),
    **dict.fromkeys(CONVOLUTIONS, convolution),
    "aten.scaled_dot_product_attention.default": attention,
    "aten.einsum.default": einsum,
    **{f"aten.{kind}.input": recurrent for kind in ("lstm", "gru", "rnn_tanh", "rnn_relu")},
    **{f"aten.{kind}_cell.default": cell for kind in ("lstm", "gru", "rnn_tanh", "rnn_relu")},
}
"""Operators that multiply and add; all others count nothing."""
