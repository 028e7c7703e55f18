"""NASWOT: how differently a network's ReLUs switch for different examples."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from sartor.search.proxies.replica import Inputs, call, finite, replica

aten = torch.ops.aten

_NAMES = ("relu", "hardtanh", "leaky_relu", "elu", "gelu", "silu", "hardswish")
SWITCHES = frozenset(getattr(aten, f"{name}{end}") for name in _NAMES for end in ("", "_"))
"""Operators that are on or off by their input's sign: ReLU, and what takes its place."""


def naswot(model: nn.Module, inputs: Inputs, targets: Tensor) -> float:
    """log |det K|, K the number of units that two examples agree on, on or off, over all ReLUs.

    Mellor et al., arXiv:2006.04647 §3, in training mode. Found at the dispatcher, so functional ReLUs count; so do
    smooth ones, by the sign of their input, which the paper has none of. NaN where two examples agree on all.
    """
    with replica(model, train=True) as twin, torch.no_grad(), _Codes() as codes:
        call(twin, inputs)
    return finite(kernel_score(codes.kernel)) if codes.kernel is not None else float("nan")


def agreement(codes: Tensor) -> Tensor:
    """How many of its bits [n, units] each example shares with each other [n, n]: units minus the Hamming distance."""
    on = codes.float()  # exact up to 16 million units
    return (on @ on.T + (1 - on) @ (1 - on).T).double()


def kernel_score(kernel: Tensor) -> float:
    """The logarithm of the determinant of K [n, n]; minus infinity where it is singular."""
    return float(torch.linalg.slogdet(kernel.double())[1])


class _Codes(TorchDispatchMode):
    """Adds up the agreement of every switch that is passed."""

    def __init__(self) -> None:
        super().__init__()
        self.kernel: Tensor | None = None

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if getattr(func, "overloadpacket", None) in SWITCHES and isinstance(args[0], Tensor):
            found = agreement(args[0].flatten(1) > 0)  # before it is run: it may write over its input
            if self.kernel is None or self.kernel.shape == found.shape:
                self.kernel = found if self.kernel is None else self.kernel + found
        return func(*args, **(kwargs or {}))
