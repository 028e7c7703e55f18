"""Timings that are kept: the same file, timed the same way by the same runtime on the same machine, is timed once.

One file a timing, named by the hash of all that decides it: the network's content, the target with its settings,
threads, batch, runs, the device and the versions of the libraries. Below ``$XDG_CACHE_HOME/sartor/timings`` (else
``~/.cache/sartor/timings``), 32 MiB in all. Each holds the hash of what it says, so a damaged one is as good as none.
A cache helps or is silent: a folder that cannot be written costs a new timing, never a run.

Not kept: what was timed on a machine that never came to rest, and networks with weights outside of their file, whose
hash says nothing of them. A search does not ask here: each of its networks has weights of its own, and its journal
keeps what it timed.
"""

from __future__ import annotations

import contextlib
import datetime
import hashlib
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from sartor.disk import write_atomic
from sartor.errors import InputError, WriteError
from sartor.measure.caches import cache_folder, make_room, sha256_of
from sartor.measure.device import versions
from sartor.measure.targets.local import Local
from sartor.measure.targets.target import device_of
from sartor.measure.untrusted import elsewhere

FORM = 1
"""Of what is kept; another one is another key."""
MAX_BYTES = 32 * 2**20
_ENTRY_BYTES = 4 * 2**20
"""The largest network's nodes take some hundred kilobytes."""

Timing = dict[str, Any]
"""JSON-able."""


def kept(
    file: Path, target: Local, make: Callable[[], tuple[Timing, str | None]], *, runs: int, batch: int, fresh: bool
) -> Timing:
    """What ``make`` returned for ``file`` on ``target`` before, or what it returns now, which is then kept.

    ``make`` returns a timing, and why it is not worth keeping or None. ``fresh``: time it anew, whatever is there.
    Added to the timing: ``cached``; ``timed_at``, when that was (UTC); and ``not_kept``, why it was not. Raises what
    ``make`` raises.
    """
    why: str | None = None
    place: Path | None = None
    before = _version(file)  # of what is hashed, and of what is timed
    try:
        place = _place(file, target, runs=runs, batch=batch)
    except (OSError, WriteError) as error:
        why = str(error)
    if place is not None and not fresh and (found := _read(place)) is not None:
        return found
    timing, doubt = make()
    entry = {"timed_at": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"), "timing": timing}
    if doubt is not None:
        why = doubt
    elif before is None or _version(file) != before:
        why = "the file was changed while it was timed"
    elif place is not None:
        why = _write(place, entry)
    elif why is None:
        why = "its weights lie in other files"
    told = {"cached": False, "timed_at": entry["timed_at"], **({} if why is None else {"not_kept": why})}
    return {**timing, **told}


def _place(file: Path, target: Local, *, runs: int, batch: int) -> Path | None:
    """Where the timing is kept; None for a network that is not all in one file. Raises OSError and WriteError."""
    try:
        if elsewhere(file):
            return None
    except InputError:  # whoever times it says so better
        return None
    decides = {
        "form": FORM,
        "file": sha256_of(file),
        "target": target.name,
        "threads": target.threads,
        "batch": batch,
        "runs": runs,
        "device": device_of(target),
        "versions": versions(),
    }
    return cache_folder("timings") / f"{_hash(decides)}.json"


def _hash(value: Any) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()


def _version(file: Path) -> tuple[int, int, int] | None:
    try:
        status = file.stat()
    except OSError:
        return None
    return status.st_mtime_ns, status.st_size, status.st_ino


def _read(place: Path) -> Timing | None:
    """The timing that is kept there; None where there is none, or none that is whole."""
    try:
        if place.stat().st_size > _ENTRY_BYTES:
            return None
        held = json.loads(place.read_bytes())
        entry = held["entry"]
        if held["sha256"] != _hash([place.stem, entry]):
            return None
        timing = {**entry["timing"], "cached": True, "timed_at": entry["timed_at"]}
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return None
    with contextlib.suppress(OSError):
        os.utime(place)  # used: it goes later
    return timing


def _write(place: Path, entry: dict[str, Any]) -> str | None:
    """Why it could not be kept."""
    text = json.dumps({"sha256": _hash([place.stem, entry]), "entry": entry})
    if len(text) > _ENTRY_BYTES:
        return f"it is larger than {_ENTRY_BYTES} bytes"
    try:
        write_atomic(place, text)
        make_room(place.parent, place.suffix, 0, MAX_BYTES)
    except WriteError as error:
        return str(error)
    except OSError as error:
        return f"{place.parent} cannot be tidied: {error.strerror or error}"
    return None
