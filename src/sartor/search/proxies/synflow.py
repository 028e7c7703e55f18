"""SynFlow: how much gets through when every weight is positive. No data."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from sartor.search.proxies.replica import Inputs, call, finite, first, gradients, matrices, replica


def synflow(model: nn.Module, inputs: Inputs, targets: Tensor) -> float:
    """Σ |θ · ∂R/∂θ|, R the sum of the outputs for an input of ones with every parameter replaced by its absolute value.

    Tanaka et al., arXiv:2006.05467, in double precision, without batch norm, as arXiv:2101.08134 §3.2 has it.
    Deviation: where inputs are whole numbers (tokens), the first example takes the place of the ones.
    """
    return finite(sum(float(flow) for flow in synflow_by_weight(model, inputs)))


def synflow_by_weight(model: nn.Module, inputs: Inputs) -> list[Tensor]:
    """The sum of |θ · ∂R/∂θ| of every weight tensor. Equal for all layers of a chain without biases, whatever its
    widths: synaptic saliency is conserved (arXiv:2006.05467)."""
    with replica(model, train=False) as twin:
        twin = _without_norms(twin).double()
        with torch.no_grad():
            for parameter in twin.parameters():
                parameter.abs_()
        weights = matrices(twin)
        rest = inputs[1:] if isinstance(inputs, tuple) else ()
        x, *others = [one[:1].double() if one.is_floating_point() else one[:1] for one in (first(inputs), *rest)]
        ones = torch.ones_like(x) if x.is_floating_point() else x
        found = gradients(call(twin, (ones, *others)).sum(), weights)
        return [(w * g).abs().sum().detach() for w, g in zip(weights, found, strict=True)]


def _without_norms(model: nn.Module) -> nn.Module:
    for name, child in model.named_children():
        setattr(model, name, nn.Identity() if isinstance(child, _BatchNorm) else _without_norms(child))
    return model
