"""A random forest on the space's own encoding. Breiman, Machine Learning 45 (2001)."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from sartor.machine import cores
from sartor.predict.predictor import Floats, checked, unfitted
from sartor.records import Arch
from sartor.space.space import Space

TREES = 100
TOGETHER = 8192
"""Archs whose trees are walked in one thread."""
FEATURES = 1 / 3
"""Share of the columns that a split chooses from: the usual one for regression."""


@dataclass(frozen=True)
class Forest:
    """A fitted forest. The deviation has two parts: how much its trees disagree, scaled to what they disagreed where
    they had not seen the value, and the error that is left where they agree; both are set by archs out of the bag."""

    model: Any
    spread: float  # variance of a measurement for a unit of variance among the trees
    rest: float  # variance that does not depend on it

    def __call__(self, rows: Floats) -> tuple[Floats, Floats]:
        """Mean and standard deviation ``[n]`` for ``rows`` ``[n, d]``."""
        if len(rows) <= TOGETHER:
            return self._some(rows)
        with ThreadPoolExecutor(cores()) as pool:  # trees let go of Python's lock
            parts = list(pool.map(self._some, (rows[i : i + TOGETHER] for i in range(0, len(rows), TOGETHER))))
        mean, deviation = zip(*parts, strict=True)
        return np.concatenate(mean), np.concatenate(deviation)

    def _some(self, rows: Floats) -> tuple[Floats, Floats]:
        total, square = np.zeros(len(rows)), np.zeros(len(rows))
        if not len(rows):  # which scikit-learn refuses
            return total, square
        x = np.ascontiguousarray(rows, dtype=np.float32)
        for tree in self.model.estimators_:
            said = tree.predict(x, check_input=False)
            total += said
            square += said**2
        mean = total / TREES
        return mean, np.sqrt(self.spread * np.clip(square / TREES - mean**2, 0, None) + self.rest)


def fit_forest(x: Floats, y: Floats, seed: int) -> Forest:
    """A forest on ``x`` ``[n, d]`` and ``y`` ``[n]``."""
    from sklearn.ensemble import RandomForestRegressor

    model = RandomForestRegressor(TREES, max_features=FEATURES, random_state=seed).fit(x, y)
    said = np.stack([tree.predict(x) for tree in model.estimators_])
    unseen = np.ones((TREES, len(y)), dtype=bool)
    for out, sample in zip(unseen, model.estimators_samples_, strict=True):
        out[sample] = False
    count = unseen.sum(axis=0)
    judged = count > 1
    mean = np.where(unseen, said, 0).sum(axis=0)[judged] / count[judged]
    variance = np.where(unseen, (said - said.mean(axis=0)) ** 2, 0).sum(axis=0)[judged] / count[judged]
    error = (y[judged] - mean) ** 2
    # Half of the error to each part: with few archs, a regression of one on the other is mostly luck.
    spread = float(error.mean() / 2 / variance.mean()) if variance.size and variance.mean() > 0 else 0.0
    return Forest(model, spread, float(error.mean()) / 2 if error.size else float(y.var()))


@dataclass
class RandomForest:
    """See ``predictor.ArchPredictor``."""

    space: Space
    seed: int = 0
    _forest: Forest | None = field(default=None, init=False, repr=False)

    def fit(self, archs: Sequence[Arch], values: ArrayLike) -> RandomForest:
        y = checked(self.space, archs, values)
        self._forest = fit_forest(self.space.encode_many(archs), y, self.seed)
        return self

    def predict(self, archs: Sequence[Arch]) -> tuple[Floats, Floats]:
        if self._forest is None:
            raise unfitted("the random forest")
        return self._forest(self.space.encode_many(archs))
