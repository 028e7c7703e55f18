"""A cost as the sum of what parts cost: a Gaussian process over the parts, of which only whole archs were seen.

    cost(arch) = c + Σ t(part) + what parts do to each other,    t ~ GP(0, Σ a k)

A part is a choice with its option. Choices whose names differ by numbers only, ``layer3`` and ``layer4``, are a family:
their parts are alike where the option is the same, and the more so the nearer their numbers are. So a table of hundreds
of entries has few unknowns, and dozens of archs fill it. How much counts what a family shares, what neighbours do, what
a single layer has for itself, how numbers (a width, a resolution) scale it, is chosen by likelihood. Sums of processes
under linear observations: Rasmussen & Williams 2006, §2.7 and §5.4.1; Duvenaud et al., arXiv:1112.4394.

Measurements are off by shares, and some by far, because a machine did something else meanwhile: errors have Student's
distribution, as a mixture of Gaussians of which each measurement has its own (Lange et al., JASA 1989).
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import LinAlgError, cho_solve, cholesky
from scipy.optimize import minimize

from sartor.predict.predictor import Floats
from sartor.space.space import Space

NEAR = 3.0
"""Layers apart at which parts have a third of their likeness left: a stage of a mobile network has three or four."""
FREEDOM = 4.0
"""Of Student's distribution: outliers of ten deviations count for little, and Gaussian errors cost little."""
ROUNDS, REWEIGHED, STEPS = 3, 10, 60
LIKELY_OF = 300
"""Archs by which weights are chosen; more cost a minute and tell no more of them. All of them are learnt from."""
LEAST, MOST, LEAST_NOISE = -16.0, 6.0, -14.0
"""Bounds of logarithms of variances, relative to the median cost: a noise of a tenth of a percent."""
USUAL, DOUBT, USUAL_NOISE, DOUBT_NOISE = -6.0, 3.0, -7.0, 2.0
FEW = 10
"""Logarithms of variances, before anything was seen: parts make differences of 5 %, measurements are 3 % off. That
counts as much as FEW archs do: with ten, likelihood alone says that there is no noise and that one way is all; with a
hundred, it may say that most ways are nothing."""
TOLERANCE = 0.1
"""Relative errors within which a prediction is a good one."""


@dataclass(frozen=True)
class Parts:
    """The parts of a space's archs, and how alike they are ``[parts, parts]``, in several ways. ``numbers`` ``[parts,
    families]``: what an option is where options are numbers; ``scales``: which of them are of choices without a number
    in their names, which are there once and so may scale all layers."""

    alike: tuple[Floats, ...]
    numbers: Floats
    scales: tuple[int, ...]

    @classmethod
    def of(cls, space: Space) -> Parts:
        families, options, places, values = [], [], [], []
        for choice in space.choices:
            number = re.search(r"\d+", choice.name)
            largest = max((abs(float(o)) for o in choice.options), default=0.0) if choice.ordered else 0.0
            for option in choice.options:
                families.append(re.sub(r"\d+", "#", choice.name))
                options.append(repr(option))
                places.append(float(number.group()) if number else 0.0)
                values.append(float(option) / (largest or 1.0) if choice.ordered else 0.0)
        family, held, value = np.array(families), np.array(options), np.array(values)
        near = np.exp(-np.abs(np.subtract.outer(np.array(places), np.array(places))) / NEAR)
        same = (family[:, None] == family[None, :]).astype(float)
        equal = same * (held[:, None] == held[None, :])
        alike = [np.eye(len(family)), equal, equal * near, same * near]
        named = [name for name in dict.fromkeys(families) if value[family == name].any()]
        if named:
            alike.append(same * near * np.outer(value, value))
        numbers = np.stack([np.where(family == name, value, 0.0) for name in named], axis=1) if named else None
        scales = tuple(i for i, name in enumerate(named) if "#" not in name)
        return cls(tuple(alike), np.zeros((len(family), 0)) if numbers is None else numbers, scales)

    @classmethod
    def unnamed(cls, count: int) -> Parts:
        """Of codes that are no options of choices: each is its own."""
        return cls((np.eye(count),), np.zeros((count, 0)), ())


def parts_of(space: Space, codes: Floats) -> tuple[Parts, Floats]:
    """The parts of ``space``, and which an arch has ``[n, parts]``, from its ``encode_many`` ``[n, d]``."""
    options = sum(len(choice.options) for choice in space.choices)
    if codes.shape[1] != options + len(space.choices):  # a grammar's
        return Parts.unnamed(codes.shape[1]), codes
    return Parts.of(space), codes[:, :options]


