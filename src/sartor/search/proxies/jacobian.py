"""Proxies from the Jacobian of outputs by inputs: whether examples are told apart."""

from __future__ import annotations

import math

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from sartor.search.proxies.replica import Inputs, call, finite, first, replica

K = 1e-5
"""Keeps logarithms and quotients of what may be zero finite: both papers' value."""
MANY = 100
"""From more classes than these on, EPE-NAS compares classes with each other."""


def jacob_cov(model: nn.Module, inputs: Inputs, targets: Tensor) -> float:
    """−Σ (log(λ + k) + 1/(λ + k)), λ the eigenvalues of the correlations between the examples' Jacobians.

    Mellor et al., arXiv:2006.04647v1 §3, in training mode, as arXiv:2101.08134 §3.2 takes it over. NaN where an
    example has no gradient.
    """
    found = _jacobian(model, inputs)
    return math.nan if found is None else finite(correlation_score(found[0]))


def epe_nas(model: nn.Module, inputs: Inputs, targets: Tensor) -> float:
    """Correlations between the Jacobians of one class's examples: e(c) = Σ log(|corr| + k); the score is Σ |e(c)| of up
    to 100 classes, and of more Σ |e(c) − e(c')| over ordered pairs, divided by the number of classes seen, with e(c)
    divided by its number of examples. Lopes et al., arXiv:2102.08099 §3, as the authors' code has it.
    """
    found = _jacobian(model, inputs)
    if found is None:
        return math.nan
    rows, classes = found
    labels = targets.detach().cpu().numpy().reshape(len(rows), -1)[:, 0]
    scores = []
    for label in np.unique(labels):
        correlations = np.atleast_2d(_correlations(rows[labels == label]))
        score = float(np.log(np.abs(correlations) + K).sum())
        scores.append(score / len(correlations) if classes > MANY else score)
    if classes <= MANY:
        return finite(float(np.abs(scores).sum()))
    apart = np.abs(np.subtract.outer(scores, scores)).sum()
    return finite(float(apart) / len(scores))


def correlation_score(rows: NDArray[np.float64]) -> float:
    """−Σ (log(λ + k) + 1/(λ + k)) over the eigenvalues λ of the correlations of ``rows`` [n, d]: nearly −n where no two
    are correlated, much less where some are alike. NaN where a row is constant."""
    correlations = _correlations(rows)
    if len(rows) < 2 or not np.isfinite(correlations).all():
        return math.nan
    eigenvalues = np.clip(np.linalg.eigvalsh(correlations), 0, None)
    return -float((np.log(eigenvalues + K) + 1 / (eigenvalues + K)).sum())


def _correlations(rows: NDArray[np.float64]) -> NDArray[np.float64]:
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.asarray(np.corrcoef(rows))


def _jacobian(model: nn.Module, inputs: Inputs) -> tuple[NDArray[np.float64], int] | None:
    """d Σ outputs / d input of each example [n, inputs], in double precision, and the number of outputs. Tokens have no
    gradient: theirs is that of what the first embedding makes of them. None where there is no gradient."""
    x = first(inputs).detach().clone()
    rest = inputs[1:] if isinstance(inputs, tuple) else ()
    leaves = [x.requires_grad_(True)] if x.is_floating_point() else []

    def lift(_: nn.Module, __: object, out: Tensor) -> Tensor:
        leaves.append(out.detach().requires_grad_(True))
        return leaves[-1]

    with replica(model, train=True) as twin:
        embedding = next((module for module in twin.modules() if isinstance(module, nn.Embedding)), None)
        if not leaves and embedding is not None:
            embedding.register_forward_hook(lift)
        out = call(twin, (x, *rest))
        if not leaves or not out.requires_grad:
            return None
        found = torch.autograd.grad(out.sum(), leaves[0], allow_unused=True)[0]
    if found is None or not found.isfinite().all():
        return None
    return found.flatten(1).double().cpu().numpy(), out.shape[-1]
