"""ENAS: the archs that train shared weights are drawn from a policy, which learns of what those weights get right.

Pham et al., arXiv:1802.03268 §2.2.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from sartor.errors import InputError
from sartor.records import Arch, Record
from sartor.search.methods.reinforce import reinforce_gradient
from sartor.search.policy import Parameters, Policy, trained
from sartor.space.space import Space
from sartor.train.schedule import Turn


@dataclass
class Enas:
    """A ``train.schedule.Schedule``: each step trains one arch that the policy draws; before each ``every``-th step
    ``judge`` tells the accuracy of ``draws`` more with the weights as they are, and the policy learns of that by
    REINFORCE.

    ``history`` has what was judged, oldest first; ``draw`` gives what the policy favours now. Deviations: the paper
    trains weights for an epoch, then the policy for 2,000 draws, here they take turns in smaller portions; the policy
    is ``search.policy.Policy``, not an LSTM. A schedule with a memory: a training that was killed begins anew.
    Raises InputError for fewer than one step or draw.
    """

    judge: Callable[[Arch], float]
    every: int = 5
    draws: int = 5
    lr: float = 0.1
    entropy: float = 0.02
    history: list[Record] = field(default_factory=list)
    _at: Parameters | None = field(default=None, init=False, repr=False)
    _steps: int = field(default=0, init=False, repr=False)

    def __post_init__(self) -> None:
        if min(self.every, self.draws) < 1:
            raise InputError(f"every and draws must be 1 at least, not {self.every} and {self.draws}")

    def __call__(self, space: Space, rng: random.Random, progress: float) -> list[Turn]:
        if self._steps % self.every == 0 and self._steps:
            for _ in range(self.draws):
                arch = self.draw(space, rng)
                metrics = {"accuracy": float(self.judge(arch))}
                self.history.append(Record(f"a{len(self.history)}", arch, metrics=metrics))
            self._at = self._learnt(space)
        self._steps += 1
        return [Turn(self.draw(space, rng))]

    def draw(self, space: Space, rng: random.Random) -> Arch:
        """An arch of ``space`` from the policy as it is; uniformly before it has learnt."""
        policy = Policy(space)
        return policy.sample(self._at or policy.zeros(), rng)

    def _learnt(self, space: Space) -> Parameters:
        policy = Policy(space)
        rewards = np.array([record.metrics["accuracy"] for record in self.history])
        return trained(
            policy,
            self.history,
            rewards,
            lambda at, x, advantage: lambda here: reinforce_gradient(policy, here, x, advantage),
            batch=self.draws,
            lr=self.lr,
            entropy=self.entropy,
            memory=len(self.history),
        )
