"""The audit's page and the picture of the race: right, whole, and safe against what searches are called."""

from __future__ import annotations

import itertools
import math
import re
import xml.etree.ElementTree as ElementTree
from dataclasses import replace
from html.parser import HTMLParser

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sartor.errors import InputError
from sartor.report.audit import headline, html_page, number, tables, terminal_page
from sartor.report.document import POLICY
from sartor.report.race import (
    DASHES,
    LEFT,
    MOST_BANDS,
    MOST_POINTS,
    RIGHT,
    WIDTH,
    check_picture,
    lines_of,
    race_svg,
    write_race,
)
from sartor.search.audit.judge import audit
from sartor.search.objective import Objective
from sartor.search.trace import Problem, Trace

VAL, TEST = Objective("val", maximise=True), Objective("quality", maximise=True)
PROBLEM = Problem("made up", (VAL,), TEST, archs=1000, best=1.0, near=0.05)
SVG = "{http://www.w3.org/2000/svg}"
NASTY = "<script>alert('&')</script>"


def races(names: tuple[str, ...] = ("random", "mine"), seeds: int = 4, n: int = 30) -> list[Trace]:
    traces = []
    for seed, (place, name) in itertools.product(range(seeds), enumerate(names)):
        val = np.random.default_rng([seed, place]).random(n) ** (1 + place)
        traces.append(Trace(name, seed, {"val": (1 - val).tolist(), "quality": (1 - val).tolist()}, seconds=0.1))
    return traces


def drawn(problem: Problem, traces: list[Trace]) -> ElementTree.Element:
    return ElementTree.fromstring(race_svg(problem, traces, title=f"Searches of {problem.name}"))


def texts(svg: ElementTree.Element, css: str = "") -> list[tuple[str, float]]:
    found = svg.iter(f"{SVG}text")
    return [(t.text or "", float(t.get("y", "0"))) for t in found if not css or t.get("class") == css]


def test_lines_are_medians_and_quartiles_over_seeds():
    traces = races(seeds=5)
    line = lines_of(PROBLEM, traces)[1]
    rows = np.array([t.results(PROBLEM) for t in traces if t.strategy == "mine"])
    assert line.x.tolist() == list(range(1, 31))
    assert line.quartiles.tolist() == np.quantile(rows, [0.25, 0.5, 0.75], axis=0).tolist()


def test_a_search_that_ended_early_keeps_what_it_found():
    long, short = races(("a",), seeds=1, n=30)[0], races(("b",), seeds=1, n=10)[0]
    line = lines_of(PROBLEM, [long, short])[1]
    assert set(line.quartiles[1, 9:].tolist()) == {short.results(PROBLEM)[-1]}
    assert len(lines_of(PROBLEM, races(n=1000))[0].x) <= MOST_POINTS


def test_every_strategy_has_its_name_at_the_end_and_a_line_of_its_own():
    names = ("random", *(f"strategy {i}" for i in range(6)))
    svg = drawn(PROBLEM, races(names))
    for panel in (0, 1):
        labels = texts(svg, "name")[panel * len(names) : (panel + 1) * len(names)]
        assert {text for text, _ in labels} == set(names)
        places = sorted(y for _, y in labels)
        assert min(b - a for a, b in itertools.pairwise(places)) >= 15.9, "no name stands on another"
    css = "".join(svg.itertext())
    dashes = re.findall(r"\.line\.s\d+\{stroke:#\w+;stroke-dasharray:([^}]+)\}", css)
    assert len(dashes) == len(set(dashes)) == 6, "told apart without colour"
    assert "none" not in DASHES, "solid is random search's"


def test_bands_and_what_they_are():
    svg = drawn(PROBLEM, races())
    assert len([p for p in svg.iter(f"{SVG}path") if "band" in p.get("class", "")]) == 4
    said = " ".join(text for text, _ in texts(svg))
    assert "median of 4 seeds" in said
    assert "quartiles" in said
    many = drawn(PROBLEM, races(tuple("abcdefgh"[: MOST_BANDS + 1])))
    assert not [p for p in many.iter(f"{SVG}path") if "band" in p.get("class", "")]
    assert "quartiles" not in " ".join(text for text, _ in texts(many))
    one = drawn(PROBLEM, races(seeds=1))
    assert "no spread is known" in " ".join(text for text, _ in texts(one))
    assert not [p for p in one.iter(f"{SVG}path") if "band" in p.get("class", "")]


def test_the_distance_is_drawn_where_the_best_is_known():
    assert "distance from the best there is (log scale)" in {t for t, _ in texts(drawn(PROBLEM, races()))}
    assert "distance" not in " ".join(t for t, _ in texts(drawn(replace(PROBLEM, best=None), races())))
    there = [Trace("a", 0, {"val": [0.5, 1.0], "quality": [0.5, 1.0]})]
    assert "0" in {text for text, _ in texts(drawn(PROBLEM, there))}, "zero has a place on the log scale, labelled"


