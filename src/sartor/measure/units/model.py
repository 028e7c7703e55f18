"""What a whole network takes on a device: the sum of its units' times, each put right by what whole networks took.

A table of operators timed one by one is off wherever a runtime does more than one after the other: layouts that are
kept between operators, caches that still hold a result, kernels fused beyond a unit. What the sum lacks is learnt
from whole networks as a correction factor of each unit, a Gaussian process over what units are. A network takes

    T = c + Σ t(u) · (a + g(u)) + ε,    g ~ GP(0, s² k),

where t(u) is the unit's own time, measured or from others of its kind, and k says how alike two units are. T is linear
in c, a and g, so that their posterior given whole networks is exact, and so is its deviation. Intervals are widened
until they hold what leaving networks out says (cross-conformal prediction, Vovk, arXiv:1208.0806).

Rejected: a regression of whole networks on their archs' options, which knows one space and needs its archs; and one
factor for the whole sum, which is what is left with few networks: the process comes to it by itself.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sartor.errors import InputError
from sartor.measure.units.rows import DeviceProfile, UnitRow, counted, described, read_profile
from sartor.measure.units.split import Unit, units
from sartor.measure.units.times import SHORTEST_MS, UnitTimes, unit_times
from sartor.predict.latency import shares_near

Floats = NDArray[np.float64]

FACTOR = 0.3
"""Standard deviation of the factor of all units, before any network was seen; of another device's units it is wider."""
FACTOR_ELSEWHERE = 3.0
SPREADS = (0.02, 0.05, 0.1, 0.2, 0.4)
"""Of units' own factors, to choose from by likelihood."""
REACHES = (1.0, 2.0, 4.0)
"""How far factors are alike, in standard deviations of the features."""
NOISES = (0.002, 0.005, 0.01, 0.02, 0.05)
"""Relative deviations of a measured network."""
FOLDS = 5
LEVEL = 0.95
DEVIATIONS = 1.959964
"""Of a normal distribution, on either side, that hold ``LEVEL`` of it."""


@dataclass(frozen=True)
class Predicted:
    """Milliseconds, and between which they lie with 95 % confidence. ``known``: the share of the sum that units make up
    which were timed themselves."""

    ms: float
    low_ms: float
    high_ms: float
    known: float


