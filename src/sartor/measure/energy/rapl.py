"""The processor's own energy counters: RAPL, as Linux shows it in ``/sys/class/powercap`` (Intel, AMD).

A zone is a folder ``intel-rapl:N`` with ``name``, ``energy_uj``, which only grows, and ``max_energy_range_uj``, at
which it starts again; a zone within it is ``intel-rapl:N:M``. What a network takes is that of the packages and of the
memory beside them (``dram``); a package's ``core`` and ``uncore`` are part of it, ``psys`` is the whole machine, and
``intel-rapl-mmio`` shows the same packages again. Source: the kernel's Documentation/power/powercap.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from sartor.errors import InputError

ROOT = Path("/sys/class/powercap")
SECONDS, IDLE_S = 1.0, 0.3
"""How long calls are made, and how long nothing is done before. The counters move once a millisecond: a thousandth."""


@dataclass(frozen=True)
class Zone:
    """A counter: microjoules since whenever, up to ``range_uj`` and from 0 on again."""

    name: str
    folder: Path
    range_uj: int

    def read_uj(self) -> int:
        """Raises InputError where it cannot be read."""
        return _number(self.folder / "energy_uj")


@dataclass(frozen=True)
class Measured:
    """``mj``: millijoules a call, of the whole package and its memory, other processes' share included. ``idle_watts``:
    what was drawn just before, with nothing to do here; ``above_idle_mj``: what is left of a call without it."""

    mj: float
    above_idle_mj: float
    idle_watts: float
    watts: float
    calls: int
    zones: tuple[str, ...]


def zones(root: Path = ROOT) -> tuple[Zone, ...]:
    """The packages' and memories' counters. Raises InputError where there are none, or they may not be read: with what
    to do."""
    try:
        folders = sorted(root.glob("intel-rapl:*"))
        if not folders:
            raise InputError(f"{root} has no energy counters (intel-rapl): this machine, or its container, shows none")
        found = [Zone(_text(folder / "name"), folder, _number(folder / "max_energy_range_uj")) for folder in folders]
    except PermissionError as error:
        raise InputError(f"{error.filename or root} may not be read: sudo chmod a+rx {root}") from error
    except OSError as error:  # a link to what a container hides
        raise InputError(f"{root} has energy counters that cannot be read ({error.strerror or error})") from error
    counted = tuple(zone for zone in found if zone.name.startswith("package") or zone.name.startswith("dram"))
    if not counted:
        raise InputError(f"{root} has no counter of a package: only {', '.join(sorted({zone.name for zone in found}))}")
    for zone in counted:
        zone.read_uj()
    return counted


def microjoules(zones: Sequence[Zone], before: Sequence[int], after: Sequence[int]) -> int:
    """Between two readings of all ``zones``. A counter that is lower than it was has started again, once."""
    spent = 0
    for zone, first, last in zip(zones, before, after, strict=True):
        spent += last - first if last >= first else last - first + zone.range_uj
    return spent


def measured(
    call: Callable[[], object], zones: Sequence[Zone], *, seconds: float = SECONDS, idle_s: float = IDLE_S
) -> Measured:
    """Do nothing for ``idle_s``, then ``call`` again and again for ``seconds``. Raises InputError as :func:`zones`.

    A counter of 65 kilojoules, the smallest known, starts again after minutes: once at most, unless one call lasts so.
    """
    idle_uj, idle_for, _ = _spend(lambda: time.sleep(idle_s), zones, 0.0)
    busy_uj, busy_for, calls = _spend(call, zones, seconds)
    idle_watts = idle_uj / 1e6 / idle_for
    return Measured(
        mj=busy_uj / 1e3 / calls,
        above_idle_mj=max(0.0, busy_uj / 1e3 - idle_watts * busy_for * 1e3) / calls,
        idle_watts=idle_watts,
        watts=busy_uj / 1e6 / busy_for,
        calls=calls,
        zones=tuple(zone.name for zone in zones),
    )


def _spend(call: Callable[[], object], zones: Sequence[Zone], seconds: float) -> tuple[int, float, int]:
    """Microjoules, seconds and calls, of which there is one at least."""
    calls, start, before = 0, time.perf_counter(), [zone.read_uj() for zone in zones]
    while not calls or time.perf_counter() - start < seconds:
        call()
        calls += 1
    after, end = [zone.read_uj() for zone in zones], time.perf_counter()
    return microjoules(zones, before, after), end - start, calls


def _text(file: Path) -> str:
    return file.read_text().strip()


def _number(file: Path) -> int:
    try:
        number = int(_text(file))
    except PermissionError as error:
        raise InputError(  # since Linux 5.10: power tells what is computed
            f"{file} may not be read: sudo chmod a+r {file.parent.parent}/intel-rapl:*/energy_uj"
        ) from error
    except (OSError, ValueError) as error:
        raise InputError(f"{file} is no energy counter: {error}") from error
    if number < 0:
        raise InputError(f"{file} is no energy counter: {number} is below zero")
    return number
