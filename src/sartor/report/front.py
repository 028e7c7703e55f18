"""The front in the report: a chart against each cost, its table, every baseline beside it, what was dropped."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape

from sartor.records import FRONT_COLUMNS
from sartor.report import charts, story, units
from sartor.report.axes import Figure
from sartor.report.page import Page, precision_class, section, switch, table

_SHORT = {
    "accuracy_test": "test",
    "accuracy_val": "validation",
    "latency_p95_ms": "p95",
    "macs": "MACs",
    "params": "parameters",
    "size_bytes": "size",
    "peak_memory_bytes": "memory",
}


def front(page: Page, fallback: str) -> str:
    """The section; ``fallback`` is the still picture that stands in where JavaScript does not run."""
    intro = (
        "<p>Every network below was exported, timed and tested as a file. A step is what a budget buys: within one "
        "precision, nothing in this run is both faster and more accurate than its corner.</p>"
    )
    if page.run.info.get("disturbed"):
        intro += "<p>The machine was busy while the files were timed: latencies may be high.</p>"
    return section("front", "The front", intro, _chart(page, fallback), _table(page), _against(page), _dropped(page))


def _chart(page: Page, fallback: str) -> str:
    picked = page.run.picked_record
    figures = {}
    for cost, argument in units.BUDGETS.items():
        drawn = charts.front_figure(
            page.run.records,
            page.baselines,
            cost=cost,
            picked=picked.name if picked else None,
            limit=page.arguments.get(argument),
            judged_n=page.judged_n,
        )
        if drawn is not None:
            figures[cost] = drawn
    if not figures:
        return ""
    place = page.chart("front", figures[next(iter(figures))], "tall", fallback)
    marks = "Crosses are baselines, measured in the same run. " if page.baselines else ""
    caption = f"The ring marks the picked network. {marks}Hover for numbers; drag to zoom, double-click to reset."
    return f"<figure>{_switch(page, figures)}{place}<figcaption>{caption}</figcaption></figure>"


def _switch(page: Page, figures: Mapping[str, Figure]) -> str:
    """Buttons that put another cost on the chart's axis; the figures they show are added to the page."""
    if len(figures) < 2:
        return ""
    page.figures |= {f"front-{cost}": figure for cost, figure in figures.items()}
    labels = {f"front-{cost}": units.METRICS[cost][0] for cost in figures}
    return switch("front", "Cost on the chart", labels)


def _table(page: Page) -> str:
    records, picked = page.run.records, page.run.picked_record
    present = [c for c in FRONT_COLUMNS[2:] if any(c in r.metrics for r in records)]
    heads = [f"<span title='{units.METRICS[c][0]}'>{_SHORT.get(c, units.METRICS[c][0])}</span>" for c in present]
    rows = []
    for record in records:
        tag = "<span class=tag>picked</span>" if record == picked else ""
        name = f"<span class='dot {precision_class(record.precision)}'></span>{escape(record.name)}{tag}"
        rows.append([name, escape(record.precision), *(units.write(c, record.metrics.get(c)) for c in present)])
    marked = {i for i, record in enumerate(records) if record == picked}
    grid = table("ll" + "r" * len(present), ["network", "precision", *heads], rows, marked=marked)
    said = "Networks were chosen on validation images; test images were used once, here."
    return f"{grid}<p class=note>Fastest first. {said if page.metric == 'accuracy_test' else ''}</p>"


def _against(page: Page) -> str:
    """Every baseline beside the front: accuracy at its latency, time at its accuracy."""
    rows = []
    for row in story.against(story.points_of(page.run.records, page.metric), page.baselines):
        b, gain, speed = row.baseline, "nothing as fast", "nothing as accurate"
        if row.gain is not None and row.at_latency is not None:
            noise = " within noise" if story.is_noise(row.at_latency.accuracy, b.accuracy, page.judged_n) else ""
            by = f"<span class=quiet>{escape(row.at_latency.name)}{noise}</span>"
            gain = f"<b class={'good' if row.gain > 0 else 'bad'}>{units.points(row.gain)}</b> {by}"
        if row.speedup is not None and row.at_accuracy is not None:
            by = f"<span class=quiet>{escape(row.at_accuracy.name)}</span>"
            speed = f"<b class={'good' if row.speedup > 1 else 'bad'}>{row.speedup:.2f}×</b> {by}"
        note = f"<br><span class=quiet>{escape(b.note)}</span>" if b.note else ""
        rows.append([escape(b.name) + note, units.percent(b.accuracy), units.ms(b.latency_ms), gain, speed])
    heads = [
        "baseline",
        _SHORT[page.metric],
        "latency",
        "points gained at its latency",
        "times as fast at its accuracy",
    ]
    return "<h3>Against each baseline</h3>" + table("wrrrr", heads, rows) if rows else ""


def _dropped(page: Page) -> str:
    rows = [[escape(str(d.get(key) or "?")) for key in ("name", "precision", "reason")] for d in page.run.dropped]
    if not rows:
        return ""
    grid = table("llw", ["network", "precision", "reason"], rows, wide=False)
    title = f"{len(rows)} networks were dropped" if len(rows) > 1 else "One network was dropped"
    return f"<details><summary>{title}, and why</summary>{grid}</details>"
