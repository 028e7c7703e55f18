"""Pruning to a latency: what it takes to make the files that are timed, by slicing and by exporting each anew.

    python benchmarks/prune_latency.py [--models timm:resnet18,timm:mobilenetv3_small_050] [--to 0.7]

Each network is cut to a share of its latency as `sartor prune MODEL --max-latency` cuts it, without images. Every cut's
file is made in both ways, in turns, and one of them is timed. Printed: how many cuts were timed, the seconds of the
processor that all files took by slicing, learning how to included, and by exporting, those of the rest (timing, and
choosing what to try), and how many times faster the whole is for slicing.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

from sartor.compress.measured import prune_to_latency
from sartor.export.drafts import Drafts
from sartor.export.onnx import export_draft, onnx_of
from sartor.graph import Cut, trace
from sartor.measure.targets.onnxruntime import OnnxRuntime
from sartor.models.zoo import open_model


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", default="timm:resnet18,timm:mobilenetv3_small_050")
    parser.add_argument("--to", type=float, default=0.7)
    options = parser.parse_args()
    print(f"{'network':30} {'cuts':>5} {'slicing s':>10} {'exporting s':>12} {'rest s':>7} {'faster':>7}")
    for name in options.models.split(","):
        cuts, sliced, exported, rest = seconds(name, options.to)
        faster = (rest + exported) / (rest + sliced)
        print(f"{name:30} {cuts:5} {sliced:10.1f} {exported:12.1f} {rest:7.1f} {faster:7.2f}", flush=True)


def seconds(name: str, share: float) -> tuple[int, float, float, float]:
    """Cuts that were timed, and seconds: files by slicing, files by exporting, all else."""
    opened = open_model(name)
    shape, runtime = opened.image_shape, OnnxRuntime(1)
    graph = trace(opened.module.eval(), opened.inputs)
    drafts = Drafts(graph, shape)
    took = {"slicing": 0.0, "exporting": 0.0}
    timed = 0

    def clocked(kind: str, write: Callable[[], None]) -> None:
        begin = time.process_time()
        write()
        took[kind] += time.process_time() - begin

    def anew(cut: Cut, file: Path) -> None:
        export_draft(graph.slice(cut), shape, file)

    def latencies(cuts: Sequence[Cut]) -> list[float]:
        nonlocal timed
        timed += len(cuts)
        with TemporaryDirectory() as folder:
            files = [Path(folder) / f"{index}.onnx" for index in range(len(cuts))]
            for cut, file in zip(cuts, files, strict=True):
                clocked("exporting", partial(anew, cut, Path(folder) / "anew.onnx"))
                clocked("slicing", partial(drafts.write, cut, file))
            return [latency.median_ms for latency in runtime.latencies(files, runs=100, budget_s=1.0)]

    onnx_of(opened.module, shape, draft=True)  # what is imported once
    begin = time.process_time()
    (whole,) = latencies([Cut({})])
    prune_to_latency(graph, share * whole, latencies, saliency="l2")
    return timed, took["slicing"], took["exporting"], time.process_time() - begin - sum(took.values())


if __name__ == "__main__":
    main()
