"""Bayesian optimisation: a Gaussian process over what archs are made of, and the arch it expects to improve the most.

Expected improvement: Jones et al. 1998 (10.1023/A:1008306431147), under limits: Gardner et al. 2014 (ICML, "Bayesian
optimization with inequality constraints", §3.2). Cells are seen by the paths through them (White et al.,
arXiv:1910.11858 §3) where that predicts better, other spaces by their options. Deviations: the process sees a warped
metric, in which the distance to the best counts by its logarithm (``predict.light``); a batch believes its own
predictions (Ginsbourger et al. 2010); and of several objectives, the first is improved under limits on the others that
are drawn anew for each arch, which goes along the front. Of two, every other arch is the one whose predicted costs add
the most hypervolume, deviations left aside: that fills the gaps.

Tried and lost on NAS-Bench-201's latencies, in trials that no command repeats: the expected gain in hypervolume, which
stays where the front is steep; the largest gain by draws of the processes (TSEMO, Bradford et al. 2018), which hardly
comes to the front; and limits alone, or gains alone.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sartor.predict.gaussian import fit_as_seen
from sartor.predict.light import FEWEST, GaussianProcess
from sartor.records import Arch, Record
from sartor.search.hypervolume import front_of, gains_2d, reference_of
from sartor.search.methods.nsga2 import survivors
from sartor.search.objective import ACCURACY_LATENCY, Objective, costs, measured
from sartor.search.strategy import History, fresh
from sartor.space.space import Space, distinct

Floats = NDArray[np.float64]

LISTED = 20_000
"""Spaces up to this size are ranked whole; of larger ones a pool of mutants and random archs."""
PARENTS = 20
FILLING = 0.5
"""Of two objectives, the share of archs chosen for the hypervolume that they are predicted to add."""
HALVED = 10
"""Records, random ones, whose median first cost hypervolumes are counted from."""
CLIMBS = 3
"""Times that the pool's best get mutants of their own."""
TINY = 1e-12
LONGEST = 200
"""Records that the process is fitted to, at most: its time grows with their cube. The best half, and the last."""


def bayes(
    space: Space,
    history: History,
    rng: random.Random,
    n: int,
    *,
    objectives: Sequence[Objective] = ACCURACY_LATENCY,
    first: int = 10,
    pool: int = 1000,
) -> list[Arch]:
    """The n archs of the largest expected improvement of the first objective; where there are others, each under limits
    on them, drawn between the least and the most that was seen. See ``strategy.Strategy``.

    The first ``first`` archs are random. In a space of more than LISTED archs, ``pool`` candidates are drawn for each
    batch, three quarters of them mutants of the best, and the most promising have mutants again.
    """
    seen = {record.arch for record in history}
    known = [record for record in history if measured(record.metrics, objectives)]
    usable = _latest(known, objectives)
    if len(usable) < max(first, FEWEST):
        return fresh(space, lambda: space.sample(rng), rng, n, seen)
    if len(seen) >= space.count():
        return []
    middle = float(np.median(costs(known[:HALVED], objectives)[:, 0]))
    aim = _Aim(space, usable, objectives, middle)
    if space.count() <= LISTED:
        found = _Candidates(space.listed, space.listed_features, space.listed_codes)
    else:
        found = _pool(space, aim, usable, seen, rng, pool, objectives)
    free = np.array([arch not in seen for arch in found.archs], dtype=bool)
    chosen = [found.archs[i] for i in aim.best(found, free, n, rng)]
    return chosen + fresh(space, lambda: space.sample(rng), rng, n - len(chosen), seen | set(chosen))


