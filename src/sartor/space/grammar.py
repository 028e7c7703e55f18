"""Context-free grammars as spaces: what needs no types."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from sartor.errors import InputError
from sartor.records import Option
from sartor.space.chart import Done, Made, Part, Rule, Sort
from sartor.space.derivation import Derivations


@dataclass(frozen=True)
class Production:
    """A way to derive a symbol: ``option`` in an arch, then the symbols of its ``parts`` in order, drawn in proportion
    to ``weight``: ``Production("seq", ("module", "module"), 2.0)``."""

    option: Option
    parts: tuple[str, ...] = ()
    weight: float = 1.0


def grammar(productions: Mapping[str, Sequence[Production]], *, start: str, height: int) -> Derivations:
    """The derivations of ``start``, at most ``height`` places tall. Parts are labelled by their numbers.

    Raises InputError for symbols that have no production, weights that are not positive, and where nothing can be
    derived within the height.
    """
    for symbol, mine in productions.items():
        for production in mine:
            unknown = [part for part in production.parts if part not in productions]
            if unknown:
                raise InputError(f"{symbol} → {production.option}: no production derives {', '.join(unknown)}")
            if not 0 < production.weight < float("inf"):
                raise InputError(f"{symbol} → {production.option}: weight {production.weight} must be positive")
    if start not in productions:
        raise InputError(f"no production derives {start!r}: start from one of {', '.join(productions)}")

    def rules(sort: Sort) -> tuple[Rule, ...]:
        return tuple(plain(p.option, p.parts, p.weight) for p in productions[str(sort)])

    return Derivations((), start, rules, height)


def plain(option: Option, parts: Sequence[Sort], weight: float = 1.0) -> Rule:
    """A rule whose parts do not depend on each other."""

    def after(made: Made) -> Part | Done:
        return Part(str(len(made)), parts[len(made)]) if len(made) < len(parts) else Done()

    return Rule(option, after, weight)
