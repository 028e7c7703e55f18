"""L²NAS: an actor proposes relaxed archs, and a critic of how good they may be, a quantile of the history, judges.

Mills et al., P168 (arXiv:2109.12425): one-step reinforcement learning with continuous actions.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from sartor.records import Arch, Option
from sartor.search.objective import ACCURACY_LATENCY, Objective
from sartor.search.policy import Floats, Policy
from sartor.search.reward import Reward, rewarded, shares
from sartor.search.strategy import History, fresh
from sartor.space.space import Space

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn


def l2nas(
    space: Space,
    history: History,
    rng: random.Random,
    n: int,
    *,
    objectives: Sequence[Objective] = ACCURACY_LATENCY,
    reward: Reward | None = None,
    first: int = 10,
    top: int = 8,
    tau: float = 0.9,
    epsilon: float = 0.1,
    noise: float = 0.5,
    hidden: int = 64,
    steps: int = 50,
    lr: float = 0.01,
    memory: int = 1000,
) -> list[Arch]:
    """n archs: each the actor's relaxed options plus noise from ±``noise``, the largest of each choice taken; or a
    random arch, with chance ``epsilon``. The first ``first`` are random.

    The state is the mean of the ``top`` best archs so far; the critic is fitted to (state, arch, reward) by the
    quantile loss at ``tau``, so that it tells how good an arch may be, not how good those like it are on average; the
    actor climbs the critic, ``steps`` steps each.

    Deviations: both are fitted anew to the history, of which the last ``memory`` records are used, because a
    strategy holds no state; the critic learns from archs, not from the relaxed actions that led to them, which no
    record has; rewards are shares, the part of the records that each beats; the actor's options of a choice sum to one.
    """
    seen = {record.arch for record in history}
    usable, rewards = rewarded(history[-memory:], objectives, reward)
    if len(usable) < max(first, 2):
        return fresh(space, lambda: space.sample(rng), rng, n, seen)
    policy = Policy(space)
    x = policy.taken([record.arch for record in usable])
    action = _acted(policy, x, rewards, top, tau, hidden, steps, lr, seed=rng.getrandbits(32))

    def propose() -> Arch:
        if rng.random() < epsilon:
            return space.sample(rng)
        return discretised(policy, action + noise * np.array([rng.uniform(-1, 1) for _ in action]), rng)

    return fresh(space, propose, rng, n, seen)


def states(x: Floats, rewards: Floats, top: int) -> Floats:
    """[n + 1, k]: the mean of the ``top`` best archs before each of ``x`` [n, k], and after the last; zero at first."""
    found = np.zeros((len(x) + 1, x.shape[1]))
    best: list[tuple[float, int]] = []
    for i, value in enumerate(rewards):
        best = sorted([*best, (-float(value), i)])[:top]
        found[i + 1] = x[[place for _, place in best]].mean(axis=0)
    return found


def discretised(policy: Policy, action: Floats, rng: random.Random) -> Arch:
    """The arch of each choice's largest entry; where the space does not have it, the nearest that it has."""
    arch: dict[str, Option] = {}
    for start, choice in zip(policy.starts, policy.space.choices, strict=True):
        if choice.when is None or arch.get(choice.when[0]) in choice.when[1]:
            arch[choice.name] = choice.options[int(np.argmax(action[start : start + len(choice.options)]))]
    return policy.space.nearest(Arch(arch), rng)


def quantile_loss(error: Tensor, tau: float, kappa: float = 0.0) -> Tensor:
    """The mean of ``|τ - [u < 0]| · |u|`` over errors u, value minus prediction; its minimum is the τ-quantile.

    With ``kappa`` the corner at zero is rounded: Huber's loss over kappa takes the place of ``|u|`` (arXiv:1710.10044,
    equations 9 and 10).
    """
    size = error.abs()
    if kappa > 0:
        size = (0.5 * error**2).where(size <= kappa, kappa * (size - 0.5 * kappa)) / kappa
    return ((tau - (error < 0).to(error.dtype)).abs() * size).mean()


def _acted(
    policy: Policy, x: Floats, rewards: Floats, top: int, tau: float, hidden: int, steps: int, lr: float, seed: int
) -> Floats:
    """The actor's relaxed options [k] in the state after the last record."""
    import torch

    generator = torch.Generator().manual_seed(seed)
    seen = torch.tensor(states(x, rewards, top), dtype=torch.float32)
    taken = torch.tensor(x, dtype=torch.float32)
    values = torch.tensor(shares(rewards), dtype=torch.float32)
    k = taken.shape[1]
    critic, actor = _network(2 * k, hidden, 1, generator), _network(k, hidden, k, generator)

    optimiser = torch.optim.Adam(critic.parameters(), lr)
    for _ in range(steps):
        loss = quantile_loss(values - critic(torch.cat([seen[:-1], taken], dim=1))[:, 0], tau)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    critic.requires_grad_(False)

    optimiser = torch.optim.Adam(actor.parameters(), lr)
    sizes = policy.sizes.tolist()
    recent = seen[-top:]
    for _ in range(steps):
        relaxed = torch.cat([part.softmax(dim=1) for part in actor(recent).split(sizes, dim=1)], dim=1)
        loss = -critic(torch.cat([recent, relaxed], dim=1)).mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    with torch.no_grad():
        parts = actor(seen[-1:]).split(sizes, dim=1)
        return np.asarray(torch.cat([part.softmax(dim=1) for part in parts], dim=1)[0].numpy(), dtype=np.float64)


def _network(inputs: int, hidden: int, outputs: int, generator: torch.Generator) -> nn.Sequential:
    """Two layers, their weights drawn by ``generator``: torch's own is left as it is."""
    from torch import nn

    layers = nn.utils.skip_init(nn.Linear, inputs, hidden), nn.utils.skip_init(nn.Linear, hidden, outputs)
    for layer in layers:
        bound = float(layer.weight.shape[1]) ** -0.5
        nn.init.uniform_(layer.weight, -bound, bound, generator=generator)
        nn.init.zeros_(layer.bias)
    return nn.Sequential(layers[0], nn.ReLU(), layers[1])