def _latest(usable: list[Record], wanted: Sequence[Objective]) -> list[Record]:
    if len(usable) <= LONGEST:
        return usable
    order = survivors(costs(usable, wanted), np.zeros(len(usable)), LONGEST // 2)
    kept = set(order.tolist()) | set(range(len(usable) - LONGEST // 2, len(usable)))
    return [usable[i] for i in sorted(kept)]


@dataclass(frozen=True)
class _Candidates:
    """``archs`` ``[k]`` and how a process may see them: different rows of features ``[r, d]`` with each arch's place in
    them ``[k]``, or codes ``[k, e]``."""

    archs: Sequence[Arch]
    features: tuple[Floats, NDArray[np.intp]]
    codes: Floats

    @classmethod
    def of(cls, space: Space, archs: Sequence[Arch]) -> _Candidates:
        return cls(archs, distinct(space.features_many(archs)), space.encode_many(archs))


def _pool(
    space: Space,
    aim: _Aim,
    usable: Sequence[Record],
    seen: set[Arch],
    rng: random.Random,
    size: int,
    wanted: Sequence[Objective],
) -> _Candidates:
    """Candidates of a large space: mutants of the best, random archs, and mutants of the most promising of these."""
    order = survivors(costs(usable, wanted), np.zeros(len(usable)), PARENTS)
    parents = [usable[i].arch for i in order]

    def mutants(of: Sequence[Arch], n: int, but: set[Arch]) -> list[Arch]:
        return fresh(space, lambda: space.mutate(rng.choice(of), rng, rate=1 / max(1, len(of[0]))), rng, n, but)

    archs = mutants(parents, 3 * size // 4, seen)
    archs += fresh(space, lambda: space.sample(rng), rng, size - len(archs), seen | set(archs))
    for _ in range(CLIMBS):
        found = _Candidates.of(space, archs)
        best = [archs[i] for i in aim.best(found, np.ones(len(archs), dtype=bool), PARENTS // 2, rng)]
        archs += mutants(best, size // 8, seen | set(archs))
    return _Candidates.of(space, archs)


class _Aim:
    """What a batch is chosen by: processes of the objectives' costs, and the improvement each candidate promises."""

    def __init__(self, space: Space, usable: Sequence[Record], wanted: Sequence[Objective], middle: float):
        self.middle = middle
        self.cost = costs(usable, wanted)
        archs = [record.arch for record in usable]
        fits = [fit_as_seen(space.features_many(archs), space.encode_many(archs), column) for column in self.cost.T]
        self.processes = [process for process, _ in fits]
        self.by_features = [by_features for _, by_features in fits]

    def best(self, found: _Candidates, free: NDArray[np.bool_], n: int, rng: random.Random) -> list[int]:
        """Up to n places in ``found`` that are ``free`` ``[k]``, one after the other, each believing what is predicted
        of those before it. Equals are drawn from."""
        every = np.arange(len(found.codes))
        latents = [
            _Latent(process, *(found.features if by_features else (found.codes, every)))
            for process, by_features in zip(self.processes, self.by_features, strict=True)
        ]
        left, known, chosen = free.copy(), self.cost, list[int]()
        for _ in range(min(n, int(free.sum()))):
            gain = np.zeros(len(left))
            if len(latents) == 2 and rng.random() < FILLING:
                gain = left * self._filling(latents, known)
            if not gain.any():
                gain = self._gain(latents, known, rng)
            gain = np.where(left, gain, -np.inf)
            place = rng.choice(np.flatnonzero(gain >= gain.max()).tolist())
            chosen.append(place)
            left[place] = False
            known = np.vstack([known, [latent.believe(place) for latent in latents]])
        return chosen

    def _filling(self, latents: Sequence[_Latent], known: Floats) -> Floats:
        """What the predicted costs of each add ``[k]`` to the area of ``known`` ``[n, 2]``, counted from the middle of
        the first costs seen: what is worse than half of all archs is no result, however quick."""
        reference = reference_of(front_of(known))
        reference[0] = self.middle
        return gains_2d(np.stack([latent.costs()[0] for latent in latents], axis=1), known, reference)

    def _gain(self, latents: Sequence[_Latent], known: Floats, rng: random.Random) -> Floats:
        """Expected improvement ``[k]`` of the first cost, as it is warped, over the best ``known`` ``[n, m]`` within
        limits on the others, times the probability of being within them."""
        from scipy.special import ndtr

        within, chance = np.ones(len(known), dtype=bool), np.ones(len(latents[0].mean))
        for latent, column in zip(latents[1:], known.T[1:], strict=True):
            limit = rng.uniform(column.min(), column.max())
            mean, deviation = latent.costs()
            within &= column <= limit
            chance *= ndtr((limit - mean) / np.maximum(deviation, TINY))
        beside = known[within, 0].min() if within.any() else known[:, 0].max()
        bound = float(latents[0].process.warped(beside[None])[0])
        return chance * expected_below(bound, latents[0].mean, np.sqrt(latents[0].variance))


class _Latent:
    """What a process says of candidates, whose ``places`` ``[k]`` are in ``rows`` ``[r, d]``; it can be told to believe
    what it predicts, so that it is surer."""

    def __init__(self, process: GaussianProcess, rows: Floats, places: NDArray[np.intp]):
        self.process, self._places = process, places
        self._posterior = process.posterior(rows)
        self._variance = self._posterior.variance
        self._believed: list[Floats] = []

    @property
    def mean(self) -> Floats:
        return np.asarray(self._posterior.mean[self._places])

    @property
    def variance(self) -> Floats:
        return np.asarray(self._variance[self._places])

    def costs(self) -> tuple[Floats, Floats]:
        """Mean and deviation ``[k]`` of the cost."""
        mean, deviation = self.process.warp.inverse(self._posterior.mean, np.sqrt(self._variance))
        return mean[self._places], deviation[self._places]

    def believe(self, place: int) -> float:
        """The cost predicted for the candidate at ``place``, from now on held to have been measured: means stay."""
        row = int(self._places[place])
        shared = self._posterior.covariance(row)
        for step in self._believed:
            shared = shared - step * step[row]
        step = shared / np.sqrt(max(self._variance[row] + self.process.scale**2 * self.process.noise, TINY))
        self._believed.append(step)
        self._variance = np.clip(self._variance - step**2, TINY, None)
        mean, _ = self.process.warp.inverse(self._posterior.mean[[row]], np.zeros(1))
        return float(mean[0])


def expected_below(bound: float, mean: Floats, deviation: Floats) -> Floats:
    """E[max(0, bound - X)] ``[k]`` of normal X: the expected improvement of a cost over ``bound``."""
    from scipy.special import ndtr

    gap, deviation = bound - mean, np.maximum(deviation, TINY)  # a metric without any difference has none
    u = gap / deviation
    return np.asarray(gap * ndtr(u) + deviation * np.exp(-(u**2) / 2) / np.sqrt(2 * np.pi))