values = st.lists(st.one_of(st.floats(-1e6, 1e6), st.just(math.nan)), min_size=1, max_size=12)


@given(st.lists(values, min_size=1, max_size=4), st.one_of(st.none(), st.floats(-1e6, 1e6)), st.booleans())
def test_any_searches_draw_inside_their_frame(rows, best, maximise):
    traces = [Trace(f"s{i % 2}", i, {"val": row, "quality": row}) for i, row in enumerate(rows)]
    problem = Problem("x", (Objective("val", maximise),), Objective("quality", maximise), best=best)
    if not any(math.isfinite(v) for row in rows for v in row):
        with pytest.raises(InputError, match="nothing to draw"):
            race_svg(problem, traces)
        return
    try:
        svg = drawn(problem, traces)
    except InputError:  # one strategy's median may have no number where a seed of it found nothing at all
        assert any(all(math.isnan(v) for v in row) for row in rows)
        return
    height = float(svg.get("viewBox", "").split()[3])
    for path in svg.iter(f"{SVG}path"):
        for x, y in re.findall(r"(-?[\d.]+),(-?[\d.]+)", path.get("d", "")):
            assert LEFT - 0.1 <= float(x) <= WIDTH - RIGHT + 0.1
            assert 0 <= float(y) <= height


def test_names_are_text():
    problem = replace(PROBLEM, name=NASTY)
    traces = races(("random", NASTY))
    assert NASTY in {t for t, _ in texts(drawn(problem, traces))}
    page = html_page(audit(problem, traces), problem, traces)
    assert NASTY not in page
    assert "&lt;script&gt;" in page


class Outline(HTMLParser):
    """Checks that tags nest, and collects what loads."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.loads: list[str] = []

    def handle_starttag(self, tag, attrs):
        if tag not in ("meta", "hr", "line", "path"):
            self.open.append(tag)
        self.loads += [v or "" for k, v in attrs if k in ("src", "href", "data", "action")]

    def handle_startendtag(self, tag, attrs):
        self.handle_starttag(tag, attrs)

    def handle_endtag(self, tag):
        if tag not in ("meta", "hr", "line", "path"):
            assert self.open.pop() == tag


def test_the_page_is_whole_and_loads_nothing():
    traces = races(seeds=7)
    page = html_page(audit(PROBLEM, traces), PROBLEM, traces)
    outline = Outline()
    outline.feed(page)
    outline.close()
    assert outline.open == []
    assert outline.loads == ["#searches", "#ranks", "#hygiene"]
    assert POLICY in page
    assert "<script" not in page
    for said in ("random", "mine", "Kendall", "no search saw test data", "median of 7 seeds"):
        assert said in page


def test_the_headline_says_what_was_shown_and_no_more():
    random = races(("random",), 8)
    good = [replace(t, strategy="mine", values={m: [v + 1 for v in c] for m, c in t.values.items()}) for t in random]
    good += random
    assert headline(audit(PROBLEM, good)) == "Mine is better than random search, at 30 evaluations."
    few = [t for t in good if t.seed < 5]
    assert "so few seeds cannot tell" in headline(audit(PROBLEM, few)).lower()
    same = [replace(t, strategy="twin") for t in random]
    assert "not told apart from" in headline(audit(PROBLEM, [*random, *same]))
    assert "nothing is shown" in headline(audit(PROBLEM, same))


def test_the_terminal_shows_the_same_numbers():
    from rich.console import Console

    found = audit(PROBLEM, races(seeds=7))
    console = Console(width=300, record=True, file=open("/dev/null", "w"))  # noqa: SIM115
    for part in terminal_page(found):
        console.print(part)
    text = console.export_text()
    for _, _, heads, rows in (cells for group in tables(found).values() for cells in group):
        for cell in (*heads, *(c for row in rows for c in row)):
            assert cell in text


def test_less_is_better_in_shifts_too():
    """An error that is lower by one is a shift of -1, within its interval."""
    traces = [
        Trace(n, s, {"val": [v - (n == "mine")]}) for s in range(8) for n in ("random", "mine") for v in [5 + s / 10]
    ]
    found = audit(Problem("errors", (Objective("val"),)), traces)
    rows = {row[0]: row for row in tables(found)["searches"][0][3]}
    assert rows["mine"][6] == "−1 (−1 to −1)"
    assert rows["mine"][5].startswith("better")


def test_numbers_keep_what_tells_seeds_apart():
    assert [number(v) for v in (93.8256, 0.5, None, -2.0)] == ["93.83", "0.5000", "–", "−2.000"]


def test_pictures_are_svg_or_a_page(tmp_path):
    for name in ("race.png", "race", "race.pdf"):
        with pytest.raises(InputError, match=r"an \.svg or an \.html file here, not race"):
            check_picture(tmp_path / name)
    write_race(tmp_path / "race.svg", PROBLEM, races())
    ElementTree.parse(tmp_path / "race.svg")
    write_race(tmp_path / "race.HTML", PROBLEM, races())
    assert "<svg" in (tmp_path / "race.HTML").read_text()
