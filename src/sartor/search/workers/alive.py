"""Who a worker is, and whether it is known to be dead."""

from __future__ import annotations

import os
import socket
import threading
import uuid
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Worker:
    """A process that evaluates. ``token`` is its own and no other's; ``machine`` is where its ``pid`` means something:
    the same boot, the same container (empty where that cannot be told)."""

    token: str
    host: str
    machine: str
    pid: int
    began: str

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def this_worker() -> Worker:
    """This process, under a new token."""
    pid = os.getpid()
    return Worker(uuid.uuid4().hex, socket.gethostname(), _machine(), pid, _began(pid) or "")


def is_gone(worker: Mapping[str, Any]) -> bool:
    """Whether the process of a worker (as :meth:`Worker.to_dict`) is known to have ended. False where it is there, and
    where that cannot be seen from here: then only its heartbeat tells.

    A process that has another one's number began at another time.
    """
    here = _machine()
    if here == "" or worker["machine"] != here:
        return False
    began = _began(int(worker["pid"]))
    if began is None or began != worker["began"]:
        return began is not None
    if worker["pid"] != os.getpid():
        return False
    # This process: a search of before, which could not give back what it was at, or one in another thread.
    return not any(thread.name == heart_of(worker["token"]) for thread in threading.enumerate())


def heart_of(token: str) -> str:
    """The name of the thread that beats for a worker, for as long as that is at work."""
    return f"heart of {token}"


def _machine() -> str:
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{boot}/{os.readlink('/proc/self/ns/pid')}"
    except OSError:
        return ""


def _began(pid: int) -> str | None:
    """When the process began, in clock ticks since the machine did; nothing ("") where it has ended, be it that its
    parent has not asked yet; None where it is there and may not be seen."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return "" if _has_ended(pid) else None
    state, *fields = text[text.rindex(")") + 2 :].split()  # the name before may hold anything
    return "" if state in "ZX" else fields[18]


def _has_ended(pid: int) -> bool:
    """/proc may hide what belongs to others; that it is there is seen from what may not be done to it."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    except PermissionError:
        return False
    return False
