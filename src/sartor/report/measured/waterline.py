"""Efficiency layer by layer, its level, and the gap between what a network takes and what it might.

Source: Lavin, On the Efficiency of Convolutional Neural Networks, arXiv 2404.03617, which relates latency and
arithmetic by ``latency = operations / (peak x efficiency)`` and draws efficiency gaps and waterlines; how they are laid
out is ours. A layer is a bar as wide as its time and as high as its efficiency, so that its area is its arithmetic;
poured level, the bars stand at the waterline, the network's efficiency. What is below it pulls it down. Drawn over
operations, the other button, the layers that multiply nothing have no width. The outlines are what the roof would let
each layer reach.
"""

from __future__ import annotations

from html import escape
from itertools import accumulate

from sartor.report import units
from sartor.report.axes import INK, MUTED, PAPER, Figure, axis_of, layout_of
from sartor.report.measured.roofline import hover, macs_of, rate
from sartor.report.measured.told import BOUNDS, Drawn, Told
from sartor.report.page import section, table

_WORST = 6
_APART = 0.1
"""Share by which the layers' sum may differ from the whole network; beyond it the machine changed."""


def waterline(told: Told, drawn: Drawn) -> str:
    """The section; empty where no roof was measured."""
    if not (told.roof and told.layers_ms and told.arithmetic_ms):
        return ""
    return section("efficiency", "How efficient it is", *waterline_parts({told.name: told}, drawn), _worst(told))


def waterline_parts(models: dict[str, Told], drawn: Drawn) -> list[str]:
    """Text, gap and chart of one network or, with buttons, of several."""
    models = {name: told for name, told in models.items() if told.roof and told.layers_ms and told.arithmetic_ms}
    if not models:
        return []
    figures = {}
    for number, (name, told) in enumerate(models.items()):
        whose = f"{name}, " if len(models) > 1 else ""
        figures[f"waterline-{number}"] = (f"{whose}over time", waterline_figure(told))
        figures[f"waterline-{number}-macs"] = (f"{whose}over operations", waterline_figure(told, over_time=False))
    said = "".join(_formula(told, name if len(models) > 1 else "") for name, told in models.items())
    chart = drawn.switched("waterline", "What the chart runs over", figures, "tall")
    caption = (
        "<figcaption>One bar a layer, in the order they run: as wide as it takes, as high as it is efficient, so its "
        "area is its multiply-adds. The outline is what the roof allows; the dashed waterline is the level of the "
        "whole, and bars below it pull it down.</figcaption>"
    )
    return [said, gap_bars(models), f"<figure>{chart}{caption}</figure>"]


def _formula(told: Told, name: str) -> str:
    assert told.roof
    whose = f"<b>{escape(name)}</b>: " if name else ""
    bits = {layer.bits for layer in told.layers if layer.macs}
    macs = macs_of(sum(layer.macs for layer in told.layers))
    reached = units.percent(told.efficiency)
    if len(bits) == 1:
        formula = f"{macs} / ({rate(told.roof.peak(*bits))} × {reached})"
    else:  # of fp32 and of 8 bits, which have peaks of their own
        formula = f"{macs}, {units.ms(told.arithmetic_ms)} at the peaks of their bits, / {reached}"
    return f"<p>{whose}{formula} = {units.ms(told.layers_ms)}, the sum of the layers; {_whole(told)}</p>"


def _whole(told: Told) -> str:
    if told.batch > 1:
        return f"a call of {told.batch} examples takes {units.ms(told.found['latency_ms'])}."
    apart = told.layers_ms / told.found["latency_ms"] if told.found["latency_ms"] else 1.0
    changed = " They were measured one after the other, on a machine that changed."
    doubt = changed if abs(apart - 1) > _APART else ""
    return f"the whole network takes {units.ms(told.found['latency_ms'])}.{doubt}"


def gap_bars(models: dict[str, Told]) -> str:
    """The efficiency gap: each network's arithmetic at the peak, its layers at the roof, and what it takes."""
    most = max(max(told.layers_ms, told.least_ms) for told in models.values())
    lines = []
    for name, told in models.items():
        rows = (
            ("arithmetic at the peak", told.arithmetic_ms),
            ("every layer at the roof", told.least_ms),
            ("as it runs", told.layers_ms),
        )
        for label, value in rows:
            whose = f"<br><span class=quiet>{escape(name)}</span>" if len(models) > 1 else ""
            times = f" · {told.layers_ms / value:.1f}×" if value and value != told.layers_ms else ""
            bar = f"<span class=track><i style='width:{100 * value / most:.1f}%'></i></span>"
            took = f"<span class=time><strong>{units.ms(value)}</strong>{times}</span>"
            lines.append(f"<span class=stage>{label}{whose}</span>{bar}{took}")
    return f"<div class=bars>{''.join(lines)}</div>"


