"""The Gaussian process of :mod:`sartor.predict.light`, which sees an arch as its space does or option by option."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import ArrayLike

from sartor.predict.light import FEWEST, GaussianProcess, fit_gaussian_process
from sartor.predict.predictor import Floats, checked, in_parts, unfitted
from sartor.records import Arch
from sartor.space.space import Space, distinct


@dataclass
class Gaussian:
    """See ``predictor.ArchPredictor``; warp, kernel, noise, and which of ``Space.features`` and ``encode`` to see,
    are chosen by the likelihood of each arch left out. ``seed`` is not used."""

    space: Space
    seed: int = 0
    _fitted: tuple[GaussianProcess, bool] | None = field(default=None, init=False, repr=False)

    def fit(self, archs: Sequence[Arch], values: ArrayLike) -> Gaussian:
        y = checked(self.space, archs, values)
        self._fitted = fit_as_seen(self.space.features_many(archs), self.space.encode_many(archs), y)
        return self

    def predict(self, archs: Sequence[Arch]) -> tuple[Floats, Floats]:
        if self._fitted is None:
            raise unfitted("the Gaussian process")
        fitted, by_features = self._fitted
        see = self.space.features_many if by_features else self.space.encode_many
        return in_parts(lambda part: fitted.predict(see(part)), archs)


def fit_as_seen(features: Floats, codes: Floats, values: Floats) -> tuple[GaussianProcess, bool]:
    """The likelier of two processes of ``values`` ``[n]``, one that sees ``features`` ``[n, d]`` and one that sees
    ``codes`` ``[n, e]``; and whether it is the first. How good a cell is depends on its paths; how fast, on every edge.
    """
    one = fit_gaussian_process(*_merged(features, values), among=values)
    if features.shape == codes.shape and np.array_equal(features, codes):
        return one, True
    other = fit_gaussian_process(codes, values)
    return (one, True) if one.likelihood >= other.likelihood else (other, False)


def _merged(features: Floats, values: Floats) -> tuple[Floats, Floats]:
    """The different rows ``[r, d]``, and the mean value of each. Archs that compute the same would tell of each other
    whatever the kernel, and leaving one of them out would say nothing."""
    rows, places = distinct(features)
    if len(rows) < FEWEST:  # as they are: a process needs some
        return features, values
    return rows, np.bincount(places, values) / np.bincount(places)
