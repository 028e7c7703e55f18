"""On what machine, with what, and how a page's numbers were measured."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape
from typing import Any

from sartor.report import units
from sartor.report.measured.headline import setting
from sartor.report.measured.roofline import rate
from sartor.report.measured.told import Told
from sartor.report.page import listing, section


def made(models: Mapping[str, Told]) -> str:
    """The section: the machine, and how each network was timed."""
    first = next(iter(models.values()))
    pairs = [("target", setting(first.found)), *_device(first.found.get("device") or {}), *_roof(first)]
    for name, told in models.items():
        said = _timing(told.found)
        if said:
            pairs.append((f"timing of {name}" if len(models) > 1 else "timing", said))
    versions = first.found.get("versions") or {}
    pairs.append(("versions", escape(", ".join(f"{name} {version}" for name, version in versions.items()))))
    return section("made", "How it was measured", listing(pairs))


def _device(device: Mapping[str, Any]) -> list[tuple[str, str]]:
    said = []
    for key, value in device.items():
        if value in (None, "", []):
            continue
        text = units.size(value) if key == "memory_bytes" and isinstance(value, int) else str(value)
        text = ", ".join(map(str, value)) if isinstance(value, (list, tuple)) else text
        said.append((key.removesuffix("_bytes").replace("_", " "), escape(text)))
    return said


def _roof(told: Told) -> list[tuple[str, str]]:
    roof = told.roof
    if roof is None:
        return []
    ridge = f"{units.significant(roof.ridge)} multiply-adds a byte where they meet"
    return [("roof", f"{rate(roof.peak_macs_per_s)} and {units.size(roof.bytes_per_s)}/s: {ridge}")]


def _timing(found: Mapping[str, Any]) -> str:
    timing = found.get("timing")
    if not timing:
        return (
            f"predicted, {units.percent(found['known'])} of it from parts that were timed" if "known" in found else ""
        )
    if timing.get("source", "measured") != "measured":
        return "calculated by a model of the machine"
    clock = f", {timing['cpu_mhz']:,.0f} MHz" if timing.get("cpu_mhz") else ""
    calls = f"median of {timing['n']:,} calls after {timing['warmup']:,} to warm up"
    return f"{calls}; 95th percentile {units.ms(timing['p95_ms'])}; load {timing['load']:.1f}{clock}"
