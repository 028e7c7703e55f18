"""What was measured, as the sections of the page read it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import PurePath
from typing import Any

from sartor.measure.layers.layer import Layer, Roof
from sartor.report.axes import Figure

BOUNDS: Mapping[str, tuple[str, str]] = {
    "compute": ("fp32", "circle"),
    "memory": ("int8", "diamond"),
    "overhead": ("other", "square"),
}
"""What bounds a layer → the page's colour (a CSS class and variable) and the symbol in charts."""

_LAYER, _ROOF = (frozenset(made.__dataclass_fields__) for made in (Layer, Roof))


@dataclass(frozen=True)
class Told:
    """``found``: the object that ``sartor measure --json`` prints."""

    found: Mapping[str, Any]

    @property
    def model(self) -> str:
        return str(self.found["model"])

    @property
    def name(self) -> str:
        """Short enough for charts: without folders or the zoo's prefix."""
        return PurePath(self.model).name.removeprefix("timm:") or self.model

    @cached_property
    def layers(self) -> tuple[Layer, ...]:
        """Empty where nothing was timed layer by layer."""
        entries = self.found.get("layers") or ()
        known = [{key: value for key, value in entry.items() if key in _LAYER} for entry in entries]
        return tuple(Layer(**{**entry, "output_shape": tuple(entry["output_shape"])}) for entry in known)

    @cached_property
    def roof(self) -> Roof | None:
        entry = self.found.get("roof")
        return Roof(**{key: value for key, value in entry.items() if key in _ROOF}) if entry else None

    @property
    def batch(self) -> int:
        """Examples of a timed call. Counts and layers are of one."""
        return int(self.found.get("batch", 1))

    @property
    def example_ms(self) -> float:
        return float(self.found["latency_ms"]) / self.batch

    @property
    def predicted(self) -> bool:
        return "known" in self.found

    @property
    def calculated(self) -> bool:
        """By a model of the machine, so that it is the same each time."""
        return (self.found.get("timing") or {}).get("source") == "simulated"

    @cached_property
    def layers_ms(self) -> float:
        return sum(layer.time_ms for layer in self.layers)

    @cached_property
    def least_ms(self) -> float:
        """All layers at the roof."""
        return sum(layer.least_ms for layer in self.layers)

    @cached_property
    def arithmetic_ms(self) -> float:
        """The multiply-accumulates alone, each at the peak of its bits: the ideal latency of arXiv 2404.03617."""
        return 1e3 * sum(layer.macs / self.roof.peak(layer.bits) for layer in self.layers) if self.roof else 0.0

    @property
    def efficiency(self) -> float:
        """Of the peak, over the layers' time: the waterline."""
        return self.arithmetic_ms / self.layers_ms if self.layers_ms else 0.0

    def times(self, of: Callable[[Layer], str]) -> dict[str, float]:
        """Milliseconds by whatever ``of`` tells of a layer, most first."""
        found: dict[str, float] = {}
        for layer in self.layers:
            found[of(layer)] = found.get(of(layer), 0.0) + layer.time_ms
        return dict(sorted(found.items(), key=lambda item: -item[1]))


def kind(layer: Layer) -> str:
    """The operator that gives a layer its name, without what runs inside the same kernel."""
    return layer.operator.partition("+")[0]


@dataclass
class Drawn:
    """The figures that the sections of a page asked for."""

    figures: dict[str, Figure]

    def switched(self, place: str, label: str, figures: Mapping[str, tuple[str, Figure]], css: str = "") -> str:
        """A chart that shows one of ``figures`` (name → button, figure), with buttons where there are several."""
        from sartor.report.page import chart, switch

        self.figures |= {name: figure for name, (_, figure) in figures.items()}
        buttons = switch(place, label, {name: text for name, (text, _) in figures.items()}) if len(figures) > 1 else ""
        without = "<p class=quiet>The chart needs JavaScript; the table of layers has its numbers.</p>"
        return buttons + chart(place, next(iter(figures)), css, without)
