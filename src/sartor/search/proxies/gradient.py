"""Proxies from the gradients of the first step: what each weight is worth to the error.

Saliencies of single-shot pruning, summed over all weights, as Abdelfattah et al. have them (arXiv:2101.08134 §3.2), in
training mode: batch norm uses the batch.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from sartor.search.proxies.replica import Inputs, call, error, finite, gradients, matrices, replica


def snip(model: nn.Module, inputs: Inputs, targets: Tensor) -> float:
    """Σ |θ · ∂L/∂θ|. Lee et al., arXiv:1810.02340 §4, before its normalisation."""
    with replica(model, train=True) as twin:
        weights = matrices(twin)
        found = gradients(error(call(twin, inputs), targets), weights)
        return finite(sum(float((w.detach() * g).abs().sum()) for w, g in zip(weights, found, strict=True)))


def plain(model: nn.Module, inputs: Inputs, targets: Tensor) -> float:
    """Σ θ · ∂L/∂θ: snip with its sign (Mozer & Smolensky 1989). Nearly always the weakest: there to compare with."""
    with replica(model, train=True) as twin:
        weights = matrices(twin)
        found = gradients(error(call(twin, inputs), targets), weights)
        return finite(sum(float((w.detach() * g).sum()) for w, g in zip(weights, found, strict=True)))


def grad_norm(model: nn.Module, inputs: Inputs, targets: Tensor) -> float:
    """The sum of the Euclidean norms of each weight's gradient. arXiv:2101.08134 §3.2."""
    with replica(model, train=True) as twin:
        found = gradients(error(call(twin, inputs), targets), matrices(twin))
        return finite(sum(float(g.norm()) for g in found))


def grasp(model: nn.Module, inputs: Inputs, targets: Tensor) -> float:
    """−Σ θ · (H ∂L/∂θ), H the Hessian. Wang et al., arXiv:2002.07376 §4.

    With the sign of arXiv:2101.08134's code, in which a large score is a good network. Attention is computed plainly,
    for fused kernels have no second derivative.
    """
    from torch.nn.attention import SDPBackend, sdpa_kernel

    with replica(model, train=True) as twin, sdpa_kernel([SDPBackend.MATH]):
        weights = matrices(twin)
        found = gradients(error(call(twin, inputs), targets), weights, graph=True)
        along = torch.stack([(g.detach() * g).sum() for g in found]).sum() if found else torch.zeros(())
        curved = gradients(along, weights)
        return finite(-sum(float((w.detach() * h).sum()) for w, h in zip(weights, curved, strict=True)))


def fisher(model: nn.Module, inputs: Inputs, targets: Tensor) -> float:
    """Σ over channels of ½ · mean over examples of (Σ over positions of a · ∂L/∂a)², a the outputs of convolutions and
    linear layers. Theis et al., arXiv:1801.05787, and Turner et al., arXiv:1906.04113.

    Channels are the second dimension of a convolution's output, the last of a linear layer's. The error is a mean over
    the batch, as in arXiv:2101.08134's code. A layer that is used twice counts twice.
    """
    layers = (nn.Conv1d, nn.Conv2d, nn.Conv3d, nn.Linear)
    kept: list[tuple[Tensor, int]] = []

    def keep(layer: nn.Module, _: object, out: Tensor) -> Tensor:
        out = out.clone()  # what follows may write over its input, and the gradient is wanted of this
        kept.append((out, out.ndim - 1 if isinstance(layer, nn.Linear) else 1))
        return out

    with replica(model, train=True) as twin:
        for layer in twin.modules():
            if isinstance(layer, layers):
                layer.register_forward_hook(keep)
        total = error(call(twin, inputs), targets)
        if not kept or not total.requires_grad:
            return finite(0.0)
        found = torch.autograd.grad(total, [out for out, _ in kept], allow_unused=True)
        score = 0.0
        for (out, channel), g in zip(kept, found, strict=True):
            if g is not None:
                positions = [d for d in range(1, out.ndim) if d != channel]
                product = (out.detach() * g).sum(positions) if positions else out.detach() * g
                score += float(0.5 * product.square().mean(0).sum())
        return finite(score)
