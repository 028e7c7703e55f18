"""Light predictors: encodings of archs and a metric's values in, means and standard deviations out.

Two families, one chosen by how well each ranks archs it has not seen: a small Gaussian process, whose kernel blends a
linear part (which alone is ridge regression: best for sums such as latency) with a Matérn part (interactions, such as
accuracy), and gradient-boosted trees, which win where the response has cliffs.

The Gaussian process is ours and 60 lines, not scikit-learn's, because leave-one-out errors in closed form choose its
kernel and noise in milliseconds; scikit-learn's optimises the likelihood by gradient, a hundred times slower at equal
ranking, and this is refitted for every objective after every batch of evaluations.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import ArrayLike, NDArray

from sartor.errors import InputError

Floats = NDArray[np.float64]

FEWEST = 5
"""Records needed to fit a predictor: below, a mean and a deviation are all that can be known."""
ROUNDING = 1e-24
"""Squares smaller than this share of the others are what is left of rounding."""
TREES_FROM = 40
"""Records from which trees are tried. A choice: with few records they fit noise."""


class Predictor(Protocol):
    """A fitted predictor."""

    @property
    def name(self) -> str: ...

    @property
    def tau(self) -> float:
        """Kendall's tau between values and predictions of held-out records; NaN when there are too few to tell."""
        ...

    def predict(self, encodings: ArrayLike) -> tuple[Floats, Floats]:
        """Mean ``[n]`` and standard deviation ``[n]`` of the metric for ``encodings`` ``[n, d]``, in its unit."""
        ...


def fit_predictor(encodings: ArrayLike, values: ArrayLike, *, seed: int = 0) -> Predictor:
    """Fit the better of the two families to ``encodings`` ``[n, d]`` and ``values`` ``[n]``.

    Raises InputError with fewer than FEWEST rows, rows that do not match, or values that are not finite.
    """
    x, y = _checked(encodings, values)
    process = fit_gaussian_process(x, y)
    if len(y) < TREES_FROM:
        return process
    trees = fit_trees(x, y, seed=seed)
    return trees if trees.tau > process.tau else process


def _checked(encodings: ArrayLike, values: ArrayLike) -> tuple[Floats, Floats]:
    x, y = np.asarray(encodings, dtype=np.float64), np.asarray(values, dtype=np.float64)
    if x.ndim != 2 or y.shape != (len(x),):
        raise InputError(f"a predictor needs encodings [n, d] and values [n], not {x.shape} and {y.shape}")
    if len(y) < FEWEST:
        raise InputError(f"a predictor needs at least {FEWEST} evaluated archs, not {len(y)}: evaluate more")
    if not (np.isfinite(x).all() and np.isfinite(y).all()):
        raise InputError("a predictor needs finite encodings and values: leave out what could not be measured")
    return x, y


@dataclass(frozen=True)
class _Features:
    """Encodings, centred; distances are in units of the training set's mean distance. What was constant in training is
    kept: an arch that has what none had is far from all of them, and its deviation should say so."""

    centre: Floats
    power: float  # mean squared norm of the training rows

    @classmethod
    def of(cls, x: Floats) -> _Features:
        centre = x.mean(axis=0)
        power = float(((x - centre) ** 2).sum(axis=1).mean())
        return cls(centre, power if power > ROUNDING * float((x**2).sum(axis=1).mean()) else 0.0)

    def __call__(self, x: Floats) -> Floats:
        return np.asarray((x - self.centre) / np.sqrt(self.power or 1.0))


def _kernel(a: Floats, b: Floats, linear: float, length: float) -> Floats:
    """``linear`` parts dot product plus ``1 - linear`` parts Matérn-5/2 with the given length."""
    dot = a @ b.T
    if linear == 1:
        return np.asarray(dot)
    square = (a**2).sum(axis=1)[:, None] + (b**2).sum(axis=1)[None] - 2 * dot
    distance = np.sqrt(np.clip(5 * square, 0, None)) / length
    return np.asarray(linear * dot + (1 - linear) * (1 + distance + distance**2 / 3) * np.exp(-distance))


KERNELS = ((1.0, 1.0), (0.5, 1.0), (0.5, 2.0), (0.5, 4.0), (0.1, 1.0), (0.1, 2.0), (0.1, 4.0))
"""(linear share, Matérn length) pairs tried. Lengths are in units of the root mean squared distance from the centre."""
NOISES = (0.01, 0.03, 0.1, 0.3, 1.0)
"""Noise variances tried, relative to the signal's."""


