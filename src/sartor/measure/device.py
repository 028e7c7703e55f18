"""What the numbers were measured on: the machine and the versions, as JSON-able dicts for every record."""

from __future__ import annotations

import functools
import importlib.metadata
import platform
from pathlib import Path
from typing import Any

from sartor import __version__
from sartor.compress.isa import cpu_flags
from sartor.machine import cores

_FLAGS = ("avx2", "avx512f", "avx512_vnni", "avx_vnni", "avx512_bf16", "amx_int8", "amx_bf16", "asimddp", "bf16", "sve")
_PACKAGES = ("torch", "timm", "onnx", "onnxscript", "onnxruntime", "numpy", "optuna", "scikit-learn", "safetensors")
_RUNTIMES = ("onnxruntime-gpu", "openvino", "executorch", "ai-edge-litert", "litert-torch", "tensorrt")


@functools.lru_cache(maxsize=1)
def cpu_model() -> str:
    """The CPU's name, e.g. ``Intel(R) Xeon(R) Processor``."""
    for line in _lines(Path("/proc/cpuinfo")):
        key, _, value = line.partition(":")
        if key.strip() in ("model name", "Model") and value.strip():
            return value.strip()
    return platform.processor() or platform.machine()


def memory_bytes() -> int:
    """The machine's memory, 0 where it cannot be read."""
    for line in _lines(Path("/proc/meminfo")):
        if line.startswith("MemTotal:"):
            return int(line.split()[1]) * 1024
    return 0


def cpu_mhz(cpu: int) -> float | None:
    """The clock of one core now, None where the kernel does not say."""
    current = _lines(Path(f"/sys/devices/system/cpu/cpu{cpu}/cpufreq/scaling_cur_freq"))
    if current and current[0].isdigit():
        return int(current[0]) / 1e3
    number = -1
    for line in _lines(Path("/proc/cpuinfo")):
        key, _, value = line.partition(":")
        if key.strip() == "processor" and value.strip().isdigit():
            number = int(value)
        elif key.strip() == "cpu MHz" and number == cpu:
            return float(value)
    return None


def fingerprint() -> dict[str, Any]:
    """The device: CPU model, cores, instruction sets that matter here, memory, operating system, Python."""
    flags = cpu_flags()
    return {
        "cpu": cpu_model(),
        "cores": cores(),
        "machine": platform.machine(),
        "isa": [flag for flag in _FLAGS if flag in flags],
        "memory_bytes": memory_bytes(),
        "os": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
    }


def versions() -> dict[str, str]:
    """Versions of Sartor and of the libraries that decide the numbers; absent ones are left out."""
    found = {"sartor": __version__}
    for name in (*_PACKAGES, *_RUNTIMES):
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text().splitlines()
    except (OSError, UnicodeDecodeError):
        return []