@dataclass(frozen=True)
class LatencyModel:
    """Predicts what networks take on the device that was profiled."""

    profile: DeviceProfile

    def predict(self, files: Sequence[Path]) -> list[Predicted]:
        """What each file takes. Raises InputError for one that does not run."""
        return self.of_units([units(file) for file in files])

    def of_units(self, networks: Sequence[Sequence[Unit]]) -> list[Predicted]:
        """As :meth:`predict`, of networks as their units."""
        rows: dict[str, UnitRow] = {}
        for network in networks:
            rows |= described([unit for unit in network if unit.key not in self.profile.units], {})
        return self.of_counts([counted(network) for network in networks], rows)

    def of_counts(
        self, networks: Sequence[Mapping[str, int]], more: Mapping[str, UnitRow] | None = None
    ) -> list[Predicted]:
        """As :meth:`predict`, of networks as the counts of their units, which the profile or ``more`` describes."""
        if not networks:
            return []
        fitted = self._fitted
        weighed = _weighed(networks, {**(more or {}), **self.profile.units}, self._times)
        mean, deviation = fitted.predict(weighed)
        found = []
        for n, (ms, sd) in enumerate(zip(mean, deviation, strict=True)):
            ms = max(float(ms), self.profile.call_ms, 1e-6)
            reach = self.calibration["widened"] * DEVIATIONS * float(sd)
            sums = weighed.weights[n]
            known = float(sums[weighed.timed].sum() / (sums.sum() or 1.0))
            found.append(Predicted(ms, max(0.0, ms - reach), ms + reach, known))
        return found

    @cached_property
    def calibration(self) -> Mapping[str, float]:
        """How far off networks are that the model has not seen, nor those of their parts that no other has.

        By folds of the profile's networks: ``within_5`` and ``within_10``, the shares of them within 5 and 10 %;
        ``spearman``; ``inside``, how many lie in the intervals; and ``widened``, by how much those must be wider, or
        narrower, than the model has them. As the profile has it, or worked out, which takes some seconds.
        """
        return self.profile.calibration or self._calibrated()

    def _calibrated(self) -> dict[str, float]:
        networks = list(self.profile.networks)
        n = len(networks)
        folds = np.random.default_rng(0).permutation(n) % min(FOLDS, n)
        said, deviation = np.zeros(n), np.zeros(n)
        for fold in range(min(FOLDS, n)):
            held = np.flatnonzero(folds == fold)
            rest = [network for network, mine in zip(networks, folds, strict=True) if mine != fold]
            there = {key for network in rest for key in network.units}
            # Another device's parts are known whatever the networks.
            kept = {k: row for k, row in self.profile.units.items() if self.profile.elsewhere or k in there}
            more = {k: replace(row, ms=None) for k, row in self.profile.units.items() if k not in kept}
            model = LatencyModel(replace(self.profile, networks=tuple(rest), units=kept))
            weighed = _weighed([networks[i].units for i in held], {**more, **kept}, model._times)
            said[held], deviation[held] = model._fitted.predict(weighed)
        true = np.array([row.ms for row in networks])
        away = np.abs(said - true) / deviation
        widened = _widened(away)
        return {
            **shares_near(np.maximum(said, SHORTEST_MS), true),
            "spearman": float(np.corrcoef(_ranks(said), _ranks(true))[0, 1]),
            "inside": float((away <= widened * DEVIATIONS).mean()),
            "widened": widened,
        }

    @cached_property
    def _times(self) -> UnitTimes:
        timed = [row for row in self.profile.units.values() if row.ms is not None]
        if len(timed) < 2:
            raise InputError("this device profile has no times of units: make it anew with sartor profile-device")
        return unit_times(timed)

    @cached_property
    def _fitted(self) -> _Fitted:
        weighed = _weighed([row.units for row in self.profile.networks], self.profile.units, self._times)
        ms = np.array([row.ms for row in self.profile.networks])
        return _fit(weighed, ms, self.profile.call_ms, FACTOR_ELSEWHERE if self.profile.elsewhere else FACTOR)


def read_latency_model(file: str | Path, target: str, threads: int) -> LatencyModel:
    """What ``sartor profile-device`` wrote, of this ``target`` with so many ``threads``. Raises InputError."""
    profile = read_profile(Path(file))
    if (profile.target, profile.threads) != (target, threads):
        raise InputError(
            f"{file} is of {profile.target} with {profile.threads} threads, not of {target} with {threads}: "
            f"give --target {profile.target} --threads {profile.threads}, or another profile"
        )
    return LatencyModel(profile)


@dataclass(frozen=True)
class _Weighed:
    """Networks over their different units. ``weights`` [networks, units]: count times milliseconds; ``doubt``
    [networks]: variance from units that were not timed; ``rows`` [units, d] standardised nowhere; ``kinds`` [units]."""

    weights: Floats
    doubt: Floats
    rows: Floats
    kinds: NDArray[np.str_]
    timed: NDArray[np.bool_]

    @property
    def sums(self) -> Floats:
        return np.asarray(self.weights.sum(axis=1))


def _weighed(networks: Sequence[Mapping[str, int]], rows: Mapping[str, UnitRow], times: UnitTimes) -> _Weighed:
    keys = list(dict.fromkeys(key for network in networks for key in network))
    place = {key: i for i, key in enumerate(keys)}
    counts = np.zeros((len(networks), len(keys)))
    for n, network in enumerate(networks):
        for key, count in network.items():
            counts[n, place[key]] = count
    held = [rows[key] for key in keys]
    ms, curved, own = times(held)
    kinds = np.array([row.kind for row in held])
    # A curve is off for all units of its kind alike; what is a unit's own evens out.
    together = [(counts * ms * curved)[:, kinds == kind].sum(axis=1) ** 2 for kind in np.unique(kinds)]
    return _Weighed(
        counts * ms,
        sum(together, np.zeros(len(networks))) + ((counts * ms * own) ** 2).sum(axis=1),
        np.array([row.features for row in held]),
        kinds,
        np.array([row.ms is not None for row in held]),
    )


