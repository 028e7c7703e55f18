"""The front as one SVG picture, light and dark by the reader's setting: ``python -m sartor.report.figure RUN OUT.svg``.

Hand-drawn because a README cannot run JavaScript and no picture library is a dependency; the report's own charts are
Plotly's (see charts.py).
"""

from __future__ import annotations

import math
import sys
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

from sartor.disk import write_atomic
from sartor.errors import InputError
from sartor.records import Record
from sartor.report import story, units
from sartor.report.files import read_run
from sartor.report.story import Point

WIDTH, HEIGHT = 860, 480
LEFT, RIGHT, TOP, BOTTOM = 64, 28, 64, 58

STYLE = """
text{font:13px Inter,system-ui,-apple-system,"Segoe UI",Helvetica,Arial,sans-serif;fill:#6b675f}
.title{font-size:17px;font-weight:600;fill:#1c1b19}.small{font-size:12px}.strong{font-weight:600;fill:#1c1b19}
.grid{stroke:#e4e0d8;stroke-width:1}.axis{stroke:#b9b3a8;stroke-width:1}
.line{fill:none;stroke-width:2;stroke-linejoin:round;stroke-opacity:.75}
.fp32{stroke:#2f5d8a;fill:#2f5d8a}.int8{stroke:#c2552d;fill:#c2552d}.other{stroke:#5f7a3d;fill:#5f7a3d}
.line.fp32,.line.int8,.line.other{fill:none}.base{fill:none;stroke:#8a857b;stroke-width:1.8}
.ring{fill:none;stroke:#1c1b19;stroke-width:1.6}
.budget{stroke:#1c1b19;stroke-width:1.2;stroke-dasharray:6 5;stroke-opacity:.6}
text.fp32,text.int8,text.other{stroke:none;font-weight:600}
@media (prefers-color-scheme:dark){text{fill:#a39d92}.title,.strong{fill:#ece8e1}.grid{stroke:#33302b}
.axis{stroke:#5a554d}.fp32{stroke:#7fb0e0;fill:#7fb0e0}.int8{stroke:#ee9468;fill:#ee9468}.other{stroke:#a9c77f;fill:#a9c77f}
.base{stroke:#8f897e}.ring,.budget{stroke:#ece8e1}}
"""


def nice_ticks(low: float, high: float, about: int = 6) -> list[float]:
    """Round values (steps of 1, 2 or 5 times a power of ten) that cover [low, high]."""
    raw = (high - low) / max(about - 1, 1) or 1.0
    power = 10 ** math.floor(math.log10(raw))
    step = next(s * power for s in (1, 2, 5, 10) if s * power >= raw * (1 - 1e-9))
    first = math.floor(low / step + 1e-9)
    last = math.ceil(high / step - 1e-9)
    return [i * step for i in range(first, max(last, first + 1) + 1)]


def log_ticks(low: float, high: float) -> list[float]:
    """Values 1, 2, 5 times powers of ten within [low, high]; both ends themselves where fewer than two fall inside."""
    ticks = [
        m * 10.0**e
        for e in range(math.floor(math.log10(low)) - 1, math.ceil(math.log10(high)) + 1)
        for m in (1, 2, 5)
        if low * (1 - 1e-9) <= m * 10.0**e <= high * (1 + 1e-9)
    ]
    return ticks if len(ticks) > 1 else [low, high]


def steps(points: Sequence[Point]) -> list[Point]:
    """The upper staircase through points, fastest first: what a budget of x buys. Dominated points are left out."""
    best: list[Point] = []
    for point in sorted(points, key=lambda p: (p.latency_ms, -p.accuracy)):
        if not best or point.accuracy > best[-1].accuracy:
            best.append(point)
    return best


class _Scale:
    """Milliseconds and fractions to pixels: logarithmic across, linear up."""

    def __init__(self, points: Sequence[Point], budget: float | None):
        times = [p.latency_ms for p in points] + ([budget] if budget else [])
        self.low, self.high = min(times) / 1.18, max(times) * 1.25
        # A wild outlier below must not flatten the front: it is drawn at the floor, 30 points under the best.
        top = max(p.accuracy for p in points)
        bottom = max(min(p.accuracy for p in points), top - 0.3)
        pad = max(0.01, 0.09 * (top - bottom))
        self.floor, self.ceiling = bottom - pad, min(1.0, top + pad)
        ticks = nice_ticks(100 * self.floor, 100 * self.ceiling)
        self.y_ticks = [t for t in ticks if self.floor <= t / 100 + 1e-9 and t / 100 - 1e-9 <= self.ceiling]

    def x(self, latency_ms: float) -> float:
        share = math.log(latency_ms / self.low) / math.log(self.high / self.low)
        return LEFT + share * (WIDTH - LEFT - RIGHT)

    def y(self, accuracy: float) -> float:
        share = (max(accuracy, self.floor) - self.floor) / (self.ceiling - self.floor)
        return HEIGHT - BOTTOM - share * (HEIGHT - TOP - BOTTOM)


