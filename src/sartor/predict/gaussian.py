"""The Gaussian process of :mod:`sartor.predict.light` on the space's own encoding."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from numpy.typing import ArrayLike

from sartor.predict.light import GaussianProcess, fit_gaussian_process
from sartor.predict.predictor import Floats, checked, in_parts, unfitted
from sartor.records import Arch
from sartor.space.space import Space


@dataclass
class Gaussian:
    """See ``predictor.ArchPredictor``; warp, kernel and noise are chosen by the likelihood of each arch left out.
    ``seed`` is not used."""

    space: Space
    seed: int = 0
    _fitted: GaussianProcess | None = field(default=None, init=False, repr=False)

    def fit(self, archs: Sequence[Arch], values: ArrayLike) -> Gaussian:
        y = checked(self.space, archs, values)
        self._fitted = fit_gaussian_process(self.space.encode_many(archs), y)
        return self

    def predict(self, archs: Sequence[Arch]) -> tuple[Floats, Floats]:
        if self._fitted is None:
            raise unfitted("the Gaussian process")
        fitted, encode = self._fitted, self.space.encode_many
        return in_parts(lambda part: fitted.predict(encode(part)), archs)