@dataclass(frozen=True)
class _Kernels:
    """What archs have in common, in each of the ways there are; each way is 1 in the mean of the archs seen."""

    parts: Parts
    centre: Floats  # [parts]
    powers: tuple[float, ...]
    middle: Floats  # [families]
    spread: Floats  # [families]

    @classmethod
    def of(cls, parts: Parts, rows: Floats) -> _Kernels:
        centre = rows.mean(axis=0)
        away = rows - centre
        powers = [float(np.einsum("ij,ij->i", away @ alike, away).mean()) for alike in parts.alike]
        numbers = rows @ parts.numbers
        spread = numbers.std(axis=0)
        return cls(
            parts,
            centre,
            tuple(p if p > 1e-9 else 1.0 for p in powers),
            numbers.mean(axis=0),
            np.where(spread > 1e-9, spread, 1.0),
        )

    def __call__(self, a: Floats, b: Floats) -> Floats:
        """``[ways, n, m]`` of rows ``[n, parts]`` and ``[m, parts]``."""
        ra, rb = a - self.centre, b - self.centre
        sums = [ra @ alike @ rb.T / power for alike, power in zip(self.parts.alike, self.powers, strict=True)]
        na, nb = ((rows @ self.parts.numbers - self.middle) / self.spread for rows in (a, b))
        linear = [np.outer(x, y) for x, y in zip(na.T, nb.T, strict=True)]
        ways = [np.ones((len(a), len(b))), *sums, *linear]
        if self.parts.scales:
            scales = list(self.parts.scales)
            scale = na[:, scales] @ nb[:, scales].T / len(scales)
            ways += [scale * way for way in (*sums, scale, sum(linear) / len(linear))]
        ways.append(_matern(ra / math.sqrt(self.powers[0]), rb / math.sqrt(self.powers[0])))
        if linear:
            ways.append(_matern(na / math.sqrt(na.shape[1]), nb / math.sqrt(na.shape[1])))
        return np.stack(ways)


def _matern(a: Floats, b: Floats) -> Floats:
    """Matérn-5/2 of length 2 ``[n, m]``: what no sum says."""
    square = (a**2).sum(axis=1)[:, None] + (b**2).sum(axis=1)[None] - 2 * a @ b.T
    distance = np.sqrt(5 * np.clip(square, 0, None)) / 2
    return np.asarray((1 + distance + distance**2 / 3) * np.exp(-distance))


@dataclass(frozen=True)
class AdditiveProcess:
    """A fitted process. ``product``: of logarithms, so that parts multiply. ``said`` and ``deviation`` ``[n]``: what it
    says of each arch that it was fitted to from the others, and how sure it is."""

    kernels: _Kernels
    rows: Floats
    values: Floats
    product: bool
    unit: float
    weights: Floats  # [ways] variances
    noise: float
    solved: Floats  # [n]
    inverse: Floats  # [n, n]
    said: Floats
    deviation: Floats
    moved: float

    def predict(self, rows: Floats) -> tuple[Floats, Floats]:
        """Mean and standard deviation ``[n]`` of the costs of archs with ``rows`` ``[n, parts]``."""
        cross = np.tensordot(self.weights, self.kernels(rows, self.rows), 1)
        prior = np.array([np.tensordot(self.weights, self.kernels(row, row), 1)[0, 0] for row in rows[:, None, :]])
        variance = np.clip(prior - np.einsum("ij,ij->i", cross @ self.inverse, cross), 0, None)
        return self._costs(cross @ self.solved, variance, self.moved)

    def _costs(self, mean: Floats, variance: Floats, moved: float) -> tuple[Floats, Floats]:
        if self.product:
            said = moved * self.unit * np.exp(np.clip(mean, -50, 50))
            return said, said * np.sinh(np.clip(np.sqrt(variance + self.noise), None, 50))
        said = np.maximum(moved * self.unit * (1 + mean), float(self.values.min()) / 10)
        return said, np.sqrt(variance * self.unit**2 + self.noise * said**2)

    @cached_property
    def error(self) -> float:
        """The mean share by which archs are off that are left out; what is off by a quarter and more counts alike."""
        return float(np.clip(np.abs(np.log(self.said / self.values)), None, 0.25).mean())


