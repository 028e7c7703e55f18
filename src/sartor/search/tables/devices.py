"""Published tables of latencies: many archs on many devices."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from sartor.errors import InputError
from sartor.records import Arch
from sartor.search.tables.known import data_folder, numbered, ofa_choices
from sartor.search.tables.rows import read_rows
from sartor.space import Choice, Space, cell


@dataclass(frozen=True)
class Devices:
    """``latencies``: by device, the milliseconds of every arch that was timed there; the mean where one was twice."""

    name: str
    space: Space
    latencies: Mapping[str, Mapping[Arch, float]]


def open_devices(name: str, data: str | Path | None = None) -> Devices:
    """The table ``name``, one of DEVICE_TABLES, from the folder ``data`` ($SARTOR_DATA where it is not given). Raises
    InputError where either is unknown."""
    if name not in DEVICE_TABLES:
        raise InputError(f"unknown table of latencies {name!r}: choose from {', '.join(DEVICE_TABLES)}")
    return DEVICE_TABLES[name](data_folder(data))


def nas_bench_201(folder: Path) -> Devices:
    """NAS-Bench-201's cells on GPUs, CPUs, phones and an FPGA."""
    rows = _rows(folder / "nb201.csv.gz")
    options = [numbered("edge", re.findall(r"([a-z_0-9]+)~", row["arch_str"])) for row in rows]
    return Devices("nb201", cell.nas_bench_201(), _columns(cell.nas_bench_201(), options, rows))


def fbnet(folder: Path) -> Devices:
    """Archs of the FBNet space (arXiv:1812.03443): 22 layers of nine operators."""
    rows = _rows(folder / "fbnet_latency.csv.gz")
    space = Space(tuple(Choice(f"layer{i}", tuple(range(9))) for i in range(22)))
    options = [numbered("layer", [int(op) for op in row["ops"].split()]) for row in rows]
    return Devices("fbnet", space, _columns(space, options, rows))


def ofa(folder: Path) -> Devices:
    """Archs of OFA-MobileNetV3 (arXiv:1908.09791) on GPUs."""
    rows = _rows(folder / "ofa_latency.csv.gz")
    sides = Choice("resolution", tuple(sorted({int(row["r"]) for row in rows})))
    space = Space((sides, *ofa_choices()))
    options = []
    for row in rows:
        kernels, expansions, depths = ([int(x) for x in row[name].split()] for name in ("ks", "e", "d"))
        held = numbered("depth", depths) | numbered("kernel", kernels) | numbered("expand", expansions)
        options.append(held | {"resolution": int(row["r"])})
    return Devices("ofa", space, _columns(space, options, rows))


def hat(folder: Path) -> Devices:
    """Transformers of HAT (arXiv:2005.14187) for WMT'14 English-German, on a Xeon and a Raspberry Pi, encoder and
    decoder apart. What the files average over layers is a choice here, with every value that occurs."""
    files = {device: _rows(folder / f"hat_wmt14ende_{device}.csv.gz") for device in ("xeon", "raspberrypi")}
    names = [name for name in files["xeon"][0] if not name.startswith("latency_")]
    held = {name: sorted({float(row[name]) for rows in files.values() for row in rows}) for name in names}
    space = Space(tuple(Choice(name, tuple(options)) for name, options in held.items()))
    found: dict[str, Mapping[Arch, float]] = {}
    for device, rows in files.items():
        archs = _archs(space, [{name: float(row[name]) for name in names} for row in rows])
        for part in ("encoder", "decoder"):
            found[f"{device}_{part}"] = _means(archs, [float(row[f"latency_mean_{part}"]) for row in rows])
    return Devices("hat", space, found)


DEVICE_TABLES = {"nb201": nas_bench_201, "fbnet": fbnet, "ofa": ofa, "hat": hat}


def _rows(file: Path) -> list[dict[str, str]]:
    return read_rows(file, "give the folder that holds nas/")


def _columns(
    space: Space, options: list[dict[str, object]], rows: list[dict[str, str]]
) -> dict[str, Mapping[Arch, float]]:
    archs = _archs(space, options)
    names = [name for name in rows[0] if name.startswith("lat_ms_")]
    return {n.removeprefix("lat_ms_"): _means(archs, [float(row[n]) for row in rows]) for n in names}


def _archs(space: Space, options: list[dict[str, object]]) -> list[Arch]:
    return [space.canonical(held) for held in options]  # type: ignore[arg-type]


def _means(archs: list[Arch], values: list[float]) -> dict[Arch, float]:
    found: dict[Arch, list[float]] = {}
    for arch, value in zip(archs, values, strict=True):
        if value > 0:
            found.setdefault(arch, []).append(value)
    return {arch: sum(same) / len(same) for arch, same in found.items()}
