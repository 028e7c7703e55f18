"""What the report's sections share: the run being told, the figures asked for, and pieces of markup."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from typing import Any

from sartor.report import charts, story
from sartor.report.axes import Figure
from sartor.report.files import RunFiles
from sartor.report.story import Point


@dataclass
class Page:
    """The run, and the figures its sections have asked for (place in the page → Plotly figure)."""

    run: RunFiles
    figures: dict[str, Figure] = field(default_factory=dict)

    @property
    def arguments(self) -> Mapping[str, Any]:
        return self.run.arguments

    @property
    def data(self) -> Mapping[str, Any]:
        return self.run.info.get("data") or {}

    @property
    def metric(self) -> str:
        """The accuracy that is told: on test images where every record has it, else on validation images."""
        return story.accuracy_metric(self.run.records)

    @property
    def judged_n(self) -> int | None:
        """How many images that accuracy was measured on."""
        split = "test" if self.metric == "accuracy_test" else "val"
        return ((self.data.get("splits") or {}).get(split) or {}).get("n")

    @property
    def baselines(self) -> list[Point]:
        return story.baselines_of(self.run.evidence, self.metric)

    def class_name(self, label: Any) -> str:
        """A label's class name; labels may be stored as numbers or as names."""
        classes = self.data.get("classes") or []
        return str(classes[label]) if isinstance(label, int) and 0 <= label < len(classes) else str(label)

    def chart(self, place: str, figure: Figure, css: str = "", fallback: str = "") -> str:
        """The place of a chart; ``fallback`` is shown where JavaScript does not run."""
        self.figures[place] = figure
        return chart(place, place, css, fallback)


def chart(place: str, shown: str, css: str = "", fallback: str = "") -> str:
    """The place of a chart, and the name of the figure that it shows first."""
    return f'<div class="chart {css}" id="{place}-chart" data-figure="{shown}">{fallback}</div>'


def switch(place: str, label: str, figures: Mapping[str, str]) -> str:
    """Buttons that show one of several figures (name → text, the first is shown) in the chart of ``place``."""
    buttons = [
        f'<button type=button data-place={place}-chart data-figure="{name}" '
        f"aria-pressed={'false' if i else 'true'}>{escape(text)}</button>"
        for i, (name, text) in enumerate(figures.items())
    ]
    return f"<div class=switch role=group aria-label='{label}'>{''.join(buttons)}</div>"


def precision_class(kind: str) -> str:
    """The CSS class with a precision's colour."""
    return kind if kind in charts.SERIES else "other"


def table(
    align: str, heads: Sequence[str], rows: Sequence[Sequence[str]], *, wide: bool = True, marked: Collection[int] = ()
) -> str:
    """An HTML table of cells that are HTML already.

    ``align`` has a letter a column: l left, r right, w left and wrapped; ``marked`` rows are highlighted. Empty without
    rows.
    """
    if not rows:
        return ""
    css = {"l": " class=l", "r": "", "w": " class='l wrap'"}
    head = "".join(f"<th{css[a].replace(' wrap', '')} scope=col>{h}</th>" for a, h in zip(align, heads, strict=True))
    lines = []
    for i, row in enumerate(rows):
        cells = "".join(f"<td{css[a]}>{cell}</td>" for a, cell in zip(align, row, strict=True))
        lines.append(f"<tr{' class=picked' if i in marked else ''}>{cells}</tr>")
    kind = " class=wide" if wide else ""
    return f"<div class=scroll><table{kind}><thead><tr>{head}</tr></thead><tbody>{''.join(lines)}</tbody></table></div>"


def listing(pairs: Sequence[tuple[str, str]]) -> str:
    """Names (text) and values (HTML already) in two columns."""
    items = "".join(f"<dt>{escape(name)}</dt><dd>{value}</dd>" for name, value in pairs)
    return f"<dl class=plain>{items}</dl>" if items else ""


def section(name: str, title: str, *parts: str) -> str:
    """A titled section; ``title`` and ``parts`` are HTML already. Empty when every part is."""
    body = "\n".join(part for part in parts if part)
    return f"<section id={name}><h2>{title}</h2>\n{body}</section>" if body else ""
