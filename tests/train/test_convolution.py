"""The faster way back through a convolution is the same way."""

from __future__ import annotations

import copy

import pytest
import torch
import torch.nn.functional as F
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from sartor.train import convolution
from sartor.train.convolution import QuickConvolutions

BF16 = 2**-8
"""Half a step of bf16 near 1, twice: a product of rounded factors, rounded."""


def gradients(module: nn.Module, x: Tensor, target: Tensor, *, quick: bool) -> tuple[Tensor, list[Tensor]]:
    module, x = copy.deepcopy(module), x.clone().requires_grad_()
    with torch.autocast("cpu", torch.bfloat16):
        if quick:
            with QuickConvolutions():
                y = module(x)
        else:
            y = module(x)
    (y.float() * target).sum().backward()
    assert x.grad is not None
    return y.detach(), [x.grad, *(p.grad for p in module.parameters() if p.grad is not None)]


@settings(max_examples=60, deadline=None)
@given(
    st.integers(1, 12),
    st.integers(1, 12),
    st.sampled_from([1, 2, 3, 5]),
    st.integers(1, 3),
    st.integers(0, 2),
    st.integers(3, 9),
    st.integers(3, 9),
    st.booleans(),
    st.booleans(),
)
def test_same_values_and_gradients(c_in, c_out, kernel, stride, padding, height, width, bias, channels_last):
    assume(min(height, width) + 2 * padding >= kernel)
    torch.manual_seed(0)
    conv = nn.Conv2d(c_in, c_out, kernel, stride, padding, bias=bias)
    x = torch.randn(4, c_in, height, width)
    if channels_last:
        conv, x = conv.to(memory_format=torch.channels_last), x.contiguous(memory_format=torch.channels_last)
    target = torch.randn_like(conv(x))
    plain, quick = (gradients(conv, x, target, quick=q) for q in (False, True))
    assert torch.equal(plain[0], quick[0])
    for a, b in zip(plain[1], quick[1], strict=True):
        assert a.shape == b.shape
        assert a.dtype == b.dtype
        assert float((a - b).abs().max()) <= 4 * BF16 * float(a.abs().max())


def test_it_is_taken(monkeypatch: pytest.MonkeyPatch):
    """On few pixels and strided 1x1 kernels, in training, under autocast; nowhere else."""
    taken = []
    apply = convolution._Convolution.apply
    monkeypatch.setattr(convolution._Convolution, "apply", lambda *args: taken.append(args) or apply(*args))
    few, many = torch.randn(2, 8, 4, 4), torch.randn(2, 8, 16, 16)
    dense, strided = nn.Conv2d(8, 8, 3, padding=1, bias=False), nn.Conv2d(8, 8, 1, 2, bias=False)
    grouped = nn.Conv2d(8, 8, 3, padding=1, groups=8, bias=False)

    def passes(module: nn.Module, x: Tensor, *, dtype: torch.dtype | None = torch.bfloat16) -> bool:
        taken.clear()
        with torch.autocast("cpu", dtype or torch.bfloat16, enabled=dtype is not None), QuickConvolutions():
            module(x)
        return bool(taken)

    assert passes(dense, few)
    assert passes(strided, many)
    assert not passes(dense, many)
    assert not passes(grouped, few)
    assert not passes(dense, few, dtype=None)
    with torch.no_grad():
        assert not passes(dense, few)


def test_errors_are_those_of_pytorch():
    with torch.autocast("cpu", torch.bfloat16), QuickConvolutions():
        weight = torch.randn(4, 3, 3, 3, requires_grad=True)
        with pytest.raises(RuntimeError):
            F.conv2d(torch.randn(1, 2, 4, 4), weight)
        with pytest.raises(RuntimeError):
            F.conv2d(torch.randn(1, 3, 2, 2), weight)


def test_arguments_by_name_are_left_to_pytorch():
    x, weight = torch.randn(1, 3, 4, 4), torch.randn(4, 3, 3, 3, requires_grad=True)
    with torch.autocast("cpu", torch.bfloat16), QuickConvolutions():
        assert torch.equal(F.conv2d(input=x, weight=weight), F.conv2d(x, weight))
