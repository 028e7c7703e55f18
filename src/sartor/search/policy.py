"""An autoregressive policy over the archs of a space: each option is drawn given those before it."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from sartor.records import Arch, Option, Record
from sartor.search.strategy import declared
from sartor.space.space import Space

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Parameters:
    """``bias`` [k] of each option's logit, and what each earlier option ``weight`` [k, k] adds to it."""

    bias: Floats
    weight: Floats

    def __add__(self, other: Parameters) -> Parameters:
        return Parameters(self.bias + other.bias, self.weight + other.weight)

    def scaled(self, by: float) -> Parameters:
        return Parameters(self.bias * by, self.weight * by)


@dataclass(frozen=True)
class Policy:
    """``p(arch) = Π p(option | options of earlier choices)``, a softmax of logits that are linear in earlier options.

    Zeros are the uniform distribution. Inactive choices are not drawn and count for nothing. Deviation from the papers'
    LSTM controllers (arXiv:1611.01578 §3): a table of pairs of options has exact gradients in microseconds and can be
    replayed at every proposal; a few hundred evaluations say nothing of interactions beyond pairs.
    """

    space: Space

    def __post_init__(self) -> None:
        declared(self.space)

    @cached_property
    def sizes(self) -> NDArray[np.intp]:
        return np.array([len(choice.options) for choice in self.space.choices], dtype=np.intp)

    @cached_property
    def starts(self) -> NDArray[np.intp]:
        return np.cumsum(self.sizes) - self.sizes

    @cached_property
    def earlier(self) -> Floats:
        """[k, k]: 1 where the row's choice comes before the column's."""
        place = np.repeat(np.arange(len(self.sizes)), self.sizes)
        return (place[:, None] < place[None, :]).astype(np.float64)

    def zeros(self) -> Parameters:
        """The uniform policy."""
        k = int(self.sizes.sum())
        return Parameters(np.zeros(k), np.zeros((k, k)))

    def taken(self, archs: Sequence[Arch]) -> Floats:
        """One-hot options [n, k]; all zero where a choice is not active."""
        x = np.zeros((len(archs), int(self.sizes.sum())))
        for row, arch in enumerate(archs):
            for start, choice in zip(self.starts, self.space.choices, strict=True):
                if choice.name in arch:
                    x[row, start + choice.options.index(arch[choice.name])] = 1
        return x

    def active(self, x: Floats) -> Floats:
        """[n, choices]: 1 where a choice is active."""
        return np.asarray(np.add.reduceat(x, self.starts, axis=1))

    def probabilities(self, at: Parameters, x: Floats) -> Floats:
        """Of each option [n, k], given the earlier ones in ``x``; each choice's sum to one."""
        logits = at.bias + x @ (at.weight * self.earlier)
        top = np.maximum.reduceat(logits, self.starts, axis=1)
        grown = np.exp(logits - np.repeat(top, self.sizes, axis=1))
        return np.asarray(grown / np.repeat(np.add.reduceat(grown, self.starts, axis=1), self.sizes, axis=1))

    def log_likelihood(self, at: Parameters, x: Floats) -> Floats:
        """Logarithm of the probability of each decision [n, choices]; 0 where a choice is not active."""
        held = np.add.reduceat(self.probabilities(at, x) * x, self.starts, axis=1)
        return np.asarray(np.log(np.where(self.active(x) > 0, np.maximum(held, 1e-300), 1.0)))

    def gradient(self, at: Parameters, x: Floats, weights: Floats) -> Parameters:
        """Of ``Σ weights · log p(decision)``; ``weights`` are [n, choices]."""
        each = np.repeat(weights * self.active(x), self.sizes, axis=1)
        return self._from_logits(x, each * (x - self.probabilities(at, x)))

    def entropy_gradient(self, at: Parameters, x: Floats) -> Parameters:
        """Of the summed entropies of each decision's distribution, given the options before it."""
        p = self.probabilities(at, x)
        log = np.log(np.maximum(p, 1e-300))
        entropy = -np.add.reduceat(p * log, self.starts, axis=1)
        slope = -p * (log + np.repeat(entropy, self.sizes, axis=1))
        return self._from_logits(x, slope * np.repeat(self.active(x), self.sizes, axis=1))

    def _from_logits(self, x: Floats, slope: Floats) -> Parameters:
        return Parameters(slope.sum(axis=0), (x.T @ slope) * self.earlier)

    def sample(self, at: Parameters, rng: random.Random) -> Arch:
        """An arch drawn from the policy; where the space does not have it, the nearest that it has."""
        logits = at.bias.copy()
        arch: dict[str, Option] = {}
        for start, choice in zip(self.starts, self.space.choices, strict=True):
            if choice.when is not None and arch.get(choice.when[0]) not in choice.when[1]:
                continue
            mine = logits[start : start + len(choice.options)]
            heights = np.exp(mine - mine.max()).cumsum()
            place = min(int(np.searchsorted(heights, rng.random() * heights[-1], "right")), len(mine) - 1)
            arch[choice.name] = choice.options[place]
            logits += at.weight[start + place] * self.earlier[start + place]
        return self.space.nearest(Arch(arch), rng)