def _frame(scale: _Scale, metric: str) -> list[str]:
    parts = []
    for tick in scale.y_ticks:
        y = scale.y(tick / 100)
        parts.append(f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y:.1f}" y2="{y:.1f}"/>')
        parts.append(f'<text x="{LEFT - 10}" y="{y + 4:.1f}" text-anchor="end">{units.plain(round(tick, 6))}%</text>')
    base = HEIGHT - BOTTOM
    parts.append(f'<line class="axis" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{base}" y2="{base}"/>')
    for tick in log_ticks(scale.low, scale.high):
        x = scale.x(tick)
        parts.append(f'<line class="axis" x1="{x:.1f}" x2="{x:.1f}" y1="{base}" y2="{base + 5}"/>')
        parts.append(
            f'<text x="{x:.1f}" y="{base + 22}" text-anchor="middle">{units.plain(float(f"{tick:.3g}"))}</text>'
        )
    name = units.METRICS[metric][0]
    parts.append(f'<text class="small" x="{LEFT - 44}" y="{TOP - 16}">{name}</text>')
    parts.append(
        f'<text class="small" x="{WIDTH - RIGHT}" y="{HEIGHT - 12}" text-anchor="end">'
        "measured latency of the exported file, ms (log scale)</text>"
    )
    return parts


def _series(scale: _Scale, kind: str, points: Sequence[Point], picked: str | None) -> list[str]:
    """One precision: a staircase to the right edge, a dot a member, a ring around the picked one."""
    stairs = steps(points)
    path = f"M{scale.x(stairs[0].latency_ms):.1f},{scale.y(stairs[0].accuracy):.1f}"
    for point in stairs[1:]:
        path += f"H{scale.x(point.latency_ms):.1f}V{scale.y(point.accuracy):.1f}"
    path += f"H{WIDTH - RIGHT}"
    css = kind if kind in ("fp32", "int8") else "other"
    parts = [f'<path class="line {css}" d="{path}"/>']
    for point in points:
        x, y = scale.x(point.latency_ms), scale.y(point.accuracy)
        hint = f"{point.name}: {units.percent(point.accuracy)}, {units.ms(point.latency_ms)}"
        parts.append(f'<circle class="{css}" cx="{x:.1f}" cy="{y:.1f}" r="4.5"><title>{escape(hint)}</title></circle>')
        if point.name == picked:
            parts.append(f'<circle class="ring" cx="{x:.1f}" cy="{y:.1f}" r="9"/>')
    return parts


def _legend(kinds: Sequence[str], baselines: bool) -> list[str]:
    parts, x = [], float(LEFT + 150)
    for kind in kinds:
        css = kind if kind in ("fp32", "int8") else "other"
        parts.append(f'<circle class="{css}" cx="{x:.0f}" cy="{TOP - 20}" r="4.5"/>')
        parts.append(f'<text class="{css}" x="{x + 10:.0f}" y="{TOP - 16}">{escape(kind)}</text>')
        x += 34 + 8 * len(kind)
    if baselines:
        parts.append(_cross(x, TOP - 20))
        parts.append(f'<text x="{x + 10:.0f}" y="{TOP - 16}">baselines</text>')
    return parts


def _cross(x: float, y: float) -> str:
    return f'<path class="base" d="M{x - 4.5:.1f},{y - 4.5:.1f}l9,9m-9,0l9,-9"/>'


Box = tuple[float, float, float, float]


def _around(scale: _Scale, point: Point, reach: float) -> Box:
    x, y = scale.x(point.latency_ms), scale.y(point.accuracy)
    return x - reach, y - reach, x + reach, y + reach


def _lines(scale: _Scale, points: Sequence[Point]) -> list[Box]:
    """The staircase of one precision as thin boxes."""
    stairs, boxes = steps(points), []
    for here, after in zip(stairs, [*stairs[1:], None], strict=True):
        x, y = scale.x(here.latency_ms), scale.y(here.accuracy)
        end = scale.x(after.latency_ms) if after else WIDTH - RIGHT
        boxes.append((x, y - 2, end, y + 2))
        if after:
            boxes.append((end - 2, scale.y(after.accuracy), end + 2, y))
    return boxes


