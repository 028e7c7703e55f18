"""What Sartor itself costs: time to --help, time of `make demo` once installed, peak memory of a fit on CIFAR-10.

    python benchmarks/costs.py [--fit-time 20m]

Medians over repeats of whole processes; peak memory is the largest resident size of the fit's process tree.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import psutil

SARTOR = [sys.executable, "-m", "sartor.cli"]


def seconds(command: list[str]) -> float:
    begin = time.perf_counter()
    subprocess.run(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=True)
    return time.perf_counter() - begin


def peak_bytes(command: list[str]) -> int:
    """The largest sum of resident memory over a command and its children, sampled ten times a second."""
    process = psutil.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    peak = 0
    while process.poll() is None:
        total = 0
        for member in [process, *process.children(recursive=True)]:
            try:
                total += member.memory_info().rss
            except psutil.NoSuchProcess:
                continue
        peak = max(peak, total)
        time.sleep(0.1)
    if process.returncode:
        sys.exit(f"{' '.join(command)} failed with {process.returncode}")
    return peak


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--fit-time", default="20m")
    options = parser.parse_args()
    print(f"sartor --help: {statistics.median(seconds([*SARTOR, '--help']) for _ in range(11)):.3f} s")
    make = ["make", "-C", str(Path(__file__).parent.parent), f"VENV={sys.prefix}"]
    seconds([*make, f"{sys.prefix}/.installed"])
    print(f"make demo, installed: {seconds([*make, 'demo']):.0f} s", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        source = Path(os.environ.get("SARTOR_DATA", "../shared/data")) / "cifar10"
        if not source.exists():
            sys.exit(f"{source} is missing: set SARTOR_DATA for the peak memory of a fit on CIFAR-10")
        fit = [*SARTOR, "fit", str(source), "--time", options.fit_time, "--out", f"{folder}/cifar"]
        print(f"peak memory of fit on CIFAR-10, {options.fit_time}: {peak_bytes(fit) / 2**30:.2f} GiB")


if __name__ == "__main__":
    main()
