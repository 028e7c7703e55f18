"""Pruning before training: which weights a fresh network could do without, and how wide its layers should be then."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from scipy.optimize import lsq_linear
from torch import Tensor, nn
from torch.func import functional_call
from torch.utils import _pytree as pytree

from sartor.compress.prune import check_protected
from sartor.errors import BudgetError, InputError
from sartor.graph import Cut, Graph, trace
from sartor.graph.capture import Inputs, evaluating
from sartor.graph.groups import protected
from sartor.graph.saliency import Evidence, gradients

SYNFLOW_STEPS = 100
"""As in the paper."""

Chosen = dict[str, Tensor]
"""Which weights stay, by tensor."""


def snip(graph: Graph, density: float, evidence: Evidence) -> Chosen:
    """Keep the share ``density`` of all weights to which the loss is most sensitive, |gradient · weight| over the
    batches (SNIP, arXiv:1810.02340 §4.1)."""
    total = {name: torch.zeros_like(weight) for name, weight in _weights(graph.model).items()}
    for found in gradients(graph.model, evidence, "snip"):
        for name in total.keys() & found.keys():
            total[name] += found[name]
    sizes = {name: (gradient * graph.model.get_parameter(name).detach()).abs() for name, gradient in total.items()}
    return _largest(sizes, density)


def synflow(graph: Graph, density: float, evidence: Evidence) -> Chosen:
    """Keep the share ``density`` of all weights through which most flows, iteratively: |∂R/∂w · w| with R the sum of
    the outputs of the network with the absolutes of its weights on an input of ones (SynFlow, arXiv:2006.05467 §5).
    Sees no data. Runs in float64, and with norms as they are in eval mode."""
    model = graph.model
    ones = lambda v: torch.ones_like(v, dtype=torch.float64) if isinstance(v, Tensor) and v.is_floating_point() else v
    args, kwargs = pytree.tree_map(ones, graph.inputs)
    named = (*model.named_parameters(), *model.named_buffers())
    state = {n: t.detach().abs().double() for n, t in named if t.is_floating_point()}
    masks = {name: torch.ones_like(weight, dtype=torch.bool) for name, weight in _weights(model).items()}
    with evaluating(model):
        for step in range(1, SYNFLOW_STEPS + 1):
            weights = {name: (state[name] * mask).requires_grad_() for name, mask in masks.items()}
            try:
                said = functional_call(model, {**state, **weights}, args, kwargs)
            except Exception as error:  # whatever the model's own code raises on numbers of 64 bits
                name = type(model).__name__
                raise InputError(f"synflow cannot run {name} in 64 bits ({error}): take method='snip'") from error
            flow = torch.stack([t.sum() for t in pytree.tree_leaves(said) if isinstance(t, Tensor)]).sum()
            found = torch.autograd.grad(flow, list(weights.values()), allow_unused=True)
            sizes = {
                name: torch.zeros_like(weight) if g is None else (g * weight).detach().abs()
                for (name, weight), g in zip(weights.items(), found, strict=True)
            }
            masks = _largest(sizes, density ** (step / SYNFLOW_STEPS))
    return masks


METHODS: dict[str, Callable[[Graph, float, Evidence], Chosen]] = {"snip": snip, "synflow": synflow}
"""Pruning at initialisation, by name."""


def precrop(
    model: nn.Module,
    inputs: Inputs,
    density: float = 0.5,
    *,
    method: str = "synflow",
    batches: Sequence[tuple[Any, Any]] = (),
    protect: Sequence[str] = (),
    least: float = 0.05,
) -> nn.Module:
    """A narrower network for training from scratch, with at most a share ``density`` of ``model``'s parameters, as many
    of them in each layer as a pruning at initialisation would leave there: PreCropping (P356).

    "Structured pruning is all you need for pruning CNNs at initialization" (arXiv:2203.02549): of the masks, only each
    layer's density matters. ``method``: of :data:`METHODS`; ``snip`` takes ``batches`` of (inputs, targets).
    ``protect``, ``least``: as in :func:`sartor.prune`.

    Deviation: the paper's widths follow layer by layer from the input on; ours are those of the graph's groups that fit
    all layers' densities best (least squares of their logarithms, weighted by their parameters), so that whatever is
    tied to whatever gets one width. Weights are scaled up to what a layer of so many inputs begins with.

    Raises InputError for what makes no sense, BudgetError where even the narrowest is too large.
    """
    if not 0 < density <= 1:
        raise InputError(f"density is a share above 0 and up to 1, not {density!r}")
    if method not in METHODS:
        raise InputError(f"there is no method {method!r}: {', '.join(METHODS)}")
    graph = trace(model, inputs)
    check_protected(graph, protect)
    shares = densities(METHODS[method](graph, density, Evidence(batches)))
    small = graph.slice(crop(graph, shares, round(density * graph.params()), protect=protect, least=least))
    _rescale(small, model)
    return small


@torch.no_grad()
def _rescale(small: nn.Module, model: nn.Module) -> None:
    """Initial weights shrink with the root of what a layer reads: fewer inputs, larger weights."""
    left = dict(small.named_parameters())
    for path, layer in model.named_modules():
        name = f"{path}.weight" if path else "weight"
        if isinstance(layer, (nn.Linear, nn.modules.conv._ConvNd)) and name in left and not left[name].is_meta:
            read, reads = layer.weight[0].numel(), left[name][0].numel()
            left[name].mul_(math.sqrt(read / reads))


def densities(masks: Mapping[str, Tensor]) -> dict[str, float]:
    """The share of each tensor's weights that its mask leaves."""
    return {name: float(mask.double().mean()) for name, mask in masks.items()}


