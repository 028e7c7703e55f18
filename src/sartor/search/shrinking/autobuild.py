"""AutoBuild: embeddings of options and modules whose lengths rank as the archs they are in; the longest are kept.

Mills et al., P149 (arXiv:2403.13293).
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

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
    archs' lengths rank as their costs do, at both levels: what is in good archs is long.

    Deviations: modules are stages of choices in their order, and one exchange between neighbours in a stage is what the
    paper's graph network does along edges; ranks are learnt from pairs by a logistic loss, where the paper has a
    differentiable Spearman correlation.
    """
    import torch

    usable = [record for record in history if measured(record.metrics, [objective])]
    policy = Policy(space)
    x = torch.tensor(policy.taken([record.arch for record in usable]), dtype=torch.float32)
    cost = torch.tensor([objective.cost(record.metrics[objective.metric]) for record in usable])
    choice_of = np.repeat(np.arange(len(space.choices)), policy.sizes)
    generator = torch.Generator().manual_seed(seed)
    table = (0.3 * torch.randn(x.shape[1], size, generator=generator)).requires_grad_()
    own, other = (
        (torch.eye(size) * scale + 0.05 * torch.randn(size, size, generator=generator)).requires_grad_()
        for scale in (1.0, 0.3)
    )
    groups = [list(range(i, min(i + stage, len(space.choices)))) for i in range(0, len(space.choices), stage)]

    def embedded(rows: Tensor) -> tuple[list[Tensor], list[Tensor]]:
        """Of each choice [n, size], before and after the exchange; zeros where it is not active."""
        first = [
            (rows[:, choice_of == j] @ torch.nn.functional.softplus(table[choice_of == j]))
            for j in range(len(space.choices))
        ]
        second: list[Tensor] = []
        for group in groups:
            for j in group:
                near = [first[i] for i in group if i != j]
                heard = sum(near, torch.zeros_like(first[j])) @ other
                second.append(torch.relu(first[j] @ own + heard * (first[j].abs().sum(1, keepdim=True) > 0)))
        return first, second

    optimiser = torch.optim.Adam([table, own, other], lr, weight_decay=1e-4)
    order = torch.tensor(list(itertools.combinations(range(len(usable)), 2)))
    better = cost[order[:, 0]] < cost[order[:, 1]]
    even = cost[order[:, 0]] == cost[order[:, 1]]
    order, better = order[~even], better[~even]
    for _ in range(steps if len(order) else 0):
        picked = torch.randint(len(order), (512,), generator=generator)
        sign = better[picked].float() * 2 - 1
        loss = torch.zeros(())
        for level in embedded(x):
            summed = sum((_length(part) for part in level), torch.zeros(len(x)))
            gap = summed[order[picked, 0]] - summed[order[picked, 1]]
            loss = loss + torch.nn.functional.softplus(-sign * gap).mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    with torch.no_grad():
        of_option = _length(torch.nn.functional.softplus(table)).numpy()
        _, second = embedded(x)
        each = torch.stack([_length(part) for part in second], dim=1).numpy()
    return Lengths(_by_option(policy, x.numpy(), of_option), tuple(_by_module(space, usable, each, g) for g in groups))


def _length(rows: Tensor) -> Tensor:
    """Euclidean, with a slope at zero."""
    return ((rows**2).sum(dim=1) + 1e-12).sqrt()


def _by_option(policy: Policy, x: NDArray[np.float32], length: NDArray[np.float32]) -> dict[str, dict[Option, float]]:
    return {
        choice.name: {o: float(length[start + i]) for i, o in enumerate(choice.options) if x[:, start + i].any()}
        for start, choice in zip(policy.starts, policy.space.choices, strict=True)
    }


def _by_module(space: Space, usable: History, each: NDArray[np.float32], group: list[int]) -> dict[Module, float]:
    """The modules that were evaluated, with the sum of their choices' lengths: the same in every arch they are in."""
    names = [space.choices[j].name for j in group]
    return {
        tuple((name, record.arch[name]) for name in names if name in record.arch): float(row[group].sum())
        for record, row in zip(usable, each, strict=True)
    }
