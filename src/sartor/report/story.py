"""The comparison with the baselines, in numbers and in sentences, and said plainly when it was lost.

Accuracies here are of one kind (test where every record has it, else validation), and a difference is called noise
when it is smaller than the 95% interval of the difference of two independent proportions on that many images: wider
than the paired interval would be, since both saw the same images, so it never claims too much.
"""

from __future__ import annotations

import math
import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sartor.records import Record
from sartor.report import units

Z95 = 1.959964
"""Two-sided 95% quantile of the normal distribution."""


@dataclass(frozen=True)
class Point:
    """A network as a comparison sees it: how right, how fast."""

    name: str
    accuracy: float
    latency_ms: float
    note: str = ""

    @property
    def label(self) -> str:
        """The name as a chart has room for it: up to the first colon or comma."""
        return self.name.partition(":")[0].partition(",")[0]


def accuracy_metric(records: Sequence[Record]) -> str:
    """``accuracy_test`` when every record has it, else ``accuracy_val``."""
    return "accuracy_test" if records and all("accuracy_test" in r.metrics for r in records) else "accuracy_val"


def points_of(records: Sequence[Record], metric: str) -> list[Point]:
    return [
        Point(r.name, r.metrics[metric], r.metrics["latency_ms"])
        for r in records
        if metric in r.metrics and "latency_ms" in r.metrics
    ]


def baselines_of(evidence: Mapping[str, Any], metric: str) -> list[Point]:
    """The baselines that have both numbers, fastest first."""
    found = [
        Point(str(b.get("name", "baseline")), b[metric], b["latency_ms"], str(b.get("note") or ""))
        for b in evidence.get("baselines") or []
        if b.get(metric) is not None and b.get("latency_ms") is not None
    ]
    return sorted(found, key=lambda b: (b.latency_ms, -b.accuracy))


def interval(accuracy: float, n: int) -> tuple[float, float]:
    """Wilson's 95% interval of a proportion seen on ``n`` images (Wilson 1927)."""
    centre = (accuracy + Z95**2 / (2 * n)) / (1 + Z95**2 / n)
    half = Z95 / (1 + Z95**2 / n) * math.sqrt(accuracy * (1 - accuracy) / n + Z95**2 / (4 * n * n))
    return max(0.0, centre - half), min(1.0, centre + half)


def is_noise(a: float, b: float, n: int | None) -> bool:
    """Whether the difference of two accuracies on ``n`` images lies within its 95% interval."""
    return bool(n) and abs(a - b) < Z95 * math.sqrt((a * (1 - a) + b * (1 - b)) / n)  # type: ignore[operator]


@dataclass(frozen=True)
class Against:
    """One baseline beside a front: accuracy gained at its latency, time saved at its accuracy (None: nothing there)."""

    baseline: Point
    at_latency: Point | None
    at_accuracy: Point | None

    @property
    def gain(self) -> float | None:
        return None if self.at_latency is None else self.at_latency.accuracy - self.baseline.accuracy

    @property
    def speedup(self) -> float | None:
        return None if self.at_accuracy is None else self.baseline.latency_ms / self.at_accuracy.latency_ms


def against(front: Sequence[Point], baselines: Sequence[Point]) -> list[Against]:
    """For each baseline: the front's most accurate member no slower, and its fastest member no less accurate."""
    rows = []
    for b in baselines:
        no_slower = [p for p in front if p.latency_ms <= b.latency_ms]
        no_worse = [p for p in front if p.accuracy >= b.accuracy]
        rows.append(
            Against(
                b,
                max(no_slower, key=lambda p: p.accuracy, default=None),
                min(no_worse, key=lambda p: p.latency_ms, default=None),
            )
        )
    return rows


