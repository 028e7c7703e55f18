"""Latency on a device that was measured, and on a new one from ten measurements and what others take."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import ArrayLike

from sartor.errors import InputError
from sartor.predict.additive import AdditiveProcess, LeftOut, fit_additive, parts_of
from sartor.predict.predictor import ArchPredictor, Floats, as_numbers, checked, in_parts, unfitted
from sartor.predict.ridge import Line, fit_line
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


LEVEL = 0.95
PRODUCT = 0.9


@dataclass
class Latency:
    """The latency of archs on one device. See ``predictor.ArchPredictor``; latencies must be positive.

    Where layers run one after the other a latency is a sum over them; where a choice scales all of them, or they
    overlap, it is nearer to a product. Of the two processes of :mod:`sartor.predict.additive` the sum is taken, unless
    the product is off by a tenth less where archs are left out. ``seed`` is not used.

    Rejected: ridge regression on one-hot options, and a process that sees them as codes, which this chose between
    before: they know nothing of layers that are alike, and outliers drew them.
    """

    space: Space
    seed: int = 0
    _fitted: AdditiveProcess | None = field(default=None, init=False, repr=False)

    def fit(self, archs: Sequence[Arch], values: ArrayLike) -> Latency:
        y = checked(self.space, archs, values)
        _logarithms(y)
        parts, rows = parts_of(self.space, self.space.encode_many(archs))
        made = [fit_additive(parts, rows, y, product=product) for product in (False, True)]
        self._fitted = made[1] if made[1].error < PRODUCT * made[0].error else made[0]
        return self

    def predict(self, archs: Sequence[Arch]) -> tuple[Floats, Floats]:
        process = self._process()
        return in_parts(lambda part: process.predict(parts_of(self.space, self.space.encode_many(part))[1]), archs)

    def interval(self, archs: Sequence[Arch], level: float = LEVEL) -> tuple[Floats, Floats]:
        """Between which milliseconds ``[n]`` the latency of each lies, in a share ``level`` of all cases."""
        process = self._process()
        scores = (process.values - process.said) / process.deviation
        return LeftOut(scores).interval(*self.predict(archs), _share(level))

    def _process(self) -> AdditiveProcess:
        if self._fitted is None:
            raise unfitted("the latency predictor")
        return self._fitted


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

    def interval(self, archs: Sequence[Arch], level: float = LEVEL) -> tuple[Floats, Floats]:
        """As :meth:`Latency.interval`, from Student's distribution: few measurements have no quantiles to go by."""
        from scipy.stats import t

        if self._line is None:
            raise unfitted("the transferred latency predictor")
        mean, deviation = self._line(self._elsewhere(archs))
        reach = float(t.ppf((1 + _share(level)) / 2, max(1, self._line.n - 2))) * deviation
        return np.exp(mean - reach), np.exp(mean + reach)

    def _elsewhere(self, archs: Sequence[Arch]) -> Floats:
        """Logarithms of what the known devices would take ``[n, devices]``."""
        return np.stack([np.log(np.clip(p.predict(archs)[0], 1e-12, None)) for p in self.known.values()], axis=1)


def _share(level: float) -> float:
    if not 0 < level < 1:
        raise InputError(f"the level of an interval is between 0 and 1, not {level}")
    return level


def _logarithms(ms: Floats) -> Floats:
    if not (ms > 0).all():
        raise InputError("latencies must be positive: leave out what could not be measured")
    return np.asarray(np.log(ms))


def _latencies(mean: Floats, deviation: Floats) -> tuple[Floats, Floats]:
    """Median, and half of the distance between one deviation above and below."""
    middle = np.exp(mean)
    return middle, middle * np.sinh(np.clip(deviation, None, 50))
