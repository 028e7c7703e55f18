"""Layers in a row, as many as there may be, each with the same choices."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from sartor.errors import InputError
from sartor.records import Arch, Option
from sartor.space.choice import Choice
from sartor.space.space import Space

DEPTH = "depth"

CONVOLUTIONS = (
    Choice("op", ("separable", "conv")),
    Choice("kernel", (1, 3, 5)),
    Choice("width", (4, 6, 8, 12, 16, 24, 32)),
    Choice("stride", (1, 2)),
)
"""What :func:`sartor.models.layers.build_layers` makes a layer of."""

Layer = Mapping[str, Option]
"""A layer's options, by the names of ``attributes``."""


@dataclass(frozen=True)
class Layers(Space):
    """``depth`` layers, and for each of them an option of each of ``attributes``: ``layer0.width`` and so on. Layers
    can be put in, taken out and changed: an arch is their list. Made by :func:`layers_space`."""

    attributes: tuple[Choice, ...] = ()

    @property
    def most(self) -> int:
        """The layers of the deepest arch."""
        return int(self.choices[0].options[-1])

    def layers(self, arch: Arch) -> list[dict[str, Option]]:
        """The layers of ``arch``, from the input on."""
        return [{a.name: arch[f"layer{i}.{a.name}"] for a in self.attributes} for i in range(int(arch[DEPTH]))]

    def arch_of(self, layers: Sequence[Layer]) -> Arch:
        """The arch that has ``layers``. Raises InputError where there are too few or too many of them, or one has not
        every attribute."""
        held: dict[str, Option] = {DEPTH: len(layers)}
        for i, layer in enumerate(layers):
            held |= {f"layer{i}.{name}": option for name, option in layer.items()}
        return self.canonical(held)


def layers_space(most: int, attributes: Sequence[Choice] = CONVOLUTIONS) -> Layers:
    """One to ``most`` layers. Raises InputError for fewer than one, and for attributes that have conditions."""
    if most < 1:
        raise InputError(f"a network needs at least one layer, not {most}")
    if any(a.when is not None for a in attributes) or not attributes:
        raise InputError("a layer's attributes are choices without conditions, and at least one")
    choices = [Choice(DEPTH, tuple(range(1, most + 1)))]
    for i in range(most):
        when = (DEPTH, tuple(range(i + 1, most + 1))) if i else None
        choices += [Choice(f"layer{i}.{a.name}", a.options, when) for a in attributes]
    return Layers(tuple(choices), tuple(attributes))
