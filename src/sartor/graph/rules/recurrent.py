"""LSTM, GRU and plain recurrent layers as one operator, and their cells: one step of one layer."""

from __future__ import annotations

from collections.abc import Sequence

from sartor.graph.atoms import Atoms, Label
from sartor.graph.call import Call, Dims, Value
from sartor.graph.rules.elementwise import broadcast
from sartor.graph.rules.join import stacked

GATES = {"lstm": 4, "gru": 3, "rnn_tanh": 1, "rnn_relu": 1}


def recurrent(atoms: Atoms, call: Call) -> list[Dims]:
    """Weights of layer and direction: [gates * h, i], [gates * h, h], as many biases, and, with projections, the
    matrix [p, h] that makes states of units; then the second is [gates * h, p]. A unit goes with all its gates and its
    cell; a state, which is a unit where nothing projects, with its column of what reads it."""
    kind = call.op.split(".")[1]
    gates, why = GATES[kind], call.why
    x: Value = call["input"]
    states: list[Value] = list(call["hx"]) if kind == "lstm" else [call["hx"]]
    weights: list[Value] = list(call["params"])
    directions = 2 if call["bidirectional"] else 1
    biased = bool(call["has_biases"])
    each = 2 + 2 * biased
    projects = len(weights) > each * directions * int(call["num_layers"])
    each += projects
    given = x.dims[-1]
    every: list[tuple[Label, Label]] = []
    for layer in range(int(call["num_layers"])):
        made = []
        for direction in range(directions):
            start = each * (layer * directions + direction)
            w_in, w_state, *rest = weights[start : start + each]
            atoms.unify(w_in.dims[1], given, why)
            state = w_state.dims[1]
            unit = state
            if projects:
                projection = rest.pop()
                unit = projection.dims[1]
                atoms.unify(projection.dims[0], state, why)
                atoms.freeze(unit, f"{why}: torch knows a projection by states that are fewer than units")
            _gated(atoms, unit, (w_in, w_state, *rest), gates, why)
            made.append(state)
            every.append((state, unit))
        given = stacked(made)
    for kind_of, held in enumerate(states):  # one tensor for all layers and directions
        for label in held.dims[:-1]:
            atoms.freeze(label, f"{why}: its layers and rows are fixed")
        for pair in every:
            atoms.unify(held.dims[-1], pair[kind_of], why)
    sequence = (*x.dims[:-1], given)
    out = [sequence, *(held.dims for held in states)]
    return out[: len(call.shapes)]


def cell(atoms: Atoms, call: Call) -> Dims | list[Dims]:
    """lstm_cell, gru_cell, rnn_tanh_cell, rnn_relu_cell: [n, i] and states [n, h] to states [n, h]."""
    kind = call.op.split(".")[1].removesuffix("_cell")
    x: Value = call["input"]
    states: list[Value] = list(call["hx"]) if kind == "lstm" else [call["hx"]]
    w_in, w_state, *biases = (call.get(name) for name in ("w_ih", "w_hh", "b_ih", "b_hh"))
    unit = w_state.dims[1]
    atoms.unify(w_in.dims[1], x.dims[-1], call.why)
    _gated(atoms, unit, [v for v in (w_in, w_state, *biases) if v is not None], GATES[kind], call.why)
    rows: Dims = x.dims[:-1]
    for state in states:
        atoms.unify(state.dims[-1], unit, call.why)
        rows = broadcast(atoms, [rows, state.dims[:-1]], x.shape[:-1], call.why)
    out = (*rows, unit)
    return [out, out] if kind == "lstm" else out


def _gated(atoms: Atoms, unit: Label, values: Sequence[Value], gates: int, why: str) -> None:
    """The first dimension of each is (gates, units)."""
    for value in values:
        outer, inner = atoms.split(value.dims[0], (gates, len(unit)), why)
        atoms.freeze(outer, f"{why}: its gates are fixed")
        atoms.unify(unit, inner, why)


RULES = {
    **{f"aten.{kind}.input": recurrent for kind in GATES},
    **{f"aten.{kind}_cell.default": cell for kind in GATES},
}
