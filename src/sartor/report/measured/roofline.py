"""Layers under the machine's roof: how much arithmetic for each byte, and how fast.

Source: Williams et al., Roofline, CACM 52(4), 2009. A rate is of multiply-accumulates, as everywhere in Sartor; the two
sides of the roof are what this target reached on files of its own, not what a data sheet promises.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from sartor.measure.layers.layer import Layer, Roof
from sartor.report import units
from sartor.report.axes import INK, MUTED, PAPER, Figure, layout_of, log_axis_of, text_of
from sartor.report.measured.told import BOUNDS, Drawn, Told
from sartor.report.page import section

_LEAST_SIZE, _MOST_SIZE = 6.0, 34.0
_NAMED = 4
_APART = 0.06
"""Names nearer than this share of the chart's width and height would lie on each other."""


def roofline(told: Told, drawn: Drawn, place: str = "roofline") -> str:
    """The section; empty where no roof was measured or no layer multiplies."""
    figure = roofline_figure(told.layers, told.roof) if told.roof else None
    if figure is None:
        return ""
    return section(place, "Under the machine's roof", *roofline_parts({told.name: told}, drawn, place))


def roofline_parts(models: dict[str, Told], drawn: Drawn, place: str) -> list[str]:
    """Text and chart of one network or, with buttons, of several."""
    figures = {}
    for number, (name, told) in enumerate(models.items()):
        figure = roofline_figure(told.layers, told.roof) if told.roof else None
        if figure is not None:
            figures[f"{place}-{number}"] = (name, figure)
    roof = next((told.roof for told in models.values() if told.roof), None)
    if not figures or roof is None:
        return []
    eight = f", {rate(roof.int8_macs_per_s)} on 8 bits" if roof.int8_macs_per_s else ""
    said = (
        f"<p>At most {rate(roof.peak_macs_per_s)}{eight}, and {units.size(roof.bytes_per_s)}/s: "
        f"{_source(models)}. "
        f"Below {units.significant(roof.ridge)} multiply-adds a byte a layer waits for memory, not for arithmetic.</p>"
    )
    without = "".join(_flat(told, name if len(models) > 1 else "") for name, told in models.items())
    caption = (
        f"<figcaption>One dot a layer, its area the layer's time. {without}Hover for numbers; drag to zoom. Dots above "
        "the slope had their bytes from a cache: the slope is that of arrays larger than any.</figcaption>"
    )
    chart = drawn.switched(place, "Network on the chart", figures, "tall")
    return [said, f"<figure>{chart}{caption}</figure>"]


def _source(models: dict[str, Told]) -> str:
    calculated = any(told.calculated for told in models.values())
    return "both as the target is modelled" if calculated else "both measured on this target with its threads"


def rate(macs_per_s: float) -> str:
    """``83.1 GMAC/s``."""
    return f"{units.count(macs_per_s)}MAC/s"


def macs_of(macs: float) -> str:
    """``1.81 G MAC``."""
    return f"{units.count(macs)} MAC"


def _flat(told: Told, name: str) -> str:
    """Of layers that multiply nothing: they have no place on the chart."""
    flat = [layer for layer in told.layers if not (layer.macs and layer.time_ms)]
    if not flat:
        return ""
    whose = f" of {text_of(name)}" if name else ""
    share = units.percent(sum(layer.share for layer in flat))
    count, are = (f"{len(flat)} layers", "are") if len(flat) > 1 else ("One layer", "is")
    return f"{count}{whose} without multiply-adds ({share} of the time) {are} not here. "


def roofline_figure(layers: Sequence[Layer], roof: Roof) -> Figure | None:
    """Rate over intensity, both logarithmic. None where no layer multiplies."""
    shown = [layer for layer in layers if layer.macs > 0 and layer.time_ms > 0 and layer.bytes > 0]
    if not shown:
        return None
    x = [layer.intensity for layer in shown]
    y = [reached(layer) for layer in shown]
    peak = roof.peak_macs_per_s / 1e9
    top = max(peak, (roof.int8_macs_per_s or 0) / 1e9)
    across = log_axis_of("multiply-adds a byte", [*x, roof.ridge / 2, roof.ridge * 4])
    up = log_axis_of("GMAC/s", [*y, top], showgrid=True)
    left, right = (10**end for end in across["range"])
    traces: list[Figure] = [_roof(roof, peak, left, right)]
    if roof.int8_macs_per_s:
        traces.append(_ceiling(roof.int8_macs_per_s, roof, right))
    for bound in BOUNDS:
        some = [layer for layer in shown if layer.bound == bound]
        if some:
            traces.append(_dots(bound, some, roof, shown))
    marks = [_label(math.log10(right), math.log10(peak), rate(roof.peak_macs_per_s), "right", "bottom")]
    slope = max(left, 10 ** up["range"][0] * 1e9 / roof.bytes_per_s)  # where the slope enters the chart
    here = slope * (min(roof.ridge, right) / slope) ** 0.3
    said = f"{units.size(roof.bytes_per_s)}/s"
    marks.append(_label(math.log10(here), math.log10(here * roof.bytes_per_s / 1e9), said, "right", "bottom"))
    marks += _names(shown, across["range"], up["range"])
    return {"data": traces, "layout": layout_of(xaxis=across, yaxis=up, annotations=marks)}