def fit_additive(parts: Parts, rows: Floats, values: Floats, *, product: bool = False) -> AdditiveProcess:
    """The process of positive costs ``values`` ``[n]`` of archs with ``rows`` ``[n, parts]``. O(n³)."""
    kernels, unit = _Kernels.of(parts, rows), float(np.median(values))
    target = np.log(values / unit) if product else values / unit - 1
    scale = np.ones(len(values)) if product else values / unit
    every = kernels(rows, rows)
    some = np.random.default_rng(0).permutation(len(values))[:LIKELY_OF]
    typical = max(2 * float(np.median(np.abs(target - np.median(target)))) ** 2, 1e-4)
    start = np.log(typical * np.array([1.0, *[0.1] * (len(every) - 1), 0.01]))
    trust = np.ones(len(values))
    for _ in range(ROUNDS):
        start = _likeliest(every[:, some][:, :, some], target[some], scale[some] ** 2 / trust[some], start)
        weights, noise = np.exp(start[:-1]), float(np.exp(start[-1]))
        covariance = np.tensordot(weights, every, 1)
        for _ in range(REWEIGHED):
            inverse = np.linalg.inv(covariance + np.diag(noise * scale**2 / trust + 1e-9))
            solved = inverse @ target
            left = solved / np.diag(inverse)  # what each is off by, left out
            trust = (FREEDOM + 1) / (FREEDOM + left**2 / (noise * scale**2))
            trust /= np.median(trust)
    inverse = np.linalg.inv(covariance + np.diag(noise * scale**2 / trust + 1e-9))
    solved = inverse @ target
    known = 1 / np.diag(inverse)
    process = AdditiveProcess(
        kernels, rows, values, product, unit, weights, noise, solved, inverse, values, values, 1.0
    )
    mean, variance = target - solved * known, np.clip(known - noise * scale**2 / trust, 0, None)
    moved = centre(values / process._costs(mean, variance, 1.0)[0])
    said, deviation = process._costs(mean, variance, moved)
    return AdditiveProcess(
        kernels, rows, values, product, unit, weights, noise, solved, inverse, said, deviation, moved
    )


def _likeliest(every: Floats, target: Floats, scale: Floats, start: Floats) -> Floats:
    """Logarithms ``[ways + 1]`` of the variances of ``every`` way ``[ways, n, n]`` and of the noise."""
    n = len(target)
    usual = np.array([*[USUAL] * len(every), USUAL_NOISE])
    doubt = np.array([*[DOUBT] * len(every), DOUBT_NOISE]) * math.sqrt(n / FEW)

    def unlikely(logs: Floats) -> tuple[float, Floats]:
        variances = np.exp(logs)
        covariance = np.tensordot(variances[:-1], every, 1) + np.diag(variances[-1] * scale + 1e-9)
        try:
            lower = cholesky(covariance, lower=True)
        except LinAlgError:
            return 1e10, np.zeros_like(logs)
        inverse = cho_solve((lower, True), np.eye(n))
        solved = inverse @ target
        slope = inverse - np.outer(solved, solved)
        slopes = np.array([*(every * slope).sum(axis=(1, 2)), (np.diag(slope) * scale).sum()])
        away = (logs - usual) / doubt
        likelihood = 0.5 * target @ solved + np.log(np.diag(lower)).sum() + 0.5 * away @ away
        return float(likelihood), 0.5 * variances * slopes + away / doubt

    bounds = [(LEAST, MOST)] * len(every) + [(LEAST_NOISE, 2.0)]
    found = minimize(
        unlikely,
        np.clip(start, *np.array(bounds).T),
        jac=True,
        method="L-BFGS-B",
        bounds=bounds,
        options={"maxiter": STEPS},
    )
    return np.asarray(found.x)


def centre(shares: Floats) -> float:
    """What to multiply predictions by, of which ``shares`` ``[n]`` are what was measured over what was said: so that
    they are in the middle of those within the TOLERANCE. Machines are late more often than early, and a median is at
    the early end of what may come. Welsch's M-estimate of location, of logarithms."""
    logs = np.log(shares)
    found = float(np.median(logs))
    for _ in range(50):
        near = np.exp(-(((logs - found) / TOLERANCE) ** 2) / 2)
        found = float((near * logs).sum() / near.sum())
    return math.exp(found)


@dataclass(frozen=True)
class LeftOut:
    """How far off archs were that were left out, in deviations ``[n]``: what intervals are made of.

    Jackknife+ without the cost of its refits (Barber et al., arXiv:1905.02928; leaving out is in closed form), on
    errors in units of the deviation, and of each end by itself: machines are late more often than early.
    """

    scores: NDArray[np.float64]

    def interval(self, mean: Floats, deviation: Floats, level: float) -> tuple[Floats, Floats]:
        """The ends ``[n]`` between which costs lie in a share ``level`` of all cases; never below zero."""
        from scipy.stats import t

        n, outside = len(self.scores), (1 - level) / 2
        ordered, rank = np.sort(self.scores), math.floor(outside * (n + 1))
        if rank >= 1:
            low, high = float(ordered[rank - 1]), float(ordered[n - rank])
        else:  # too few to have seen what is so rare
            reach = max(float(np.abs(ordered).max()), float(t.ppf(1 - outside, max(1, n - 1))))
            low, high = -reach, reach
        return np.maximum(mean + low * deviation, 0.0), np.maximum(mean + high * deviation, 0.0)