@dataclass(frozen=True)
class _Warp:
    """A monotone map of the metric under which a Gaussian fits: none, or the logarithm of the distance to a bound.

    Accuracies crowd below a ceiling and trail off far below it; a process fitted to the raw values spends itself on the
    tail instead of on the archs that matter.
    """

    sign: float = 0.0  # 0 none, +1 bounded above (left tail), -1 bounded below (right tail)
    bound: float = 0.0

    def __call__(self, y: Floats) -> Floats:
        return np.asarray(y if self.sign == 0 else -self.sign * np.log(self.sign * (self.bound - y)))

    def log_slope(self, y: Floats) -> float:
        """Mean logarithm of the map's derivative, which makes likelihoods under different warps comparable."""
        return 0.0 if self.sign == 0 else -float(np.log(self.sign * (self.bound - y)).mean())

    def inverse(self, mean: Floats, deviation: Floats) -> tuple[Floats, Floats]:
        """Median and deviation of the metric: the deviation to first order."""
        if self.sign == 0:
            return mean, deviation
        distance = np.exp(np.clip(-self.sign * mean, -700, 700))
        return self.bound - self.sign * distance, distance * deviation


WARP_MARGINS = (0.1, 0.5)
"""How far beyond the best and worst value seen the bounds tried lie, in interquartile ranges."""


def _warps(y: Floats, among: Floats) -> list[_Warp]:
    low, high = np.quantile(y, [0.25, 0.75])
    extent = float(high - low)
    if extent <= 1e-9 * float(np.ptp(y)):  # half of the values are equal, give or take rounding
        extent = float(np.ptp(y))
    above = [_Warp(1.0, float(among.max()) + margin * extent) for margin in WARP_MARGINS]
    below = [_Warp(-1.0, float(among.min()) - margin * extent) for margin in WARP_MARGINS]
    # A bound may round to a value, where all of them are nearly one.
    return [_Warp(), *(warp for warp in (*above, *below) if (warp.sign * (warp.bound - among) > 0).all())]


@dataclass(frozen=True)
class GaussianProcess:
    """A Gaussian process with a linear-plus-Matérn kernel on a warped metric.

    Rasmussen & Williams 2006, sections 2.2 and 5.4.2; warping: Snelson et al., NIPS 2003.
    """

    features: _Features
    x: Floats  # [n, d'] training features
    weights: Floats  # [n]
    inverse: Floats  # [n, n] of the noisy kernel
    kernel: tuple[float, float]
    warp: _Warp
    mean: float  # of the warped metric
    scale: float  # standard deviation of the warped signal
    noise: float  # variance, relative to the signal's
    tau: float
    likelihood: float = -np.inf  # mean leave-one-out log density of the metric: to compare encodings by
    name: str = "gaussian process"

    def predict(self, encodings: ArrayLike) -> tuple[Floats, Floats]:
        """See :meth:`Predictor.predict`. The deviation is that of a measurement, noise included: on a deterministic
        evaluation noise is what the kernel cannot express, and without it deviations were too small."""
        known = self.posterior(encodings)
        return self.warp.inverse(known.mean, np.sqrt(known.variance + self.scale**2 * self.noise))

    def warped(self, values: ArrayLike) -> Floats:
        """The warped metric of ``values`` ``[n]``: no better or worse, and what the process is a Gaussian of."""
        return self.warp(np.asarray(values, dtype=np.float64))

    def posterior(self, encodings: ArrayLike) -> Posterior:
        """What is known of the warped metric at ``encodings`` ``[n, d]``, without noise."""
        rows = self.features(np.asarray(encodings, dtype=np.float64))
        cross = _kernel(rows, self.x, *self.kernel)
        solved = cross @ self.inverse
        prior = self.kernel[0] * (rows**2).sum(axis=1) + (1 - self.kernel[0])
        variance = np.clip(prior - np.einsum("ij,ij->i", solved, cross), 1e-12, None)
        return Posterior(self.mean + cross @ self.weights, self.scale**2 * variance, self, rows, solved)


@dataclass(frozen=True)
class Posterior:
    """``mean`` ``[n]`` and ``variance`` ``[n]`` of a process's warped metric at some encodings."""

    mean: Floats
    variance: Floats
    process: GaussianProcess
    rows: Floats
    solved: Floats

    def covariance(self, place: int) -> Floats:
        """Covariance ``[n]`` of each with that at ``place``."""
        one = self.rows[place : place + 1]
        seen = self.solved @ _kernel(self.process.x, one, *self.process.kernel)
        shared = _kernel(self.rows, one, *self.process.kernel) - seen
        return np.asarray(self.process.scale**2 * shared[:, 0])


