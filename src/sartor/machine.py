"""What of the machine this process may take: memory and cores, and bounds that it sets itself."""

from __future__ import annotations

import contextlib
import ctypes
import os
import resource
import signal
from pathlib import Path


def available_bytes() -> int:
    """Memory that can be had without swapping: the machine's, or the container's where that is less.

    Linux: MemAvailable, and the limit of the control group (v2, v1). Elsewhere: half the physical memory.
    """
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
        free = next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable"))
    except (OSError, StopIteration, ValueError, IndexError):
        free = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2
    groups = (
        ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory.current", "/sys/fs/cgroup/memory.stat", "inactive_file"),
        (
            "/sys/fs/cgroup/memory/memory.limit_in_bytes",
            "/sys/fs/cgroup/memory/memory.usage_in_bytes",
            "/sys/fs/cgroup/memory/memory.stat",
            "total_inactive_file",
        ),
    )
    return min([free, *(room for group in groups if (room := _room(*group)) is not None)])


def _room(limit: str, used: str, stat: str, cache: str) -> int | None:
    """What a control group leaves: its limit less what is used, where cached files that can be dropped do not count."""
    try:
        allowed, taken = int(Path(limit).read_text()), int(Path(used).read_text())
        dropped = dict(line.split()[:2] for line in Path(stat).read_text().splitlines()).get(cache, "0")
        return max(0, allowed - taken + int(dropped))
    except (OSError, ValueError):  # no such group, or "max"
        return None


def cores() -> int:
    """CPU cores this process may use (its affinity, not the machine's count)."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def bound(kind: int, most: int) -> None:
    """Limit this process to ``most`` of what ``resource`` calls ``kind``, never above what was allowed before."""
    hard = resource.getrlimit(kind)[1]
    allowed = most if hard == resource.RLIM_INFINITY else min(most, hard)
    resource.setrlimit(kind, (allowed, hard))


def end_with_parent() -> None:
    """Let the kernel kill this process when the one that started it ends. Linux only; elsewhere nothing."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG
