"""``scale(network, factor)``: the network that has so many times the multiply-accumulates, counted, not estimated."""

from __future__ import annotations

import difflib
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import cache, partial

from sartor.errors import InputError
from sartor.measure.counts import Counts, counts
from sartor.measure.scaling.rules import RULES, Factors, Rule
from sartor.models.scalable import Scalable, Sizes

WITHIN = 0.05
FURTHEST = 1000.0
"""Factors beyond this, or below its inverse, are mistyped."""
TRIALS = 10
"""Of a rule with other factors than the one asked for."""
SPREAD = 2.0
"""How far off those may be, as a logarithm."""
SMALLEST = 8
"""Pixels a side: what the smallest spaces here have."""


@dataclass(frozen=True)
class Scaled:
    """``network`` has ``factor`` times the ``macs`` of the one it was made of; ``by`` is what became of its depth (all
    blocks), its widths (geometric mean) and its resolution."""

    network: Scalable
    macs: int
    factor: float
    by: Factors


def scale(network: Scalable, factor: float, rule: str | Rule = "fast", *, within: float = WITHIN) -> Scaled:
    """``network`` with ``factor`` times its multiply-accumulates, at most ``within`` of it off, by a rule of ``RULES``
    or by one of your own.

    Blocks, widths and pixels come in steps, and the first and the last layer do not grow as formulas say. So the rule
    is asked for more or less, until what it makes counts what it should; then single stages take a step more or less,
    in what the rule changes; then widths do, whatever the rule, in steps that become finer down to one channel.
    Deviation: the papers round once, and what comes out is off by what it is.

    Raises InputError for a factor that is not a number between 1/1000 and 1000, for unknown rules and rules that give
    no such numbers, and where nothing comes near enough: it names the nearest.
    """
    if not math.isfinite(factor) or not 1 / FURTHEST <= factor <= FURTHEST:
        raise InputError(f"networks scale by a factor between {1 / FURTHEST:g} and {FURTHEST:g}, not {factor:g}")
    if not 0 < within < 1:
        raise InputError(f"within is a share between 0 and 1, not {within}")
    asked = _checked(_rule(rule))

    @cache
    def macs(sizes: Sizes) -> int:
        scaled = network.of(sizes)
        return counts(scaled.outline(), scaled.input_shape).macs

    base = macs(network.sizes)
    if not base:
        raise InputError("this network has no multiply-accumulates to scale")

    def off(sizes: Sizes) -> float:
        """The logarithm of what it has over what it should have."""
        return math.log(max(1, macs(sizes)) / base / factor)

    close = math.log1p(within) * 0.999  # the smaller of the two sides, and not its edge
    best = _along(network, asked, factor, off, close)
    best = _stepped(best, off, close, partial(_steps, moved=_moved(asked(factor)), network=network))
    by = network.round_to
    while by and abs(off(best)) > close:
        best = _stepped(best, off, close, partial(_steps, moved={"width"}, network=replace(network, round_to=by)))
        by //= 2
    reached = macs(best) / base
    if abs(reached / factor - 1) > within:
        raise InputError(
            f"this network cannot be scaled to {factor:g} times its multiply-accumulates: the nearest is {reached:.3g} "
            "times; take that, or another rule"
        )
    made = network.of(best)
    return Scaled(made, macs(best), reached, _factors(network.sizes, made.sizes))


def activations(counted: Counts) -> int:
    """Values that convolutions and matrix products write: what P396 calls activations (arXiv:2103.06877 §3.1)."""
    return sum(math.prod(layer.output_shape) for layer in counted.layers if layer.macs)


def _rule(rule: str | Rule) -> Rule:
    if callable(rule):
        return rule
    if rule not in RULES:
        near = difflib.get_close_matches(rule, RULES, n=1)
        raise InputError(f"no rule is called {rule!r}: " + (f"did you mean {near[0]}?" if near else ", ".join(RULES)))
    return RULES[rule]