def fit_gaussian_process(encodings: ArrayLike, values: ArrayLike, *, among: ArrayLike = ()) -> GaussianProcess:
    """Choose warp, kernel and noise by the leave-one-out predictive likelihood, in closed form. O(n³) a kernel.

    ``among``: other values that the process will be asked to warp, where ``values`` are means of some of them.
    """
    x, y = _checked(encodings, values)
    features = _Features.of(x)
    rows, n = features(x), len(y)
    if np.ptp(y) == 0 or features.power == 0:  # nothing to learn: the mean, with what spread there is
        empty = np.zeros((n, n))
        return GaussianProcess(
            features, rows, empty[0], empty, (1.0, 1.0), _Warp(), float(y.mean()), float(y.std()), 1.0, float("nan")
        )
    warps = _warps(y, np.concatenate([y, np.asarray(among, dtype=np.float64)]))
    targets = np.stack([warp(y) for warp in warps], axis=1)
    centres = targets.mean(axis=0)
    slopes = np.array([warp.log_slope(y) for warp in warps])
    best, fitted = -np.inf, None
    for kernel in KERNELS:
        power, basis = np.linalg.eigh(_kernel(rows, rows, *kernel))
        projected = basis.T @ (targets - centres)
        for noise in NOISES:
            damped = 1 / (np.clip(power, 0, None) + noise)
            weights = basis @ (damped[:, None] * projected)  # [n, warps]
            precision = ((basis**2) @ damped)[:, None]  # the diagonal of the inverse
            scale = np.sqrt((weights**2 / precision).mean(axis=0)) + 1e-300
            likelihood = 0.5 * np.log(precision).mean() - np.log(scale) + slopes
            j = int(np.argmax(likelihood))
            if likelihood[j] > best:
                best = likelihood[j]
                fitted = (kernel, noise, damped, basis, weights[:, j], precision[:, 0], scale[j], j)
    assert fitted is not None
    kernel, noise, damped, basis, weight, precision, scale, j = fitted
    tau = kendall(targets[:, j], targets[:, j] - weight / precision)  # leave-one-out predictions
    return GaussianProcess(
        features,
        rows,
        weight,
        (basis * damped) @ basis.T,
        kernel,
        warps[j],
        float(centres[j]),
        float(scale),
        noise,
        tau,
        float(best),
    )


@dataclass(frozen=True)
class Trees:
    """Gradient-boosted regression trees (scikit-learn); the deviation is that of held-out residuals, one for all."""

    model: object
    residual: float
    tau: float
    name: str = "boosted trees"

    def predict(self, encodings: ArrayLike) -> tuple[Floats, Floats]:
        """See :meth:`Predictor.predict`."""
        x = np.asarray(encodings, dtype=np.float64)
        if not len(x):  # which scikit-learn refuses
            return np.zeros(0), np.zeros(0)
        mean = np.asarray(self.model.predict(x), dtype=np.float64)  # type: ignore[attr-defined]
        return mean, np.full(len(x), self.residual)


def fit_trees(encodings: ArrayLike, values: ArrayLike, *, seed: int = 0, folds: int = 5) -> Trees:
    """Fit boosted trees; held-out predictions come from ``folds``-fold cross-validation."""
    from sklearn.ensemble import GradientBoostingRegressor
    from sklearn.model_selection import KFold, cross_val_predict

    x, y = _checked(encodings, values)
    model = GradientBoostingRegressor(
        n_estimators=100, max_depth=4, learning_rate=0.1, subsample=0.7, max_features=0.5, random_state=seed
    )
    held_out = cross_val_predict(model, x, y, cv=KFold(folds, shuffle=True, random_state=seed))
    return Trees(model.fit(x, y), float(np.sqrt(((held_out - y) ** 2).mean())), kendall(y, held_out))


def kendall(a: ArrayLike, b: ArrayLike) -> float:
    """Kendall's tau-b of two value lists ``[n]``; NaN when either is constant or has fewer than two entries."""
    from scipy.stats import kendalltau

    x, y = np.asarray(a, dtype=np.float64), np.asarray(b, dtype=np.float64)
    if x.shape != y.shape or x.ndim != 1:
        raise InputError(f"Kendall's tau needs two lists of one length, not {x.shape} and {y.shape}")
    if len(x) < 2:
        return float("nan")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return float(kendalltau(x, y).statistic)
