"""The report's interactive charts, as Plotly figures: plain JSON, drawn by plotly.js in page.js.

Built as dicts rather than with plotly.graph_objects, which takes seconds to import; the tests hold them against its
validators.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from sartor.records import Record
from sartor.report import story, units
from sartor.report.axes import INK, MUTED, Figure, axis_of, layout_of, log_axis_of, text_of
from sartor.report.figure import steps
from sartor.report.story import Point

SERIES = {"fp32": ("var(--fp32)", "circle"), "int8": ("var(--int8)", "diamond")}
OTHER = ("var(--other)", "square")
CURVE_COLOURS = ("var(--fp32)", "var(--int8)", "var(--other)", "var(--c4)", "var(--c5)", "var(--c6)")

MAX_POINTS = 400
"""Points kept a curve: more than a chart's width in pixels shows."""

MAX_LABELS = 12
"""More baselines than this are named on hovering only."""

COSTS = {
    "latency_ms": ("latency, ms", 1.0),
    "size_bytes": ("file size, kB", 1e-3),
    "macs": ("multiply-adds, M", 1e-6),
    "peak_memory_bytes": ("peak activation memory, kB", 1e-3),
}
"""What the front may be drawn against: axis title and factor from the metric's unit to the axis's."""


def _member_hover(record: Record, metric: str, judged_n: int | None) -> str:
    lines = [f"<b>{text_of(record.name)}</b> · {text_of(record.precision)}"]
    for name, (label, _) in units.METRICS.items():
        if name in record.metrics:
            text = f"{label} {units.write(name, record.metrics[name])}"
            if name == metric and judged_n:
                low, high = story.interval(record.metrics[name], judged_n)
                text += f" ({units.percent(low)} to {units.percent(high)})"
            lines.append(text)
    return "<br>".join(lines)


def _precision(
    kind: str, records: Sequence[Record], metric: str, cost: str, end: float, judged_n: int | None
) -> list[Figure]:
    """Two traces: the staircase (what a budget of x buys) and the members on it."""
    colour, symbol = SERIES.get(kind, OTHER)
    factor = COSTS[cost][1]
    dots = [Point(r.name, r.metrics[metric], r.metrics[cost] * factor) for r in records]
    stairs = steps(dots)
    stairs.append(Point("", stairs[-1].accuracy, end))  # a larger budget still buys the last one
    line = {
        "type": "scatter",
        "mode": "lines",
        "x": [p.latency_ms for p in stairs],
        "y": [100 * p.accuracy for p in stairs],
        "line": {"shape": "hv", "color": colour, "width": 2},
        "opacity": 0.7,
        "hoverinfo": "skip",
        "showlegend": False,
        "legendgroup": kind,
    }
    marks = {
        "type": "scatter",
        "mode": "markers",
        "name": text_of(kind),
        "x": [p.latency_ms for p in dots],
        "y": [100 * p.accuracy for p in dots],
        "marker": {"color": colour, "symbol": symbol, "size": 10},
        "text": [_member_hover(r, metric, judged_n) for r in records],
        "hovertemplate": "%{text}<extra></extra>",
        "legendgroup": kind,
    }
    return [line, marks]


def _baselines(points: Sequence[Point]) -> Figure:
    hover = [
        f"<b>{text_of(p.name)}</b><br>{units.percent(p.accuracy)} in {units.ms(p.latency_ms)}"
        + (f"<br>{text_of(p.note)}" if p.note else "")
        for p in points
    ]
    named = len(points) <= MAX_LABELS
    far = max(p.latency_ms for p in points) / 1.3  # names of the last ones stand before them, or the edge cuts them off
    return {
        "type": "scatter",
        "mode": "markers+text" if named else "markers",
        "name": "baselines",
        "legendrank": 2000,  # drawn first, under everything, and named last
        "x": [p.latency_ms for p in points],
        "y": [100 * p.accuracy for p in points],
        "marker": {"color": MUTED, "symbol": "x-thin", "size": 9, "line": {"width": 2, "color": MUTED}},
        "text": [f"{text_of(p.label)}  " if p.latency_ms > far else f" {text_of(p.label)}" for p in points],
        "textposition": ["middle left" if p.latency_ms > far else "middle right" for p in points],
        "textfont": {"size": 11, "color": MUTED},
        "customdata": hover,
        "hovertemplate": "%{customdata}<extra></extra>",
        "cliponaxis": False,
    }


