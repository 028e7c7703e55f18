"""The top of the page: what the network takes, what bounds it, one row of numbers."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape
from typing import Any

from sartor.report import units
from sartor.report.measured.roofline import rate
from sartor.report.measured.told import Told

_AT_THE_ROOF = 1.05
_SLOW = 1.08
"""Beyond this a machine's pace changed while it was measured; as ``measure.timing`` has it."""
_HALF = 0.5
_BY = {"compute": "arithmetic", "memory": "memory", "overhead": "overhead"}


def headline(told: Told) -> str:
    """What it takes, where the time goes, and the numbers that a budget is about."""
    return (
        f"<section class=result id=result>{banners([told])}<h1 class=long>{_title(told)}</h1>"
        f"<p class=lead>{_lead(told)}</p>{_facts(told)}</section>"
    )


def _title(told: Told) -> str:
    takes = f"<em>{units.ms(told.found['latency_ms'])}</em>"
    whole = f"{'Predicted: ' if told.predicted else ''}{takes} a call"
    if not told.least_ms:
        return f"{whole}."
    if told.batch > 1:
        return f"{whole} of {told.batch} examples."
    times = told.found["latency_ms"] / told.least_ms
    if times <= _AT_THE_ROOF:
        return f"{whole}: that is the machine’s roof."
    return f"{whole}, {times:.1f} times what the machine’s roof allows."


def _lead(told: Told) -> str:
    found = told.found
    examples = f"{told.batch} examples" if told.batch > 1 else "one example"
    said = [f"<b>{escape(told.model)}</b> on {setting(found)}, {examples} at a time."]
    if told.batch > 1:
        said.append(f"That is {units.ms(told.example_ms)} an example; what follows is of one at a time.")
    if told.layers and told.layers_ms:
        bounds = told.times(lambda layer: layer.bound)
        shares = {_BY.get(name, escape(name)): ms / told.layers_ms for name, ms in bounds.items()}
        parts = [f"{name} {units.percent(share)}" for name, share in shares.items()]
        said.append(f"What bounds its time: {listed(parts)}.")
        slow = sorted(told.layers, key=lambda layer: -layer.time_ms)
        half, spent = 0, 0.0
        while half < len(slow) and spent < _HALF * told.layers_ms:
            spent += slow[half].time_ms
            half += 1
        most = f"The slowest layer, <b>{escape(slow[0].name)}</b>, takes {units.percent(slow[0].share)} of it"
        said.append(f"{most}; half of it goes to {half} of {len(slow)} layers.")
    return " ".join(said)


def setting(found: Mapping[str, Any]) -> str:
    """The target and its threads."""
    threads = int(found.get("threads", 1))
    return f"{escape(str(found.get('target', '')))} with {threads} thread{'' if threads == 1 else 's'}"


def _facts(told: Told) -> str:
    found = told.found
    cells = [
        ("parameters", units.count(found["params"]), ""),
        ("multiply-adds", units.count(found["macs"]), _reached(told)),
        ("latency", units.ms(found["latency_ms"]), interval(told)),
        ("peak activation memory", units.size(found["peak_activation_bytes"]), _planned(found)),
        ("file size", units.size(found["size_bytes"]), ""),
    ]
    items = "".join(
        f"<div><dt>{name}</dt><dd>{value}{f'<small>{below}</small>' if below else ''}</dd></div>"
        for name, value, below in cells
    )
    return f"<dl class=facts>{items}</dl>"


def interval(told: Told) -> str:
    """The interval of the median, as text."""
    if told.calculated:
        return "calculated"
    low, high = told.found["latency_ci_ms"]
    return f"95% interval {units.significant(low)} to {units.ms(high)}"


def _reached(told: Told) -> str:
    if not told.found["latency_ms"]:
        return ""
    reached = 1e3 * told.found["macs"] / told.example_ms
    of = f", {units.percent(told.arithmetic_ms / told.example_ms)} of the peak" if told.arithmetic_ms else ""
    return rate(reached) + of


def _planned(found: Mapping[str, Any]) -> str:
    planned = found.get("planned_activation_bytes")
    return f"{units.size(planned)} as planned" if planned else ""


def banners(models: list[Told]) -> str:
    """What makes the numbers less than they look."""
    said = []
    timings = [told.found.get("timing") or {} for told in models]
    if any(timing.get("disturbed") for timing in timings):
        said.append("The machine never came to rest while this was measured: measure again when it is quiet.")
    drift = max((timing.get("drift", 1.0) for timing in timings), key=lambda d: max(d, 1 / d) if d else 1.0)
    if drift and not 1 / _SLOW <= drift <= _SLOW:
        change = "slower" if drift > 1 else "faster"
        said.append(f"The machine became {abs(drift - 1):.0%} {change} on the way: it throttles, or is shared.")
    said += [f"{told.name} does not fit: {line}" for told in models for line in told.found.get("misfits", ())]
    return "".join(f"<p class=banner>{escape(line)}</p>" for line in said)


def listed(parts: list[str]) -> str:
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} and {parts[-1]}"
