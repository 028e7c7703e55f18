"""The report's second half, how it came about: the search, what lost, the time, the curves, the provenance."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from sartor.report import charts, story, units
from sartor.report.page import Page, listing, section, table


def searched(page: Page) -> str:
    """What was searched and how well the cheap evaluation ranks: the space, the counts, tau, random beside search."""
    evidence = page.run.evidence
    space, search = evidence.get("space") or {}, evidence.get("search") or {}
    history = search.get("history") or []
    facts: list[tuple[str, str]] = []
    if space.get("archs") is not None:
        facts.append(("networks in the space", _number(space["archs"])))
    if search.get("strategy"):
        facts.append(("strategy", escape(str(search["strategy"]))))
    for key, label in (
        ("predicted", "ranked by the predictor"),
        ("evaluated", "evaluated with shared weights"),
        ("measured", "exported and timed"),
    ):
        if search.get(key) is not None:
            facts.append((label, _number(search[key])))
    tau = evidence.get("tau") or {}
    if tau.get("value") is not None:
        facts.append(("Kendall's tau", _tau(tau)))
    figure = charts.search_figure(history)
    chart = ""
    if figure:
        beside = f"{_beside_random(history)} {_audit(search.get('audit') or {})}"
        caption = f"Every network the search measured, before any was trained on its own. {beside}"
        chart = f"<figure>{page.chart('search', figure, 'low')}<figcaption>{caption}</figcaption></figure>"
    return section("search", "What was searched", listing(facts), chart, _choices(space.get("choices") or []))


def _number(value: Any) -> str:
    """A count as HTML, numbers that came as text included: ``18,000``, ``1.2 × 10⁹``."""
    try:
        number = float(value)
    except (TypeError, ValueError):
        return escape(str(value))
    if abs(number) < 1e7:
        return f"{number:,.0f}"
    digits, _, power = f"{number:.1e}".partition("e")
    return f"{digits} × 10<sup>{int(power)}</sup>" if power else digits


def _tau(tau: Mapping[str, Any]) -> str:
    """Tau with its interval and what it means."""
    value = float(tau["value"])
    words = (
        (0.8, "the shared weights rank networks almost as separate training does"),
        (0.5, "the shared weights rank networks mostly as separate training does"),
        (0.2, "the shared weights say something about the rank of networks, not much"),
        (-2.0, "the shared weights say nothing reliable about the rank of networks"),
    )
    text = next(word for least, word in words if value >= least)
    head = f"<b>{value:.2f}</b>".replace("-", "−")
    if tau.get("low") is not None and tau.get("high") is not None:
        head += f" (95% interval {tau['low']:.2f} to {tau['high']:.2f}".replace("-", "−")
        head += f", {escape(str(tau['n']))} networks)" if tau.get("n") else ")"
    elif tau.get("n"):
        head += f" ({escape(str(tau['n']))} networks)"
    said = str(tau.get("note") or "")
    note = f". {escape(said[0].upper() + said[1:])}." if said else "."
    return f"{head}: {text}{note}"


def _beside_random(history: Sequence[Mapping[str, Any]]) -> str:
    """How many of the random networks some network of the search is both no slower and more accurate than."""
    some = [h for h in history if h.get("accuracy_val") is not None and h.get("latency_ms")]
    random = [h for h in some if h.get("kind") == "random"]
    search = [h for h in some if h.get("kind", "search") == "search"]
    if not random or not search:
        return ""

    def beaten(r: Mapping[str, Any]) -> bool:
        return any(s["latency_ms"] <= r["latency_ms"] and s["accuracy_val"] > r["accuracy_val"] for s in search)

    return (
        f"{sum(map(beaten, random))} of the {len(random)} random networks are beaten by one of the search's "
        f"{len(search)}: no slower and more accurate."
    )


def _audit(audit: Mapping[str, Any]) -> str:
    """What the search gained over random sampling, from its audit (sartor.search.audit.compare), gain or loss."""
    gain, ratio = audit.get("gain_at_equal_cost"), (audit.get("hypervolume") or {}).get("ratio")
    said = []
    if gain is not None:
        said.append(f"At a random network's latency the search's best is {units.points(gain)} points on average.")
    if ratio is not None:
        said.append(f"Its front covers {ratio:.2f} times the hypervolume.")
    return " ".join(said)


def _choices(choices: Sequence[Mapping[str, Any]]) -> str:
    rows = [[escape(str(c.get("name", "?"))), escape(", ".join(map(str, c.get("options") or [])))] for c in choices]
    grid = table("lw", ["choice", "options"], rows, wide=False)
    return f"<details><summary>The {len(rows)} choices of the space</summary>{grid}</details>" if rows else ""


def tried(page: Page) -> str:
    """What was tried, what of it was undone and why; the losses first."""
    entries = sorted(page.run.evidence.get("tried") or [], key=lambda t: bool(t.get("kept")))
    if not entries:
        return ""
    lost = sum(1 for t in entries if not t.get("kept"))
    intro = f"<p>A step is kept only where it measured better: {lost} of {len(entries)} did not.</p>"
    verdicts = ("<span class='verdict bad'>undone</span>", "<span class='verdict good'>kept</span>")
    rows = [
        [escape(str(t.get("what", "?"))), verdicts[bool(t.get("kept"))], escape(str(t.get("why") or ""))]
        for t in entries
    ]
    return section("tried", "What was tried and lost", intro, table("wlw", ["step", "verdict", "why"], rows))


def time_spent(page: Page) -> str:
    """A bar a stage, with the planned length as a mark; a stage that was resumed counts together."""
    spent: dict[str, float] = {}
    for entry in page.run.info.get("times") or []:
        name = str(entry.get("stage", "?"))
        spent[name] = spent.get(name, 0.0) + float(entry.get("seconds") or 0.0)
    stages = (page.run.info.get("plan") or {}).get("stages") or []
    planned = {str(s.get("name", "?")): float(s.get("seconds") or 0.0) for s in stages}
    told = {str(s.get("name", "?")): str(s["what"]) for s in stages if s.get("what")}
    names = list(dict.fromkeys([*spent, *planned]))
    longest = max([*spent.values(), *planned.values()], default=0.0)
    if longest <= 0:
        return ""
    rows = []
    for name in names:
        took, plan = spent.get(name), planned.get(name)
        bar = f"<i style='width:{100 * (took or 0) / longest:.1f}%'></i>"
        if plan:
            bar += (
                f"<b style='left:calc({100 * plan / longest:.1f}% - 1px)' title='planned {units.duration(plan)}'></b>"
            )
        said = f"<strong>{units.duration(took)}</strong>" if took is not None else "not run"
        said += f" of {units.duration(plan)}" if plan else ""
        what = f"<br><span class=quiet>{escape(told[name])}</span>" if name in told else ""
        rows.append(
            f"<span class=stage>{escape(name)}{what}</span><span class=track>{bar}</span><span class=time>{said}</span>"
        )
    total = units.duration(sum(spent.values()))
    asked = page.arguments.get("time_s")
    given = f" of the {units.duration(asked)} given" if isinstance(asked, (int, float)) else ""
    mark = " The thin marks are the plan." if planned else ""
    bars = f"<div class=bars>{''.join(rows)}</div>"
    return section("time", "Where the time went", f"<p>{total}{given}.{mark}</p>", bars)


def curves(page: Page) -> str:
    figure = charts.curves_figure(page.run.evidence.get("curves") or [])
    if figure is None:
        return ""
    chart = page.chart("curves", figure, "tall")
    caption = "Losses are faint as they came and strong as a moving average. Click a name to hide it."
    return section("curves", "Learning curves", f"<figure>{chart}<figcaption>{caption}</figcaption></figure>")


def provenance(page: Page) -> str:
    """Everything needed to make the run again, and to know what the numbers were measured on."""
    info = page.run.info
    parts = [f"<pre><code>{escape(story.command(page.arguments))}</code></pre>", _splits(page)]
    facts = [("seed", escape(str(info.get("seed", page.arguments.get("seed", "unknown")))))]
    facts += [
        (name.removesuffix("_bytes").replace("_", " "), _value(name, value))
        for name, value in (info.get("device") or {}).items()
    ]
    versions = [("sartor", escape(str(info.get("sartor", "unknown"))))]
    versions += [(n, escape(str(v))) for n, v in (info.get("versions") or {}).items() if n != "sartor"]
    machine, software = f"<h3>Machine</h3>{listing(facts)}", f"<h3>Versions</h3>{listing(versions)}"
    parts.append(f"<div class=halves><div>{machine}</div><div>{software}</div></div>")
    skipped = page.data.get("skipped") or []
    if skipped:
        lines = "".join(f"<li>{escape(str(line))}</li>" for line in skipped)
        parts.insert(
            2, f"<details><summary>{len(skipped)} images could not be read</summary><ul>{lines}</ul></details>"
        )
    raw = [(name, f"<code>{escape(json.dumps(value))}</code>") for name, value in page.arguments.items()]
    if raw:
        parts.append(f"<details><summary>All arguments</summary>{listing(raw)}</details>")
    return section("provenance", "Provenance", *parts)


def _value(name: str, value: Any) -> str:
    if name.endswith("_bytes") and isinstance(value, (int, float)):
        return units.size(value)
    return escape(", ".join(map(str, value)) if isinstance(value, list) else str(value))


def _splits(page: Page) -> str:
    data = page.data
    if not data:
        return ""
    side, channels = data.get("resolution", "?"), data.get("channels", "?")
    shape = f"{side}×{side}, {channels} channel{'' if channels == 1 else 's'}, {len(data.get('classes') or [])} classes"
    facts = [
        ("data", escape(str(data.get("name", "unknown")))),
        ("images", escape(shape)),
        ("fingerprint", f"<code>{escape(str(data.get('fingerprint', 'unknown')))}</code>"),
    ]
    rows = []
    for name, split in (data.get("splits") or {}).items():
        part = split or {}
        origin = "made, stratified and seeded" if part.get("made") else "as given"
        digest = escape(str(part.get("sha256") or "–"))
        members = f"<code title='{digest}'>{digest[:16]}</code>"
        rows.append([escape(str(name)), f"{part.get('n') or 0:,}", origin, members])
    heads = ["split", "images", "origin", "hash of its members"]
    return f"<h3>Data</h3>{listing(facts)}{table('lrll', heads, rows, wide=False)}"
