"""Attention in tensors of any rank, for the exporter: PyTorch's own translation knows four dimensions only."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import torch


def translations() -> Mapping[Any, Callable[..., Any]]:
    """For ``torch.onnx.export(custom_translation_table=...)``: windows of tokens (Hiera) have five dimensions."""
    from onnxscript import opset20 as op

    def attention(
        query: Any,
        key: Any,
        value: Any,
        attn_mask: Any = None,
        dropout_p: float = 0.0,
        is_causal: bool = False,
        scale: float | None = None,
        enable_gqa: bool = False,
    ) -> Any:
        """softmax(scale · QKᵀ + mask) V."""
        if is_causal or enable_gqa:
            raise NotImplementedError("causal or grouped attention in more than four dimensions")
        rank = len(query.shape)
        swapped = [*range(rank - 2), rank - 1, rank - 2]
        by = op.Constant(value_float=1 / math.sqrt(query.shape[-1]) if scale is None else scale)
        scores = op.MatMul(op.Mul(query, by), op.Transpose(key, perm=swapped))
        if attn_mask is not None:
            scores = op.Add(scores, attn_mask)
        return op.MatMul(op.Softmax(scores, axis=-1), value)

    return {torch.ops.aten.scaled_dot_product_attention.default: attention}