Climb = Callable[[Parameters, Floats, Floats], Callable[[Parameters], Parameters]]
"""The policy that drew archs [n, k], those and their advantages [n] → where is up, at a policy."""


def trained(
    policy: Policy,
    usable: Sequence[Record],
    rewards: Floats,
    climb: Climb,
    *,
    batch: int,
    lr: float,
    entropy: float,
    memory: int,
    epochs: int = 1,
) -> Parameters:
    """The policy after the last ``memory`` of the records, oldest first: ``epochs`` steps of ``climb`` a ``batch``,
    with ``entropy`` times the gradient of its entropy for each of them (arXiv:1602.01783 §4)."""
    begin = -(-max(0, len(usable) - memory) // batch) * batch  # whole batches, so that what is replayed stays the same
    x = policy.taken([record.arch for record in usable[begin:]])
    at, adam = policy.zeros(), Adam(lr, earlier=len(policy.sizes))
    for i, advantage in enumerate(advantages(rewards[begin:], batch)):
        mine = x[i * batch : (i + 1) * batch]
        up = climb(at, mine, advantage)
        for _ in range(epochs):
            at = adam.ascend(at, up(at) + policy.entropy_gradient(at, mine).scaled(entropy / batch))
    return at


@dataclass
class Adam:
    """Kingma & Ba, arXiv:1412.6980, algorithm 1, upwards.

    What earlier options add is learnt ``earlier`` times as slowly: a logit is the sum of as many of those, and at the
    bias's rate they outran what was known of each option alone.
    """

    lr: float
    earlier: float = 1.0
    decays: tuple[float, float] = (0.9, 0.999)
    steps: int = 0
    mean: Parameters | None = None
    square: Parameters | None = None

    def ascend(self, at: Parameters, slope: Parameters) -> Parameters:
        """``at`` after one step up the ``slope``."""
        self.steps += 1
        a, b = self.decays
        squared = Parameters(slope.bias**2, slope.weight**2)
        self.mean = slope.scaled(1 - a) if self.mean is None else self.mean.scaled(a) + slope.scaled(1 - a)
        self.square = squared.scaled(1 - b) if self.square is None else self.square.scaled(b) + squared.scaled(1 - b)
        step = self.lr / (1 - a**self.steps)
        true = 1 - b**self.steps
        return Parameters(
            at.bias + step * self.mean.bias / (np.sqrt(self.square.bias / true) + 1e-8),
            at.weight + step / self.earlier * self.mean.weight / (np.sqrt(self.square.weight / true) + 1e-8),
        )


def advantages(rewards: Floats, batch: int, decay: float = 0.95, limit: float = 3.0) -> list[Floats]:
    """Of each whole ``batch`` of rewards: how far above the moving average of those before it, in their spread.

    Spread: the interquartile range of the rewards so far, as a normal distribution's deviation. Deviation from
    arXiv:1611.01578 §3.2, whose rewards are accuracies as they are: one learning rate does for all tasks, and what lies
    far off is cut to ``limit`` spreads.
    """
    found: list[Floats] = []
    baseline = 0.0
    for start in range(0, len(rewards) - batch + 1, batch):
        mine, sofar = rewards[start : start + batch], rewards[: start + batch]
        if not found:
            baseline = float(mine.mean())
        low, high = np.quantile(sofar, [0.25, 0.75])
        spread = float(high - low) / 1.349 or float(sofar.std()) or 1.0
        found.append(np.clip((mine - baseline) / spread, -limit, limit))
        for reward in mine:
            baseline = decay * baseline + (1 - decay) * float(reward)
    return found
