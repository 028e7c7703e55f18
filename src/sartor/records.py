"""The nouns: Arch, Budget, Record, and the front of a list of records. Frozen, JSON-able, no torch.

Names of metrics carry their unit as a suffix (``latency_ms``, ``size_bytes``); accuracies are fractions in [0, 1].
"""

from __future__ import annotations

import hashlib
import json
import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any

from sartor.errors import InputError

Option = str | int | float | bool

FRONT_COLUMNS = (
    "name",
    "precision",
    "accuracy_test",
    "accuracy_val",
    "latency_ms",
    "latency_p95_ms",
    "macs",
    "params",
    "size_bytes",
    "peak_memory_bytes",
)
"""The columns every front.csv begins with."""


class Arch(Mapping[str, Option]):
    """A frozen assignment of options to choices: the identity of a network.

    ``Arch({"s0.depth": 2, "s0.width": 32})``. Two archs are equal when they assign the same options; ``key`` is a
    short stable hash. Inactive choices are absent (canonical form), which is the space's business.
    """

    __slots__ = ("_items", "_key")

    def __init__(self, choices: Mapping[str, Option]):
        for name, option in choices.items():
            if not isinstance(name, str) or not isinstance(option, (str, int, float, bool)):
                raise InputError(f"an arch maps names to text, numbers or booleans, not {name!r}: {option!r}")
        self._items = dict(sorted(choices.items()))
        self._key = hashlib.sha256(self.to_json().encode()).hexdigest()[:12]

    @property
    def key(self) -> str:
        return self._key

    def __getitem__(self, name: str) -> Option:
        return self._items[name]

    def options(self, names: Iterable[str]) -> list[Option | None]:
        """The options of several choices, None where one is absent: for many archs, where asking one by one is slow."""
        return list(map(self._items.get, names))

    def __iter__(self) -> Iterator[str]:
        return iter(self._items)

    def __len__(self) -> int:
        return len(self._items)

    def __hash__(self) -> int:
        return hash(self._key)

    def __eq__(self, other: object) -> bool:
        # By key too: Python has 1 == 1.0 == True, which are three options, three JSON texts and three hashes.
        return isinstance(other, Arch) and self._key == other._key and self._items == other._items

    def __repr__(self) -> str:
        return f"Arch({self._items!r})"

    def replace(self, **options: Option) -> Arch:
        """A copy with some options changed: ``arch.replace(**{"s0.depth": 1})``."""
        return Arch({**self._items, **options})

    def to_json(self) -> str:
        return json.dumps(self._items, sort_keys=True, separators=(",", ":"), allow_nan=False)

    @classmethod
    def from_json(cls, text: str) -> Arch:
        """Parse :meth:`to_json`'s text. Raises InputError when it is not an arch."""
        try:
            value = json.loads(text)
        except json.JSONDecodeError as error:
            raise InputError(f"not an arch: {error}") from error
        if not isinstance(value, dict):
            raise InputError("not an arch: a JSON object of choice names to options is needed")
        return cls(value)


@dataclass(frozen=True)
class Budget:
    """What a network must fit into. None means no limit. Latency is the median of a batch-1 run on the target."""

    max_latency_ms: float | None = None
    max_size_bytes: int | None = None
    max_macs: int | None = None
    max_memory_bytes: int | None = None

    def __post_init__(self) -> None:
        for item in fields(self):
            limit = getattr(self, item.name)
            if limit is not None and not (isinstance(limit, (int, float)) and math.isfinite(limit) and limit > 0):
                raise InputError(f"{item.name} must be a positive number, not {limit!r}")

    @property
    def unlimited(self) -> bool:
        """Whether everything fits."""
        return all(getattr(self, item.name) is None for item in fields(self))

    def _ratios(self, metrics: Mapping[str, float]) -> dict[str, float]:
        limits = {
            "latency_ms": self.max_latency_ms,
            "size_bytes": self.max_size_bytes,
            "macs": self.max_macs,
            "peak_memory_bytes": self.max_memory_bytes,
        }
        return {k: metrics[k] / limit for k, limit in limits.items() if limit is not None and k in metrics}

    def excess(self, metrics: Mapping[str, float]) -> float:
        """How far the worst metric is over its limit: 0 when all fit, 0.5 when the worst is 50% over."""
        return max([0.0, *(r - 1 for r in self._ratios(metrics).values())])

    def violations(self, metrics: Mapping[str, float]) -> list[str]:
        """One readable phrase a broken limit, e.g. ``latency_ms 2.31 over 2 by 15.5%``."""
        return [
            f"{name} {metrics[name]:.4g} over {metrics[name] / ratio:.4g} by {100 * (ratio - 1):.1f}%"
            for name, ratio in self._ratios(metrics).items()
            if ratio > 1
        ]

    def to_dict(self) -> dict[str, float | None]:
        return {item.name: getattr(self, item.name) for item in fields(self)}


