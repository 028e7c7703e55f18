"""An audit as one page: in the terminal, and as HTML in the report's clothes."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from html import escape
from typing import TYPE_CHECKING, Any

from sartor import __version__
from sartor.errors import InputError
from sartor.report.document import document
from sartor.report.page import section, table
from sartor.report.race import race_svg
from sartor.search.trace import Problem, Trace

if TYPE_CHECKING:
    from rich.console import RenderableType

Cells = tuple[str, str, list[str], list[list[str]]]
"""A table: title, alignment (a letter a column), heads and rows, as text."""

_SECTIONS = ("searches", "ranks", "hygiene", "poison", "settings")


def number(value: float | None, digits: int = 4) -> str:
    """A verdict in its own unit, as many digits as tell seeds apart."""
    return "–" if value is None else f"{value:#.{digits}g}".rstrip(".").replace("-", "−")


def between(entry: Mapping[str, Any] | None, key: str, unit: str = "", form: str = ".2f") -> str:
    """``1.20 (0.80 to 1.60)``, a value and its interval where it has one."""
    if entry is None or entry.get(key) is None:
        return "–"
    said = f"{entry[key]:{form}}{unit}"
    if entry.get("low") is not None:
        said += f" ({entry['low']:{form}} to {entry['high']:{form}})"
    return said.replace("-", "−")


def said_of(test: Mapping[str, Any] | None) -> str:
    """What a test over seeds says, with its p-value where it could say anything."""
    if test is None:
        return "–"
    return test["verdict"] if test["verdict"] == "too few seeds" else f"{test['verdict']} (p {test['p_holm']:.3f})"


def headline(found: Mapping[str, Any]) -> str:
    """The one sentence to take away."""
    tests = {line["strategy"]: line["beside_random"] for line in found["strategies"] if line["beside_random"]}
    if not tests:
        return "Nothing was run beside random search, so nothing is shown."
    budget = min(test["evaluations"] for test in tests.values())
    by_verdict: dict[str, list[str]] = {}
    for name, test in tests.items():
        by_verdict.setdefault(test["verdict"], []).append(name)
    said = []
    for verdict, words in (("better", "better than"), ("worse", "worse than"), ("not shown", "not told apart from")):
        if names := by_verdict.get(verdict):
            said.append(f"{_listed(names)} {'is' if len(names) == 1 else 'are'} {words} random search")
    if by_verdict.get("too few seeds"):
        said.append(f"so few seeds cannot tell any of them from random search: {found['seeds_needed']} could")
    text = "; ".join(said)
    return f"{text[0].upper()}{text[1:]}, at {budget} evaluation{'' if budget == 1 else 's'}."


def tables(found: Mapping[str, Any]) -> dict[str, list[Cells]]:
    """Every table of the page, by section."""
    pages = {"searches": [_results(found), _costs(found)], "ranks": [_ranks(found)], "hygiene": [_hygiene(found)]}
    if any(line["hypervolume"] for line in found["strategies"]):
        pages["searches"].insert(1, _volumes(found))
    if found["poison"]:
        pages["poison"] = [_robustness(found["poison"]["robustness"]), _harmful(found["poison"]["harmful"])]
    if found["gap"]:
        pages["settings"] = [_gap(found["gap"])]
    return pages


def _results(found: Mapping[str, Any]) -> Cells:
    sign = 1 if Problem.from_dict(found["problem"]).judge.maximise else -1
    heads = ["strategy", "seeds", "found", "spread", "over the random arch", "beside random search", "shift", "effect"]
    rows = []
    for line in found["strategies"]:
        result, test = line["result"], line["beside_random"]
        spread = f"{number(result['min'])} to {number(result['max'])}" if result else "–"
        deviation = f", sd {number(result['sd'], 2)}" if result and result["sd"] is not None else ""
        shift = None
        if test:
            bounds = [test["low"], test["high"]][::sign]
            turned = [None if b is None else sign * b for b in bounds]
            shift = {"shift": sign * test["shift"], "low": turned[0], "high": turned[1]}
        rows.append(
            [
                line["strategy"], str(line["seeds"]), number(result["mean"]) if result else "nothing",
                spread + deviation, between(line["relative_improvement"], "mean", " %"), said_of(test),
                between(shift, "shift", form=".3g"), f"{test['effect']:+.2f}".replace("-", "−") if test else "–",
            ]
        )  # fmt: skip
    if arch := found["random_arch"]:
        spread = f"{number(arch['min'])} to {number(arch['max'])}, sd {number(arch['sd'], 2)}"
        share = between(arch["relative_improvement"], "mean", " %")
        rows.append([f"average of {arch['n']:,} random archs", "–", number(arch["mean"]), spread, share, "–", "–", "–"])
    return "", "lrrlrlrr", heads, rows


def _volumes(found: Mapping[str, Any]) -> Cells:
    rows = [
        [
            line["strategy"], f"{100 * test['mean']:.1f} %", f"{100 * test['random']:.1f} %", said_of(test),
            f"{test['effect']:+.2f}".replace("-", "−"),
        ]
        for line in found["strategies"] if (test := line["hypervolume"])
    ]  # fmt: skip
    heads = ["strategy", "share of all fronts", "random search's", "beside random search", "effect"]
    return "Fronts, by hypervolume", "lrrlr", heads, rows


def _costs(found: Mapping[str, Any]) -> Cells:
    rows = []
    for line in found["strategies"]:
        counts, own, each = line["evaluations"], line["seconds"], line["evaluation_seconds"]
        few, many = counts["min"], counts["max"]
        said = f"{few:,.0f}" if few == many else f"{few:,.0f} to {many:,.0f}"
        seconds = [f"{cost['mean']:.3g} s" if cost else "–" for cost in (own, each)]
        rows.append([line["strategy"], said, *seconds])
    return "What it cost, a search", "lrrr", ["strategy", "evaluations", "its own time", "evaluating"], rows


def _ranks(found: Mapping[str, Any]) -> Cells:
    rows = []
    for name, key in (("all", "all"), ("the best tenth", "top")):
        tau = found["tau"][key]
        rows.append([name, between(tau, "value"), str(tau["n"]), str(tau["note"])])
    title = "Does what the search sees rank as the verdict does? Kendall's tau"
    return title, "lrrw", ["archs", "tau (95 % interval)", "archs", ""], rows


def _hygiene(found: Mapping[str, Any]) -> Cells:
    rows = [[entry["check"], entry["verdict"], entry["why"]] for entry in found["hygiene"]]
    return "Test data", "wlw", ["", "", ""], rows


def _robustness(entries: Sequence[Mapping[str, Any]]) -> Cells:
    heads = [
        "strategy", "bad options a choice", "found clean", "found poisoned", "loss", "evaluations on poison",
        "in the second half", "winners poisoned", "beside random search",
    ]  # fmt: skip
    rows = [
        [
            e["strategy"], f"{e['instances']} ({e['kind']})", number(e["clean"]), number(e["found"]),
            said_of(e["beside_clean"]), f"{100 * e['drawn']:.0f} %", f"{100 * e['drawn_late']:.0f} %",
            f"{e['picked']} of {e['beside_clean']['n']}", said_of(e["beside_random"]),
        ]
        for e in entries
    ]  # fmt: skip
    return "With bad options in every choice", "lrrrlrrrl", heads, rows


def _harmful(entries: Sequence[Mapping[str, Any]]) -> Cells:
    rows = [
        [e["choice"], str(e["option"]), str(e["n"]), f"{100 * e['worse']:.0f} %", f"{e['p_holm']:.2g}"] for e in entries
    ]
    title = "Options that archs do worse with" if rows else ""
    return title, "llrrr", ["choice", "option", "archs", "worse than another", "p"], rows


def _gap(entries: Sequence[Mapping[str, Any]]) -> Cells:
    rows = [
        [
            f"{e['choice']} {e['options'][0]} and {e['options'][1]}", between(e["tau"], "value"),
            between(e["top"], "value"), "–" if e["kept"] is None else f"{100 * e['kept']:.0f} %", str(e["tau"]["n"]),
        ]
        for e in entries
    ]  # fmt: skip
    heads = ["setting", "tau (95 % interval)", "of the best tenth", "of the best tenth, in both", "archs"]
    return "Do ranks hold in another setting?", "lrrrr", heads, rows


def terminal_page(found: Mapping[str, Any]) -> list[RenderableType]:
    """The page for Rich's console."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table
    from rich.text import Text

    parts: list[RenderableType] = [Text(_about(found)), Text(headline(found), style="bold")]
    for cells in [c for group in tables(found).values() for c in group]:
        title, align, heads, rows = cells
        if not rows:
            continue
        drawn = Table(title=title or None, title_justify="left", box=SIMPLE_HEAD, pad_edge=False)
        for letter, head in zip(align, heads, strict=True):
            drawn.add_column(head, justify="right" if letter == "r" else "left", overflow="fold")
        for row in rows:
            drawn.add_row(*(Text(cell) for cell in row))  # not markup: names are the user's
        parts.append(drawn)
    return parts + [Text(f"note: {note}") for note in found["notes"]]


