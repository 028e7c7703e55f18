"""Where the time goes: layers' times stacked by operator or by what bounds them, one bar a network."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from sartor.measure.layers.layer import Layer
from sartor.report import units
from sartor.report.axes import PAPER, Figure, axis_of, layout_of, text_of
from sartor.report.charts import CURVE_COLOURS
from sartor.report.measured.told import BOUNDS, Drawn, Told, kind
from sartor.report.page import section

_MOST = len(CURVE_COLOURS)
REST = "the rest"
_LOOK = {
    "legend": {**layout_of()["legend"], "traceorder": "normal"},
    "uniformtext": {"minsize": 10, "mode": "hide"},
}


def times(models: Mapping[str, Told], drawn: Drawn) -> str:
    """The section; empty where nothing was timed layer by layer."""
    timed = {name: told for name, told in models.items() if told.layers_ms}
    if not timed:
        return ""
    figures = {
        "times-operator": ("by operator", stacked(timed, _few(timed), _colours(timed))),
        "times-bound": ("by what bounds it", stacked(timed, lambda layer: layer.bound, _bounds())),
    }
    css = "slim" if len(timed) == 1 else "low" if len(timed) < 4 else ""
    return section("time", "Where the time goes", drawn.switched("times", "Stacked by", figures, css))


def _few(models: Mapping[str, Told]) -> Callable[[Layer], str]:
    """The operators that take most, the others together."""
    names = set(_largest(models))
    return lambda layer: kind(layer) if kind(layer) in names else REST


def _largest(models: Mapping[str, Told]) -> list[str]:
    total: dict[str, float] = {}
    for told in models.values():
        for name, ms in told.times(kind).items():
            total[name] = total.get(name, 0.0) + ms / told.layers_ms
    return sorted(total, key=lambda name: -total[name])[:_MOST]


def _colours(models: Mapping[str, Told]) -> dict[str, str]:
    return {**dict(zip(_largest(models), CURVE_COLOURS, strict=False)), REST: "var(--muted)"}


def _bounds() -> dict[str, str]:
    return {bound: f"var(--{colour})" for bound, (colour, _) in BOUNDS.items()}


def stacked(models: Mapping[str, Told], of: Callable[[Layer], str], colours: Mapping[str, str]) -> Figure:
    """Horizontal bars, the first network on top; ``colours`` names the parts in their order."""
    traces = []
    sums = {name: told.times(of) for name, told in models.items()}
    for part, colour in colours.items():
        values = [found.get(part, 0.0) for found in sums.values()]
        if any(values):
            shares = [ms / told.layers_ms for ms, told in zip(values, models.values(), strict=True)]
            traces.append(
                {
                    "type": "bar",
                    "orientation": "h",
                    "name": text_of(part),
                    "x": [float(f"{ms:.6g}") for ms in values],
                    "y": [text_of(name) for name in models],
                    "marker": {"color": colour, "opacity": 0.85, "line": {"width": 1, "color": PAPER}},
                    "text": [units.ms(ms) if share > 0.06 else "" for ms, share in zip(values, shares, strict=True)],
                    "textposition": "inside",
                    "textangle": 0,
                    "insidetextanchor": "middle",
                    "textfont": {"color": PAPER, "size": 12},
                    "customdata": [
                        f"{text_of(part)}: {units.ms(ms)}, {units.percent(share)} of the layers"
                        for ms, share in zip(values, shares, strict=True)
                    ],
                    "hovertemplate": "%{customdata}<extra></extra>",
                }
            )
    across, up = axis_of("milliseconds", rangemode="tozero"), axis_of(None, autorange="reversed", showgrid=False)
    return {"data": traces, "layout": layout_of(xaxis=across, yaxis=up, barmode="stack", bargap=0.35, **_LOOK)}
