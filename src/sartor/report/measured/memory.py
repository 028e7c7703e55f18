"""Who holds which bytes of the activations' memory, step by step: a plan's buffers as rectangles."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape
from typing import Any

from sartor.report import units
from sartor.report.axes import PAPER, Figure, axis_of, layout_of, text_of
from sartor.report.measured.told import Drawn, Told
from sartor.report.page import section

_COLOURS = ("var(--fp32)", "var(--c6)", "var(--other)", "var(--c4)", "var(--c5)", "var(--int8)")


def memory(told: Told, drawn: Drawn) -> str:
    """The section; empty where no plan was made."""
    plan = told.found.get("memory_plan")
    if not plan or not plan["buffers"]:
        return ""
    held, planned = told.found["peak_activation_bytes"], plan["arena_bytes"]
    target = escape(str(told.found.get("target", "the target")))
    best = "the best order there is" if plan["exact"] else "the best order found"
    said = (
        f"<p>{target} holds up to <b>{units.size(held)}</b> of activations at once. One block of "
        f"<b>{units.size(planned)}</b> is enough in {best} and at these addresses.</p>"
    )
    chart = drawn.switched("memory", "", {"memory": ("", memory_figure(plan))})
    caption = (
        "<figcaption>One rectangle a buffer: from the step that writes it to the last that reads it, at its place in "
        "the block. Weights are not in it.</figcaption>"
    )
    return section("memory", "Where activations live", said, f"<figure>{chart}{caption}</figure>")


def memory_figure(plan: Mapping[str, Any]) -> Figure:
    """Addresses over steps."""
    steps, buffers = plan["steps"], plan["buffers"]
    factor, unit = (1e-6, "MB") if plan["arena_bytes"] >= 1e6 else (1e-3, "kB")
    begin = [max(0, buffer["first"]) for buffer in buffers]
    end = [min(len(steps), buffer["last"] + 1) for buffer in buffers]
    name = lambda number: text_of(steps[number]) if 0 <= number < len(steps) else "the end"
    bars = {
        "type": "bar",
        "x": begin,
        "width": [max(1, last - first) for first, last in zip(begin, end, strict=True)],
        "offset": 0,
        "base": [round(buffer["offset"] * factor, 6) for buffer in buffers],
        "y": [round(buffer["bytes"] * factor, 6) for buffer in buffers],
        "marker": {
            "color": [_COLOURS[i % len(_COLOURS)] for i in range(len(buffers))],
            "opacity": 0.7,
            "line": {"width": 1, "color": PAPER},
        },
        "text": [
            f"<b>{text_of(buffer['name'])}</b><br>{units.size(buffer['bytes'])} at {units.size(buffer['offset'])}<br>"
            f"{'the input' if buffer['first'] < 0 else name(buffer['first'])} to {name(buffer['last'])}"
            for buffer in buffers
        ],
        "textposition": "none",
        "hovertemplate": "%{text}<extra></extra>",
        "showlegend": False,
    }
    across = axis_of("steps, in the planned order", range=[0, max(1, len(steps))], showgrid=False)
    up = axis_of(unit, rangemode="tozero")
    return {"data": [bars], "layout": layout_of(xaxis=across, yaxis=up, barmode="overlay", bargap=0)}
