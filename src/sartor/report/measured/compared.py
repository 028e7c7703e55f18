"""Networks side by side: what each takes beside the first, where the time goes, and which layers differ."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from html import escape
from typing import Any

from sartor.measure.layers.layer import Layer
from sartor.measure.layers.matched import Pair, matched
from sartor.report import units
from sartor.report.measured.headline import banners, interval, listed, setting
from sartor.report.measured.layers import layer_table, untold
from sartor.report.measured.made import made
from sartor.report.measured.roofline import roofline_parts
from sartor.report.measured.times import times
from sartor.report.measured.told import Drawn, Told, kind
from sartor.report.measured.waterline import waterline_parts
from sartor.report.page import section, table

_TOTALS: Mapping[str, tuple[str, Callable[[float], str]]] = {
    "latency_ms": ("latency", units.ms),
    "params": ("parameters", units.count),
    "macs": ("multiply-adds", units.count),
    "elementwise": ("elementwise work", units.count),
    "peak_activation_bytes": ("peak activation memory", units.size),
    "planned_activation_bytes": ("activation memory as planned", units.size),
    "size_bytes": ("file size", units.size),
}

_SHOWN = 24
"""Layers that differ most; the others are folded away."""


def compared(models: Sequence[Told], ratios: Sequence[Mapping[str, Any]], drawn: Drawn) -> str:
    """The body of the page. ``ratios``: each of the others beside the first, as ``sartor measure`` prints them."""
    named = _named(models)
    tables = "".join(
        f"<details><summary>{escape(name)}: {len(told.layers)} layers</summary>{layer_table(told)}</details>"
        for name, told in named.items()
        if told.layers
    )
    parts = [
        _headline(named, ratios),
        section("totals", "Side by side", _totals(named, ratios)),
        times(named, drawn),
        section("differences", "What differs", _operators(named), _layers(named)),
        section("roofline", "Under the machine's roof", *roofline_parts(named, drawn, "roofline")),
        section("efficiency", "How efficient they are", *waterline_parts(named, drawn)),
        section("layers", "Layers", tables, *(untold(told) for told in models)),
        made(named),
    ]
    return "\n".join(part for part in parts if part)


def _named(models: Sequence[Told]) -> dict[str, Told]:
    """Short names that tell the networks apart."""
    named: dict[str, Told] = {}
    for number, told in enumerate(models, start=1):
        alike = [other for other in models if other.name == told.name]
        name = told.name if len(alike) == 1 else told.model
        named[f"{name} ({number})" if name in named else name] = told
    return named


def _headline(named: Mapping[str, Told], ratios: Sequence[Mapping[str, Any]]) -> str:
    (first, one), *_ = named.items()
    others = [name for name in named if name != first]
    said = [_beside(name, ratio, first) for name, ratio in zip(others, ratios, strict=True)]
    fair = "Timed in turns, so that a slow minute hit all of them alike."
    if one.predicted or one.calculated:
        fair = "Predicted from one profile." if one.predicted else "Calculated by a model of the machine."
    title = f"{listed(said)}."
    ends = "" if one.calculated else " A ratio’s interval goes from end to end of both networks’."
    lead = f"On {setting(one.found)}. {fair}{ends}"
    return (
        f"<section class=result id=result>{banners(list(named.values()))}<h1 class=long>{title}</h1>"
        f"<p class=lead>{lead}</p></section>"
    )


def _beside(name: str, ratio: Mapping[str, Any], first: str) -> str:
    value = ratio["latency_ms"]
    low, high = ratio["latency_ci"] or (0.0, math.inf)  # nothing is known of how far it may be off
    if low <= 1 <= high:
        return f"<em>{escape(name)}</em> is as fast as {escape(first)}, as far as can be told"
    faster = value < 1
    times_ = f"{1 / value if faster else value:.2f} times as {'fast' if faster else 'slow'}"
    return f"<em>{escape(name)}</em> is {times_} as {escape(first)}"


def _totals(named: Mapping[str, Told], ratios: Sequence[Mapping[str, Any]]) -> str:
    rows = []
    for key, (label, write) in _TOTALS.items():
        values = [told.found.get(key) for told in named.values()]
        if all(value is None for value in values):
            continue
        cells = [label]
        for number, (value, told) in enumerate(zip(values, named.values(), strict=True)):
            below = f"<br><span class=quiet>{interval(told)}</span>" if key == "latency_ms" else ""
            cells.append("–" if value is None else f"<b>{write(value)}</b>{below}")
            if number:
                cells.append(_ratio(ratios[number - 1], key))
        rows.append(cells)
    rows += _efficiencies(named)
    first, *others = (escape(name) for name in named)
    heads = ["", first, *(head for name in others for head in (name, "ratio"))]
    return table("l" + "r" * (len(heads) - 1), heads, rows)


def _ratio(ratio: Mapping[str, Any], key: str) -> str:
    value = ratio.get(key)
    if value is None:
        return "–"
    if key != "latency_ms":
        return f"{value:.2f}×"
    if ratio["latency_ci"] is None:
        return f"<b>{value:.2f}×</b>"
    low, high = ratio["latency_ci"]
    css = "" if low <= 1 <= high else " class=good" if value < 1 else " class=bad"
    return f"<b{css}>{value:.2f}×</b><br><span class=quiet>{low:.2f} to {high:.2f}</span>"


def _efficiencies(named: Mapping[str, Told]) -> list[list[str]]:
    """What the roof would allow, and how much of the peak is reached, where there is a roof."""
    models = list(named.values())
    if not all(told.least_ms for told in models):
        return []
    lines: list[list[str]] = []
    least = [told.least_ms for told in models]
    for label, values, write in (
        ("every layer at the roof", least, units.ms),
        ("efficiency, of the peak", [told.efficiency for told in models], units.percent),
    ):
        cells = [label, f"<b>{write(values[0])}</b>"]
        for value in values[1:]:
            cells += [f"<b>{write(value)}</b>", f"{value / values[0]:.2f}×" if values[0] else "–"]
        lines.append(cells)
    return lines


def _operators(named: Mapping[str, Told]) -> str:
    """By operator: how many layers, and their time."""
    names: dict[str, float] = {}
    for told in named.values():
        for name, ms in told.times(kind).items():
            names[name] = max(names.get(name, 0.0), ms)
    rows = []
    for name in sorted(names, key=lambda name: -names[name]):
        cells = [escape(name)]
        for told in named.values():
            some = [layer for layer in told.layers if kind(layer) == name]
            count = f"{len(some)} layer{'' if len(some) == 1 else 's'}"
            time = f"<b>{units.ms(sum(layer.time_ms for layer in some))}</b>"
            cells.append(f"<span class=quiet>{count}</span> &ensp;{time}" if some else "–")
        rows.append(cells)
    return (
        "<h3>By operator</h3>" + table("l" + "r" * len(named), ["operator", *map(escape, named)], rows) if rows else ""
    )


def _layers(named: Mapping[str, Told]) -> str:
    """Layer by layer beside the first network, the largest differences in time first."""
    first, *others = named
    parts = []
    for name in others:
        pairs = sorted(matched(named[first].layers, named[name].layers), key=lambda pair: -abs(pair.change_ms))
        if not any(pair.both for pair in pairs):
            if pairs:
                parts.append(f"<p>No layer of {escape(name)} has the name of one of {escape(first)}’s.</p>")
            continue
        said = (
            f"<p>{sum(pair.both for pair in pairs)} layers have the same name in both; "
            f"{escape(first)} alone has {sum(pair.after is None for pair in pairs)}, "
            f"{escape(name)} alone {sum(pair.before is None for pair in pairs)}. "
            "The largest differences in time first.</p>"
        )
        more = f"<details><summary>{len(pairs) - _SHOWN} more</summary>{_pairs(pairs[_SHOWN:])}</details>"
        body = _pairs(pairs[:_SHOWN]) + (more if len(pairs) > _SHOWN else "")
        parts.append(f"<h3>{escape(first)} → {escape(name)}</h3>{said}<div class=compact>{body}</div>")
    return "".join(parts)


def _pairs(pairs: Sequence[Pair]) -> str:
    heads = ["layer", "operator", "output", "MACs", "time", "change", "bound by"]
    return table("lllrrrl", heads, [_row(pair) for pair in pairs])


def _row(pair: Pair) -> list[str]:
    def both(write: Callable[[Layer], str]) -> str:
        before, after = (escape(write(layer)) if layer else "" for layer in (pair.before, pair.after))
        return before or after if before == after or not (before and after) else f"{before} → {after}"

    css = "good" if pair.change_ms < 0 else "bad"
    sign = "−" if pair.change_ms < 0 else "+"
    gone = "" if pair.both else f"<span class=tag>{'gone' if pair.before else 'new'}</span>"
    return [
        escape(pair.name) + gone,
        both(lambda layer: layer.operator),
        both(lambda layer: "×".join(map(str, layer.output_shape))),
        both(lambda layer: units.count(layer.macs)),
        both(lambda layer: units.ms(layer.time_ms)),
        f"<b class={css}>{sign}{units.ms(abs(pair.change_ms))}</b>",
        both(lambda layer: layer.bound),
    ]
