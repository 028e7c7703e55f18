"""Searches side by side as one SVG picture: the best so far, and how far from the best there is, over evaluations.

Drawn by hand as ``figure.py`` is, and for print: every strategy has a dash of its own and its name at the end of its
line, so that nothing depends on colour. Over seeds the line is the median and the band the middle half (quartiles):
rejected are a mean and its standard error, which one seed that found nothing moves out of the picture.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sartor import __version__
from sartor.disk import write_atomic
from sartor.errors import InputError
from sartor.report import units
from sartor.report.document import document
from sartor.report.figure import log_ticks, nice_ticks
from sartor.search.trace import RANDOM, Problem, Trace

WIDTH, PANEL, GAP = 860, 300, 62
LEFT, RIGHT, TOP = 76, 150, 58

MOST_POINTS = 400
"""Places along a line: more than its width in pixels shows."""

MOST_BANDS = 5
"""Strategies up to which bands are drawn: more of them hide the lines."""

DASHES = ("9 4", "2 3", "12 3 2 3", "5 2", "1 5", "16 5", "7 2 2 2 2 2")
COLOURS = (
    ("#2f5d8a", "#7fb0e0"), ("#c2552d", "#ee9468"), ("#5f7a3d", "#a9c77f"),
    ("#7a5195", "#c39be0"), ("#2d8a83", "#6cc7bf"), ("#b08a1e", "#dcb850"),
)  # fmt: skip
"""On paper, and on black. Random search is grey."""

STYLE = """
.race text{font:13px Inter,system-ui,-apple-system,"Segoe UI",Helvetica,Arial,sans-serif;fill:#6b675f}
.race .title{font-size:17px;font-weight:600;fill:#1c1b19}.race .small{font-size:12px}
.race .name{font-weight:600;fill:#1c1b19}.race .grid{stroke:#e4e0d8}.race .axis{stroke:#b9b3a8}
.race .goal{stroke:#1c1b19;stroke-width:1;stroke-opacity:.5}.race .lead{stroke:#b9b3a8}
.race .line{fill:none;stroke-width:2.2;stroke-linejoin:round}.race .band{fill-opacity:.13;stroke:none}
.race .line.random{stroke:#77726a;stroke-width:3}.race .band.random{fill:#77726a}
PAPER
@media (prefers-color-scheme:dark){.race text{fill:#a39d92}.race .title,.race .name{fill:#ece8e1}
.race .grid{stroke:#33302b}.race .axis,.race .lead{stroke:#5a554d}.race .goal{stroke:#ece8e1}
.race .line.random{stroke:#a39d92}.race .band.random{fill:#a39d92}
BLACK}
@media print{.race text,.race .title,.race .name{fill:#000}.race .band{fill-opacity:.1}}
"""


@dataclass(frozen=True)
class Line:
    """One strategy: of the quantity drawn, the quartiles over seeds ``[3, places]`` at the evaluations ``x``."""

    name: str
    seeds: int
    x: NDArray[np.int64]
    quartiles: NDArray[np.float64]


def lines_of(problem: Problem, traces: Sequence[Trace]) -> list[Line]:
    """The verdict on the best so far of each strategy, over its seeds. A search that ended keeps what it found; one
    that has found nothing is worse than any other: a line begins where half of the seeds have found something."""
    nothing = -math.inf if problem.judge.maximise else math.inf
    longest = max(len(t) for t in traces)
    x = np.unique(np.linspace(1, longest, min(longest, MOST_POINTS)).round().astype(np.int64))
    found = []
    for name in dict.fromkeys(t.strategy for t in traces):
        rows = [t.results(problem) for t in traces if t.strategy == name]
        held = np.array([[row[min(i, len(row)) - 1] for i in x.tolist()] for row in rows])
        held[np.isnan(held)] = nothing
        with np.errstate(invalid="ignore"):  # between two infinite ones there is no number, and none is drawn
            found.append(Line(name, len(rows), x, np.quantile(held, [0.25, 0.5, 0.75], axis=0)))
    return found


def race_svg(problem: Problem, traces: Sequence[Trace], *, title: str | None = None) -> str:
    """The picture as SVG text: best so far and, where the best there is is known, the distance to it on a log scale.

    Raises InputError where no search found anything.
    """
    lines = lines_of(problem, traces) if traces else []
    if not any(np.isfinite(line.quartiles).any() for line in lines):
        raise InputError("there is nothing to draw: no search found anything")
    sign = 1 if problem.judge.maximise else -1
    styles, css = _styles(lines)
    bands = len(lines) <= MOST_BANDS and any(line.seeds > 1 for line in lines)
    parts = [_panel(lines, styles, _linear(lines, problem), TOP, bands, f"{problem.judge.metric}, best so far")]
    height = TOP + PANEL + 66
    if problem.best is not None:
        best = problem.best
        away = [Line(a.name, a.seeds, a.x, np.maximum(sign * (best - a.quartiles), 0)) for a in lines]
        scale = _log(away, problem)
        top = TOP + PANEL + GAP
        parts.append(_panel(away, styles, scale, top, bands, "distance from the best there is (log scale)"))
        height = top + PANEL + 66
    seeds = sorted({line.seeds for line in lines})
    many = f"{seeds[0]}" if len(seeds) == 1 else f"{seeds[0]} to {seeds[-1]}"
    said = f"Line: median of {many} seeds. " + ("Band: their middle half (quartiles). " if bands else "")
    said = "One seed each: no spread is known. " if seeds == [1] else said
    said += "A line may get worse: no search sees what judges it." if problem.verdict else ""
    parts.append(f'<text class="small" x="{LEFT}" y="{height - 12}">{said}</text>')
    if title:
        parts.append(f'<text class="title" x="{LEFT - 60}" y="24">{escape(title)}</text>')
    return (
        f'<svg class="race" xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" role="img" '
        f'aria-label="{escape(title or "best so far over evaluations")}"><style>{css}</style>{"".join(parts)}</svg>\n'
    )


def check_picture(path: Path) -> None:
    """Raises InputError where ``path`` has no name that :func:`write_race` knows."""
    if path.suffix.lower() not in (".svg", ".html", ".htm"):
        raise InputError(
            f"a picture is an .svg or an .html file here, not {path.name}: browsers and Inkscape turn .svg into others"
        )


def write_race(path: Path, problem: Problem, traces: Sequence[Trace]) -> None:
    """The picture in a file: SVG, or a page of its own. Raises InputError as the two above, and WriteError."""
    check_picture(path)
    picture = race_svg(problem, traces, title=f"Searches of {problem.name}")
    if path.suffix.lower() != ".svg":
        name = escape(problem.name)
        picture = document(name, f"<figure>{picture}</figure>", (), f"Written by Sartor {escape(__version__)}.")
    write_atomic(path, picture)


def _styles(lines: Sequence[Line]) -> tuple[dict[str, str], str]:
    """The class of each strategy, and the style sheet. Random search is grey and solid; others take turns."""
    names = [line.name for line in lines if line.name != RANDOM]
    classes = {RANDOM: "random"} | {name: f"s{i}" for i, name in enumerate(names)}
    paper, black = [], []
    for i in range(len(names)):
        light, dark = COLOURS[i % len(COLOURS)]
        dash = DASHES[i % len(DASHES)]
        paper.append(f".race .line.s{i}{{stroke:{light};stroke-dasharray:{dash}}}.race .band.s{i}{{fill:{light}}}")
        black.append(f".race .line.s{i}{{stroke:{dark}}}.race .band.s{i}{{fill:{dark}}}")
    return classes, STYLE.replace("PAPER", "\n".join(paper)).replace("BLACK", "\n".join(black))


@dataclass(frozen=True)
class _Scale:
    """A quantity to a share of the panel's height from below; ``ticks`` and ``goals``: values with what to write."""

    share: Callable[[float], float]
    ticks: Sequence[tuple[float, str]]
    goals: Sequence[tuple[float, str]]


def _linear(lines: Sequence[Line], problem: Problem) -> _Scale:
    """Of all but the first twentieth, which else would be most of the picture: it is cut off at the edge."""
    late = [line.quartiles[:, len(line.x) // 20 :] for line in lines]
    values = np.concatenate([part[np.isfinite(part)] for part in late])
    ends = [*values.tolist(), *([problem.best] if problem.best is not None else [])]
    low, high = min(ends), max(ends)
    pad = 0.06 * (high - low) or 0.5
    low, high = low - pad, high + pad
    ticks = [t for t in nice_ticks(low, high, 5) if low <= t <= high]
    goals = [(problem.best, f"best there is: {problem.best:.4g}")] if problem.best is not None else []
    texts = [(t, units.plain(round(t, 9)).replace("-", "−")) for t in ticks]
    return _Scale(lambda value: (value - low) / (high - low), texts, goals)


def _log(lines: Sequence[Line], problem: Problem) -> _Scale:
    """Zero has no logarithm: it is drawn at the floor, half of the smallest distance there is, and labelled."""
    values = np.concatenate([line.quartiles.ravel() for line in lines])
    above = values[np.isfinite(values) & (values > 1e-9)]
    smallest, high = (float(above.min()), float(above.max()) * 1.3) if len(above) else (0.5, 2.0)
    zero = bool((values <= 1e-9).any())
    floor = smallest / 2 if zero else smallest / 1.3
    ticks = [(t, units.plain(float(f"{t:.3g}"))) for t in log_ticks(floor * (1.6 if zero else 1), high)]
    goals = [(problem.near, f"near enough: {units.plain(problem.near)}")] if floor < problem.near < high else []
    return _Scale(
        lambda value: math.log(max(value, floor) / floor) / math.log(high / floor),
        [*([(floor, "0")] if zero else []), *ticks],
        goals,
    )


def _panel(lines: Sequence[Line], styles: dict[str, str], scale: _Scale, top: int, bands: bool, heading: str) -> str:
    last = max(int(line.x[-1]) for line in lines)
    across = lambda i: LEFT + (WIDTH - LEFT - RIGHT) * (i - 1) / max(1, last - 1)
    up = lambda value: top + PANEL * (1 - min(1.0, max(0.0, scale.share(value))))
    right, base = WIDTH - RIGHT, top + PANEL
    parts = [f'<text class="small" x="{LEFT - 60}" y="{top - 12}">{escape(heading)}</text>']
    for value, text in scale.ticks:
        y = up(value)
        parts.append(f'<line class="grid" x1="{LEFT}" x2="{right}" y1="{y:.1f}" y2="{y:.1f}"/>')
        parts.append(f'<text x="{LEFT - 10}" y="{y + 4:.1f}" text-anchor="end">{text}</text>')
    for value, text in scale.goals:
        y = up(value)
        parts.append(f'<line class="goal" x1="{LEFT}" x2="{right}" y1="{y:.1f}" y2="{y:.1f}"/>')
        parts.append(f'<text class="small" x="{LEFT + 6}" y="{y - 5:.1f}">{escape(text)}</text>')
    parts.append(f'<line class="axis" x1="{LEFT}" x2="{right}" y1="{base}" y2="{base}"/>')
    whole = [t for t in nice_ticks(0, last, 6) if 1 <= t <= last and float(t).is_integer()]
    parts.append(f'<text class="small" x="{right + 24}" y="{base + 21}">evaluations</text>')
    for tick in [1, *(t for t in whole if t - 1 > last / 20)]:
        x = across(tick)
        parts.append(f'<line class="axis" x1="{x:.1f}" x2="{x:.1f}" y1="{base}" y2="{base + 5}"/>')
        parts.append(f'<text x="{x:.1f}" y="{base + 21}" text-anchor="middle">{tick:,.0f}</text>')
    drawn = [line for line in lines if np.isfinite(line.quartiles[1]).any()]
    for line in drawn if bands else []:
        parts.append(_band(line, styles[line.name], across, up))
    ends = {}
    for line in drawn:
        held = np.isfinite(line.quartiles[1])
        points = zip(line.x[held].tolist(), line.quartiles[1][held].tolist(), strict=True)
        path = "L".join(f"{across(x):.1f},{up(y):.1f}" for x, y in points)
        parts.append(f'<path class="line {styles[line.name]}" d="M{path}"/>')
        ends[line.name] = up(float(line.quartiles[1][held][-1]))
    return "".join([*parts, *_names(ends, right, top)])


def _band(line: Line, css: str, across: Callable[[float], float], up: Callable[[float], float]) -> str:
    held = np.isfinite(line.quartiles).all(axis=0)
    if not held.any() or line.seeds < 2:
        return ""
    x = line.x[held].tolist()
    lower = [f"{across(i):.1f},{up(v):.1f}" for i, v in zip(x, line.quartiles[0][held].tolist(), strict=True)]
    upper = [f"{across(i):.1f},{up(v):.1f}" for i, v in zip(x, line.quartiles[2][held].tolist(), strict=True)]
    return f'<path class="band {css}" d="M{"L".join([*lower, *upper[::-1]])}Z"/>'


def _names(ends: dict[str, float], right: int, top: int) -> list[str]:
    """Each name at the end of its line; where lines end together, one above the other, with a thread to its line."""
    step, order = 16.0, sorted(ends, key=ends.__getitem__)
    places: list[float] = []
    for name in order:
        places.append(max(ends[name], places[-1] + step if places else -math.inf))
    over = max(0.0, (places[-1] if places else 0.0) - (top + PANEL))
    for i in reversed(range(len(places))):  # pushed back up from the floor, and no further than needed
        limit = places[i + 1] - step if i + 1 < len(places) else places[i] - over
        places[i] = min(places[i], limit)
    parts = []
    for name, y in zip(order, places, strict=True):
        parts.append(f'<line class="lead" x1="{right + 1}" x2="{right + 12}" y1="{ends[name]:.1f}" y2="{y:.1f}"/>')
        parts.append(f'<text class="name" x="{right + 16}" y="{y + 4:.1f}">{escape(name)}</text>')
    return parts
