"""What was measured of a device: units, whole networks, and the device itself. A file of it can be given to anyone."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from sartor.disk import write_atomic
from sartor.errors import InputError
from sartor.measure.units.features import NAMES, features, kind
from sartor.measure.units.split import Unit

FORMAT = 1


@dataclass(frozen=True)
class UnitRow:
    """One unit: ``ms`` is None where it was seen in a network and not timed by itself."""

    kind: str
    features: tuple[float, ...]
    ms: float | None = None


@dataclass(frozen=True)
class NetworkRow:
    """A network that was timed whole: how often each unit is in it, and its milliseconds."""

    units: Mapping[str, int]
    ms: float


@dataclass(frozen=True)
class DeviceProfile:
    """``call_ms``: what any call costs. ``elsewhere``: the times of units are another device's. ``calibration``: see
    ``model.LatencyModel.calibration``; empty until all was timed."""

    target: str
    threads: int
    call_ms: float
    units: Mapping[str, UnitRow]
    networks: Sequence[NetworkRow]
    device: Mapping[str, Any] = field(default_factory=dict)
    versions: Mapping[str, str] = field(default_factory=dict)
    elsewhere: bool = False
    calibration: Mapping[str, float] = field(default_factory=dict)

    def write(self, file: Path) -> None:
        """As JSON. Raises WriteError."""
        held = {
            "format": FORMAT,
            "features": list(NAMES),
            **{key: value for key, value in asdict(self).items() if key not in ("units", "networks")},
            "units": {key: asdict(row) for key, row in self.units.items()},
            "networks": [asdict(row) for row in self.networks],
        }
        write_atomic(file, json.dumps(held, allow_nan=False).encode())


def read_profile(file: Path) -> DeviceProfile:
    """What :meth:`DeviceProfile.write` wrote. Raises InputError for anything else, with what is wrong in it."""
    try:
        held = json.loads(file.read_text())
    except FileNotFoundError as error:
        raise InputError(f"{file} is missing: sartor profile-device --out {file} makes it") from error
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"{file} is no device profile ({str(error)[:100]})") from error
    try:
        if held["format"] != FORMAT or tuple(held["features"]) != NAMES:
            raise InputError(f"{file} is of another version of Sartor: make it anew with sartor profile-device")
        rows = {str(k): _unit(v) for k, v in held["units"].items()}
        networks = tuple(_network(v, rows) for v in held["networks"])
        if not networks:
            raise ValueError("it holds no network")
        return DeviceProfile(
            str(held["target"]),
            int(held["threads"]),
            _positive(held["call_ms"]),
            rows,
            networks,
            dict(held["device"]),
            dict(held["versions"]),
            bool(held["elsewhere"]),
            {str(name): _share(name, value) for name, value in held["calibration"].items()},
        )
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
        raise InputError(f"{file} is no device profile ({type(error).__name__}: {str(error)[:100]})") from error


def counted(units: Sequence[Unit]) -> dict[str, int]:
    """How often each unit is in a network, by its key."""
    return dict(Counter(unit.key for unit in units))


def described(units: Sequence[Unit], times: Mapping[str, float]) -> dict[str, UnitRow]:
    """A row for each different unit, with its time where there is one."""
    different = {unit.key: unit for unit in units}
    return {key: UnitRow(kind(unit), features(unit), times.get(key)) for key, unit in different.items()}


def _unit(held: Mapping[str, Any]) -> UnitRow:
    numbers = tuple(float(x) for x in held["features"])
    if len(numbers) != len(NAMES) or not all(map(math.isfinite, numbers)):
        raise ValueError(f"a unit has the features {held['features']!r}"[:80])
    ms = held["ms"]
    return UnitRow(str(held["kind"]), numbers, None if ms is None else _positive(ms))


def _network(held: Mapping[str, Any], rows: Mapping[str, UnitRow]) -> NetworkRow:
    counts = {str(key): int(n) for key, n in held["units"].items()}
    if not counts or any(key not in rows or n < 1 for key, n in counts.items()):
        raise ValueError("a network has a unit that is not described")
    ms = _positive(held["ms"])
    if ms == 0:
        raise ValueError("a network takes no time")
    return NetworkRow(counts, ms)


def _share(name: str, value: Any) -> float:
    """Of a calibration, where a correlation may be negative."""
    return _positive(value) if name != "spearman" else _positive(float(value) + 1) - 1


def _positive(value: Any) -> float:
    number = float(value)
    if isinstance(value, bool) or not math.isfinite(number) or number < 0:
        raise ValueError(f"{value!r} is no time")
    return number
