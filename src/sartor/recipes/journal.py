"""Decisions of a run, written down once: everything that a clock, a measurement or a neighbour on the machine decided.

A run is a function of its arguments, its data and its journal. Resuming reads what was decided and decides only what
is new; giving one run's journal to another repeats it exactly. One JSON line a decision, flushed and fsynced, so a
kill loses at most the line being written, which is then decided anew. A line also tells how much work there had been.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

from sartor.disk import explain, make_dir
from sartor.errors import InputError


class Journal:
    """``once(key, compute)`` returns what was decided under ``key``, deciding it with ``compute()`` the first time.

    Values are JSON: what ``once`` returns the first time has gone through JSON too, so a resumed run sees the same.
    """

    def __init__(self, path: Path):
        self.path = path
        self.worked = 0.0
        """Seconds of work of all processes before this one, up to their last decision."""
        self.stamp: Callable[[], float] = lambda: self.worked
        """Seconds of work up to now: a clock's, where one goes with the journal."""
        self._decided: dict[str, Any] = {}
        make_dir(path.parent)
        try:
            if path.exists():
                self._read()
            self._file = path.open("a", encoding="utf-8")
        except OSError as error:
            raise explain(error, path) from error

    def once(self, key: str, compute: Callable[[], Any]) -> Any:
        if key not in self._decided:
            value = compute()
            line = json.dumps({"key": key, "value": value, "at": round(self.stamp(), 2)}, allow_nan=False)
            try:
                self._file.write(line + "\n")
                self._file.flush()
                os.fsync(self._file.fileno())
            except OSError as error:
                raise explain(error, self.path) from error
            self._decided[key] = json.loads(line)["value"]
        return self._decided[key]

    def __contains__(self, key: str) -> bool:
        return key in self._decided

    def _read(self) -> None:
        raw = self.path.read_bytes()
        whole = raw[: raw.rfind(b"\n") + 1]
        for number, line in enumerate(whole.splitlines(), 1):
            try:
                entry = json.loads(line)
                self._decided[entry["key"]] = entry["value"]
                self.worked = max(self.worked, float(entry.get("at", 0.0)))
            except (json.JSONDecodeError, KeyError, TypeError, ValueError) as error:
                raise InputError(f"{self.path} line {number} is damaged: choose another --out to start anew") from error
        if len(whole) < len(raw):  # the line a kill cut off
            with self.path.open("r+b") as file:
                file.truncate(len(whole))
