"""Writing files so that nothing half-written is ever read back, and one process a run directory.

Every file of a run goes through :func:`write_atomic`: written beside its place, flushed, fsynced, renamed. A kill at
any moment leaves the old file or the new one. Rejected: SQLite for everything, because people open, diff and copy
these files.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from sartor.errors import InputError, WriteError


def explain(error: OSError, path: Path, option: str = "--out") -> WriteError:
    """What kept ``path``, which ``option`` gave, from being written, and the fix, in one line."""
    reasons = {
        errno.ENOSPC: "the disk is full: free some space and run the same command again",
        errno.EDQUOT: "your disk quota is used up: free some space and run the same command again",
        errno.EACCES: f"no write permission: choose another {option} or fix the permissions",
        errno.EPERM: f"no write permission: choose another {option} or fix the permissions",
        errno.EROFS: f"the file system is read-only: choose another {option}",
        errno.ENOTDIR: f"a part of this path is a file: choose another {option}",
        errno.EEXIST: f"a file stands where a folder is needed: choose another {option}",
    }
    return WriteError(f"cannot write {path}: {reasons.get(error.errno or 0, error.strerror or error)}")


def make_dir(path: Path) -> Path:
    """Create ``path`` with its parents. Raises WriteError in one line where that is not possible."""
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise explain(error, path) from error
    return path


def write_atomic(path: Path, content: bytes | str) -> None:
    """Write ``content``, whole or not at all.

    Raises WriteError naming the fix when the disk is full or the place is not writable; ``path`` is untouched then.
    What is no Unicode in a text, such as a file's name in another encoding, is written as an escape.
    """
    make_dir(path.parent)
    try:
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".part")
    except OSError as error:
        raise explain(error, path) from error
    part = Path(name)
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content.encode(errors="backslashreplace") if isinstance(content, str) else content)
            file.flush()
            os.fsync(file.fileno())
        part.chmod(0o644)
        os.replace(part, path)
        folder = os.open(path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
    except OSError as error:
        raise explain(error, path) from error
    finally:
        part.unlink(missing_ok=True)


def is_part(path: Path) -> bool:
    """Whether ``path`` is what :func:`write_atomic` leaves of a file when it is killed."""
    return path.name.startswith(".") and path.name.endswith(".part")


def sweep(folder: Path) -> None:
    """Remove what killed processes left below ``folder``. Call it under the folder's :func:`lock`, once it is known to
    be a run's: in another folder such files may be another process's."""
    for part in folder.rglob(".*.part"):
        try:
            if not part.is_dir():
                part.unlink(missing_ok=True)
        except OSError as error:
            raise explain(error, part) from error


def write_json(path: Path, value: Any) -> None:
    """Write ``value`` as indented JSON, atomically. NaN and infinity are refused: they are not JSON."""
    write_atomic(path, json.dumps(value, indent=2, sort_keys=False, allow_nan=False) + "\n")


def read_json(path: Path) -> Any:
    """Read JSON. Raises InputError naming the file when it is missing or damaged."""
    try:
        return json.loads(path.read_text())
    except FileNotFoundError as error:
        raise InputError(f"{path} is missing") from error
    except (OSError, ValueError, RecursionError) as error:  # no JSON, no text, or a number of too many digits
        raise InputError(f"{path} cannot be read as JSON ({error})") from error


@contextlib.contextmanager
def lock(folder: Path) -> Iterator[None]:
    """Hold ``folder/.lock`` while the body runs. Raises InputError when another process holds it.

    An flock: the kernel frees it when the process dies, so a killed run never leaves a stale lock.
    """
    make_dir(folder)
    try:
        file = (folder / ".lock").open("a+")
    except OSError as error:
        raise explain(error, folder / ".lock") from error
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            file.seek(0)
            holder = file.read().strip() or "?"
            raise InputError(
                f"{folder} is in use by process {holder}: wait for it, stop it, or choose another --out"
            ) from error
        try:
            file.seek(0)
            file.truncate()
            file.write(str(os.getpid()))
            file.flush()
        except OSError as error:
            raise explain(error, folder / ".lock") from error
        yield