def _ring(record: Record, metric: str, cost: str) -> Figure:
    return {
        "type": "scatter",
        "mode": "markers",
        "name": "picked",
        "x": [record.metrics[cost] * COSTS[cost][1]],
        "y": [100 * record.metrics[metric]],
        "marker": {"color": INK, "symbol": "circle-open", "size": 19, "line": {"width": 1.6, "color": INK}},
        "hoverinfo": "skip",
    }


def _budget_line(value: float, text: str) -> Figure:
    return {
        "shapes": [
            {
                "type": "line",
                "x0": value,
                "x1": value,
                "yref": "paper",
                "y0": 0,
                "y1": 1,
                "line": {"color": INK, "width": 1.2, "dash": "dash"},
                "opacity": 0.55,
            }
        ],
        "annotations": [
            {
                "x": math.log10(value),
                "y": 0,
                "yref": "paper",
                "text": text_of(text),
                "showarrow": False,
                "xanchor": "right",
                "yanchor": "bottom",
                "xshift": -5,
                "font": {"size": 12, "color": MUTED},
            }
        ],
    }


def front_figure(
    records: Sequence[Record],
    baselines: Sequence[Point],
    *,
    cost: str = "latency_ms",
    picked: str | None = None,
    limit: float | None = None,
    judged_n: int | None = None,
) -> Figure | None:
    """Accuracy against one cost (log), a staircase a precision, baselines (where the cost is latency), the budget as a
    dashed line. None when no record has both numbers."""
    metric = story.accuracy_metric(records)
    factor = COSTS[cost][1]
    drawn = [r for r in records if metric in r.metrics and r.metrics.get(cost, 0) > 0]
    if not drawn:
        return None
    others = [b for b in baselines if b.latency_ms > 0] if cost == "latency_ms" else []
    spread = [r.metrics[cost] * factor for r in drawn] + [b.latency_ms for b in others]
    axis = log_axis_of(COSTS[cost][0], [*spread, *([limit * factor] if limit else [])])
    end = 10 ** axis["range"][1]
    traces: list[Figure] = [_baselines(others)] if others else []
    for kind in sorted({r.precision for r in drawn}):
        traces += _precision(kind, [r for r in drawn if r.precision == kind], metric, cost, end, judged_n)
    traces += [_ring(r, metric, cost) for r in drawn if r.name == picked]
    marks = _budget_line(limit * factor, f"budget {units.limit(cost, limit)}") if limit else {}
    accuracy = axis_of(units.METRICS[metric][0], ticksuffix="%", nticks=8)
    return {"data": traces, "layout": layout_of(xaxis=axis, yaxis=accuracy, **marks)}


def search_figure(history: Sequence[Mapping[str, Any]]) -> Figure | None:
    """Every network the search measured, at the supernet's accuracy. None when nothing was."""
    styles = {"random": ("random sampling", MUTED, "circle-open"), "search": ("search", "var(--fp32)", "circle")}
    points = [h for h in history if h.get("accuracy_val") is not None and (h.get("latency_ms") or 0) > 0]
    if not points:
        return None
    traces = []
    for kind, (label, colour, symbol) in styles.items():
        some = [h for h in points if h.get("kind", "search") == kind]
        if some:
            traces.append(
                {
                    "type": "scatter",
                    "mode": "markers",
                    "name": label,
                    "x": [h["latency_ms"] for h in some],
                    "y": [100 * h["accuracy_val"] for h in some],
                    "marker": {"color": colour, "symbol": symbol, "size": 7, "opacity": 0.75, "line": {"width": 1.4}},
                    "hovertemplate": "%{y:.1f}% in %{x:.3g} ms<extra>" + label + "</extra>",
                }
            )
    axis = log_axis_of("latency, ms", [h["latency_ms"] for h in points])
    accuracy = axis_of("validation accuracy, weights shared", ticksuffix="%", nticks=6)
    return {"data": traces, "layout": layout_of(xaxis=axis, yaxis=accuracy)}