def _checked(rule: Rule) -> Rule:
    """``rule``, which may be anybody's: with InputError for what is no factor."""
    most = FURTHEST * math.exp(SPREAD)

    def checked(s: float) -> Factors:
        by = rule(s)
        if not isinstance(by, Factors):
            raise InputError(f"a rule gives Factors(depth, width, resolution), not {by!r}")
        for name, value in vars(by).items():
            if not isinstance(value, (int, float)) or not 1 / most < value < most:  # never true of NaN
                raise InputError(
                    f"the rule gives {value!r} times the {name} for {s:.3g} times the multiply-accumulates: factors "
                    f"are numbers between {1 / most:.1g} and {most:.1g}"
                )
        return by

    return checked


def _along(network: Scalable, rule: Rule, factor: float, off: Callable[[Sizes], float], close: float) -> Sizes:
    """The nearest of what the rule makes of other factors. Counts rise with them, about as fast: the next to try is as
    much larger as the last was too small, and lies between those that were too small and too large."""
    asked = math.log(factor)
    low, high = asked - SPREAD, asked + SPREAD
    best, middle = None, asked
    for _ in range(TRIALS):
        sizes = _sized(network, rule(math.exp(middle)))
        error = off(sizes)
        if best is None or abs(error) < abs(off(best)):
            best = sizes
        if abs(error) <= close:
            break
        low, high = (middle, high) if error < 0 else (low, middle)
        middle = middle - error if low < middle - error < high else (low + high) / 2
    assert best is not None
    return best


def _sized(network: Scalable, by: Factors) -> Sizes:
    start = network.sizes
    return Sizes(
        tuple(max(1, round(depth * by.depth)) for depth in start.depths),
        tuple(_multiple(width, by.width, network.round_to, 1) for width in start.widths),
        _multiple(start.resolution, by.resolution, network.pixels, SMALLEST),
    )


def _multiple(size: int, factor: float, of: int, least: int) -> int:
    """``size`` where nothing changes, also one that is no multiple."""
    return size if factor == 1 else max(of, least, round(size * factor / of) * of)


def _moved(by: Factors) -> set[str]:
    return {name for name in ("depth", "width", "resolution") if getattr(by, name) != 1}


def _steps(sizes: Sizes, sign: int, *, moved: set[str], network: Scalable) -> Iterator[Sizes]:
    """One stage deeper, wider, or finer images; with the sign -1, the other way."""
    if "depth" in moved:
        for depths in _changed(sizes.depths, sign):
            yield replace(sizes, depths=depths)
    if "width" in moved:
        for widths in _changed(sizes.widths, sign * network.round_to):
            yield replace(sizes, widths=widths)
    if "resolution" in moved and sizes.resolution + sign * network.pixels >= SMALLEST:
        yield replace(sizes, resolution=sizes.resolution + sign * network.pixels)


def _changed(numbers: tuple[int, ...], by: int) -> Iterator[tuple[int, ...]]:
    for i, number in enumerate(numbers):
        if number + by >= 1:
            yield (*numbers[:i], number + by, *numbers[i + 1 :])


def _stepped(
    sizes: Sizes, off: Callable[[Sizes], float], close: float, steps: Callable[[Sizes, int], Iterator[Sizes]]
) -> Sizes:
    """The best step again and again, until it is close enough or none helps."""
    while abs(off(sizes)) > close:
        ways = steps(sizes, 1 if off(sizes) < 0 else -1)
        nearest = min(ways, key=lambda step: abs(off(step)), default=sizes)
        if abs(off(nearest)) >= abs(off(sizes)):
            break
        sizes = nearest
    return sizes


def _factors(before: Sizes, after: Sizes) -> Factors:
    wider = [math.log(b / a) for a, b in zip(before.widths, after.widths, strict=True)]
    return Factors(after.depth / before.depth, math.exp(sum(wider) / len(wider)), after.resolution / before.resolution)
