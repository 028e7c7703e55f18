"""Published latencies: many archs on many devices, for predictors and latency tables to be fitted to."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from sartor.errors import InputError
from sartor.records import Arch
from sartor.search.tables.known import data_folder, ofa_options
from sartor.search.tables.rows import read_rows
from sartor.space.cell import nas_bench_201
from sartor.space.hat import TABLED_HEADS, TABLED_HIDDEN, hat_space, with_averages
from sartor.space.macro import FBNET_TABLED, fbnet_space, numbered
from sartor.space.ofa import ofa_space
from sartor.space.space import Space

Row = Mapping[str, str]


@dataclass(frozen=True)
class Latencies:
    """``devices``: by device (and batch size, or side of the network), the milliseconds of every arch that was timed
    there; the mean where one was twice."""

    name: str
    space: Space
    devices: Mapping[str, Mapping[Arch, float]]


def open_latencies(name: str, data: str | Path | None = None) -> Latencies:
    """The latencies ``name``, one of LATENCIES, from the folder ``data`` ($SARTOR_DATA where it is not given).

    Of a HAT transformer its tables have means over the layers only: the arch is one that has these
    (:func:`sartor.space.hat.with_averages`). Raises InputError where name, folder or file are unknown.
    """
    if name not in LATENCIES:
        raise InputError(f"unknown latencies {name!r}: choose from {', '.join(LATENCIES)}")
    files, make, arch_of = LATENCIES[name]
    space, folder = make(), data_folder(data)
    found: dict[str, Mapping[Arch, float]] = {}
    for prefix, file in files.items():
        rows = read_rows(folder / file, "give --data the folder that holds nas/")
        columns = [c for c in (rows[0] if rows else {}) if c.startswith(_COLUMNS)]
        try:
            archs = [arch_of(space, row) for row in rows]
            for column in columns:
                device = prefix + column.removeprefix(_COLUMNS[0]).removeprefix(_COLUMNS[1])
                found[device] = _means(archs, [float(row[column]) for row in rows])
        except (KeyError, ValueError, IndexError) as error:
            raise InputError(f"{file} is not the published table: {error}") from error
        if not columns:
            raise InputError(f"{file} has no latencies")
    return Latencies(name, space, found)


def _means(archs: list[Arch], values: list[float]) -> dict[Arch, float]:
    """Of what is positive: a device that failed on an arch has no latency of it."""
    if not all(map(math.isfinite, values)):
        raise ValueError("a latency that is no number")
    found: dict[Arch, list[float]] = {}
    for arch, value in zip(archs, values, strict=True):
        if value > 0:
            found.setdefault(arch, []).append(value)
    return {arch: sum(same) / len(same) for arch, same in found.items()}


def _nb201(space: Space, row: Row) -> Arch:
    return space.canonical(numbered("edge", re.findall(r"([a-z_0-9]+)~", row["arch_str"])))  # type: ignore[arg-type]


def _fbnet(space: Space, row: Row) -> Arch:
    return space.canonical(numbered("layer", [FBNET_TABLED[int(n)] for n in row["ops"].split()]))  # type: ignore[arg-type]


def _ofa(space: Space, row: Row) -> Arch:
    return space.canonical(ofa_options(row))  # type: ignore[arg-type]


def _hat(space: Space, row: Row) -> Arch:
    return with_averages(space, {name: float(text) for name, text in row.items()})


def _hat_space() -> Space:
    return hat_space(hidden=TABLED_HIDDEN, heads=TABLED_HEADS)


_COLUMNS = ("lat_ms_", "latency_mean_")
_MACHINES = ("xeon", "raspberrypi")

LATENCIES: dict[str, tuple[Mapping[str, str], Callable[[], Space], Callable[[Space, Row], Arch]]] = {
    "nb201": ({"": "nb201.csv.gz"}, nas_bench_201, _nb201),
    "fbnet": ({"": "fbnet_latency.csv.gz"}, fbnet_space, _fbnet),
    "ofa": ({"": "ofa_latency.csv.gz"}, ofa_space, _ofa),
    "hat": ({f"{m}_": f"hat_wmt14ende_{m}.csv.gz" for m in _MACHINES}, _hat_space, _hat),
}
"""By name: its files by what their devices' names begin with; its space; what reads a row's arch."""
