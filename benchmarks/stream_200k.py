"""Memory while streaming does not grow with the number of images: one epoch over a tenth of N files, then over N.

    python benchmarks/stream_200k.py [--n 200000] [--workers 1]

Makes a folder of class folders of N small JPEGs (hard links to 400 different ones) in $TMPDIR, opens it with a memory
share of 0, reads one epoch in batches of 256, and prints a table. Each size runs in a process of its own, so that
peaks are its own.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from itertools import islice
from pathlib import Path

import numpy as np
from PIL import Image

CLASSES, DISTINCT, SIDE, BATCH = 10, 400, 48, 256


def make_folder(root: Path, n: int) -> None:
    """N files in CLASSES folders. Hard links: the entries and opens of N files without their disk space."""
    rng = np.random.default_rng(0)
    (root / "originals").mkdir()
    originals = []
    for i in range(DISTINCT):
        coarse = Image.fromarray(rng.integers(0, 256, (6, 6, 3), dtype=np.uint8))
        originals.append(root / "originals" / f"{i}.jpg")
        coarse.resize((SIDE, SIDE), Image.Resampling.BICUBIC).save(originals[-1], quality=85)
    for label in range(CLASSES):
        (root / "set" / f"class{label}").mkdir(parents=True)
    for i in range(n):
        os.link(originals[i % DISTINCT], root / "set" / f"class{i % CLASSES}" / f"{i:07d}.jpg")


def peak_mib(pid: int | str) -> float:
    """The most memory a process held at once (Linux)."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("VmHWM"))


def children() -> list[int]:
    found = []
    for task in Path("/proc/self/task").iterdir():
        found += [int(pid) for pid in (task / "children").read_text().split()]
    return found


def measure(folder: Path, workers: int) -> dict[str, float]:
    """Open, stream one epoch, and tell what it took."""
    from sartor.data import open_data, shuffled

    start = time.perf_counter()
    data = open_data(folder, memory_share=0, workers=workers)
    opened = time.perf_counter()
    steps = len(data.train) // BATCH
    n_read = sum(len(labels) for _, labels in islice(shuffled(data.train, BATCH, seed=0), steps))
    done = time.perf_counter()
    return {
        "n": sum(split["n"] for split in data.splits.values()),
        "open_s": opened - start,
        "images_per_s": n_read / (done - opened),
        "main_mib": peak_mib("self"),
        "workers_mib": sum(peak_mib(pid) for pid in children()),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--n", type=int, default=200_000)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--measure", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.measure is not None:
        print(json.dumps(measure(arguments.measure, arguments.workers)))
        return
    print(f"{'images':>8} {'open s':>7} {'images/s':>9} {'main MiB':>9} {'workers MiB':>12} {'total MiB':>10}")
    for n in (arguments.n // 10, arguments.n):
        with tempfile.TemporaryDirectory(prefix="sartor-stream-") as root:
            make_folder(Path(root), n)
            command = [sys.executable, __file__, "--measure", f"{root}/set", "--workers", str(arguments.workers)]
            row = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
        total = row["main_mib"] + row["workers_mib"]
        print(
            f"{row['n']:>8} {row['open_s']:>7.1f} {row['images_per_s']:>9.0f} {row['main_mib']:>9.0f} "
            f"{row['workers_mib']:>12.0f} {total:>10.0f}",
            flush=True,
        )


if __name__ == "__main__":
    main()
