"""What Plotly figures share: axes, the layout, and text, in the colours of the page.

Colours are CSS variables (``var(--fp32)``), resolved in the browser, so that one figure serves light and dark.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape
from typing import Any

from sartor.report import units
from sartor.report.figure import log_ticks

Figure = dict[str, Any]

INK, MUTED, RULE, PAPER = "var(--ink)", "var(--muted)", "var(--rule)", "var(--paper)"

MOST_TICKS = 14
"""On a logarithmic axis; of more, the powers of ten are kept."""


def axis_of(title: str | None, **more: Any) -> Figure:
    return {
        "title": {"text": title, "font": {"size": 12, "color": MUTED}, "standoff": 12},
        "gridcolor": RULE,
        "linecolor": RULE,
        "zeroline": False,
        "tickfont": {"size": 12, "color": MUTED},
        "automargin": True,
        **more,
    }


def log_axis_of(title: str, values: Sequence[float], **more: Any) -> Figure:
    low, high = min(values) / 1.2, max(values) * 1.3
    ticks = log_ticks(low, high)
    if len(ticks) > MOST_TICKS:
        ticks = [t for t in ticks if math.isclose(math.log10(t), round(math.log10(t)), abs_tol=1e-9)]
    look = {
        "type": "log",
        "range": [math.log10(low), math.log10(high)],
        "tickvals": ticks,
        "ticktext": [units.significant(t) if t < 1e-4 else units.plain(float(f"{t:.3g}")) for t in ticks],
        "showgrid": False,
        "ticks": "outside",
        "tickcolor": RULE,
    }
    return axis_of(title, **(look | more))


def layout_of(**more: Any) -> Figure:
    return {
        "paper_bgcolor": "rgba(0,0,0,0)",
        "plot_bgcolor": "rgba(0,0,0,0)",
        "margin": {"l": 56, "r": 20, "t": 44, "b": 52},
        "font": {"size": 13, "color": INK},
        "hovermode": "closest",
        "hoverlabel": {"bgcolor": PAPER, "bordercolor": RULE, "font": {"color": INK, "size": 13}, "align": "left"},
        "legend": {"orientation": "h", "x": 0, "y": 1.02, "yanchor": "bottom", "font": {"size": 13}},
        **more,
    }


def text_of(value: object) -> str:
    """Text in a chart: Plotly reads a few HTML tags in it, so it is escaped like the page's."""
    return escape(str(value), quote=False)
