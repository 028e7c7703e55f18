"""Published latencies of archs that nobody trained: what predictors and latency tables are fitted to."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sartor.errors import InputError
from sartor.records import Arch
from sartor.search.tables.known import data_folder, ofa_options
from sartor.search.tables.rows import read_rows
from sartor.space.hat import TABLED_HEADS, TABLED_HIDDEN, hat_space, with_averages
from sartor.space.macro import FBNET_TABLED, fbnet_space, numbered
from sartor.space.ofa import ofa_space
from sartor.space.space import Space


@dataclass(frozen=True)
class Latencies:
    """``columns``: milliseconds ``[n]`` of each of ``archs``, by device (and batch size, or side of the network)."""

    space: Space
    archs: tuple[Arch, ...]
    columns: Mapping[str, NDArray[np.float64]]


def open_latencies(name: str, data: str | Path | None = None) -> Latencies:
    """The latencies ``fbnet``, ``ofa``, ``hat:xeon`` or ``hat:raspberrypi`` from the folder ``data`` ($SARTOR_DATA
    where it is not given).

    Of a HAT transformer its table has means over the layers only: the arch is one that has these
    (:func:`sartor.space.hat.with_averages`). Raises InputError where name, folder or file are unknown.
    """
    if name not in _TABLES:
        raise InputError(f"unknown latencies {name!r}: choose from {', '.join(_TABLES)}")
    file, make, arch_of = _TABLES[name]
    space = make()
    rows = read_rows(data_folder(data) / file, "give --data the folder that holds nas/")
    columns = [c for c in (rows[0] if rows else {}) if c.startswith(("lat_ms_", "latency_mean_"))]
    try:
        archs = tuple(arch_of(space, row) for row in rows)
        found = {column: np.array([float(row[column]) for row in rows]) for column in columns}
    except (KeyError, ValueError, IndexError) as error:
        raise InputError(f"{file} is not the published table: {error}") from error
    if not found or not all(math.isfinite(values.sum()) for values in found.values()):
        raise InputError(f"{file} has no latencies")
    return Latencies(space, archs, found)


def _fbnet(space: Space, row: Mapping[str, str]) -> Arch:
    return space.canonical(numbered("layer", [FBNET_TABLED[int(n)] for n in row["ops"].split()]))  # type: ignore[arg-type]


def _ofa(space: Space, row: Mapping[str, str]) -> Arch:
    return space.canonical(ofa_options(row))  # type: ignore[arg-type]


def _hat(space: Space, row: Mapping[str, str]) -> Arch:
    return with_averages(space, {name: float(text) for name, text in row.items()})


def _hat_space() -> Space:
    return hat_space(hidden=TABLED_HIDDEN, heads=TABLED_HEADS)


_TABLES: dict[str, tuple[str, Callable[[], Space], Callable[[Space, Mapping[str, str]], Arch]]] = {
    "fbnet": ("fbnet_latency.csv.gz", fbnet_space, _fbnet),
    "ofa": ("ofa_latency.csv.gz", ofa_space, _ofa),
    "hat:xeon": ("hat_wmt14ende_xeon.csv.gz", _hat_space, _hat),
    "hat:raspberrypi": ("hat_wmt14ende_raspberrypi.csv.gz", _hat_space, _hat),
}
