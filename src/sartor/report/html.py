"""The report of a run: one HTML file that needs nothing but itself. The result comes first, then how it came about.

It reads only the files of the run directory. A content security policy in the page forbids every request, so that
"self-contained" is enforced by the browser and not only meant.
"""

from __future__ import annotations

from html import escape
from pathlib import Path

from sartor.disk import write_atomic
from sartor.report import evidence, story
from sartor.report.document import document
from sartor.report.figure import front_svg
from sartor.report.files import RunFiles, read_run
from sartor.report.front import front
from sartor.report.headline import headline
from sartor.report.mistakes import mistakes
from sartor.report.page import Page
from sartor.report.page_script import scripts

_SECTIONS = ("front", "mistakes", "search", "tried", "time", "curves", "provenance")


def write_report(run_dir: Path) -> Path:
    """Write ``report.html`` into a run directory and return its path.

    Raises InputError when ``run_dir`` is no run, of another format, damaged, or cannot be written to.
    """
    run = read_run(run_dir)
    out = run.path / "report.html"
    write_atomic(out, render(run))
    return out


def render(run: RunFiles) -> str:
    """The page as text. Charts are Plotly's, whose library (MIT) is inlined once, and only where there is a chart."""
    page = Page(run)
    parts = [headline(page)]
    if run.records:
        parts += [front(page, _picture(page)), mistakes(page)]
    parts += [
        evidence.searched(page),
        evidence.tried(page),
        evidence.time_spent(page),
        evidence.curves(page),
        evidence.provenance(page),
    ]
    body = "\n".join(part for part in parts if part)
    name = escape(str(page.data.get("name", run.path.name)))
    footer = (
        f"Written by Sartor {escape(str(run.info.get('sartor', '')))} from the files of\n"
        f"<code>{escape(run.path.name)}</code>."
    )
    return document(name, body, _SECTIONS, footer, scripts(page.figures))


def _picture(page: Page) -> str:
    """The still picture that stands in the chart's place where JavaScript does not run."""
    if not story.points_of(page.run.records, page.metric):
        return ""
    picked = page.run.picked_record
    return front_svg(
        page.run.records,
        page.run.evidence.get("baselines") or (),
        picked=picked.name if picked else None,
        max_latency_ms=page.arguments.get("max_latency_ms"),
    )
