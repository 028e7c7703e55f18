"""What one call of an ATen operator costs: multiply-accumulates, elementwise work, or nothing but memory traffic.

An operator that is in none of the tables and computes something is *unknown*: whoever counts must name it.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch

from sartor.measure.shapes import SHORTCUTS, Shortcut

Rule = Callable[[Any, Any], int]
"""Of an operator's positional arguments and its (first) output tensor. Shapes only: tensors may be on meta."""


@dataclass(frozen=True)
class Operator:
    """``view``: no bytes are touched. ``unknown``: it computes, and neither rule says how much."""

    name: str
    macs: Rule | None = None
    elementwise: Rule | None = None
    view: bool = False
    unknown: bool = False
    shortcut: Shortcut | None = None


@cache
def operator(func: Any) -> Operator:
    """The costs of ``func``, a ``torch._ops.OpOverload``."""
    name = str(func.overloadpacket)
    plain = name.removesuffix("_")  # in place: the same work
    quick = SHORTCUTS.get(name)
    if plain in MACS:
        return Operator(name, macs=MACS[plain], shortcut=quick)
    if func.is_view or name in FREE:
        return Operator(name, view=True)
    if plain in MOVES:
        return Operator(name)
    if plain in ELEMENTWISE:
        return Operator(name, elementwise=ELEMENTWISE[plain], shortcut=quick)
    if torch.Tag.pointwise in func.tags:
        return Operator(name, elementwise=_written, shortcut=quick)
    if torch.Tag.reduction in func.tags:
        return Operator(name, elementwise=_touched)
    return Operator(name, unknown=True)


def _convolution(args: Any, out: torch.Tensor) -> int:
    images, weight, transposed = args[0], args[1], args[6]
    # weight[0] is all that makes one output value; transposed, all that one input value is spread by.
    return (images if transposed else out).numel() * math.prod(weight.shape[1:])


def _matmul(left: int) -> Rule:
    """Numbers in the output times the contracted length, which is the last one of argument ``left``."""
    return lambda args, out: out.numel() * args[left].shape[-1]


def _attention(args: Any, out: torch.Tensor) -> int:
    """Scores and their product with the values, all of them: a causal mask saves nothing in the mathematics."""
    q, k, v = args[:3]
    return math.prod(q.shape[:-1]) * k.shape[-2] * (q.shape[-1] + v.shape[-1])


def _written(args: Any, out: torch.Tensor) -> int:
    return out.numel()


def _touched(args: Any, out: torch.Tensor) -> int:
    """Each value read once, or each written where that is more."""
    first = args[0][0] if isinstance(args[0], (list, tuple)) and args[0] else args[0]
    return max(first.numel() if isinstance(first, torch.Tensor) else 0, out.numel())


def _window(args: Any, out: torch.Tensor) -> int:
    """Pooling with a fixed window: one for every value of the window."""
    window = list(args[1])
    return out.numel() * math.prod(window * (out.dim() - 2) if len(window) == 1 else window)


def _bag(args: Any, out: torch.Tensor) -> int:
    """The rows of a table that are added up."""
    return int(args[1].numel()) * int(args[0].shape[-1])


def _aten(rule: Rule, names: str) -> dict[str, Rule]:
    return {f"aten.{name}": rule for name in names.split()}


MACS: dict[str, Rule] = {
    **_aten(_convolution, "convolution _convolution convolution_overrideable"),
    **_aten(_matmul(0), "mm bmm mv _int_mm _scaled_mm _weight_int8pack_mm"),
    **_aten(_matmul(1), "addmm addmv baddbmm _addmm_activation"),
    "aten.dot": lambda args, out: args[0].numel(),
    "aten.vdot": lambda args, out: args[0].numel(),
    "aten.addbmm": lambda args, out: math.prod(args[1].shape) * args[2].shape[-1],
    **_aten(
        _attention,
        "_scaled_dot_product_flash_attention_for_cpu _scaled_dot_product_flash_attention "
        "_scaled_dot_product_efficient_attention _scaled_dot_product_cudnn_attention "
        "_scaled_dot_product_fused_attention_overrideable _scaled_dot_product_attention_math",
    ),
    "aten.vecdot": lambda args, out: args[0].numel(),
    "torchvision.deform_conv2d": lambda args, out: out.numel() * math.prod(args[1].shape[1:]),
}
"""Convolutions and matrix products: one MAC is one multiplication with its addition."""

