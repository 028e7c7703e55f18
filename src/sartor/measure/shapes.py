"""What operators return on the meta device, for the few that networks call most.

PyTorch computes these shapes in Python too, by references that check everything: 0.2 to 5 ms a call, twice what the
smallest networks take to run. Here are the plain cases only (dense float tensors of one dtype); ``None`` sends every
other case to PyTorch.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

Shortcut = Callable[[Any, Any], Any]
"""Of an operator's arguments, all tensors on meta; what it returns, or None where PyTorch must be asked."""


def _new(like: Tensor, shape: Any) -> Tensor:
    return torch.empty(shape, dtype=like.dtype, device="meta")


def _same(args: Any, kwargs: Any) -> Any:
    x = args[0]
    return torch.empty_like(x) if not kwargs and x.is_floating_point() else None


def _itself(args: Any, kwargs: Any) -> Any:
    return args[0]


def _binary(args: Any, kwargs: Any) -> Any:
    """Two dense tensors of one dtype that broadcast, or one and a number."""
    if len(args) != 2 or any(key != "alpha" for key in kwargs):
        return None
    a, b = args
    if not isinstance(a, Tensor) or not a.is_floating_point():
        return None
    if isinstance(b, (int, float)):
        return torch.empty_like(a)
    if not isinstance(b, Tensor) or a.dtype != b.dtype:
        return None
    if a.shape == b.shape:
        return torch.empty_like(a) if a.stride() == b.stride() else None
    if not (a.is_contiguous() and b.is_contiguous()):
        return None
    rank = max(a.dim(), b.dim())
    left, right = (1,) * (rank - a.dim()) + tuple(a.shape), (1,) * (rank - b.dim()) + tuple(b.shape)
    if any(m != n and m != 1 and n != 1 for m, n in zip(left, right, strict=True)):
        return None
    return _new(a, [n if m == 1 else m for m, n in zip(left, right, strict=True)])


def _batch_norm(args: Any, kwargs: Any) -> Any:
    x = args[0]
    if args[5]:  # training: the statistics are outputs too
        return None
    return torch.empty_like(x), _new(x, (0,)), _new(x, (0,))


def _layer_norm(args: Any, kwargs: Any) -> Any:
    x, normalised = args[0], args[1]
    rank = x.dim() - len(normalised)
    if not x.is_contiguous() or tuple(x.shape[rank:]) != tuple(normalised):
        return None
    statistics = (*x.shape[:rank], *(1 for _ in normalised))
    return torch.empty_like(x), _new(x, statistics), _new(x, statistics)


def _softmax(args: Any, kwargs: Any) -> Any:
    x, half_to_float = args[0], args[2]
    return torch.empty_like(x) if x.is_contiguous() and not half_to_float else None


def _convolution(args: Any, kwargs: Any) -> Any:
    x, weight, _, stride, padding, dilation, transposed, _, groups = args
    rank = weight.dim() - 2
    plain = x.dim() == rank + 2 and not transposed and x.is_contiguous() and weight.is_contiguous()
    if not plain or x.dtype != weight.dtype or x.shape[1] != weight.shape[1] * groups or weight.shape[0] % groups:
        return None
    stride, padding, dilation = (_spread(value, rank) for value in (stride, padding, dilation))
    sides = [
        (x.shape[2 + i] + 2 * padding[i] - dilation[i] * (weight.shape[2 + i] - 1) - 1) // stride[i] + 1
        for i in range(rank)
    ]
    if min(sides) < 1:
        return None
    return _new(x, (x.shape[0], weight.shape[0], *sides))


def _spread(value: Any, rank: int) -> list[int]:
    return list(value) * rank if len(value) == 1 else list(value)


def _product(left: int, rank: int) -> Shortcut:
    """mm, bmm and those with a summand before them. ``left``: where the first factor stands."""

    def shortcut(args: Any, kwargs: Any) -> Any:
        a, b = args[left], args[left + 1]
        if kwargs or a.dtype != b.dtype or a.dim() != rank or b.dim() != rank:
            return None
        if a.shape[-1] != b.shape[-2] or a.shape[:-2] != b.shape[:-2]:
            return None
        if left and math.prod(args[0].shape) not in (b.shape[-1], math.prod(a.shape[:-1]) * b.shape[-1]):
            return None
        return _new(a, (*a.shape[:-1], b.shape[-1]))

    return shortcut


def _truth(args: Any, kwargs: Any) -> Any:
    x = args[0]
    if kwargs or (len(args) > 1 and isinstance(args[1], Tensor)):
        return None
    return torch.empty_like(x, dtype=torch.bool)


def _where(args: Any, kwargs: Any) -> Any:
    """A choice between two tensors of one shape, by one that broadcasts to it: attention's answer to masked rows."""
    condition, a, b = args
    if not all(isinstance(x, Tensor) and x.is_contiguous() for x in args) or a.dtype != b.dtype or a.shape != b.shape:
        return None
    fits = condition.dim() == a.dim() and all(m in (1, n) for m, n in zip(condition.shape, a.shape, strict=True))
    return torch.empty_like(a) if fits else None


_UNARY = (
    "relu gelu silu sigmoid hardswish hardsigmoid hardtanh tanh exp sqrt rsqrt leaky_relu elu mish softplus neg abs "
    "sin cos erf clamp clamp_min"
)
_BINARY = "add sub mul div"

SHORTCUTS: dict[str, Shortcut] = {
    **{f"aten.{name}": _same for name in _UNARY.split()},
    **{f"aten.{name}_": _itself for name in f"{_UNARY} {_BINARY}".split()},
    **{f"aten.{name}": _binary for name in _BINARY.split()},
    "aten.eq": _truth,
    "aten.logical_not": _truth,
    "aten.where": _where,
    "aten.native_batch_norm": _batch_norm,
    "aten.native_layer_norm": _layer_norm,
    "aten._softmax": _softmax,
    "aten.convolution": _convolution,
    "aten.mm": _product(0, 2),
    "aten.bmm": _product(0, 3),
    "aten.addmm": _product(1, 2),
    "aten.baddbmm": _product(1, 3),
}