def reached(layer: Layer) -> float:
    """GMAC/s."""
    return layer.macs / layer.time_ms / 1e6


def hover(layer: Layer, roof: Roof | None) -> str:
    """A layer's numbers beside its mark."""
    lines = [
        f"<b>{text_of(layer.name)}</b> · {text_of(layer.operator)}",
        f"{units.ms(layer.time_ms)} ({units.percent(layer.share)}), bound by {text_of(layer.bound)}",
        f"at the roof {units.ms(layer.least_ms)}",
        f"{macs_of(layer.macs)}, {units.size(layer.bytes)}: {units.significant(layer.intensity)} MAC a byte",
    ]
    if roof and layer.time_ms:
        share = units.percent(reached(layer) * 1e9 / roof.peak(layer.bits))
        lines.append(f"{units.significant(reached(layer))} GMAC/s, {share} of the peak")
    return "<br>".join(lines)


def _roof(roof: Roof, peak: float, left: float, right: float) -> Figure:
    x = [left, roof.ridge, right] if left < roof.ridge < right else [left, right]
    return {
        "type": "scatter",
        "mode": "lines",
        "x": x,
        "y": [min(peak, at * roof.bytes_per_s / 1e9) for at in x],
        "line": {"color": INK, "width": 2},
        "hoverinfo": "skip",
        "showlegend": False,
    }


def _ceiling(int8: float, roof: Roof, right: float) -> Figure:
    start = int8 / roof.bytes_per_s
    x = [roof.ridge, min(start, right), right]
    return {
        "type": "scatter",
        "mode": "lines",
        "name": f"on 8 bits, {rate(int8)}",
        "x": x,
        "y": [min(int8, at * roof.bytes_per_s) / 1e9 for at in x],
        "line": {"color": MUTED, "width": 1.5, "dash": "dot"},
        "hoverinfo": "skip",
    }


def _dots(bound: str, layers: Sequence[Layer], roof: Roof, among: Sequence[Layer]) -> Figure:
    colour, symbol = BOUNDS[bound]
    return {
        "type": "scatter",
        "mode": "markers",
        "name": bound,
        "x": [float(f"{layer.intensity:.6g}") for layer in layers],
        "y": [float(f"{reached(layer):.6g}") for layer in layers],
        "marker": {
            "color": f"var(--{colour})",
            "symbol": symbol,
            "size": [_size(layer, among) for layer in layers],
            "sizemode": "diameter",
            "opacity": 0.62,
            "line": {"width": 1, "color": PAPER},
        },
        "text": [hover(layer, roof) for layer in layers],
        "hovertemplate": "%{text}<extra></extra>",
        "cliponaxis": False,
    }


def _size(layer: Layer, among: Sequence[Layer]) -> float:
    """Pixels across: the area is the time's share of the slowest one's."""
    return round(max(_LEAST_SIZE, _MOST_SIZE * math.sqrt(layer.time_ms / max(other.time_ms for other in among))), 1)


def _label(x: float, y: float, text: str, xanchor: str, yanchor: str) -> Figure:
    return {
        "x": x,
        "y": y,
        "text": text,
        "showarrow": False,
        "xanchor": xanchor,
        "yanchor": yanchor,
        "yshift": 3,
        "font": {"size": 12, "color": MUTED},
    }


def _names(layers: Sequence[Layer], across: Sequence[float], up: Sequence[float]) -> list[Figure]:
    """Of the slowest few, those whose names do not lie on each other."""
    marks: list[Figure] = []
    for layer in sorted(layers, key=lambda layer: -layer.time_ms)[: 2 * _NAMED]:
        x, y = math.log10(layer.intensity), math.log10(reached(layer))
        width, height = across[1] - across[0], up[1] - up[0]
        near = [m for m in marks if abs(m["y"] - y) < _APART * height and abs(m["x"] - x) < 4 * _APART * width]
        if near or len(marks) == _NAMED:
            continue
        mark = _label(x, y, text_of(layer.name), "center", "top")  # above it is the roof
        marks.append(mark | {"yshift": -0.5 * _size(layer, layers), "font": {"size": 11, "color": INK}})
    return marks