def waterline_figure(told: Told, *, over_time: bool = True) -> Figure:
    """Bars of efficiency, in percent of the peak, over milliseconds or over multiply-accumulates (GMAC)."""
    assert told.roof
    roof = told.roof
    widths = [layer.time_ms if over_time else layer.macs / 1e9 for layer in told.layers]
    starts = [0.0, *accumulate(widths)]
    traces: list[Figure] = []
    for bound, (colour, _) in BOUNDS.items():
        some = [i for i, layer in enumerate(told.layers) if layer.bound == bound and widths[i]]
        if some:
            heights = [
                100e3 * layer.macs / layer.time_ms / roof.peak(layer.bits) if layer.time_ms else 0
                for layer in (told.layers[i] for i in some)
            ]
            traces.append(
                {
                    "type": "bar",
                    "name": bound,
                    "x": [_round(starts[i]) for i in some],
                    "y": [_round(height) for height in heights],
                    "width": [_round(widths[i]) for i in some],
                    "offset": 0,
                    "marker": {"color": f"var(--{colour})", "opacity": 0.75, "line": {"width": 0.5, "color": PAPER}},
                    "text": [hover(told.layers[i], told.roof) for i in some],
                    "textposition": "none",
                    "hovertemplate": "%{text}<extra></extra>",
                }
            )
    allowed = [100 * min(1.0, layer.intensity * roof.bytes_per_s / roof.peak(layer.bits)) for layer in told.layers]
    traces.append(
        {
            "type": "scatter",
            "mode": "lines",
            "name": "the roof",
            "x": [_round(start) for start in starts],
            "y": [_round(share) for share in [*allowed, allowed[-1]]],
            "line": {"shape": "hv", "color": MUTED, "width": 1},
            "hoverinfo": "skip",
        }
    )
    level = 100 * told.efficiency
    marks = {
        "shapes": [
            {
                "type": "line",
                "xref": "paper",
                "x0": 0,
                "x1": 1,
                "y0": level,
                "y1": level,
                "line": {"color": INK, "width": 1.6, "dash": "dash"},
            }
        ],
        "annotations": [
            {
                "xref": "paper",
                "x": 1,
                "y": level,
                "text": f"waterline {units.percent(told.efficiency)}",
                "showarrow": False,
                "xanchor": "right",
                "yanchor": "bottom",
                "yshift": 3,
                "bgcolor": PAPER,
                "borderpad": 2,
                "font": {"size": 12, "color": INK},
            }
        ],
    }
    across = axis_of("milliseconds" if over_time else "multiply-adds, G", range=[0, starts[-1]], showgrid=False)
    bits = {layer.bits for layer in told.layers if layer.macs}
    whose = rate(roof.peak(*bits)) if len(bits) == 1 else "of its bits"
    up = axis_of(f"of the peak, {whose}", ticksuffix="%", rangemode="tozero")
    return {"data": traces, "layout": layout_of(xaxis=across, yaxis=up, barmode="overlay", bargap=0, **marks)}


def _worst(told: Told) -> str:
    """The layers that lose most to the roof."""
    lost = sorted(told.layers, key=lambda layer: layer.least_ms - layer.time_ms)[:_WORST]
    rows = [
        [
            f"<span class='dot {BOUNDS[layer.bound][0]}'></span>{escape(layer.name)}",
            escape(layer.operator),
            units.ms(layer.time_ms),
            units.ms(layer.least_ms),
            f"<b>{units.ms(layer.time_ms - layer.least_ms)}</b>",
            units.percent((layer.time_ms - layer.least_ms) / told.layers_ms),
        ]
        for layer in lost
        if layer.time_ms > layer.least_ms
    ]
    heads = ["layer", "operator", "takes", "at the roof", "gap", "of the whole"]
    return "<h3>Where most is lost to the roof</h3>" + table("llrrrr", heads, rows) if rows else ""


def _round(value: float) -> float:
    return float(f"{value:.6g}")
