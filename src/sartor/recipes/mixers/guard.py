"""Limits that a process sets on itself before it runs code of somebody else's, and keeps until it ends.

The kernel's: memory, CPU time, no file longer than nothing. And, through Python's audit hooks: no network, no other
process, no file but Python's own. Hooks see what goes through Python; native code goes past them. See the package: this
is for mistakes.
"""

from __future__ import annotations

import os
import resource
import sys
from typing import Any

from sartor.machine import bound

WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND

DENIED = (
    "socket.",
    "subprocess.",
    "os.system",
    "os.exec",
    "os.posix_spawn",
    "os.spawn",
    "os.fork",
    "pty.",
    "os.kill",
    "os.remove",
    "os.rename",
    "os.rmdir",
    "os.mkdir",
    "os.link",
    "os.symlink",
    "os.truncate",
    "os.chmod",
    "os.chown",
    "os.chdir",
    "shutil.",
    "ctypes.dlopen",
)
"""Audit events (or what they begin with) that end in a PermissionError."""


def bounded(*, memory_bytes: int, cpu_s: int) -> None:
    """Take no more than that, leave no core file, and write nothing."""
    bound(resource.RLIMIT_CORE, 0)
    bound(resource.RLIMIT_CPU, cpu_s)
    bound(resource.RLIMIT_FSIZE, 0)
    bound(resource.RLIMIT_DATA, memory_bytes)


def closed() -> None:
    """From here on: no network, no process, no file to write, and none to read but what Python itself comes with."""
    readable = tuple({os.path.realpath(place) for place in (sys.prefix, sys.base_prefix, *sys.path) if place})

    def hook(event: str, args: tuple[Any, ...]) -> None:
        if event.startswith(DENIED):
            raise PermissionError(f"{event} is not for a part of a network")
        if event == "open":
            path, _, flags = args
            if isinstance(path, int):
                return
            place = os.path.realpath(os.fsdecode(path))
            if (flags or 0) & WRITING and place != os.devnull:
                raise PermissionError(f"{place} is not to be written by a part of a network")
            if not place.startswith((*(f"{p}{os.sep}" for p in readable), os.devnull)):
                raise PermissionError(f"{place} is not to be read by a part of a network")

    sys.addaudithook(hook)
