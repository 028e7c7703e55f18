"""AutoBuild: embeddings of options and modules whose lengths rank as the archs they are in; the longest are kept.

Mills et al., P149 (arXiv:2403.13293).
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from sartor.errors import InputError
from sartor.records import Arch, Option
from sartor.search.objective import Objective, measured
from sartor.search.policy import Policy
from sartor.search.shrinking.dropping import Criterion, without_worst
from sartor.search.strategy import History
from sartor.space.space import Space

if TYPE_CHECKING:
    from torch import Tensor

Module = tuple[tuple[str, Option], ...]
"""Options of neighbouring choices."""


@dataclass(frozen=True)
class Lengths:
    """How long the embeddings of options are, by choice, and of modules, by stage. What was not evaluated is absent."""

    options: dict[str, dict[Option, float]]
    modules: tuple[dict[Module, float], ...]


def autobuild(share: float = 0.15, *, seed: int = 0) -> Criterion:
    """A criterion: the ``share`` of options goes whose embeddings are shortest beside the longest of their choice."""
    return partial(_autobuild, share=share, seed=seed)


def _autobuild(space: Space, history: History, objectives: Sequence[Objective], *, share: float, seed: int) -> Space:
    if sum(measured(record.metrics, objectives[:1]) for record in history) < 2:
        return space
    learnt = lengths(space, history, objectives[0], seed=seed).options
    losses = {name: {o: max(held.values()) - v for o, v in held.items()} for name, held in learnt.items() if held}
    return without_worst(space, losses, share)


def assembled(space: Space, learnt: Lengths, best: int = 2) -> list[Arch]:
    """The archs of every combination of each stage's ``best`` longest modules, longest sum first: built, not searched.
    Archs that the space does not have are left out."""
    stages = [sorted(held.items(), key=lambda item: -item[1])[:best] for held in learnt.modules if held]
    found: dict[Arch, float] = {}
    for parts in itertools.product(*stages):
        arch = Arch(dict(pair for module, _ in parts for pair in module))
        if space.contains(arch):
            found[arch] = sum(length for _, length in parts)
    return sorted(found, key=lambda arch: -found[arch])


def lengths(
    space: Space,
    history: History,
    objective: Objective,
    *,
    stage: int = 2,
    size: int = 16,
    steps: int = 200,
    lr: float = 0.02,
    seed: int = 0,
) -> Lengths:
    """The lengths of embeddings of options and of modules of ``stage`` neighbouring choices, fitted so that the sums of
    archs' lengths rank as their costs do, at both levels: what is in good archs is long. Raises InputError where
    fewer than two archs were evaluated.

    Deviations: modules are stages of choices in their order, and one exchange between neighbours in a stage is what the
    paper's graph network does along edges; ranks are learnt from pairs by a logistic loss, where the paper has a
    differentiable Spearman correlation.
    """
    usable = [record for record in history if measured(record.metrics, [objective])]
    if len(usable) < 2:
        raise InputError(f"two evaluated archs are needed to learn what is good in them, not {len(usable)}")
    cost = tuple(objective.cost(record.metrics[objective.metric]) for record in usable)
    return _learnt(space, tuple(record.arch for record in usable), cost, stage, size, steps, lr, seed)


@lru_cache(maxsize=32)  # a space that shrinks as a search goes on is asked of the same beginnings at every proposal
def _learnt(
    space: Space,
    archs: tuple[Arch, ...],
    costs: tuple[float, ...],
    stage: int,
    size: int,
    steps: int,
    lr: float,
    seed: int,
) -> Lengths:
    import torch
    from torch.nn.functional import softplus

    policy = Policy(space)
    x, cost = torch.tensor(policy.taken(archs), dtype=torch.float32), torch.tensor(costs, dtype=torch.float64)
    choices = range(len(space.choices))
    choice_of = np.repeat(np.arange(len(space.choices)), policy.sizes)
    groups = [list(choices[i : i + stage]) for i in choices[::stage]]
    generator = torch.Generator().manual_seed(seed)
    table = (0.3 * torch.randn(x.shape[1], size, generator=generator)).requires_grad_()
    own, other = (
        (torch.eye(size) * scale + 0.05 * torch.randn(size, size, generator=generator)).requires_grad_()
        for scale in (1.0, 0.3)
    )

    def embedded() -> tuple[list[Tensor], list[Tensor]]:
        """Of each choice [n, size], before and after the exchange; zeros where it is not active."""
        first = [x[:, choice_of == j] @ softplus(table[choice_of == j]) for j in choices]
        second: list[Tensor] = []
        for group in groups:
            for j in group:
                heard = sum((first[i] for i in group if i != j), torch.zeros_like(first[j])) @ other
                second.append(torch.relu(first[j] @ own + heard * (first[j].abs().sum(1, keepdim=True) > 0)))
        return first, second

    optimiser = torch.optim.Adam([table, own, other], lr, weight_decay=1e-4)
    for _ in range(steps):
        one, two = torch.randint(len(x), (2, 512), generator=generator)
        sign = torch.sign(cost[two] - cost[one]).float()  # 0 for equals, from which nothing is to be learnt
        loss = torch.zeros(())
        for level in embedded():
            summed = sum((_length(part) for part in level), torch.zeros(len(x)))
            loss = loss + (sign.abs() * softplus(-sign * (summed[one] - summed[two]))).mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    with torch.no_grad():
        of_option = _length(softplus(table)).numpy()
        each = torch.stack([_length(part) for part in embedded()[1]], dim=1).numpy()
    return Lengths(_by_option(policy, x.numpy(), of_option), tuple(_by_module(space, archs, each, g) for g in groups))


def _length(rows: Tensor) -> Tensor:
    """Euclidean, with a slope at zero."""
    return ((rows**2).sum(dim=1) + 1e-12).sqrt()


def _by_option(policy: Policy, x: NDArray[np.float32], length: NDArray[np.float32]) -> dict[str, dict[Option, float]]:
    return {
        choice.name: {o: float(length[start + i]) for i, o in enumerate(choice.options) if x[:, start + i].any()}
        for start, choice in zip(policy.starts, policy.space.choices, strict=True)
    }


def _by_module(space: Space, archs: Sequence[Arch], each: NDArray[np.float32], group: list[int]) -> dict[Module, float]:
    """The modules that were evaluated, with the sum of their choices' lengths: the same in every arch they are in."""
    names = [space.choices[j].name for j in group]
    return {
        tuple((name, arch[name]) for name in names if name in arch): float(row[group].sum())
        for arch, row in zip(archs, each, strict=True)
    }
