"""Values as normal scores: what neural predictors are trained on."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from sartor.predict.predictor import Floats


@dataclass(frozen=True)
class NormalScores:
    """The value of a rank is the normal quantile of its share: accuracies crowd below a ceiling and trail off far below
    it, and a squared error of raw values would be spent on the tail. Between values seen the map is linear, and beyond
    them it goes on with the slope of their standard deviation, so it can be inverted.

    Rejected: a warp as the Gaussian process has one, which is chosen by a likelihood that a network has not.
    """

    values: Floats  # distinct, ascending
    scores: Floats

    @classmethod
    def of(cls, y: Floats) -> NormalScores:
        from scipy.special import ndtri

        values, counts = np.unique(y, return_counts=True)
        middle = np.cumsum(counts) - counts / 2
        return cls(values, np.asarray(ndtri(middle / len(y))))

    @property
    def slope(self) -> float:
        """Units of the metric for one unit of score, beyond what was seen: none where all of it was one value."""
        return float(self.values.std())

    def __call__(self, y: Floats) -> Floats:
        beyond = (np.clip(y - self.values[-1], 0, None) - np.clip(self.values[0] - y, 0, None)) / (self.slope or 1.0)
        return np.interp(y, self.values, self.scores) + beyond

    def inverse(self, mean: Floats, deviation: Floats) -> tuple[Floats, Floats]:
        """Median, and half of the distance between the values one deviation above and below it."""
        middle, above, below = (self._value(s) for s in (mean, mean + deviation, mean - deviation))
        return middle, (above - below) / 2

    def _value(self, s: Floats) -> Floats:
        beyond = np.clip(s - self.scores[-1], 0, None) - np.clip(self.scores[0] - s, 0, None)
        return np.interp(s, self.scores, self.values) + beyond * self.slope
