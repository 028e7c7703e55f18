"""Kernel densities over archs: how likely an arch is among some that are given."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from sartor.records import Arch
from sartor.space.choice import Choice
from sartor.space.space import Space

Codes = NDArray[np.int64]
"""Places of options ``[archs, choices]``; -1 where a choice is not active."""

NARROWEST = 1e-3
"""The least bandwidth, as in the authors' program: without it one option could have all of the density."""


def codes_of(space: Space, archs: Sequence[Arch]) -> Codes:
    """``archs`` as places of their options."""
    return space.codes(archs).astype(np.int64)


def without_inactive(space: Space, codes: Codes) -> Codes:
    """``codes``, in which every choice has an option, with -1 where it is not active."""
    found = codes.copy()
    column = {choice.name: j for j, choice in enumerate(space.choices)}
    for j, choice in enumerate(space.choices):
        if choice.when is not None:
            parent = space.choices[column[choice.when[0]]]
            wanted = [place for place, option in enumerate(parent.options) if option in choice.when[1]]
            found[~np.isin(found[:, column[parent.name]], wanted), j] = -1
    return found


@dataclass(frozen=True)
class Density:
    """A product kernel around each of ``centres``: ``kernels`` has for each choice a matrix ``[options, options]``,
    whose row is the distribution around a centre."""

    centres: Codes
    kernels: tuple[NDArray[np.float64], ...]

    def log(self, codes: Codes) -> NDArray[np.float64]:
        """The logarithm of the density ``[n]``. Choices that are not active say nothing."""
        total = np.zeros((len(codes), len(self.centres)))
        for j, kernel in enumerate(self.kernels):
            active = codes[:, j] >= 0
            total[active] += np.log(kernel[self.centres[:, j]][:, codes[active, j]].T)
        highest = total.max(axis=1, keepdims=True)
        return np.asarray(highest[:, 0] + np.log(np.exp(total - highest).mean(axis=1)))

    def draw(self, rng: np.random.Generator, n: int) -> Codes:
        """``n`` codes, every choice as if it were active."""
        at = self.centres[rng.integers(len(self.centres), size=n)]
        drawn = np.empty_like(at)
        for j, kernel in enumerate(self.kernels):
            upto = kernel[at[:, j]].cumsum(axis=1)
            drawn[:, j] = (rng.random((n, 1)) * upto[:, -1:] > upto).sum(axis=1)
        return drawn


def fit_density(space: Space, codes: Codes, rng: np.random.Generator, widen: float = 1.0) -> Density:
    """The density of ``codes``, by the normal reference rule: a bandwidth is 1.06 n^(-1/(4 + d)) deviations, and of an
    ordered choice ``widen`` times that.

    Where a choice is not active in a centre it has that of another centre where it is, or any. Around a centre an
    unordered choice has Aitchison and Aitken's kernel, whose bandwidth is the probability of another option; its
    deviation is √(1 - Σp²), and at most it is uniform. An ordered one has a normal distribution over its places.
    """
    n, d = codes.shape
    scale = 1.06 * n ** (-1 / (4 + d))
    centres, kernels = codes.copy(), []
    for j, choice in enumerate(space.choices):
        k = len(choice.options)
        lost = centres[:, j] < 0
        source = centres[~lost, j] if not lost.all() else np.arange(k)
        centres[lost, j] = rng.choice(source, size=int(lost.sum()))
        kernels.append(_kernel(choice, centres[:, j], scale, widen))
    return Density(centres, tuple(kernels))


def _kernel(choice: Choice, column: NDArray[np.int64], scale: float, widen: float) -> NDArray[np.float64]:
    k = len(choice.options)
    if k == 1:
        return np.ones((1, 1))
    if choice.ordered:
        places = np.arange(k) / (k - 1)
        width = max(widen * scale * float(column.std()) / (k - 1), NARROWEST)
        apart = (places[:, None] - places[None]) / width
        around = np.exp(-0.5 * apart**2) + 1e-12
        return np.asarray(around / around.sum(axis=1, keepdims=True))
    shares = np.bincount(column, minlength=k) / len(column)
    other = min(max(scale * float(np.sqrt(1 - (shares**2).sum())), NARROWEST), (k - 1) / k)
    return np.where(np.eye(k, dtype=bool), 1 - other, other / (k - 1))
