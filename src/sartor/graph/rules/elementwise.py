"""Operators that treat every entry alike, on tensors broadcast against each other."""

from __future__ import annotations

from collections.abc import Sequence

from sartor.graph.atoms import Atoms, Label, unlabelled
from sartor.graph.call import Call, Dims, Value


def broadcast(atoms: Atoms, dims: Sequence[Dims], shape: Sequence[int], why: str) -> Dims:
    """Labels of ``shape`` for tensors broadcast to it: those of equal dimensions are tied."""
    out: list[Label] = []
    for axis in range(1, len(shape) + 1):
        size = shape[-axis]
        meeting = [d[-axis] for d in dims if len(d) >= axis and len(d[-axis]) == size]
        label = meeting[0] if meeting else unlabelled(size)
        for other in meeting[1:]:
            label = atoms.unify(label, other, why)
        out.append(label)
    return tuple(reversed(out))


def elementwise(atoms: Atoms, call: Call) -> Dims:
    return broadcast(atoms, [value.dims for value in call.tensors()], call.shape, call.why)


def same(atoms: Atoms, call: Call) -> Dims:
    """The first tensor's labels: casts, copies, activations."""
    return _first(call).dims


def same_for_all(atoms: Atoms, call: Call) -> list[Dims]:
    return [_first(call).dims for _ in call.shapes]


def assign(atoms: Atoms, call: Call) -> Dims:
    """``x.copy_(y)``, ``x.fill_(y)``: what is written broadcasts into what is there."""
    target = call["self"]
    return broadcast(atoms, [value.dims for value in call.tensors()], target.shape, call.why)


def prelu(atoms: Atoms, call: Call) -> Dims:
    """One slope a channel (dimension 1), or one for all."""
    x, weight = call["self"], call["weight"]
    if weight.rank and weight.shape[0] > 1:
        atoms.unify(x.dims[1 if x.rank > 1 else 0], weight.dims[0], call.why)
    return x.dims


def glu(atoms: Atoms, call: Call) -> Dims:
    """The first half gated by the second: position i goes with position i of the other half."""
    x = call["self"]
    axis = call["dim"] % x.rank
    half = x.shape[axis] // 2
    label = atoms.unify(x.dims[axis][:half], x.dims[axis][half:], call.why)
    return (*x.dims[:axis], label, *x.dims[axis + 1 :])


def along(atoms: Atoms, call: Call) -> Dims:
    """Softmax, cumulative sums: positions along ``dim`` see each other, but what is cut is left out of account."""
    return _first(call).dims


def ordered(atoms: Atoms, call: Call) -> Dims:
    """Positions along ``dim`` are told by their number there, so that none may go: flip, sort, cumulative maxima."""
    value = _first(call)
    named = call.get("dims", call.get("dim"))
    axes = range(value.rank) if named is None else [named] if isinstance(named, int) else named
    for axis in axes:
        atoms.freeze(value.dims[axis], f"{call.why}: the order of positions counts")
    return value.dims


def ordered_for_all(atoms: Atoms, call: Call) -> list[Dims]:
    """Values, and where they were."""
    return [ordered(atoms, call) for _ in call.shapes]


def triangle(atoms: Atoms, call: Call) -> Dims:
    """Rows and columns are told by their number."""
    value = _first(call)
    for label in value.dims[-2:]:
        atoms.freeze(label, f"{call.why}: the order of positions counts")
    return value.dims


def _first(call: Call) -> Value:
    return call.tensors()[0]


