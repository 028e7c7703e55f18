"""How long a unit would take that was not timed: from the times of others of its kind."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from sartor.measure.units.rows import UnitRow

Floats = NDArray[np.float64]

LEAST = 8
"""Timed units of a kind from which it has a curve of its own; below, all kinds share one."""
SCALES = (0.5, 1.0, 2.0, 4.0, 8.0)
"""Length scales to choose from, in standard deviations of the features."""
NOISES = (0.02, 0.05, 0.1, 0.2)
"""Relative errors of one unit's time to choose from."""
ENOUGH = 500
"""Units through which the curve of all kinds goes."""
RIDGE = 1e-2
MOST = 3.0
"""Standard deviations of a logarithm that are told apart: a factor of twenty either way is no knowledge."""
SHORTEST_MS = 1e-4
"""A tenth of a microsecond: what takes less cannot be told from a call."""


@dataclass(frozen=True)
class Curve:
    """A line and a Gaussian process around it, of logarithms of times over features."""

    centre: Floats
    spread: Floats
    line: Floats
    unsure: Floats
    rows: Floats
    weights: Floats
    factor: Floats
    scale: float
    size: float
    noise: float

    def __call__(self, x: Floats) -> tuple[Floats, Floats]:
        """Mean ``[n]`` of the logarithm for features ``[n, d]``, and the standard deviation of the curve there: it
        grows with the distance from what was timed, most where a feature differs that never did."""
        seen = (x - self.centre) / self.spread
        near = self.size * _kernel(seen, self.rows, self.scale)
        design = _with_one(seen)
        mean = design @ self.line + near @ self.weights
        solved = np.linalg.solve(self.factor, near.T)
        tilt = self.size * np.einsum("ij,jk,ik->i", design, self.unsure, design)
        return mean, np.sqrt(np.clip(self.size - (solved**2).sum(axis=0), 0, None) + tilt)


@dataclass(frozen=True)
class UnitTimes:
    """Curves by kind, and one of all kinds for those with few."""

    curves: dict[str, Curve]
    x: Floats
    y: Floats

    @cached_property
    def rest(self) -> Curve:
        """Of all kinds, through some of what was timed: most often it is not needed."""
        some = slice(None, None, 1 + len(self.y) // ENOUGH)
        return _curve(self.x[some], self.y[some])

    def __call__(self, rows: Sequence[UnitRow]) -> tuple[Floats, Floats, Floats]:
        """Milliseconds ``[n]``, and by what share they may be off, as two standard deviations: that of the curve, which
        units of a kind have in common, and of each one's own. Both are 0 where it was timed."""
        ms, curved, own = np.zeros(len(rows)), np.zeros(len(rows)), np.zeros(len(rows))
        unknown: dict[str, list[int]] = {}
        for place, row in enumerate(rows):
            if row.ms is None:
                unknown.setdefault(row.kind if row.kind in self.curves else "", []).append(place)
            else:
                ms[place] = row.ms
        for name, places in unknown.items():
            curve = self.curves[name] if name else self.rest
            mean, deviation = curve(np.array([rows[place].features for place in places]))
            ms[places], curved[places], own[places] = np.exp(mean), np.minimum(deviation, MOST), curve.noise
        return ms, curved, own


def unit_times(rows: Sequence[UnitRow]) -> UnitTimes:
    """Curves through the ``rows`` that were timed; at least two must be."""
    timed = [row for row in rows if row.ms is not None]
    x = np.array([row.features for row in timed])
    y = np.log(np.maximum([row.ms or 0.0 for row in timed], SHORTEST_MS))
    kinds = np.array([row.kind for row in timed])
    counted = {str(kind): int((kinds == kind).sum()) for kind in np.unique(kinds)}
    curves = {kind: _curve(x[kinds == kind], y[kinds == kind]) for kind, n in counted.items() if n >= LEAST}
    return UnitTimes(curves, x, y)


def _curve(x: Floats, y: Floats) -> Curve:
    centre, spread = x.mean(axis=0), x.std(axis=0)
    spread = np.where(spread > 1e-9, spread, 1.0)
    seen = (x - centre) / spread
    design = _with_one(seen)
    unsure = np.linalg.inv(design.T @ design + RIDGE * np.eye(design.shape[1]))
    # A little ridge: features of one kind are often the same everywhere, or follow from others.
    line = unsure @ design.T @ y
    left = y - design @ line
    size = float(left.var()) or 1e-6
    best = (np.inf, SCALES[0], NOISES[0])
    for scale in SCALES:
        values, vectors = np.linalg.eigh(size * _kernel(seen, seen, scale))
        turned = vectors.T @ left
        for noise in NOISES:
            shrunk = 1 / (np.clip(values, 0, None) + noise**2)  # the inverse, of which only two products are needed
            away = vectors @ (shrunk * turned) / (vectors**2 @ shrunk)  # left out: Rasmussen & Williams 2006, §5.4.2
            best = min(best, (float((away**2).mean()), scale, noise))
    _, scale, noise = best
    factor = np.asarray(np.linalg.cholesky(size * _kernel(seen, seen, scale) + noise**2 * np.eye(len(y))), np.float64)
    weights = np.linalg.solve(factor.T, np.linalg.solve(factor, left))
    return Curve(centre, spread, line, unsure, seen, weights, factor, scale, size, noise)


def _with_one(x: Floats) -> Floats:
    return np.concatenate([x, np.ones((len(x), 1))], axis=1)


def _kernel(a: Floats, b: Floats, scale: float) -> Floats:
    """Squared exponential. ``[n, m]``."""
    away = (a**2).sum(axis=1)[:, None] + (b**2).sum(axis=1)[None, :] - 2 * a @ b.T
    return np.asarray(np.exp(-np.clip(away, 0, None) / (2 * scale**2 * a.shape[1])))
