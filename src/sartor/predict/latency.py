"""Latency on a device that was measured, and on a new one from ten measurements and what others take."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import ArrayLike

from sartor.errors import InputError
from sartor.predict.gaussian import Gaussian
from sartor.predict.light import FEWEST
from sartor.predict.predictor import ArchPredictor, Floats, as_numbers, checked, unfitted
from sartor.predict.ridge import Line, Ridge, fit_line
from sartor.records import Arch
from sartor.space.space import Space


def shares_near(predicted: ArrayLike, true: ArrayLike) -> dict[str, float]:
    """``within_5`` and ``within_10``: the shares of predictions ``[n]`` within 5 % and 10 % of the ``true``
    latencies."""
    said, y = (as_numbers(values, "a share") for values in (predicted, true))
    if said.shape != y.shape or not len(y) or not (y > 0).all():
        raise InputError("shares need a prediction for each positive latency, and one, at least")
    error = np.abs(said / y - 1)
    return {"within_5": float((error <= 0.05).mean()), "within_10": float((error <= 0.10).mean())}


FOLDS = 5


@dataclass
class Latency:
    """The latency of archs on one device: ridge regression, the Gaussian process, or that of logarithms, whichever is
    off by the smallest share where folds are held out. See ``predictor.ArchPredictor``; latencies must be positive.

    Where layers run one after the other a latency is their sum, and ridge regression knows it after a few dozen archs;
    where they overlap, or a choice scales all layers, as a resolution does, it is not.
    """

    space: Space
    seed: int = 0
    _fitted: ArchPredictor | None = field(default=None, init=False, repr=False)

    def fit(self, archs: Sequence[Arch], values: ArrayLike) -> Latency:
        y = checked(self.space, archs, values)
        _logarithms(y)
        folds = np.random.default_rng(self.seed).permutation(len(y)) % FOLDS
        least = np.bincount(folds, minlength=FOLDS).max()
        best, chosen = np.inf, _KINDS[0]
        for kind in _KINDS if len(y) - least >= FEWEST else ():
            error = 0.0
            for fold in range(FOLDS):
                kept, held = (np.flatnonzero(mask).tolist() for mask in (folds != fold, folds == fold))
                made = kind(self.space, self.seed).fit([archs[i] for i in kept], y[kept])
                said = made.predict([archs[i] for i in held])[0]
                error += float(np.abs(np.log(np.clip(said, 1e-12, None) / y[held])).sum())
            if error < best:
                best, chosen = error, kind
        self._fitted = chosen(self.space, self.seed).fit(archs, y)
        return self

    def predict(self, archs: Sequence[Arch]) -> tuple[Floats, Floats]:
        if self._fitted is None:
            raise unfitted("the latency predictor")
        return self._fitted.predict(archs)


@dataclass
class LogarithmicGaussian:
    """The Gaussian process on logarithms, so that its errors are shares."""

    space: Space
    seed: int = 0
    _process: Gaussian | None = field(default=None, init=False, repr=False)

    def fit(self, archs: Sequence[Arch], values: ArrayLike) -> LogarithmicGaussian:
        self._process = Gaussian(self.space, self.seed).fit(archs, _logarithms(checked(self.space, archs, values)))
        return self

    def predict(self, archs: Sequence[Arch]) -> tuple[Floats, Floats]:
        if self._process is None:
            raise unfitted("the latency predictor")
        return _latencies(*self._process.predict(archs))


_KINDS: tuple[Callable[[Space, int], ArchPredictor], ...] = (LogarithmicGaussian, Gaussian, Ridge)


@dataclass
class TransferredLatency:
    """The latency of archs on a new device, from a few measurements there and fitted predictors of ``known`` devices.

    The logarithm on the new device is a ridge regression on the logarithms that the known ones predict, whose penalty
    leaves the least error where each measurement is left out. Devices slow down alike, so their predictions lie along a
    few directions, and a ridge shrinks the others: ten measurements choose between kinds of devices. From HELP (Lee et
    al., arXiv:2106.08630 §3.2) comes that a device is known by nothing but the latencies of a few archs; its
    meta-learnt network is not taken, for it has to be trained on all known devices at once, and this adds one by adding
    its predictor. Until the ridge, nothing of the new device is seen."""

    space: Space
    known: Mapping[str, ArchPredictor]
    _line: Line | None = field(default=None, init=False, repr=False)

    def __post_init__(self) -> None:
        if not self.known:
            raise InputError("a transfer needs a known device, at least: fit Latency on one")

    def fit(self, archs: Sequence[Arch], values: ArrayLike) -> TransferredLatency:
        y = _logarithms(checked(self.space, archs, values))
        self._line = fit_line(self._elsewhere(archs), y)
        return self

    def predict(self, archs: Sequence[Arch]) -> tuple[Floats, Floats]:
        if self._line is None:
            raise unfitted("the transferred latency predictor")
        return _latencies(*self._line(self._elsewhere(archs)))

    def _elsewhere(self, archs: Sequence[Arch]) -> Floats:
        """Logarithms of what the known devices would take ``[n, devices]``."""
        return np.stack([np.log(np.clip(p.predict(archs)[0], 1e-12, None)) for p in self.known.values()], axis=1)


def _logarithms(ms: Floats) -> Floats:
    if not (ms > 0).all():
        raise InputError("latencies must be positive: leave out what could not be measured")
    return np.asarray(np.log(ms))


def _latencies(mean: Floats, deviation: Floats) -> tuple[Floats, Floats]:
    """Median, and half of the distance between one deviation above and below."""
    middle = np.exp(mean)
    return middle, middle * np.sinh(np.clip(deviation, None, 50))
