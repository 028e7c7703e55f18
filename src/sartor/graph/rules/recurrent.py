"""LSTM, GRU and plain recurrent layers as one operator."""

from __future__ import annotations

from sartor.graph.atoms import Atoms, Label
from sartor.graph.call import Call, Dims, Value
from sartor.graph.rules.join import stacked

GATES = {"lstm": 4, "gru": 3, "rnn_tanh": 1, "rnn_relu": 1}


def recurrent(atoms: Atoms, call: Call) -> list[Dims]:
    """Weights of layer and direction: [gates * h, i], [gates * h, h], and as many biases. A unit goes with all its
    gates, its column of the recurrent matrix, its state, and its column of what reads the output."""
    kind = call.op.split(".")[1]
    gates, why = GATES[kind], call.why
    x: Value = call["input"]
    states: list[Value] = list(call["hx"]) if kind == "lstm" else [call["hx"]]
    weights: list[Value] = list(call["params"])
    directions = 2 if call["bidirectional"] else 1
    biased = bool(call["has_biases"])
    each = 2 + 2 * biased
    if len(weights) != each * directions * int(call["num_layers"]):
        raise NotImplementedError("a recurrent layer with projections")
    given = x.dims[-1]
    units: list[Label] = []
    for layer in range(int(call["num_layers"])):
        units = []
        for direction in range(directions):
            start = each * (layer * directions + direction)
            w_in, w_state, *biases = weights[start : start + each]
            atoms.unify(w_in.dims[1], given, why)
            unit = w_state.dims[1]
            for value in (w_in, w_state, *biases):
                outer, inner = atoms.split(value.dims[0], (gates, len(unit)), why)
                atoms.freeze(outer, f"{why}: its gates are fixed")
                atoms.unify(unit, inner, why)
            units.append(unit)
        given = stacked(units)
    for state in states:  # one tensor for all layers and directions
        for label in state.dims[:-1]:
            atoms.freeze(label, f"{why}: its layers and rows are fixed")
        for unit in _all_units(weights, each):
            atoms.unify(state.dims[-1], unit, why)
    sequence = (*x.dims[:-1], given)
    out = [sequence, *(state.dims for state in states)]
    return out[: len(call.shapes)]


def _all_units(weights: list[Value], each: int) -> list[Label]:
    return [weights[start + 1].dims[1] for start in range(0, len(weights), each)]


RULES = {f"aten.{kind}.input": recurrent for kind in GATES}
