"""Zen-score: how strongly a network of Gaussian weights answers to small changes, with batch norm's scales put back."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils._python_dispatch import TorchDispatchMode

from sartor.search.proxies.replica import Inputs, call, finite, first, replica

aten = torch.ops.aten


def zen(model: nn.Module, inputs: Inputs, targets: Tensor, *, alpha: float = 0.01, repeats: int = 2) -> float:
    """log E‖f(x) − f(x + αε)‖ + Σ log σ̄ over batch norms: x and ε normal noise of the inputs' shape, f the features
    before the last global pooling, weights drawn from N(0, 1), σ̄² the mean over channels of the batch's variance.

    Lin et al., arXiv:2102.01063 algorithm 1, mean of ``repeats`` draws. Deviations: residual links stay, which the
    paper takes out; a norm that sees constants counts nothing; where there is no global pooling, f is the network's
    output; 2 draws, where the authors' code takes 32. No data and no labels are used.
    """
    x = first(inputs)
    if not x.is_floating_point():
        return math.nan
    rest = inputs[1:] if isinstance(inputs, tuple) else ()
    scores = []
    with replica(model, train=True) as twin, torch.no_grad():
        draws = [(torch.randn_like(x), torch.randn_like(x)) for _ in range(repeats)]  # the same for every network
        for noise, change in draws:
            draw_gaussian(twin)
            scores.append(zen_of(twin, (noise, *rest), (noise + alpha * change, *rest)))
    return finite(sum(scores) / len(scores))


@torch.no_grad()
def zen_of(model: nn.Module, inputs: Inputs, changed: Inputs) -> float:
    """The score of a network in training mode as it stands: its statistics move."""
    logs: list[float] = []

    def note(_: nn.Module, given: tuple[Tensor, ...]) -> None:
        x = given[0]
        variance = float(x.var([d for d in range(x.ndim) if d != 1], unbiased=False).mean())
        if variance > 0:  # behind a missing edge there is nothing to scale
            logs.append(0.5 * math.log(variance))

    hooks = [m.register_forward_pre_hook(note) for m in model.modules() if isinstance(m, _BatchNorm)]
    before = _features(model, inputs)
    for hook in hooks:
        hook.remove()
    apart = (before - _features(model, changed)).flatten(1).norm(dim=1).mean()
    return math.log(float(apart)) + sum(logs) if apart > 0 else -math.inf


@torch.no_grad()
def draw_gaussian(model: nn.Module) -> None:
    """Convolutions and linear layers from N(0, 1) without biases, norms as they begin."""
    for layer in model.modules():
        if isinstance(layer, (nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.Linear)):
            layer.weight.normal_()
            if layer.bias is not None:
                layer.bias.zero_()
        elif isinstance(layer, (_BatchNorm, nn.GroupNorm)) and layer.weight is not None:
            layer.weight.fill_(1)
            layer.bias.zero_()


def _features(model: nn.Module, inputs: Inputs) -> Tensor:
    with _Pooled() as pooled:
        out = call(model, inputs)
    return out if pooled.last is None else pooled.last


class _Pooled(TorchDispatchMode):
    """Keeps what the last global average pooling was given."""

    def __init__(self) -> None:
        super().__init__()
        self.last: Tensor | None = None

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        packet = getattr(func, "overloadpacket", None)
        if packet is aten.mean and len(args) > 1 and isinstance(args[1], (list, tuple)) and args[0].ndim == 4:
            if {d % 4 for d in args[1]} == {2, 3}:
                self.last = args[0]
        elif packet is aten._adaptive_avg_pool2d and args[0].ndim == 4 and list(args[1]) == [1, 1]:
            self.last = args[0]
        return func(*args, **(kwargs or {}))