def _free(box: Box, taken: Sequence[Box]) -> bool:
    inside = box[0] >= LEFT and box[2] <= WIDTH - 4 and box[3] < HEIGHT - BOTTOM
    return inside and not any(box[0] < b[2] and b[0] < box[2] and box[1] < b[3] and b[1] < box[3] for b in taken)


def _labels(scale: _Scale, baselines: Sequence[Point], dots: Sequence[Box], lines: Sequence[Box]) -> list[str]:
    """Baseline marks, their names beside, under or above them: where they touch no mark, and no line if possible."""
    parts, taken = [], [*dots, *(_around(scale, b, 6) for b in baselines)]
    for baseline in baselines:
        x, y = scale.x(baseline.latency_ms), scale.y(baseline.accuracy)
        width = 6.4 * len(baseline.label)
        beside = (("start", x + 9, y + 4, x + 9), ("end", x - 9, y + 4, x - 9 - width))
        places = (*beside, ("middle", x, y + 20, x - width / 2), ("middle", x, y - 11, x - width / 2))
        boxes = [(left, ty - 11, left + width, ty + 3) for _, _, ty, left in places]
        free = [i for i, box in enumerate(boxes) if _free(box, taken)]
        clear = [i for i in free if _free(boxes[i], lines)]
        parts.append(_cross(x, y))
        for i in (clear or free)[:1]:
            anchor, tx, ty, _ = places[i]
            taken.append(boxes[i])
            name = escape(baseline.label)
            parts.append(f'<text class="small" x="{tx:.1f}" y="{ty:.1f}" text-anchor="{anchor}">{name}</text>')
    return parts


def front_svg(
    records: Sequence[Record],
    baselines: Sequence[Mapping[str, Any]] = (),
    *,
    picked: str | None = None,
    title: str | None = None,
    max_latency_ms: float | None = None,
) -> str:
    """The front (accuracy against log latency, a staircase per precision) over its baselines, as SVG text.

    ``baselines`` are evidence.json's. Raises InputError without a record that has both numbers.
    """
    metric = story.accuracy_metric(records)
    if not story.points_of(records, metric):
        raise InputError("a picture of a front needs at least one record with accuracy and latency")
    others = story.baselines_of({"baselines": list(baselines)}, metric)
    scale = _Scale([*story.points_of(records, metric), *others], max_latency_ms)
    kinds = sorted({r.precision for r in records})
    parts = _frame(scale, metric)
    if max_latency_ms:
        x = scale.x(max_latency_ms)
        parts.append(f'<line class="budget" x1="{x:.1f}" x2="{x:.1f}" y1="{TOP}" y2="{HEIGHT - BOTTOM}"/>')
        parts.append(
            f'<text class="small" x="{x - 6:.1f}" y="{HEIGHT - BOTTOM - 8}" text-anchor="end">'
            f"budget {units.limit('latency_ms', max_latency_ms)}</text>"
        )
    series = {kind: story.points_of([r for r in records if r.precision == kind], metric) for kind in kinds}
    series = {kind: members for kind, members in series.items() if members}
    lines = [box for members in series.values() for box in _lines(scale, members)]
    if max_latency_ms:
        lines.append((scale.x(max_latency_ms) - 2, TOP, scale.x(max_latency_ms) + 2, HEIGHT - BOTTOM))
    parts += _labels(scale, others, [_around(scale, p, 9) for members in series.values() for p in members], lines)
    for kind, members in series.items():
        parts += _series(scale, kind, members, picked)
    parts += _legend(kinds, bool(others))
    if title:
        parts.append(f'<text class="title" x="{LEFT - 44}" y="24">{escape(title)}</text>')
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" '
        f'aria-label="{escape(title or "accuracy against latency")}"><style>{STYLE}</style>{"".join(parts)}</svg>\n'
    )


def main(arguments: Sequence[str] | None = None) -> None:
    """Draw one run: two arguments, the run directory and the SVG file to write."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    if len(words) != 2:
        raise SystemExit("usage: python -m sartor.report.figure RUN OUT.svg")
    try:
        run = read_run(words[0])
        data = (run.info.get("data") or {}).get("name", "")
        limit = run.arguments.get("max_latency_ms")
        picture = front_svg(
            run.records,
            run.evidence.get("baselines") or (),
            picked=run.picked,
            title=f"One sartor fit on {data}" if data else None,
            max_latency_ms=limit,
        )
        write_atomic(Path(words[1]), picture)
    except InputError as error:
        raise SystemExit(f"error: {error}") from error


if __name__ == "__main__":
    main()
