"""Who a worker is, and whether it is known to be dead."""

from __future__ import annotations

import os
import socket
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
    return Worker(uuid.uuid4().hex, socket.gethostname(), _machine(), pid, _began(pid))


def is_gone(worker: Mapping[str, Any]) -> bool:
    """Whether the process of a worker (as :meth:`Worker.to_dict`) is known to have ended. False where it is there, and
    where that cannot be seen from here: then only its heartbeat tells.

    A process that has another one's number began at another time.
    """
    here = _machine()
    return here != "" and worker["machine"] == here and _began(int(worker["pid"])) != worker["began"]


def _machine() -> str:
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        return f"{boot}/{os.readlink('/proc/self/ns/pid')}"
    except OSError:
        return ""


def _began(pid: int) -> str:
    """When the process began, in clock ticks since the machine did; nothing where it has ended, be it that its parent
    has not asked yet."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return ""
    state, *fields = text[text.rindex(")") + 2 :].split()  # the name before may hold anything
    return "" if state in "ZX" else fields[18]
