"""How much each entry of each group matters: one number an entry, higher is more. Plain functions, one criterion each.

``saliency(graph, evidence) -> {group's name: scores [size]}``. Scores are summed over the tensors a group ties, as they
stand or fall together (group importance; DepGraph, arXiv:2301.12900 §3.3).
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from sartor.errors import InputError
from sartor.graph.capture import arguments, evaluating
from sartor.graph.gates import channels_dim, gate_gradients
from sartor.graph.graph import Graph
from sartor.graph.groups import Group

Loss = Callable[[Any, Any], Tensor]
Scores = dict[str, Tensor]


@dataclass(frozen=True)
class Evidence:
    """What a criterion may look at: batches of (inputs, targets), the loss between outputs and targets, a seed."""

    batches: Sequence[tuple[Any, Any]] = ()
    loss: Loss = F.cross_entropy
    seed: int = 0

    def seen(self, criterion: str) -> Sequence[tuple[Any, Any]]:
        """The batches. Raises InputError where there are none."""
        if not len(self.batches):
            raise InputError(f"the criterion {criterion!r} needs data: give batches of (inputs, targets)")
        return self.batches


Saliency = Callable[[Graph, Evidence], Scores]


def per_entry(graph: Graph, group: Group, values: Mapping[str, Tensor], *, made: bool = False) -> Tensor:
    """``values`` (of the shapes of the parameters) summed over all that goes with each entry of ``group``.

    ``made``: only where a tensor makes the entries (its dimension 0), not where it reads them.
    """
    total = torch.zeros(group.size, dtype=torch.float64)
    for tie, owner in graph.entries(group):
        value = values.get(tie.tensor)
        if value is None or (made and tie.dim != 0):
            continue
        sums = value.double().movedim(tie.dim, 0).flatten(1).sum(1) if value.dim() > 1 else value.double()
        index = torch.from_numpy(owner)
        total.index_add_(0, index[index >= 0], sums[index >= 0].cpu())
    return total


def _weights(graph: Graph) -> dict[str, Tensor]:
    """Matrices and kernels. Gains and biases are left out: what they scale and shift is counted where it is made."""
    return {n: p.detach() for n, p in graph.model.named_parameters() if p.dim() > 1 and p.is_floating_point()}


def l1(graph: Graph, evidence: Evidence) -> Scores:
    """Sum of absolute weights (arXiv:1608.08710 §3.1)."""
    values = {name: weight.abs() for name, weight in _weights(graph).items()}
    return {group.name: per_entry(graph, group, values) for group in graph.groups}


def l2(graph: Graph, evidence: Evidence) -> Scores:
    """Euclidean norm of the weights."""
    values = {name: weight.square() for name, weight in _weights(graph).items()}
    return {group.name: per_entry(graph, group, values).sqrt() for group in graph.groups}


def bn_scale(graph: Graph, evidence: Evidence) -> Scores:
    """Gains of the batch norms over a group (network slimming, arXiv:1708.06519 §3). Groups without one go by their
    weights' norm."""
    gains = {
        f"{name}.weight": module.weight.detach().abs()
        for name, module in graph.model.named_modules()
        if isinstance(module, nn.modules.batchnorm._BatchNorm) and module.affine
    }
    norms = l2(graph, evidence)
    return {
        group.name: per_entry(graph, group, gains) if any(t.tensor in gains for t in group.ties) else norms[group.name]
        for group in graph.groups
    }


def taylor(graph: Graph, evidence: Evidence) -> Scores:
    """First-order change of the loss, squared, over batches: (sum of gradient times weight)² (arXiv:1906.10771
    §3.1)."""
    totals = {group.name: torch.zeros(group.size, dtype=torch.float64) for group in graph.groups}
    for found in gradients(graph.model, evidence, "taylor"):
        values = {name: gradient * graph.model.get_parameter(name).detach() for name, gradient in found.items()}
        for group in graph.groups:
            totals[group.name] += per_entry(graph, group, values, made=True).square()
    return totals


