"""Normalisations. Statistics over a dimension that is cut are those of what is kept."""

from __future__ import annotations

from sartor.graph.atoms import Atoms
from sartor.graph.call import Call, Dims, Value
from sartor.graph.rules.elementwise import broadcast


def batch_norm(atoms: Atoms, call: Call) -> Dims:
    """batch_norm, instance_norm: weight, bias and statistics go with the channels (dimension 1)."""
    x = _input(call)
    for value in call.tensors()[1:]:
        atoms.unify(x.dims[1], value.dims[0], call.why)
    return x.dims


def native_batch_norm(atoms: Atoms, call: Call) -> list[Dims]:
    dims = batch_norm(atoms, call)
    return [dims, *((dims[1],) if shape == (len(dims[1]),) else () for shape in call.shapes[1:])]


def layer_norm(atoms: Atoms, call: Call) -> Dims:
    """layer_norm, rms_norm: weight and bias go with the trailing dimensions that are normalised."""
    x = _input(call)
    for value in call.tensors()[1:]:
        for label, own in zip(reversed(x.dims), reversed(value.dims), strict=False):
            atoms.unify(label, own, call.why)
    return x.dims


def group_norm(atoms: Atoms, call: Call) -> Dims:
    """Channels are (groups, channels of a group): a group goes, or channels at the same places in every group."""
    x = _input(call)
    channels, groups = x.dims[1], int(call["num_groups"])
    for value in call.tensors()[1:]:
        channels = atoms.unify(channels, value.dims[0], call.why)
    if groups > 1:
        atoms.split(channels, (groups, len(channels) // groups), call.why)
    return (x.dims[0], atoms.resolve(channels), *x.dims[2:])


def local_response(atoms: Atoms, call: Call) -> Dims:
    x = _input(call)
    atoms.freeze(x.dims[1], f"{call.why}: neighbouring channels see each other")
    return x.dims


def weight_norm(atoms: Atoms, call: Call) -> Dims:
    """A direction ``v``, and a length ``g`` for each position of its dimension ``dim``: of what is kept of the others.
    -1: one length for all."""
    v, g = call["v"], call["g"]
    return broadcast(atoms, [v.dims, g.dims], v.shape, call.why)


def _input(call: Call) -> Value:
    return call.tensors()[0]


RULES = {
    "aten.batch_norm.default": batch_norm,
    "aten.instance_norm.default": batch_norm,
    "aten._native_batch_norm_legit_no_training.default": native_batch_norm,
    "aten.layer_norm.default": layer_norm,
    "aten.rms_norm.default": layer_norm,
    "aten.group_norm.default": group_norm,
    "aten.local_response_norm.default": local_response,
    "aten._weight_norm.default": weight_norm,
}
