"""Folders of files that can be made again: where they lie, what names them, and how they stay of bounded size."""

from __future__ import annotations

import contextlib
import hashlib
import os
import time
from pathlib import Path

from sartor.errors import WriteError

_ABANDONED_S = 3600.0
"""A part of a file that nobody wrote to for so long is a killed process's."""


def cache_folder(name: str) -> Path:
    """``$XDG_CACHE_HOME/sartor/NAME``, else ``~/.cache/sartor/NAME``; a relative $XDG_CACHE_HOME is none, as the XDG
    base directory specification says. Raises WriteError where this user has no home."""
    given = os.environ.get("XDG_CACHE_HOME", "")
    try:
        base = Path(given) if os.path.isabs(given) else Path.home() / ".cache"
    except RuntimeError as error:
        raise WriteError("there is no home folder to keep files in: set XDG_CACHE_HOME") from error
    return base / "sartor" / name


def sha256_of(file: Path) -> str:
    """What names ``file`` by its content. Raises OSError."""
    digest = hashlib.sha256()
    with file.open("rb") as opened:
        while block := opened.read(2**20):
            digest.update(block)
    return digest.hexdigest()


def make_room(folder: Path, suffix: str, size: int, max_bytes: int) -> None:
    """Remove files of ``suffix``, those longest unused first, until ``size`` more bytes are ``max_bytes`` at most; and
    what killed processes left. Others may do so meanwhile. Raises OSError."""
    held = []
    for path in folder.iterdir():
        with contextlib.suppress(FileNotFoundError):
            status = path.stat()
            if path.suffix == suffix:
                held.append((status.st_mtime, status.st_size, path))
            elif path.suffix == ".part" and status.st_mtime < time.time() - _ABANDONED_S:
                path.unlink()
    total = sum(length for _, length, _ in held)
    for _, length, path in sorted(held):
        if total + size <= max_bytes:
            break
        path.unlink(missing_ok=True)
        total -= length
