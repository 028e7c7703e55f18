"""Does a picked file keep its promise? Re-measure it in new processes.

    python benchmarks/promise.py RUN [--times 5]

For each member of a run's front: the reported median, the median over fresh processes, their ratio, the ratio of the
machine's own pace then and now (of the reference call timed beside every network), and whether the budget holds.
A shared machine's pace is not one number: where it has changed, the ratio says that and nothing about the promise.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys

import sartor

CODE = (
    "import sys; from pathlib import Path; from sartor.measure.targets.onnxruntime import OnnxRuntime;"
    "latency = OnnxRuntime(int(sys.argv[2])).latency_ms(Path(sys.argv[1]), runs=300);"
    "print(latency.median_ms, latency.reference_ms)"
)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run")
    parser.add_argument("--times", type=int, default=5)
    options = parser.parse_args()
    run = sartor.open_run(options.run)
    arguments = run.info["arguments"]
    limit = arguments["budget"]["max_latency_ms"]
    print(f"{'member':16} {'reported ms':>11} {'again ms':>9} {'ratio':>6} {'pace':>6}  within budget of {limit} ms")
    worst = 0.0
    for record in run.front:
        file = str(run.path / "models" / record.name / "model.onnx")
        command = [sys.executable, "-c", CODE, file, str(arguments["threads"])]
        said = [
            tuple(map(float, subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()))
            for _ in range(options.times)
        ]
        again, reference = (statistics.median(column) for column in zip(*said, strict=True))
        ratio = again / record.metrics["latency_ms"]
        pace = reference / record.provenance["timing"]["reference_ms"]
        worst = max(worst, abs(ratio - 1))
        kept = "–" if limit is None else "yes" if again <= limit else "NO"
        print(f"{record.name:16} {record.metrics['latency_ms']:11.4f} {again:9.4f} {ratio:6.3f} {pace:6.3f}  {kept}")
    print(f"largest deviation {100 * worst:.1f}%")


if __name__ == "__main__":
    main()
