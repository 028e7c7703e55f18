"""Searching the search space: ranges that move to where networks are better, also out of where they began.

Chen et al., S3, P254 (arXiv:2111.14725). :func:`sartor.search.shrinking.searched_space` drops options of one space by
the same quality; this makes other spaces, round by round.
"""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

import numpy as np

from sartor.errors import InputError
from sartor.records import Arch
from sartor.search.shrinking.et_error import et_error
from sartor.space.space import Space

Number: TypeAlias = int | float
Options: TypeAlias = Mapping[str, tuple[Number, ...]]
"""Dimension → what it ranges over."""
Errors: TypeAlias = Callable[[Arch], float]
"""An arch → its error, of weights that all archs of a space share."""


@dataclass(frozen=True)
class Dimension:
    """What a dimension ranges over at first, ``step`` apart, and how far it may move: ``least`` to ``most``."""

    options: tuple[Number, ...]
    least: Number
    most: Number

    def __post_init__(self) -> None:
        gaps = [b - a for a, b in zip(self.options, self.options[1:], strict=False)]
        if not gaps or min(gaps) <= 0 or not math.isclose(min(gaps), max(gaps)):
            raise InputError(f"a dimension needs two options at least, ascending in equal steps, not {self.options}")
        if self.least > self.options[0] or self.most < self.options[-1]:
            raise InputError(f"{self.options} does not lie between {self.least} and {self.most}")

    @property
    def step(self) -> Number:
        return self.options[1] - self.options[0]

    def moved(self, options: tuple[Number, ...], steps: int) -> tuple[Number, ...]:
        """``options``, ``steps`` up or (negative) down, as far as it may be."""
        up, down = (self.most - options[-1]) / self.step, (options[0] - self.least) / self.step
        steps = max(-math.floor(down + 1e-9), min(math.floor(up + 1e-9), steps))
        return tuple(_round(option + steps * self.step) for option in options)


@dataclass(frozen=True)
class Round:
    """A space, its E-T error, that of each option's subspace, the slope of the line through those (error a step), and
    the archs that were drawn from the whole space with their errors."""

    options: Options
    space: Space
    error: float
    subspaces: Mapping[str, tuple[float, ...]]
    slopes: Mapping[str, float]
    drawn: tuple[tuple[Arch, float], ...] = field(repr=False, default=())

    @property
    def best(self) -> tuple[Arch, float]:
        """The drawn arch with the lowest error."""
        return min(self.drawn, key=lambda pair: pair[1])


def s3(
    make: Callable[[Options], Space],
    dimensions: Mapping[str, Dimension],
    trained: Callable[[Space, int], Errors],
    *,
    rounds: int,
    tau: float,
    samples: int = 100,
    top: int = 10,
    furthest: int = 2,
    fits: Callable[[Arch], bool] = lambda arch: True,
    seed: int = 0,
    on_round: Callable[[Round], None] | None = None,
) -> list[Round]:
    """Spaces, round by round: ``make(options)`` is the space in which each dimension has these options, and
    ``trained(space, round)`` trains what serves all its archs and says their errors.

    The quality of a space is its E-T error, of ``samples`` drawn archs that fit: the mean of the mean and of the mean
    of the ``top`` lowest. For each dimension the space is parted by its options, a line is fitted to the qualities of
    the parts, and the range moves against its slope by as many steps as whole ``tau`` are in it, at most ``furthest``.
    It ends when nothing moves. All of ``rounds`` spaces are trained and told; the last is not moved from.

    Source: arXiv:2111.14725 §3.2 (E-T error; s ← s - ⌊Δ / τ⌋ γ, with γ a step of the dimension). Deviations: towards
    zero where the paper rounds down, so that up and down are alike; ``furthest``, because a line says little far out.

    Raises InputError for settings that make no sense, and where too few archs fit.
    """
    if rounds < 1 or samples < 1 or top < 1 or furthest < 1 or not tau > 0:
        raise InputError("rounds, samples, top, furthest and tau must be positive")
    if not dimensions:
        raise InputError("a space to be searched needs a dimension that can move")
    options: Options = {name: dimension.options for name, dimension in dimensions.items()}
    found: list[Round] = []
    for number in range(rounds):
        rng = random.Random(f"{seed}:{number}")
        errors = trained(make(options), number)
        this = _judged(make, options, errors, samples, top, fits, rng)
        found.append(this)
        if on_round is not None:
            on_round(this)
        steps = {name: _steps(this.slopes[name], tau, furthest) for name in options}
        moved = {name: dimensions[name].moved(held, steps[name]) for name, held in options.items()}
        if moved == options:
            break
        options = moved
    return found


def _judged(
    make: Callable[[Options], Space],
    options: Options,
    errors: Errors,
    samples: int,
    top: int,
    fits: Callable[[Arch], bool],
    rng: random.Random,
) -> Round:
    known: dict[Arch, float] = {}

    def drawn(space: Space) -> list[tuple[Arch, float]]:
        archs = drawn_that_fit(space, samples, fits, rng)
        for arch in archs:
            if arch not in known:
                known[arch] = errors(arch)
        return [(arch, known[arch]) for arch in archs]

    space = make(options)
    whole = drawn(space)
    if not whole:
        raise InputError("no arch of the space fits: allow more, or begin with smaller ranges")
    subspaces: dict[str, tuple[float, ...]] = {}
    for name, held in options.items():
        parts = [drawn(make({**options, name: (option,)})) for option in held]
        subspaces[name] = tuple(et_error([e for _, e in part], top) if part else math.nan for part in parts)
    slopes = {name: slope(values) for name, values in subspaces.items()}
    return Round(options, space, et_error([e for _, e in whole], top), subspaces, slopes, tuple(whole))


def drawn_that_fit(
    space: Space, samples: int, fits: Callable[[Arch], bool], rng: random.Random, patience: int = 50
) -> list[Arch]:
    """Up to ``samples`` archs, drawn until they fit; fewer where ``patience`` draws for each are not enough."""
    found: list[Arch] = []
    for _ in range(samples * patience):
        if len(found) == samples:
            break
        arch = space.sample(rng)
        if fits(arch):
            found.append(arch)
    return found


def slope(values: Sequence[float]) -> float:
    """Of the line fitted to ``values`` over 0, 1, ...; without those that are NaN, and 0 where fewer than two are
    left."""
    places = [i for i, value in enumerate(values) if math.isfinite(value)]
    if len(places) < 2:
        return 0.0
    return float(np.polyfit(places, [values[i] for i in places], 1)[0])


def _steps(slope: float, tau: float, furthest: int) -> int:
    """Against the slope."""
    return max(-furthest, min(furthest, -math.trunc(slope / tau)))


def _round(value: Number) -> Number:
    """Without what adding steps left behind the last digit that counts."""
    return value if isinstance(value, int) else round(value, 9)
