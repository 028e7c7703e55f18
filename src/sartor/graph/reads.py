"""Which dimensions of parameters operators read, that is sum over."""

from __future__ import annotations

from sartor.graph.call import Call, Value
from sartor.graph.graph import Graph


def read_dims(graph: Graph) -> set[tuple[str, int]]:
    """Dimensions of parameters that operators sum over."""
    names: dict[int, list[str]] = {}
    for name, value in graph.tensors.items():
        names.setdefault(id(value), []).append(name)
    found: set[tuple[str, int]] = set()

    def add(value: Value | None, dim: int) -> None:
        for name in names.get(id(value), []):
            found.add((name, dim % value.rank))  # type: ignore[union-attr]

    for call in graph.calls:
        _read_by(call, add)
    return found


def _read_by(call: Call, add) -> None:  # type: ignore[no-untyped-def]
    kind = call.op.split(".")[1]
    if kind == "linear":
        add(call["weight"], -1)
    elif kind.startswith("conv") or kind == "_convolution":
        transposed = "transpose" in kind or bool(call.get("transposed", False))
        add(call["weight"], 0 if transposed else 1)
    elif kind in ("matmul", "mm", "bmm"):
        right = call.get("other", call.get("mat2"))
        add(call["self"], -1)
        add(right, -2 if right.rank > 1 else -1)
    elif kind == "addmm":
        add(call["mat1"], -1)
        add(call["mat2"], -2)
    elif kind == "einsum":
        left, _, right = call["equation"].replace(" ", "").partition("->")
        for term, value in zip(left.split(","), call["tensors"], strict=True):
            for dim, letter in enumerate(term):
                if letter.isalpha() and letter not in right and "." not in term:
                    add(value, dim)
    elif kind in ("lstm", "gru", "rnn_tanh", "rnn_relu"):
        for value in call["params"]:
            if value.rank == 2:
                add(value, 1)
    elif kind.endswith("_cell"):
        for name in ("w_ih", "w_hh"):
            add(call[name], 1)