ELEMENTWISE: dict[str, Rule] = {
    **_aten(
        _touched,
        "native_batch_norm _native_batch_norm_legit _native_batch_norm_legit_no_training cudnn_batch_norm "
        "miopen_batch_norm native_layer_norm native_group_norm _fused_rms_norm _softmax _log_softmax _safe_softmax "
        "_adaptive_avg_pool2d _adaptive_avg_pool3d adaptive_max_pool2d adaptive_max_pool3d adaptive_avg_pool1d "
        "cumsum cumprod logcumsumexp cummax cummin var_mean std_mean var std mean sum prod amax amin max min aminmax "
        "argmax argmin any all logsumexp norm linalg_vector_norm count_nonzero topk sort argsort median kthvalue "
        "_weight_norm_interface renorm histc bincount searchsorted bucketize",
    ),
    **_aten(
        _window, "max_pool2d_with_indices max_pool3d_with_indices avg_pool2d avg_pool3d max_pool2d max_pool3d lp_pool2d"
    ),
    **_aten(
        _written,
        "upsample_nearest1d upsample_nearest2d upsample_nearest3d _upsample_nearest_exact2d upsample_bilinear2d "
        "upsample_bicubic2d upsample_linear1d upsample_trilinear3d _upsample_bilinear2d_aa _upsample_bicubic2d_aa "
        "grid_sampler_2d grid_sampler_3d native_dropout bernoulli scatter_add scatter_reduce index_add index_reduce "
        "lerp addcmul addcdiv where glu rrelu_with_noise prelu _prelu_kernel hardswish relu6 gelu bitwise_and linspace",
    ),
    **_aten(_bag, "_embedding_bag _embedding_bag_forward_only"),
    "torchvision.roi_align": _written,
    "torchvision.roi_pool": _written,
    "torchvision.ps_roi_align": _written,
}
"""Work that is no MAC, one a value: normalisations, softmax, pooling, reductions, interpolation. Operators with
PyTorch's own tags ``pointwise`` and ``reduction`` need no line here."""

_FREE_LIST = (
    "_unsafe_view _reshape_alias alias detach detach_ lift_fresh lift view_as_real view_as_complex resize_ "
    "as_strided_ "
    "empty empty_like empty_strided new_empty new_empty_strided set_ sym_size sym_numel sym_stride "
    "is_same_size _has_compatible_shallow_copy_type _local_scalar_dense item equal is_nonzero squeeze_ "
    "unsqueeze_ t_ transpose_ _assert_async _assert_scalar _functional_assert_async _async_error"
)
FREE = frozenset(f"aten.{name}" for name in _FREE_LIST.split())
"""Touch no values worth counting: views without PyTorch's own mark, allocations, single numbers read by Python."""

_MOVES_LIST = (
    "clone copy _to_copy cat stack index index_select gather embedding slice_scatter select_scatter scatter "
    "index_put _index_put_impl index_fill index_copy masked_select masked_fill masked_scatter nonzero take "
    "constant_pad_nd pad reflection_pad1d reflection_pad2d reflection_pad3d replication_pad1d "
    "replication_pad2d replication_pad3d _pad_circular roll flip repeat repeat_interleave unfold im2col col2im "
    "pixel_shuffle pixel_unshuffle channel_shuffle native_channel_shuffle full full_like zeros zeros_like ones "
    "ones_like new_zeros new_ones new_full fill zero scalar_tensor arange eye tril triu tril_indices "
    "triu_indices one_hot bernoulli rand randn rand_like randn_like randint randperm uniform normal contiguous "
    "constant view_copy expand_copy _copy_from split_with_sizes_copy unique_dim _unique2 unbind_copy rot90 "
    "diag diag_embed meshgrid _nested_tensor_from_mask tile isin trace hstack vstack upsample_nearest "
    "unsafe_chunk unsafe_split unsafe_split_with_sizes _cast_Float _conj_physical complex"
)
MOVES = frozenset(f"aten.{name}" for name in _MOVES_LIST.split())
"""Move, copy, create or choose values, and compute none of them."""