def crop(
    graph: Graph, shares: Mapping[str, float], params: int, *, protect: Sequence[str] = (), least: float = 0.05
) -> Cut:
    """The cut of at most ``params`` parameters under which the tensors keep about ``shares`` of their entries; where
    these ask for more than that, all groups shrink alike from there on."""
    groups = [group for group in graph.groups if not protected(group, protect)]
    number = {group.name: i for i, group in enumerate(groups)}
    rows, wanted = [], []
    for name, share in shares.items():
        row = np.zeros(len(groups))
        size = graph.data[name].numel()
        for group in groups:
            for tie, owner in graph.entries(group):
                if tie.tensor == name:  # of a dimension, a part may be one group's, and a part another's
                    row[number[group.name]] += (owner >= 0).mean()
        if row.any():
            rows.append(row * math.sqrt(size))
            wanted.append(math.log(max(share, 1 / size)) * math.sqrt(size))
    if not rows:
        raise InputError(f"nothing of {type(graph.model).__name__} can be made narrower")
    floor = math.log(max(least, 1e-6)) if least < 1 else -1e-9
    logs = lsq_linear(np.array(rows), np.array(wanted), bounds=(floor, 1e-12)).x

    def cut(scale: float) -> Cut:
        keep, more = {}, 0.1 * max(0.0, scale - 1)
        for group, log in zip(groups, logs, strict=True):
            kept = max(1, math.ceil(least * group.size), round(group.size * math.exp(min(0.0, scale * log - more))))
            keep[group.name] = range(min(kept, group.size))
        return graph.completed(keep)

    low, high = 0.0, 1.0
    while graph.params(cut(high)) > params:
        if high > 1e4:
            raise BudgetError(f"{params:,} params cannot be reached: {graph.params(cut(high)):,} is the least")
        low, high = high, 2 * high
    while high - low > 1e-4:
        middle = (low + high) / 2
        low, high = (low, middle) if graph.params(cut(middle)) <= params else (middle, high)
    return cut(high)


def _weights(model: nn.Module) -> dict[str, Tensor]:
    return {n: p.detach() for n, p in model.named_parameters() if p.dim() > 1 and p.is_floating_point()}


def _largest(sizes: Mapping[str, Tensor], density: float) -> Chosen:
    """Masks of the ``density`` largest of all ``sizes``, at least one."""
    every = torch.cat([size.flatten() for size in sizes.values()])
    if not bool(every.isfinite().all()):
        raise InputError("the weights' sensitivities are not finite: check weights and data")
    kept = torch.zeros(len(every), dtype=torch.bool, device=every.device)
    kept[every.argsort(descending=True, stable=True)[: max(1, round(density * len(every)))]] = True
    flat = kept.split([size.numel() for size in sizes.values()])
    return {name: part.view(size.shape) for (name, size), part in zip(sizes.items(), flat, strict=True)}