def fisher(graph: Graph, evidence: Evidence) -> Scores:
    """Mean square, over samples, of the loss's first-order change: the Fisher information of a gate on each entry
    (group Fisher pruning, arXiv:2108.00708 §3.1; see ``sartor.graph.gates``)."""
    return fishers(graph, evidence)[0]


def fishers(graph: Graph, evidence: Evidence) -> tuple[Scores, dict[str, float]]:
    """:func:`fisher`, and the same of the blocks that can be skipped, by their paths."""
    groups = {group.name: torch.zeros(group.size, dtype=torch.float64) for group in graph.groups}
    blocks: dict[str, float] = {}
    samples = 0
    for of_groups, of_blocks in gate_gradients(graph, evidence.seen("fisher"), evidence.loss):
        samples += max((len(rows) for rows in (*of_groups.values(), *of_blocks.values())), default=1)
        for name, rows in of_groups.items():
            groups[name] += rows.square().sum(0)
        for path, rows in of_blocks.items():
            blocks[path] = blocks.get(path, 0.0) + float(rows.square().sum())
    return {name: total / samples for name, total in groups.items()}, {p: v / samples for p, v in blocks.items()}


def hessian(graph: Graph, evidence: Evidence) -> Scores:
    """Second-order change of the loss, ½ w² h with the Hessian's diagonal h (optimal brain damage), estimated by
    Hutchinson's products with random signs, E[v ∘ Hv]. Curvature below zero counts as none."""
    model = graph.model
    generator = torch.Generator().manual_seed(evidence.seed)
    batches = evidence.seen("hessian")
    # Fused attention has no second derivative on the CPU; its plain form has.
    with evaluating(model), sdpa_kernel(SDPBackend.MATH), _differentiable(model) as (names, parameters):
        diagonal = {name: torch.zeros_like(p) for name, p in zip(names, parameters, strict=True)}
        for inputs, targets in batches:
            loss = evidence.loss(_run(model, inputs), targets)
            first = torch.autograd.grad(loss, parameters, create_graph=True, allow_unused=True)
            used = [
                (n, p, g) for n, p, g in zip(names, parameters, first, strict=True) if g is not None and g.requires_grad
            ]
            signs = [torch.randint(0, 2, p.shape, generator=generator).to(p) * 2 - 1 for _, p, _ in used]
            product = torch.stack([(g * v).sum() for (_, _, g), v in zip(used, signs, strict=True)]).sum()
            second = torch.autograd.grad(product, [p for _, p, _ in used], allow_unused=True)
            for (name, _, _), v, h in zip(used, signs, second, strict=True):
                if h is not None:
                    diagonal[name] += (v * h).detach() / len(batches)
    values = {name: 0.5 * model.get_parameter(name).detach().square() * h.clamp(min=0) for name, h in diagonal.items()}
    return {group.name: per_entry(graph, group, values, made=True) for group in graph.groups}


def variance(graph: Graph, evidence: Evidence) -> Scores:
    """Variance of the activations that the next layers read (variance-based pruning, P275, arXiv:2507.12988): what
    hardly varies can go into a bias, see ``prune(compensate=True)``."""
    return {
        group.name: sum(
            (_to_entries(group, owner, moments[1]) for _, owner, moments in held),
            torch.zeros(group.size, dtype=torch.float64),
        )
        for group, held in read_by_layers(graph, evidence, "variance")
    }


def random(graph: Graph, evidence: Evidence) -> Scores:
    """A random order: what every criterion has to beat."""
    generator = torch.Generator().manual_seed(evidence.seed)
    return {group.name: torch.rand(group.size, generator=generator).double() + 0.5 for group in graph.groups}


