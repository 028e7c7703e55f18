"""What this CPU's instruction set offers to 8-bit arithmetic, read from the kernel and never guessed from the name."""

from __future__ import annotations

import functools
import platform
from pathlib import Path

_DOT_PRODUCTS = frozenset({"avx512_vnni", "avx_vnni", "amx_int8", "asimddp"})


@functools.lru_cache(maxsize=1)
def cpu_flags() -> frozenset[str]:
    """The CPU's feature flags as Linux spells them (``avx512_vnni``, ``asimddp``); empty where they cannot be read."""
    try:
        text = Path("/proc/cpuinfo").read_text()
    except OSError:
        return frozenset()
    for line in text.splitlines():
        key, _, value = line.partition(":")
        if key.strip() in ("flags", "Features"):
            return frozenset(value.split())
    return frozenset()


def has_int8_dot() -> bool:
    """True when 8-bit products are summed in 32 bits by one instruction (VNNI, AMX, ARM dot product)."""
    return bool(cpu_flags() & _DOT_PRODUCTS)


def needs_reduced_range() -> bool:
    """True on x86 without VNNI, where unsigned x signed 8-bit products are summed pairwise in 16 bits and saturate.

    Weights then take 7 bits (ORT's ``reduce_range``). An x86 whose flags cannot be read counts as one without.
    """
    return platform.machine().lower() in ("x86_64", "amd64", "i686", "i386") and not has_int8_dot()