def compare(picked: Point, baselines: Sequence[Point], n: int | None = None) -> list[str]:
    """The picked member beside the baselines, in one or two sentences; empty without baselines."""
    if not baselines:
        return []
    sentences = []
    no_slower = [b for b in baselines if b.latency_ms <= picked.latency_ms]
    best = max(no_slower, key=lambda b: b.accuracy, default=None)
    if best is None:
        fastest = min(baselines, key=lambda b: b.latency_ms)
        gap = picked.accuracy - fastest.accuracy
        word = "more" if gap >= 0 else "less"
        sentences.append(
            f"Every baseline is slower: the fastest of them, {fastest.name}, takes "
            f"{_times(fastest.latency_ms / picked.latency_ms)} as long, and the picked network is "
            f"{_points(gap)} {word} accurate than it{_noise(picked, fastest, n)}."
        )
    else:
        gap = picked.accuracy - best.accuracy
        if gap > 0:
            sentences.append(
                f"It is {_points(gap)} more accurate than the best baseline that is no slower, {best.name} "
                f"({units.percent(best.accuracy)} in {units.ms(best.latency_ms)}){_noise(picked, best, n)}."
            )
        else:
            lead = f"{_points(gap)} more accurate" if gap < 0 else "just as accurate"
            sentences.append(
                f"A baseline does as well or better: {best.name} is {lead} and no slower "
                f"({units.percent(best.accuracy)} in {units.ms(best.latency_ms)}){_noise(picked, best, n)}."
            )
            return sentences
    match = min((b for b in baselines if b.accuracy >= picked.accuracy), key=lambda b: b.latency_ms, default=None)
    if match is None:
        sentences.append("No baseline reaches its accuracy.")
    elif best is not None or match.name != min(baselines, key=lambda b: b.latency_ms).name:
        sentences.append(
            f"The fastest baseline that matches its accuracy, {match.name}, takes "
            f"{_times(match.latency_ms / picked.latency_ms)} as long."
        )
    return sentences


def itself(picked: Point, front: Sequence[Point]) -> list[str]:
    """Where the picked member is the baseline itself, the largest network: what the others of the front are for."""
    said = ["It is the largest network of the space, which training without a search gives: nothing is more accurate."]
    near = [p for p in front if p.accuracy >= picked.accuracy - 0.01 and p.latency_ms < picked.latency_ms]
    if near:
        fastest = min(near, key=lambda p: p.latency_ms)
        said.append(
            f"{fastest.name}, within a point of it, takes {_times(fastest.latency_ms / picked.latency_ms)} as long."
        )
    return said


def _points(gap: float) -> str:
    text = f"{abs(100 * gap):.1f}"
    return f"{text} point" if text == "1.0" else f"{text} points"


def _times(ratio: float) -> str:
    return f"{ratio:.2f} times" if ratio < 1.95 else f"{ratio:.1f} times"


def _noise(a: Point, b: Point, n: int | None) -> str:
    return f", a difference within the noise of {n:,} images" if is_noise(a.accuracy, b.accuracy, n) else ""


_BYTES = ((1e9, "GB"), (1e6, "MB"), (1e3, "KB"), (1, "B"))

_FLAGS: Mapping[str, tuple[str, Callable[[Any], str]]] = {
    "max_latency_ms": ("--max-latency", lambda v: f"{units.plain(v)}ms"),
    "max_size_bytes": ("--max-size", lambda v: units.argument(v, _BYTES)),
    "max_macs": ("--max-macs", lambda v: units.argument(v, ((1e9, "G"), (1e6, "M"), (1e3, "k"), (1, "")))),
    "max_memory_bytes": ("--max-memory", lambda v: units.argument(v, _BYTES)),
    "time_s": ("--time", lambda v: units.argument(v, ((3600, "h"), (60, "m"), (1, "s")))),
    "target": ("--target", str),
    "threads": ("--threads", str),
    "precision": ("--precision", lambda v: v if isinstance(v, str) else ",".join(v)),
    "seed": ("--seed", str),
    "out": ("--out", str),
}


def command(arguments: Mapping[str, Any]) -> str:
    """The command line that asks for the same run: ``sartor fit photos --max-latency 2ms --time 30m …``."""
    words = ["sartor", "fit", str(arguments.get("data", "DATA"))]
    for name, (flag, text) in _FLAGS.items():
        if arguments.get(name) is not None:
            words += [flag, text(arguments[name])]
    return shlex.join(words)
