"""Muon: momentum whose matrices are orthogonalised, for convolutions that a batch norm follows."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from sartor.train.device import bf16_is_fast

_A, _B, _C = 3.4445, -4.7750, 2.0315
"""Coefficients of the Newton-Schulz iteration, tuned by its author for a steep slope at zero."""


class Muon(torch.optim.Optimizer):
    """Muon for dense convolutions, Nesterov SGD for everything else.

    Keller Jordan et al., "Muon: an optimizer for hidden layers" (2024) and arXiv:2404.00498 (airbench), whose form for
    convolutions this is: a filter bank [o, i, k, k] is seen as a matrix [o, i·k·k]; before each step it is scaled to
    the norm √o, which a following batch norm undoes; the update is orthogonalised by three Newton-Schulz iterations, in
    bf16 where that is the faster way. ``torch.optim.Muon`` takes matrices only and neither rescales nor mixes with SGD.

    Learning rates: each group's ``lr`` for SGD, ``share`` times it for Muon. Weight decay acts in SGD groups only.
    """

    def __init__(
        self,
        filters: Iterable[nn.Parameter],
        decayed: Iterable[nn.Parameter],
        rest: Iterable[nn.Parameter],
        *,
        lr: float,
        momentum: float,
        weight_decay: float,
        share: float,
        filter_momentum: float = 0.6,
    ):
        groups = [
            {"params": list(filters), "momentum": filter_momentum, "weight_decay": 0.0, "share": share},
            {"params": list(decayed), "momentum": momentum, "weight_decay": weight_decay, "share": 0.0},
            {"params": list(rest), "momentum": momentum, "weight_decay": 0.0, "share": 0.0},
        ]
        super().__init__([g for g in groups if g["params"]], {"lr": lr})

    @torch.no_grad()
    def step(self, closure=None):  # type: ignore[no-untyped-def]
        """One update of every parameter that has a gradient."""
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is None:
                    continue
                gradient = parameter.grad
                if group["weight_decay"]:
                    gradient = gradient.add(parameter, alpha=group["weight_decay"])
                state = self.state[parameter]
                if "momentum_buffer" not in state:
                    state["momentum_buffer"] = torch.zeros_like(parameter)
                buffer = state["momentum_buffer"].mul_(group["momentum"]).add_(gradient)
                update = gradient.add(buffer, alpha=group["momentum"])
                if group["share"]:
                    parameter.mul_(len(parameter) ** 0.5 / parameter.norm().clamp_min(1e-12))
                    update = orthogonalise(update.flatten(1)).view_as(parameter)
                    parameter.add_(update, alpha=-group["lr"] * group["share"])
                else:
                    parameter.add_(update, alpha=-group["lr"])


def orthogonalise(matrix: Tensor, steps: int = 3) -> Tensor:
    """A matrix [m, n] near U Vᵀ of ``matrix`` = U S Vᵀ: all singular values between about 0.7 and 1.2."""
    tall = matrix.shape[0] > matrix.shape[1]
    x = matrix.mT if tall else matrix
    if bf16_is_fast(matrix.device.type):
        x = x.bfloat16()
    x = x / (x.norm() + 1e-7)
    for _ in range(steps):
        square = x @ x.mT
        x = torch.addmm(x, torch.addmm(square, square, square, beta=_B, alpha=_C), x, beta=_A)
    return (x.mT if tall else x).to(matrix.dtype)