@dataclass(frozen=True)
class _Fitted:
    seen: _Weighed
    centre: Floats
    spread_of: Floats
    call: float
    call_variance: float
    factor_variance: float
    spread: float
    reach: float
    noise: float
    inverse: Floats
    left: Floats

    def predict(self, new: _Weighed) -> tuple[Floats, Floats]:
        """Mean and standard deviation ``[n]``, in milliseconds."""
        cross = self._covariance(new, self.seen)
        mean = self.call + new.sums + cross @ (self.inverse @ self.left)
        prior = np.diag(self._covariance(new, new))
        variance = prior - np.einsum("ij,jk,ik->i", cross, self.inverse, cross)
        return mean, np.sqrt(np.clip(variance, 0, None) + new.doubt + (self.noise * mean) ** 2)

    def _covariance(self, a: _Weighed, b: _Weighed) -> Floats:
        alike = _alike(self._standard(a), a.kinds, self._standard(b), b.kinds, self.reach)
        own = self.spread**2 * a.weights @ alike @ b.weights.T
        return np.asarray(own + self.factor_variance * np.outer(a.sums, b.sums) + self.call_variance)

    def _standard(self, weighed: _Weighed) -> Floats:
        return np.asarray((weighed.rows - self.centre) / self.spread_of)


def _fit(seen: _Weighed, ms: Floats, call: float, factor: float) -> _Fitted:
    """The likeliest spread, reach and noise of ``ms`` [networks], and the posterior with them."""
    centre, spread_of = seen.rows.mean(axis=0), seen.rows.std(axis=0)
    spread_of = np.where(spread_of > 1e-9, spread_of, 1.0)
    standard = (seen.rows - centre) / spread_of
    left = ms - call - seen.sums
    call_variance = call**2 + (0.01 * float(np.median(ms))) ** 2
    shared = factor**2 * np.outer(seen.sums, seen.sums) + call_variance
    best: tuple[float, float, float, float] = (-np.inf, 0.0, 0.0, 0.0)
    for reach in REACHES:
        own = seen.weights @ _alike(standard, seen.kinds, standard, seen.kinds, reach) @ seen.weights.T
        for spread in SPREADS:
            for noise in NOISES:
                total = spread**2 * own + shared + np.diag(seen.doubt + (noise * ms) ** 2)
                best = max(best, (_likelihood(total, left), spread, reach, noise))
    _, spread, reach, noise = best
    own = seen.weights @ _alike(standard, seen.kinds, standard, seen.kinds, reach) @ seen.weights.T
    inverse = np.linalg.inv(spread**2 * own + shared + np.diag(seen.doubt + (noise * ms) ** 2))
    return _Fitted(
        seen,
        centre,
        spread_of,
        call,
        call_variance,
        factor**2,
        spread,
        reach,
        noise,
        inverse,
        left,
    )


def _alike(a: Floats, a_kinds: NDArray[np.str_], b: Floats, b_kinds: NDArray[np.str_], reach: float) -> Floats:
    """How much two units' factors have in common ``[a, b]``: nothing of different kinds; of the same, half in any case
    and half by what they are."""
    away = (a**2).sum(axis=1)[:, None] + (b**2).sum(axis=1)[None, :] - 2 * a @ b.T
    near = np.exp(-np.clip(away, 0, None) / (2 * reach**2 * a.shape[1]))
    return np.asarray((a_kinds[:, None] == b_kinds[None, :]) * (0.5 + 0.5 * near))


def _likelihood(covariance: Floats, y: Floats) -> float:
    try:
        factor = np.linalg.cholesky(covariance)
    except np.linalg.LinAlgError:
        return -np.inf
    solved = np.linalg.solve(factor, y)
    return float(-0.5 * solved @ solved - np.log(np.diag(factor)).sum())


def _ranks(values: Floats) -> Floats:
    return np.asarray(np.argsort(np.argsort(values)), dtype=np.float64)


def _widened(away: Floats) -> float:
    """By how much intervals must be wider or narrower to hold ``LEVEL`` of networks that were so many standard
    deviations off."""
    rank = math.ceil(LEVEL * (len(away) + 1))
    if rank > len(away):  # too few networks to say: no narrower than the model has it
        return max(1.0, float(away.max()) / DEVIATIONS)
    return float(np.sort(away)[rank - 1]) / DEVIATIONS