def read_by_layers(
    graph: Graph, evidence: Evidence, criterion: str
) -> list[tuple[Group, list[tuple[str, Tensor, tuple[Tensor, Tensor]]]]]:
    """For each group, the layers that read it: name, each input channel's entry, the channels' mean and variance."""
    readers = {
        name: module
        for name, module in graph.model.named_modules()
        if isinstance(module, (nn.Linear, nn.modules.conv._ConvNd)) and not getattr(module, "transposed", False)
    }
    moments = input_moments(graph.model, readers, evidence.seen(criterion))
    found = []
    for group in graph.groups:
        held = []
        for tie, owner in graph.entries(group):
            layer = tie.tensor.removesuffix(".weight")
            if tie.dim == 1 and layer in moments and len(owner) == len(moments[layer][0]):
                held.append((layer, torch.from_numpy(owner), moments[layer]))
        found.append((group, held))
    return found


@torch.no_grad()
def input_moments(
    model: nn.Module, layers: Mapping[str, nn.Module], batches: Iterable[tuple[Any, Any]]
) -> dict[str, tuple[Tensor, Tensor]]:
    """Mean and variance of each input channel of ``layers`` over ``batches``, in float64; of layers that were run."""
    sums: dict[str, list[Tensor]] = {}
    handles = []

    def watch(name: str, layer: nn.Module) -> Callable[[nn.Module, tuple[Any, ...]], None]:
        def hook(_: nn.Module, args: tuple[Any, ...]) -> None:
            x = args[0].detach().double()
            dim = channels_dim(layer, x)
            flat = x.movedim(dim, 0).flatten(1)
            new = [flat.sum(1), flat.square().sum(1), torch.tensor(float(flat.shape[1]))]
            sums[name] = [a + b for a, b in zip(sums[name], new, strict=True)] if name in sums else new

        return hook

    try:
        handles = [layer.register_forward_pre_hook(watch(name, layer)) for name, layer in layers.items()]
        with evaluating(model):
            for inputs, _ in batches:
                _run(model, inputs)
    finally:
        for handle in handles:
            handle.remove()
    return {
        name: (total / n, (squares / n - (total / n).square()).clamp(min=0))
        for name, (total, squares, n) in sums.items()
    }


@contextlib.contextmanager
def _differentiable(model: nn.Module) -> Iterator[tuple[list[str], list[nn.Parameter]]]:
    """All weights, frozen ones too: that they are not trained does not make them unimportant."""
    named = [(name, p) for name, p in model.named_parameters() if p.is_floating_point()]
    frozen = [p for _, p in named if not p.requires_grad]
    for p in frozen:
        p.requires_grad_(True)
    try:
        yield [name for name, _ in named], [p for _, p in named]
    finally:
        for p in frozen:
            p.requires_grad_(False)


def gradients(model: nn.Module, evidence: Evidence, criterion: str) -> Iterable[dict[str, Tensor]]:
    """Gradients of the loss by parameter, one batch after the other; the parameters' own are left alone."""
    with evaluating(model), _differentiable(model) as (names, parameters):
        for inputs, targets in evidence.seen(criterion):
            loss = evidence.loss(_run(model, inputs), targets)
            found = torch.autograd.grad(loss, parameters, allow_unused=True)
            yield {name: g for name, g in zip(names, found, strict=True) if g is not None}


def _run(model: nn.Module, inputs: Any) -> Any:
    args, kwargs = arguments(inputs)
    return model(*args, **kwargs)


def _to_entries(group: Group, owner: Tensor, channels: Tensor) -> Tensor:
    total = torch.zeros(group.size, dtype=torch.float64)
    return total.index_add_(0, owner[owner >= 0], channels[owner >= 0].cpu())


SALIENCIES: dict[str, Saliency] = {
    "l1": l1,
    "l2": l2,
    "bn_scale": bn_scale,
    "taylor": taylor,
    "fisher": fisher,
    "hessian": hessian,
    "variance": variance,
    "random": random,
}
"""By the name the command line and ``prune`` take. Any function of the same form can be passed instead."""

LOSS_UNITS = ("taylor", "fisher", "hessian")
"""Criteria whose scores are changes of the loss: entries of different groups compare as they stand."""
SEE_DATA = (*LOSS_UNITS, "variance")