RULES = {
    **dict.fromkeys(
        (
            "aten.alias.default",
            "aten.bernoulli.default",
            "aten.bernoulli.p",
            "aten.clone.default",
            "aten.contiguous.default",
            "aten.detach.default",
            "aten.detach_.default",
            "aten.dropout.default",
            "aten.dropout_.default",
            "aten.feature_dropout.default",
            "aten.alpha_dropout.default",
            "aten.lift_fresh.default",
            "aten.lift_fresh_copy.default",
            "aten.to.device",
            "aten.to.dtype",
            "aten.to.dtype_layout",
            "aten.to.other",
            "aten._to_copy.default",
            "aten.type_as.default",
            "aten.native_dropout.default",
            *(f"aten.{name}_like.default" for name in ("rand", "randn", "randint")),
            *(f"aten.{name}_.default" for name in ("normal", "uniform", "exponential")),
            "aten.bernoulli_.float",
            "aten.feature_alpha_dropout.default",
        ),
        same,
    ),
    **dict.fromkeys(
        (
            "aten.softmax.int",
            "aten.log_softmax.int",
            "aten._softmax.default",
            "aten._log_softmax.default",
            "aten.cumsum.default",
        ),
        along,
    ),
    **dict.fromkeys(
        (
            "aten.flip.default",
            "aten.cumprod.default",
            "aten.logcumsumexp.default",
            "aten.rot90.default",
            "aten.argsort.default",
            "aten.argsort.stable",
        ),
        ordered,
    ),
    **dict.fromkeys(("aten.cummax.default", "aten.cummin.default"), ordered_for_all),
    **dict.fromkeys(
        (
            "aten.copy.default",
            "aten.copy_.default",
            "aten.fill.Scalar",
            "aten.fill.Tensor",
            "aten.fill_.Scalar",
            "aten.fill_.Tensor",
            "aten.zero_.default",
        ),
        assign,
    ),
    **dict.fromkeys(
        (
            "aten.rsub.Scalar",
            "aten.masked_fill.Scalar",
            "aten.masked_fill.Tensor",
            "aten.masked_fill_.Scalar",
            "aten.where.ScalarOther",
            "aten.where.ScalarSelf",
            "aten.where.self",
            "aten.zeros_like.default",
            "aten.ones_like.default",
            "aten.full_like.default",
            "aten.empty_like.default",
            "aten.fake_quantize_per_tensor_affine.default",
            "aten.floor_divide.Scalar",
            "aten.floor_divide.default",
            "aten.hardswish.default",
            "aten.gelu_.default",
            "aten.threshold_.default",
            "aten.log_sigmoid.default",
            "aten.rsub.Tensor",
            "aten.special_erf.default",
            "aten.special_expit.default",
            "aten.special_expm1.default",
            "aten.special_log1p.default",
            "aten.true_divide.Scalar",
            "aten.relu6.default",
            "aten.relu6_.default",
            "aten.silu_.default",
            "aten.selu.default",
            "aten.selu_.default",
            "aten.celu.default",
            "aten.elu.default",
            "aten.elu_.default",
            "aten.mish.default",
            "aten.rrelu.default",
            "aten.logaddexp.default",
            "aten.square.default",
            "aten.where.Scalar",
            *(
                f"aten.{name}.{form}"
                for name in ("subtract", "multiply", "divide", "greater", "greater_equal", "less", "less_equal")
                for form in ("Tensor", "Scalar")
            ),
            *(f"aten.{name}.{form}" for name in ("not_equal", "__and__", "__or__") for form in ("Tensor", "Scalar")),
            *(f"aten.divide.{form}_mode" for form in ("Tensor", "Scalar")),
            *(f"aten.arc{name}.default" for name in ("cos", "sin", "tan", "cosh", "sinh", "tanh", "tan2")),
            *(f"aten.{name}.default" for name in ("absolute", "negative", "fix")),
            *(f"aten.special_{name}.default" for name in ("exp2", "erfc", "logit", "sinc", "round", "ndtr", "xlogy")),
        ),
        elementwise,
    ),
    "aten.tril.default": triangle,
    "aten.triu.default": triangle,
    "aten.prelu.default": prelu,
    "aten.glu.default": glu,
}
"""Besides these, every operator that PyTorch tags as pointwise is :func:`elementwise`."""
