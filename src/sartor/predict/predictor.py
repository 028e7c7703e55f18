"""What a predictor of archs is, and what all of them check."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sartor.errors import InputError
from sartor.predict.light import FEWEST
from sartor.records import Arch
from sartor.space.space import Space

Floats = NDArray[np.float64]

PART = 2048
"""Archs that are encoded and predicted at a time: what is made of them on the way stays in the processor's cache."""


class ArchPredictor(Protocol):
    """Made for a space and a seed; fitted to archs of it with a metric's values; predicts that metric of others.

    The same archs, values and seed give the same predictions. Nothing else is seen: predictors do not know which way
    is better.
    """

    def fit(self, archs: Sequence[Arch], values: ArrayLike) -> ArchPredictor:
        """Fit to ``archs`` and their finite ``values`` ``[n]``, and return itself; what was fitted before is forgotten.

        Raises InputError where archs and values differ in number, are fewer than FEWEST, are of another space, or a
        value is not finite.
        """
        ...

    def predict(self, archs: Sequence[Arch]) -> tuple[Floats, Floats]:
        """Mean ``[n]`` and standard deviation ``[n]`` of the metric of ``archs``, in its unit. The deviation is that of
        a measurement: what the predictor does not know and what no predictor could.

        Raises InputError before ``fit``, and for archs of another space.
        """
        ...


def as_numbers(values: ArrayLike, what: str) -> Floats:
    """``values`` as numbers. Raises InputError, which says ``what`` needs them, for anything else."""
    try:
        return np.asarray(values, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise InputError(f"{what} needs numbers: {error}") from None


def checked(space: Space, archs: Sequence[Arch], values: ArrayLike) -> Floats:
    """The values ``[n]``. Raises InputError, in one line, where nothing can be fitted to them."""
    y = as_numbers(values, "a predictor")
    if y.shape != (len(archs),):
        raise InputError(f"a predictor needs one value an arch, not values of shape {y.shape} for {len(archs)} archs")
    if len(y) < FEWEST:
        raise InputError(f"a predictor needs at least {FEWEST} evaluated archs, not {len(y)}: evaluate more")
    if not np.isfinite(y).all():
        raise InputError("a predictor needs finite values: leave out what could not be measured")
    known(space, archs)
    return y


def known(space: Space, archs: Sequence[Arch]) -> None:
    """Raises InputError where one of ``archs`` is not of ``space``. Of a space of which only some archs exist, others
    may be predicted, too."""
    space.check(archs)


def in_parts(
    predict: Callable[[Sequence[Arch]], tuple[Floats, Floats]], archs: Sequence[Arch]
) -> tuple[Floats, Floats]:
    """What ``predict`` says of ``archs``, PART at a time."""
    parts = [predict(archs[i : i + PART]) for i in range(0, max(1, len(archs)), PART)]
    return np.concatenate([mean for mean, _ in parts]), np.concatenate([deviation for _, deviation in parts])


def unfitted(name: str) -> InputError:
    """What ``predict`` raises before ``fit``."""
    return InputError(f"{name} has not been fitted: call fit(archs, values) first")
