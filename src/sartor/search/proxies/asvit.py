"""As-ViT's two scores of an untrained transformer: how far it stretches a curve, and how evenly it can be trained.

Chen et al., P078 (arXiv:2202.11921 §3). A topology, or the next step in growing one, is chosen by the sum of
both ranks: :func:`sartor.search.proxies.evaluator.rank_sum`. Deviations: the network's output is scored, where
the authors' code scores the features before the classifier; and outside training, so that batch norm, which their
networks have none of, does not tie examples together.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from sartor.search.proxies.replica import Inputs, call, finite, first, replica

POINTS = 10
"""Of the circle: the authors' number."""


def length_distortion(model: nn.Module, inputs: Inputs, targets: Tensor) -> float:
    """The length of f(h(θ)), h a circle in a random plane of the inputs, as a sum of speeds ‖∂f/∂θ‖ at ten points.

    Layer norm is taken out, as the authors' code does: it would hide the scale that is measured. The circle has the
    norm that normal noise of the inputs' size has (Poole et al., arXiv:1606.05340); the code's has radius 1. No data.
    """
    x = first(inputs)
    if not x.is_floating_point():
        return math.nan
    with replica(model, train=False) as twin, sdpa_kernel([SDPBackend.MATH]):
        twin = _without_norms(twin)
        shape, size = x.shape[1:], x[0].numel()
        plane = torch.linalg.qr(torch.randn(size, 2, dtype=x.dtype)).Q.T.to(x.device) * math.sqrt(size)
        angles = torch.linspace(0, 2 * math.pi, POINTS, dtype=x.dtype, device=x.device)[:, None]
        places = (angles.cos() * plane[0] + angles.sin() * plane[1]).reshape(POINTS, *shape)
        speeds = (angles.cos() * plane[1] - angles.sin() * plane[0]).reshape(POINTS, *shape)
        pushed = torch.func.jvp(lambda at: call(twin, at), (places,), (speeds,))[1]
        return finite(pushed.detach().flatten(1).norm(dim=1).sum())


def ntk_condition(model: nn.Module, inputs: Inputs, targets: Tensor) -> float:
    """−log κ, κ the largest eigenvalue of the neural tangent kernel over its smallest. The kernel: the products of the
    examples' gradients of the summed outputs by all parameters. NaN where it is singular.

    Sixteen examples at most, the authors' batch: a pass and a row of all parameters each.
    """
    x = first(inputs)[:16]
    rest = tuple(one[:16] for one in inputs[1:]) if isinstance(inputs, tuple) else ()
    with replica(model, train=False) as twin:
        weights = [p for p in twin.parameters() if p.requires_grad]
        out = call(twin, (x, *rest))
        if not out.requires_grad:
            return math.nan
        rows = []
        for one in out:
            found = torch.autograd.grad(one.sum(), weights, retain_graph=True, allow_unused=True)
            rows.append(torch.cat([g.flatten() for g in found if g is not None]).double())
        jacobian = torch.stack(rows).cpu().numpy()
    return finite(condition_score(jacobian @ jacobian.T)) if np.isfinite(jacobian).all() else math.nan


def condition_score(kernel: np.ndarray) -> float:
    """−log of the condition number of a symmetric matrix [n, n]; NaN where it is singular to double precision."""
    eigenvalues = np.linalg.eigvalsh(kernel)
    if not eigenvalues[0] > eigenvalues[-1] * len(kernel) * np.finfo(np.float64).eps:
        return math.nan
    return -math.log(eigenvalues[-1] / eigenvalues[0])


def _without_norms(model: nn.Module) -> nn.Module:
    for name, child in model.named_children():
        setattr(model, name, nn.Identity() if isinstance(child, nn.LayerNorm) else _without_norms(child))
    return model