@dataclass(frozen=True)
class Record:
    """One evaluated network: what it is, what was measured, and under which circumstances.

    ``metrics`` holds floats named with units (see FRONT_COLUMNS); ``provenance`` holds seed, device fingerprint,
    software versions, data split and wall time, as JSON-able values.
    """

    name: str
    arch: Arch
    precision: str = "fp32"
    metrics: Mapping[str, float] = field(default_factory=dict)
    provenance: Mapping[str, Any] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "precision": self.precision,
            "arch": dict(self.arch),
            "metrics": dict(self.metrics),
            "provenance": dict(self.provenance),
        }

    @classmethod
    def from_dict(cls, value: Mapping[str, Any]) -> Record:
        """The inverse of :meth:`to_dict`. Raises InputError when a field is missing."""
        try:
            return cls(
                name=value["name"],
                precision=value["precision"],
                arch=Arch(value["arch"]),
                metrics=dict(value["metrics"]),
                provenance=dict(value["provenance"]),
            )
        except (KeyError, TypeError) as error:
            raise InputError(f"not a record: {error}") from error


def front(records: Iterable[Record], *, maximise: str = "accuracy_val", minimise: str = "latency_ms") -> list[Record]:
    """The records no other record dominates, fastest first. Ties on both keep the first."""
    best: list[Record] = []
    for record in sorted(records, key=lambda r: (r.metrics[minimise], -r.metrics[maximise])):
        if not best or record.metrics[maximise] > best[-1].metrics[maximise]:
            best.append(record)
    return best


_UNITS: dict[str, dict[str, float]] = {
    "latency": {"us": 1e-3, "µs": 1e-3, "ms": 1.0, "s": 1e3},
    "size": {"b": 1, "kb": 1e3, "mb": 1e6, "gb": 1e9, "kib": 2**10, "mib": 2**20, "gib": 2**30},
    "count": {"": 1, "k": 1e3, "m": 1e6, "g": 1e9, "b": 1e9},
    "time": {"s": 1, "m": 60, "min": 60, "h": 3600, "d": 86400},
}
_EXAMPLES = {"latency": "2ms", "size": "1MB", "count": "20M", "time": "30m"}


def parse_quantity(text: str, kind: str) -> float:
    """A number with a unit: latency in ms, size in bytes, count in units, time in seconds.

    ``parse_quantity("2ms", "latency") == 2.0``, ``parse_quantity("1MB", "size") == 1e6`` (KiB, MiB for powers of two).
    Raises InputError when the text has no known unit, or is not positive and finite.
    """
    match = re.fullmatch(r"\s*([0-9]*\.?[0-9]+(?:e[+-]?[0-9]+)?)\s*([a-zµ]*)\s*", text.lower())
    units = _UNITS[kind]
    if match is None or match[2] not in units:
        known = ", ".join(u for u in units if u)
        raise InputError(f"{text!r} is not a {kind}: write a number with a unit ({known}), such as {_EXAMPLES[kind]}")
    value = float(match[1]) * units[match[2]]
    if not math.isfinite(value) or value <= 0:
        raise InputError(f"{text!r} is not a {kind}: it must be positive and finite, such as {_EXAMPLES[kind]}")
    return value


def column(records: Sequence[Record], name: str) -> list[float | str]:
    """One column of a front table: ``name``, ``precision`` or a metric (NaN where it was not measured)."""
    return [getattr(r, name) if name in ("name", "precision") else r.metrics.get(name, math.nan) for r in records]
