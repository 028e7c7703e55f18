"""Where training runs and in which precision."""

from __future__ import annotations

import ctypes
from functools import cache
from typing import TypeVar

import torch
from torch import nn

Module = TypeVar("Module", bound=nn.Module)


def pick_device() -> torch.device:
    """The GPU when there is one, else the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def place(module: Module, device: torch.device) -> Module:
    """``module`` on ``device`` with its convolutions in channels-last order, in place; returned."""
    module.to(device)
    module.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return module


@cache
def bf16_is_fast(kind: str) -> bool:
    """Whether devices of ``kind`` compute in bf16 faster than in fp32: CPUs with AMX, recent GPUs.

    A rule, not a measurement, so that a resumed run computes as before. AVX512-BF16 alone does not count: without AMX
    bf16 steps took 1.0 to 4.4 times as long as fp32 ones (``benchmarks/throughput.py``, docs/log.md).
    """
    if kind == "cpu":
        return bool(torch.cpu._is_amx_tile_supported())
    return kind == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)


def autocast(device: torch.device) -> torch.autocast:
    """bf16 autocast where it is the faster way, fp32 elsewhere."""
    return torch.autocast(device.type, torch.bfloat16, enabled=bf16_is_fast(device.type))


@cache
def keep_freed_memory() -> None:
    """Let glibc keep freed memory for the next step instead of handing it back to the system.

    By default each large activation may be a fresh mapping whose every page faults when first written: a tenth to a
    fifth of a training step of networks with large feature maps (``benchmarks/throughput.py``). The process
    then holds its peak until it ends. Elsewhere than on glibc nothing happens.
    """
    mmap_threshold, trim_threshold = -3, -1  # M_MMAP_THRESHOLD and M_TRIM_THRESHOLD of malloc.h
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError, TypeError):
        return
    mallopt(mmap_threshold, 2**30)
    mallopt(trim_threshold, 2**31 - 1)