def _thin(points: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """At most MAX_POINTS, evenly, the last one always among them."""
    stride = max(1, math.ceil(len(points) / MAX_POINTS))
    return list(points[::-1][::stride][::-1])


def _smooth(values: Sequence[float], span: int) -> list[float]:
    """Exponential moving average, corrected for its start (Kingma and Ba, arXiv:1412.6980, section 3)."""
    decay, mean, out = 1 - 2 / (span + 1), 0.0, []
    for i, value in enumerate(values, start=1):
        mean = decay * mean + (1 - decay) * value
        out.append(mean / (1 - decay**i))
    return out


def curves_figure(curves: Sequence[Mapping[str, Any]]) -> Figure | None:
    """Loss, validation accuracy and learning rate over minutes, one panel each where there is something to draw."""
    rows = {"loss": ("loss", 1.0), "accuracy_val": ("val accuracy, %", 100.0), "lr": ("learning rate", 1.0)}
    present = {key for key in rows for c in curves for p in c.get("points") or [] if p.get(key) is not None}
    panels = [key for key in rows if key in present]
    if not panels:
        return None
    heights = {"loss": 3.0, "accuracy_val": 3.0, "lr": 1.2}
    total, gap, top = sum(heights[k] for k in panels), 0.07, 1.0
    layout = layout_of(hovermode="x")
    traces: list[Figure] = []
    named: set[int] = set()
    for row, key in enumerate(panels, start=1):
        height = (1 - gap * (len(panels) - 1)) * heights[key] / total
        suffix = "" if row == 1 else str(row)
        title, factor = rows[key]
        ticks = {"nticks": 5} if key != "lr" else {"nticks": 3}
        layout[f"yaxis{suffix}"] = axis_of(title, domain=[max(0.0, top - height), top], **ticks)
        last = row == len(panels)
        layout[f"xaxis{suffix}"] = axis_of(
            "minutes" if last else None,
            anchor=f"y{suffix}",
            showticklabels=last,
            rangemode="tozero",
            **({} if row == 1 else {"matches": "x"}),
        )
        top -= height + gap
        traces += _panel(curves, key, suffix, factor, named)
    return {"data": traces, "layout": layout}


def _panel(curves: Sequence[Mapping[str, Any]], key: str, suffix: str, factor: float, named: set[int]) -> list[Figure]:
    """One quantity of every curve; the loss is drawn faint as it was and strong as its moving average.

    ``named``: the curves that have an entry in the legend already; it grows.
    """
    traces = []
    for i, curve in enumerate(curves):
        points = _thin(
            [p for p in curve.get("points") or [] if p.get(key) is not None and p.get("seconds") is not None]
        )
        if not points:
            continue
        x = [round(p["seconds"] / 60, 4) for p in points]
        y = [float(f"{factor * p[key]:.6g}") for p in points]
        name = text_of(curve.get("name", f"curve {i + 1}"))
        colour = CURVE_COLOURS[i % len(CURVE_COLOURS)]
        common = {"type": "scatter", "x": x, "xaxis": f"x{suffix}", "yaxis": f"y{suffix}", "legendgroup": str(i)}
        dash = "solid" if i < len(CURVE_COLOURS) else "dot"
        if key == "loss" and len(points) > 30:
            faint = {"color": colour, "width": 1}
            traces.append(
                {
                    **common,
                    "mode": "lines",
                    "y": y,
                    "line": faint,
                    "opacity": 0.22,
                    "hoverinfo": "skip",
                    "showlegend": False,
                }
            )
            y = [float(f"{v:.6g}") for v in _smooth(y, max(5, len(y) // 25))]
        traces.append(
            {
                **common,
                "mode": "lines" if key != "accuracy_val" else "lines+markers",
                "marker": {"size": 5, "color": colour},
                "y": y,
                "name": name,
                "line": {"color": colour, "width": 2, "dash": dash},
                "showlegend": i not in named,
                "hovertemplate": "%{y:.4g}<extra>" + name + "</extra>",
            }
        )
        named.add(i)
    return traces


def confusion_figure(matrix: Sequence[Sequence[float]], classes: Sequence[str]) -> Figure:
    """A heat map of row shares for many classes; few classes get an HTML table instead (see mistakes.py)."""
    shares = [[cell / (sum(row) or 1) for cell in row] for row in matrix]
    names = [text_of(c) for c in classes]
    heat = {
        "type": "heatmap",
        "z": shares,
        "x": names,
        "y": names,
        "customdata": [list(row) for row in matrix],
        "colorscale": [[0, "rgba(0,0,0,0)"], [0.02, "var(--heat-low)"], [1, "var(--fp32)"]],
        "showscale": False,
        "hovertemplate": "%{y} taken for %{x}: %{customdata} (%{z:.0%})<extra></extra>",
    }
    y = axis_of("true", autorange="reversed", showgrid=False)
    return {"data": [heat], "layout": layout_of(xaxis=axis_of("predicted", showgrid=False), yaxis=y)}
