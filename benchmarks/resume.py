"""kill -9 at ten random moments of a small run: does each resumed run end with the front of the run never killed?

    python benchmarks/resume.py [--runs 10] [--time 20s]

One run of `sartor fit digits` is left alone; ten more begin on its recorded plan, are killed once at a random moment,
and go on with the same command. Prints for each the moment, whether it lost a finished evaluation, and whether every
accuracy, latency and count of its front is the same.
"""

from __future__ import annotations

import argparse
import random
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
from contextlib import closing
from pathlib import Path

import sartor


def command(out: Path, time_: str) -> list[str]:
    arguments = ["digits", "--time", time_, "--max-latency", "1ms", "--out", str(out), "--quiet"]
    return [sys.executable, "-m", "sartor.cli", "fit", *arguments]


def evaluations(path: Path) -> set[str]:
    """The finished evaluations in a run's study, as text."""
    file = path / "study.db"
    if not file.exists():
        return set()
    with closing(sqlite3.connect(file)) as database:
        try:
            query = "select value_json from trial_user_attributes where key = 'sartor.record'"
            rows = database.execute(query).fetchall()
        except sqlite3.OperationalError:
            return set()
    return {row[0] for row in rows}


def front(path: Path) -> list[object]:
    return [(r.name, r.arch.key, dict(r.metrics)) for r in sartor.open_run(path).front]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=10)
    parser.add_argument("--time", default="20s")
    options = parser.parse_args()
    rng = random.Random(0)
    with tempfile.TemporaryDirectory() as folder:
        whole = Path(folder) / "whole"
        begin = time.monotonic()
        subprocess.run(command(whole, options.time), check=True, stdout=subprocess.DEVNULL)
        longest = time.monotonic() - begin
        expected, same = front(whole), 0
        for index in range(options.runs):
            out = Path(folder) / f"killed{index}"
            out.mkdir()
            shutil.copy(whole / "journal.jsonl", out)
            process = subprocess.Popen(command(out, options.time), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            moment = rng.uniform(1, longest)
            time.sleep(moment)
            process.send_signal(signal.SIGKILL)
            ended = process.wait() == 0
            before = evaluations(out)
            subprocess.run(command(out, options.time), check=True, stdout=subprocess.DEVNULL)
            lost = len(before - evaluations(out))
            equal = front(out) == expected
            same += equal and not lost
            state = "had ended" if ended else "killed"
            print(
                f"run {index}: {state} at {moment:.1f} s; of {len(before)} evaluations lost {lost}; same front: {equal}"
            )
        print(f"{same} of {options.runs} ended with the same front and lost nothing")


if __name__ == "__main__":
    main()
