"""One named decision with a finite, ordered set of options."""

from __future__ import annotations

import math
from dataclasses import dataclass

from sartor.errors import InputError
from sartor.records import Option


@dataclass(frozen=True)
class Choice:
    """A decision: ``Choice("s0.width", (16, 32, 64))``. Options are ordered small to large where they have a size.

    ``when=("s0.op", ("fused", "mbconv"))`` makes it conditional: the choice is active, and present in an arch, only
    where that other choice is active and has one of those options.
    """

    name: str
    options: tuple[Option, ...]
    when: tuple[str, tuple[Option, ...]] | None = None

    def __post_init__(self) -> None:
        plain = tuple(o.item() if hasattr(o, "item") and not getattr(o, "shape", ()) else o for o in self.options)
        object.__setattr__(self, "options", plain)  # numpy's numbers are others than what their JSON is read as
        for option in plain:
            if type(option) not in (str, int, float, bool) or (isinstance(option, float) and not math.isfinite(option)):
                raise InputError(
                    f"choice {self.name!r}: {option!r} is no text, finite number or boolean: name it by one"
                )
        if not self.options:
            raise InputError(f"choice {self.name!r} has no options: give at least one")
        if len(set(self.options)) != len(self.options):
            raise InputError(f"choice {self.name!r} has an option twice: {self.options}")

    @property
    def ordered(self) -> bool:
        """Whether the options are numbers, ascending: of three in a row, the middle one is between the others."""
        numbers = [o for o in self.options if isinstance(o, (int, float)) and not isinstance(o, bool)]
        return len(numbers) == len(self.options) and numbers == sorted(numbers)
