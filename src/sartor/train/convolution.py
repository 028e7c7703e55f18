"""Convolutions whose weight gradient is one matrix product where that is the faster way on a CPU.

On few pixels oneDNN's bf16 weight gradient takes about three times as long as gathering the patches (im2col) and
multiplying; on many pixels the gathering costs more than it saves (``benchmarks/convolution.py``). Modules and files
are untouched: the steps of training run under :class:`QuickConvolutions`.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.overrides import TorchFunctionMode

FEW_PIXELS = 16
"""Output pixels an image up to which a dense kernel's patches are gathered; strided 1x1 kernels have none to gather."""


def pays(kernel: int, stride: int, padding: int, pixels: int) -> bool:
    """Whether the product is the faster weight gradient for a convolution of ``pixels`` output pixels an image."""
    return (kernel == 1 and stride > 1 and padding == 0) or pixels <= FEW_PIXELS


class QuickConvolutions(TorchFunctionMode):
    """Within it, bf16-autocast 2-D convolutions on the CPU take the faster way back. Values and gradients are those of
    the plain ones up to the order of sums."""

    def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if function is torch.conv2d and len(args) > 1 and torch.is_grad_enabled() and _in_bf16():
            geometry = _geometry(*args, **kwargs)
            if geometry is not None:
                x, weight = (tensor.to(torch.bfloat16) for tensor in args[:2])
                with torch.autocast("cpu", enabled=False):
                    return _Convolution.apply(x, weight, *geometry)
        return function(*args, **kwargs)


def _in_bf16() -> bool:
    return torch.is_autocast_enabled("cpu") and torch.get_autocast_dtype("cpu") == torch.bfloat16


def _geometry(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
) -> tuple[int, int] | None:
    """Stride and padding of a convolution for which the product pays; None leaves it to PyTorch, errors included."""
    step, pad = _same(stride), _same(padding)
    if bias is not None or groups != 1 or _same(dilation) != 1 or step is None or pad is None:
        return None
    if x.dim() != 4 or weight.dim() != 4 or x.device.type != "cpu" or not weight.requires_grad:
        return None
    kernel = weight.shape[-1]
    if weight.shape[-2] != kernel or x.shape[1] != weight.shape[1] or min(x.shape[-2:]) + 2 * pad < kernel:
        return None
    height, width = ((size + 2 * pad - kernel) // step + 1 for size in x.shape[-2:])
    return (step, pad) if pays(kernel, step, pad, height * width) else None


class _Convolution(torch.autograd.Function):
    """conv2d without bias, dilation or groups, with the weight gradient as a matrix product over patches."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, stride: int, padding: int) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.stride, ctx.padding = stride, padding
        return torch.ops.aten.convolution(x, weight, None, [stride] * 2, [padding] * 2, [1, 1], False, [0, 0], 1)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, Tensor, None, None]:
        x, weight = ctx.saved_tensors
        stride, padding = [ctx.stride] * 2, [ctx.padding] * 2
        back = None
        if ctx.needs_input_grad[0]:
            back = torch.ops.aten.convolution_backward(
                gradient, x, weight, None, stride, padding, [1, 1], False, [0, 0], 1, [True, False, False]
            )[0]
        return back, weight_gradient(x, gradient, weight.shape[-1], ctx.stride, ctx.padding), None, None


def weight_gradient(x: Tensor, gradient: Tensor, kernel: int, stride: int, padding: int) -> Tensor:
    """[b, c_in, h, w] and the output's gradient [b, c_out, h', w'] → [c_out, c_in, kernel, kernel]."""
    c_out, c_in = gradient.shape[1], x.shape[1]
    rows = gradient.permute(0, 2, 3, 1).reshape(-1, c_out)
    product = rows.t() @ _patches(x, kernel, stride, padding, gradient.shape[-2:])
    return product.view(c_out, kernel, kernel, c_in).permute(0, 3, 1, 2)


def _patches(x: Tensor, kernel: int, stride: int, padding: int, size: torch.Size) -> Tensor:
    """[b, c, h, w] → [b·rows·columns, kernel·kernel·c]: what each output pixel sees."""
    if kernel == 1 and padding == 0:
        return x[:, :, ::stride, ::stride].permute(0, 2, 3, 1).reshape(-1, x.shape[1])
    # Channels last, so that a patch's row is contiguous and the copy runs in long strides.
    x = F.pad(x, (padding,) * 4).permute(0, 2, 3, 1).contiguous()
    batch, height, width = len(x), *size
    per_image, per_row, per_pixel, per_channel = x.stride()
    windows = x.as_strided(
        (batch, height, width, kernel, kernel, x.shape[3]),
        (per_image, per_row * stride, per_pixel * stride, per_row, per_pixel, per_channel),
    )
    return windows.reshape(batch * height * width, -1)


def _same(value: Any) -> int | None:
    """A pair of equal numbers as one; None for anything else."""
    if isinstance(value, int):
        return value
    if isinstance(value, tuple | list) and len(value) == 2 and value[0] == value[1] and isinstance(value[0], int):
        return int(value[0])
    return None
