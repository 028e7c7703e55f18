"""The layers of two networks, matched by name."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

from sartor.measure.layers.layer import Layer


@dataclass(frozen=True)
class Pair:
    """A layer in one network and that of the same name in another; None where one has none."""

    name: str
    before: Layer | None
    after: Layer | None

    @property
    def both(self) -> bool:
        return self.before is not None and self.after is not None

    @property
    def change_ms(self) -> float:
        return (self.after.time_ms if self.after else 0.0) - (self.before.time_ms if self.before else 0.0)


def matched(before: Sequence[Layer], after: Sequence[Layer]) -> tuple[Pair, ...]:
    """Every layer of both, once: in the order of ``before``, then those that only ``after`` has.

    Two are the same where their names are: where the weights live is what cutting, quantising and training leave as it
    was. Layers of one name are matched in their order.
    """
    first, second = _keyed(before), _keyed(after)
    names = dict.fromkeys([*first, *second])
    return tuple(Pair(key[0], first.get(key), second.get(key)) for key in names)


def _keyed(layers: Sequence[Layer]) -> dict[tuple[str, int], Layer]:
    seen: Counter[str] = Counter()
    found = {}
    for layer in layers:
        found[layer.name, seen[layer.name]] = layer
        seen[layer.name] += 1
    return found
