"""Gradient-boosted trees on the space's own encoding."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from numpy.typing import ArrayLike

from sartor.predict.light import Trees, fit_trees
from sartor.predict.predictor import Floats, checked, unfitted
from sartor.records import Arch
from sartor.space.space import Space


@dataclass
class Boosting:
    """See ``predictor.ArchPredictor``. The deviation is that of residuals of held-out archs, one for all."""

    space: Space
    seed: int = 0
    _fitted: Trees | None = field(default=None, init=False, repr=False)

    def fit(self, archs: Sequence[Arch], values: ArrayLike) -> Boosting:
        y = checked(self.space, archs, values)
        self._fitted = fit_trees(self.space.encode_many(archs), y, seed=self.seed)
        return self

    def predict(self, archs: Sequence[Arch]) -> tuple[Floats, Floats]:
        if self._fitted is None:
            raise unfitted("gradient boosting")
        return self._fitted.predict(self.space.encode_many(archs))
