"""PPO over the choices of a space: several steps on each batch, none of which goes far from what drew it.

The controller of MnasNet (Tan et al., arXiv:1807.11626 §4.2) and of Balaprakash et al. (arXiv:1909.00137).
"""

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


def ppo(
    space: Space,
    history: History,
    rng: random.Random,
    n: int,
    *,
    objectives: Sequence[Objective] = ACCURACY_LATENCY,
    reward: Reward | None = None,
    batch: int = 10,
    epochs: int = 4,
    clip: float = 0.2,
    lr: float = 0.2,
    entropy: float = 0.02,
    memory: int = 1000,
) -> list[Arch]:
    """n archs drawn from a policy that was trained on the history, oldest first: ``epochs`` steps a ``batch``.

    ``reward``: a function of the metrics, such as ``search.reward.mnasnet``; else the first objective.

    Schulman et al., arXiv:1707.06347 §3, equation 7: each decision's ratio is clipped, and the reward of the arch
    is that of each of its decisions. Deviations: a moving average of rewards is the baseline, as in MnasNet, where
    arXiv:1909.00137 learns a critic; the policy (``search.policy.Policy``) and its advantages; no arch is evaluated
    twice; and only the last ``memory`` records are replayed. An arch that another strategy proposed counts as if the
    policy of its time had drawn it.
    """
    policy = Policy(space)
    usable, rewards = rewarded(history, objectives, reward)

    def climb(drew: Parameters, x: Floats, advantage: Floats) -> Callable[[Parameters], Parameters]:
        before = policy.log_likelihood(drew, x)
        return lambda at: clipped_gradient(policy, at, x, before, advantage, clip)

    at = trained(policy, usable, rewards, climb, batch=batch, lr=lr, entropy=entropy, memory=memory, epochs=epochs)
    return fresh(space, lambda: policy.sample(at, rng), rng, n, {record.arch for record in history})


def clipped_gradient(
    policy: Policy, at: Parameters, x: Floats, before: Floats, advantage: Floats, clip: float
) -> Parameters:
    """Of the clipped objective ``min(r A, clip(r, 1 - ε, 1 + ε) A)``, summed over an arch's decisions and averaged over
    archs ``x`` [n, k]; ``before`` are the decisions' log-likelihoods under the policy that drew them."""
    ratio = np.exp(policy.log_likelihood(at, x) - before)
    gain = advantage[:, None]
    stuck = ((gain > 0) & (ratio > 1 + clip)) | ((gain < 0) & (ratio < 1 - clip))
    return policy.gradient(at, x, np.where(stuck, 0.0, ratio * gain) / len(x))
