"""An ensemble of perceptrons on path encodings: the predictor of BANANAS.

White, Neiswanger & Savani, arXiv:1910.11858 §4: a metric is predicted from the paths of a cell by five feed-forward
networks, whose loss is the error as a share of the distance from a bound that no arch reaches, so that what is near the
best counts most. Deviations: paths as ``Cell.encode_paths`` counts them; 3 layers of 64 (the paper's 10 of 20
take longer, and ranked no better); each member leaves a fold out (see :mod:`sartor.predict.committee`), and the
deviation grows with the distance from the bound, as the loss lets it; a space without paths is encoded by
``Space.encode_many``."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike

from sartor.errors import InputError
from sartor.predict.committee import Committee, Inputs, Parameters, drawn, fit_committee, zeros
from sartor.predict.predictor import Floats, checked, known, unfitted
from sartor.records import Arch
from sartor.space.cell import Cell
from sartor.space.space import Space

if TYPE_CHECKING:
    from torch import Tensor

WIDTH, LAYERS = 64, 3
BEYOND = 0.1
"""How far beyond the best value seen the bound lies, in standard deviations of what was seen."""


@dataclass
class Bananas:
    """See ``predictor.ArchPredictor``. ``best``: which end of the metric the loss looks at."""

    space: Space
    seed: int = 0
    best: str = "high"
    epochs: int = 150
    _fitted: tuple[Committee, float, float, float] | None = field(default=None, init=False, repr=False)

    def fit(self, archs: Sequence[Arch], values: ArrayLike) -> Bananas:
        y = checked(self.space, archs, values)
        if self.best not in ("high", "low"):
            raise InputError(f"best is the high end of a metric or the low one, not {self.best!r}")
        scale = float(y.std()) * (1 if self.best == "high" else -1)
        bound = float(y.max() if self.best == "high" else y.min()) + BEYOND * scale
        away = (bound - y) / scale if scale else np.full(len(y), BEYOND)  # positive: 0.1 of the best
        x = self._encode(archs)
        fitted = fit_committee(
            lambda: _start(x.shape[1], float(away.mean())),
            _forward,
            {"x": x},
            away,
            seed=self.seed,
            loss=_share,
            epochs=self.epochs,
            rate=3e-3,
        )
        # The loss itself, as a normal deviation: a mean square would be that of the few that are next to the bound.
        share = float(np.abs(fitted.left_out / away - 1).mean() * (np.pi / 2) ** 0.5)
        self._fitted = fitted, bound, scale, share
        return self

    def predict(self, archs: Sequence[Arch]) -> tuple[Floats, Floats]:
        if self._fitted is None:
            raise unfitted("bananas")
        committee, bound, scale, share = self._fitted
        said = committee.members({"x": self._encode(archs)})
        mean = said.mean(axis=0)
        return bound - scale * mean, abs(scale) * np.sqrt(said.var(axis=0) + (share * mean) ** 2)

    def _encode(self, archs: Sequence[Arch]) -> Floats:
        if not isinstance(self.space, Cell):
            return self.space.encode_many(archs)
        known(self.space, archs)
        return np.array([self.space.encode_paths(arch) for arch in archs]).reshape(-1, len(self.space.every_path))


def _start(inputs: int, mean: float) -> Parameters:
    sizes = [inputs, *[WIDTH] * LAYERS]
    found = {}
    for i in range(LAYERS):
        found[f"w{i}"], found[f"b{i}"] = drawn(sizes[i], sizes[i + 1]), zeros(sizes[i + 1])
    return {**found, "out": drawn(WIDTH, 1), "bias": zeros(1) + mean}


def _forward(p: Parameters, inputs: Inputs) -> Tensor:
    h = inputs["x"]
    for i in range(LAYERS):
        h = (h @ p[f"w{i}"] + p[f"b{i}"][:, None]).relu()
    return (h @ p["out"])[..., 0] + p["bias"]


def _share(said: Tensor, wanted: Tensor) -> Tensor:
    """The paper's loss: how far off, as a share of how far the arch is from the bound."""
    return (said / wanted - 1).abs().mean(dim=1)
