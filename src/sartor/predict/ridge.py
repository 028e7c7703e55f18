"""Ridge regression on the space's own encoding: the baseline that every other predictor stands beside."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import ArrayLike

from sartor.predict.light import ROUNDING
from sartor.predict.predictor import Floats, checked, in_parts, unfitted
from sartor.records import Arch
from sartor.space.space import Space

PENALTIES = np.logspace(-4, 2, 25)
"""Penalties tried, in units of the encoding's mean squared singular value, of those that are not zero."""


@dataclass(frozen=True)
class Line:
    """A ridge regression: what it subtracts from a row, weighs it with and adds, and the covariance of its weights."""

    centre: Floats  # [d]
    weights: Floats  # [d]
    mean: float
    shrunk: Floats  # [d, d] the inverse of the penalised Gram matrix
    noise: float  # standard deviation of a measurement
    n: int

    def __call__(self, rows: Floats) -> tuple[Floats, Floats]:
        """Mean and standard deviation ``[n]`` for ``rows`` ``[n, d]``."""
        x = rows - self.centre
        spread = 1 + 1 / self.n + np.einsum("ij,ij->i", x @ self.shrunk, x)
        return self.mean + x @ self.weights, self.noise * np.sqrt(spread)


def fit_line(x: Floats, y: Floats) -> Line:
    """The ridge regression of ``y`` ``[n]`` on ``x`` ``[n, d]`` whose penalty leaves the least squared error where each
    row is left out in turn (in closed form: Hastie et al., Elements of Statistical Learning, eq. 7.64)."""
    n, centre, mean = len(y), x.mean(axis=0), float(y.mean())
    left, singular, right = np.linalg.svd(x - centre, full_matrices=False)
    power, target = singular**2, left.T @ (y - mean)
    power = np.where(power > ROUNDING * float((x**2).sum()), power, 0.0)
    rank = int((power > 1e-12 * power.max(initial=0.0)).sum())
    unit = float(power.sum()) / rank if rank else 1.0
    best, line = np.inf, None
    for penalty in PENALTIES * unit:
        kept = power / (power + penalty)
        residual = y - mean - left @ (kept * target)
        free = np.clip(1 - 1 / n - (left**2) @ kept, 1e-9, None)
        error = float(((residual / free) ** 2).mean())
        if error < best:
            best = error
            # Left out, a row's error has the noise's variance over `free`: so the noise is what is common to all.
            noise = float(np.sqrt((residual**2 / free).mean()))
            line = (kept, penalty, noise)
    assert line is not None
    kept, penalty, noise = line
    weights = right.T @ (kept * target / np.where(singular > 0, singular, 1.0))
    shrunk = np.eye(x.shape[1]) / penalty - (right.T * (kept / penalty)) @ right
    return Line(centre, weights, mean, shrunk, noise, n)


@dataclass
class Ridge:
    """Linear in the one-hot options and the ranks of ``Space.encode_many``. See ``predictor.ArchPredictor``.

    Costs that are sums over layers are linear in this; so is much of an accuracy. ``seed`` is not used.
    """

    space: Space
    seed: int = 0
    _line: Line | None = field(default=None, init=False, repr=False)

    def fit(self, archs: Sequence[Arch], values: ArrayLike) -> Ridge:
        y = checked(self.space, archs, values)
        self._line = fit_line(self.space.encode_many(archs), y)
        return self

    def predict(self, archs: Sequence[Arch]) -> tuple[Floats, Floats]:
        if self._line is None:
            raise unfitted("ridge")
        line, encode = self._line, self.space.encode_many
        return in_parts(lambda part: line(encode(part)), archs)
