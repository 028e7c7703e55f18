"""REINFORCE over the choices of a space: what made good archs becomes more likely. Williams 1992; NAS."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence

import numpy as np

from sartor.records import Arch
from sartor.search.objective import ACCURACY_LATENCY, Objective
from sartor.search.policy import Floats, Parameters, Policy, trained
from sartor.search.reward import Reward, rewarded
from sartor.search.strategy import History, fresh
from sartor.space.space import Space


def reinforce(
    space: Space,
    history: History,
    rng: random.Random,
    n: int,
    *,
    objectives: Sequence[Objective] = ACCURACY_LATENCY,
    reward: Reward | None = None,
    batch: int = 5,
    lr: float = 0.3,
    entropy: float = 0.02,
    memory: int = 1000,
) -> list[Arch]:
    """n archs drawn from a policy that was trained on the history, oldest first, ``batch`` evaluations a step.

    ``reward``: a function of the metrics, such as ``search.reward.mnasnet``; else the first objective.

    Zoph & Le, arXiv:1611.01578 §3.2: policy gradient with a moving average of the rewards as its baseline. Deviations:
    the policy (``search.policy.Policy``), its advantages, and the entropy bonus (arXiv:1602.01783 §4), without
    which it settles early; no arch is evaluated twice; and only the last ``memory`` records are replayed.
    """
    policy = Policy(space)
    usable, rewards = rewarded(history, objectives, reward)

    def climb(_: Parameters, x: Floats, advantage: Floats) -> Callable[[Parameters], Parameters]:
        return lambda at: reinforce_gradient(policy, at, x, advantage)

    at = trained(policy, usable, rewards, climb, batch=batch, lr=lr, entropy=entropy, memory=memory)
    return fresh(space, lambda: policy.sample(at, rng), rng, n, {record.arch for record in history})


def reinforce_gradient(policy: Policy, at: Parameters, x: Floats, advantage: Floats) -> Parameters:
    """The mean of ``advantage · ∇ log p(arch)`` over archs ``x`` [n, k] that were drawn from the policy ``at``."""
    return policy.gradient(at, x, np.repeat(advantage[:, None] / len(x), len(policy.sizes), axis=1))
