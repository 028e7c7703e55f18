"""Numbers as people read them: three significant digits, SI units, one thing per unit suffix."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

_SI = ((1e9, "G"), (1e6, "M"), (1e3, "k"))


def significant(value: float) -> str:
    """Three significant digits and never an exponent for everyday sizes: 0.213, 1.50, 12.4, 1,230."""
    if not math.isfinite(value):
        return "–"
    if value == 0:
        return "0"
    rounded = float(f"{value:.3g}")
    if abs(rounded) >= 100:
        return f"{rounded:,.0f}"
    if abs(rounded) < 1e-4:
        return f"{value:.2e}"
    return f"{value:.{2 - math.floor(math.log10(abs(rounded)))}f}"


def _scaled(value: float, unit: str) -> str:
    """SI prefix chosen after rounding, so that 999,999 reads 1.00 M and not 1,000 k."""
    rounded = float(f"{value:.3g}") if math.isfinite(value) else value
    for factor, prefix in _SI:
        if abs(rounded) >= factor:
            return f"{significant(value / factor)} {prefix}{unit}"
    return f"{significant(value)} {unit}".rstrip()


def count(value: float) -> str:
    """A number of things: ``12.5 M``."""
    return _scaled(value, "")


def size(value: float) -> str:
    """Bytes in powers of ten, as the budgets are given: ``268 kB``."""
    return _scaled(value, "B")


def ms(value: float) -> str:
    return "–" if not math.isfinite(value) else f"{significant(value)} ms"


def percent(value: float) -> str:
    """A fraction as a percentage with one decimal: ``87.4%``."""
    return "–" if not math.isfinite(value) else f"{100 * value:.1f}%"


def points(value: float) -> str:
    """A difference of two fractions in percentage points, signed: ``+3.1``, ``−0.4``."""
    text = f"{100 * value:+.1f}"
    return text.replace("-", "−").replace("+0.0", "0.0").replace("−0.0", "0.0")


def duration(seconds: float) -> str:
    """``42 s``, ``8 min 05 s``, ``20 min``, ``1 h 20 min``."""
    if not math.isfinite(seconds):
        return "–"
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min" + (f" {whole % 60:02d} s" if whole % 60 else "")
    minutes = round(seconds / 60)
    return f"{minutes // 60} h" + (f" {minutes % 60:02d} min" if minutes % 60 else "")


def plain(value: float) -> str:
    """A float without trailing zeros or exponent, for commands: 2.0 → ``2``, 0.25 → ``0.25``."""
    return str(int(value)) if float(value).is_integer() else f"{value:.12f}".rstrip("0")


METRICS: Mapping[str, tuple[str, Callable[[float], str]]] = {
    "accuracy_test": ("test accuracy", percent),
    "accuracy_val": ("validation accuracy", percent),
    "latency_ms": ("latency", ms),
    "latency_p95_ms": ("latency, 95th percentile", ms),
    "macs": ("multiply-adds", count),
    "params": ("parameters", count),
    "size_bytes": ("file size", size),
    "peak_memory_bytes": ("peak activation memory", size),
}
"""Metric → how it is called and how it is written."""

BUDGETS: Mapping[str, str] = {
    "latency_ms": "max_latency_ms",
    "size_bytes": "max_size_bytes",
    "macs": "max_macs",
    "peak_memory_bytes": "max_memory_bytes",
}
"""Metric → the argument that limits it."""


def write(name: str, value: float | None) -> str:
    """One metric's value as text; ``–`` where it was not measured."""
    if value is None:
        return "–"
    return METRICS[name][1](value) if name in METRICS else significant(value)


def limit(name: str, value: float) -> str:
    """A budget as it was given: ``0.5 ms`` and not ``0.500 ms``."""
    number, _, unit = write(name, value).partition(" ")
    return f"{number.rstrip('0').rstrip('.') if '.' in number else number} {unit}".rstrip()


def argument(value: float, steps: Sequence[tuple[float, str]]) -> str:
    """A quantity as an option takes it, in the largest unit that writes it whole: 1e6 bytes → ``1MB``.

    ``steps``: (factor, unit), largest first, the last with factor 1.
    """
    for factor, unit in steps:
        if value >= factor and float(value / factor).is_integer():
            return f"{int(value / factor)}{unit}"
    return f"{plain(value)}{steps[-1][1]}"
