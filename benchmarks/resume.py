"""kill -9 at ten random moments of a small run: does each resumed run end with the front of the run never killed?

    python benchmarks/resume.py [--runs 10] [--time 20s]

One run of `sartor fit digits` is left alone. Ten more are killed once at a random moment and go on with the same
command: half begin on the first one's recorded plan and are compared with it, half write their own, on which another is
then run that is never killed. Prints for each the moment, whether it lost a finished evaluation, and whether every
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
        same = 0
        for index in range(options.runs):
            out = Path(folder) / f"killed{index}"
            recorded = index % 2 == 0
            while True:  # until a kill hits: a run on a recorded plan is done sooner
                out.mkdir()
                if recorded:
                    shutil.copy(whole / "journal.jsonl", out)
                moment = rng.uniform(1, longest)
                begun = command(out, options.time)
                process = subprocess.Popen(begun, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
                time.sleep(moment)
                process.send_signal(signal.SIGKILL)
                if process.wait() == -signal.SIGKILL:
                    break
                longest = moment
                shutil.rmtree(out)
            before = evaluations(out)
            subprocess.run(command(out, options.time), check=True, stdout=subprocess.DEVNULL)
            lost = len(before - evaluations(out))
            twin = whole if recorded else Path(folder) / f"twin{index}"
            if not recorded:  # never killed, on the plan that the killed one wrote
                twin.mkdir()
                shutil.copy(out / "journal.jsonl", twin)
                subprocess.run(command(twin, options.time), check=True, stdout=subprocess.DEVNULL)
            equal = front(out) == front(twin)
            same += equal and not lost
            whose = "on the first run's plan" if recorded else "on its own plan"
            print(
                f"run {index}: {whose}, killed at {moment:.1f} s; of {len(before)} evaluations lost {lost}; "
                f"same front: {equal}",
                flush=True,
            )
        print(f"{same} of {options.runs} ended with the same front and lost nothing")


if __name__ == "__main__":
    main()
