"""Running a file once in a process of its own, with an end: what ``untrusted.check`` could not tell from the file.

``measure.targets.once`` is that process: it bounds its own memory and CPU time, loads the file with the target, calls
it once, and says in one line what went wrong.
"""

from __future__ import annotations

import functools
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from sartor.errors import InputError
from sartor.measure.untrusted import check

LIMIT_S = 60.0
"""Seconds that loading a file and one call may take."""


def admit(file: Path, target: str = "onnxruntime", threads: int = 1, batch: int = 1) -> None:
    """Let ``file`` run in this process: checked, and tried in another one where the file alone does not tell enough.

    Raises InputError naming what is wrong with it.
    """
    checked = check(file, batch)
    if checked.trial is not None:
        status = file.stat()
        version = (status.st_mtime_ns, status.st_size, status.st_ino)
        _tried(file.resolve(), version, target, threads, batch, checked.trial, LIMIT_S)


@functools.lru_cache(maxsize=256)
def _tried(
    file: Path, version: tuple[int, int, int], target: str, threads: int, batch: int, why: str, limit_s: float
) -> None:
    """Once for each file and target: what raises is not remembered."""
    _once([file], target, threads, batch, why, limit_s)


def peak_rss_bytes(files: Sequence[Path], target: str = "onnxruntime", threads: int = 1) -> tuple[int, int]:
    """What a process needs that loads ``files`` with ``target`` and calls each once: the most memory that it had, and
    how much of that came after the runtime itself was there. Raises InputError where it cannot."""
    for file in files:
        check(file)
    before, most = map(int, _once(files, target, threads, 1, "to see what memory it needs", LIMIT_S).split())
    return most, most - before


def _once(files: Sequence[Path], target: str, threads: int, batch: int, why: str, limit_s: float) -> str:
    """What the process said. Raises InputError."""
    limits = [target, str(threads), str(batch), str(int(limit_s) + 1), *map(str, files)]
    command = [sys.executable, "-m", "sartor.measure.targets.once", *limits]
    named = ", ".join(map(str, files))
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}
    try:
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=limit_s, check=False)
    except subprocess.TimeoutExpired as error:
        raise InputError(f"{named} was not done after {limit_s:g} s of a trial run: {why}") from error
    if done.returncode in (-signal.SIGXCPU, -signal.SIGKILL):
        raise InputError(f"{named} took too much time or memory in a trial run: {why}")
    if done.returncode < 0:
        raise InputError(f"{named} crashed {target} in a trial run ({signal.Signals(-done.returncode).name}): {why}")
    if done.returncode:
        said = done.stderr.strip().splitlines() or [f"exit code {done.returncode}"]
        raise InputError(said[-1] if done.returncode == InputError.exit_code else f"{named} fails: {said[-1][:300]}")
    return done.stdout