def html_page(found: Mapping[str, Any], problem: Problem, traces: Sequence[Trace]) -> str:
    """The page as one self-contained HTML file, with the picture of the race."""
    name = escape(problem.name)
    titles = {
        "searches": "Searches", "ranks": "Ranks", "hygiene": "Test data", "poison": "Poison", "settings": "Settings",
    }  # fmt: skip
    picture = ""
    with contextlib.suppress(InputError):  # no search found anything: the tables say so
        picture = f"<figure>{race_svg(problem, traces)}</figure>"
    parts = [
        f"<section class=result><h1>{escape(headline(found))}</h1><p class=lead>{escape(_about(found))}</p></section>"
    ]
    for key, group in tables(found).items():
        body = [_html_table(cells, lone=len(group) == 1) for cells in group]
        parts.append(section(key, titles[key], *([picture] if key == "searches" else []), *body))
    parts += [f"<p class=note>{escape(note)}</p>" for note in found["notes"]]
    return document(name, "\n".join(parts), _SECTIONS, f"Written by Sartor {escape(__version__)}.")


def _html_table(cells: Cells, *, lone: bool) -> str:
    title, align, heads, rows = cells
    inner = table(align, [escape(h) for h in heads], [[escape(c) for c in row] for row in rows])
    return (
        (f"<p>{escape(title)}</p>" if lone else f"<h3>{escape(title)}</h3>" if title else "") + inner if inner else ""
    )


def _about(found: Mapping[str, Any]) -> str:
    problem = Problem.from_dict(found["problem"])
    seen = ", ".join(f"{o.metric} {'↑' if o.maximise else '↓'}" for o in problem.objectives)
    judged = problem.judge.metric if problem.verdict else "the first of them, for there is no other"
    archs = f"{problem.archs:,} archs. " if problem.archs else ""
    limits = "".join(f" Within {m} ≤ {limit:g}." for m, limit in problem.limits.items())
    return f"{problem.name}: {archs}Searched by {seen}; judged by {judged}.{limits}"


def _listed(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
