"""What scaling rules cost beside each other at equal multiply-accumulates (P396, arXiv:2103.06877).

    python benchmarks/scaling.py [--factors 4,8,16] [--batch 1] [--threads 1]

Latencies are ONNX Runtime's, in interleaved rounds: worth something on a quiet machine only. ``of uniform``: of uniform
scaling's time, and between what that lies. ``exponent``: of the factor, by which activations grow.

The paper's networks are of 224 pixels and more, many times as large as the base, and run in batches on hardware that
waits for memory. Nearest to that are all cores, a batch and large factors (``--threads 0 --batch 16 --factors 8,16
--resolution 224``); one thread at batch 1 mostly computes.
"""

from __future__ import annotations

import argparse
import math
import os
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

from sartor.export.onnx import export_onnx
from sartor.measure.counts import Counts, counts
from sartor.measure.scaling import activations, scale
from sartor.measure.targets.named import open_target
from sartor.measure.timing import Latency
from sartor.models.resnet_rs import scalable_resnet_rs
from sartor.models.scalable import Scalable, scalable_mnasnet
from sartor.space.mnasnet import mnasnet_a1

RULES = ("fast", "uniform", "efficientnet", "resnet-rs", "depth", "width")
NETWORKS: dict[str, tuple[int, Callable[[int], Scalable]]] = {
    "ResNet-RS-50": (64, lambda resolution: scalable_resnet_rs(50, resolution=resolution)),
    "MnasNet-A1": (96, lambda resolution: scalable_mnasnet(mnasnet_a1(), resolution=resolution)),
}
"""By name: the resolution that is small enough for a quick table, and the network at one."""


def latencies(networks: Sequence[Scalable], options: argparse.Namespace) -> list[Latency]:
    """Of each, all timed in turns."""
    with tempfile.TemporaryDirectory() as folder:
        files = [Path(folder) / f"{i}.onnx" for i in range(len(networks))]
        for file, network in zip(files, networks, strict=True):
            export_onnx(network.module().eval(), network.input_shape, file, draft=True)
        target = open_target("onnxruntime", options.threads or os.cpu_count() or 1)
        return target.latencies(files, runs=options.runs, min_time_s=0, budget_s=options.budget, batch=options.batch)


def counted(network: Scalable) -> Counts:
    return counts(network.outline(), network.input_shape)


def rules(name: str, factor: float, options: argparse.Namespace) -> None:
    small, make = NETWORKS[name]
    base = make(options.resolution or small)
    scaled = {rule: scale(base, factor, rule) for rule in RULES}
    times = dict(zip(scaled, latencies([s.network for s in scaled.values()], options), strict=True))
    before = activations(counted(base))
    macs = counted(base).macs * factor / 1e6
    print(f"\n{name} at {base.sizes.resolution}, {factor:g} times: {macs:,.0f}M multiply-accumulates")
    sides = f"{'depth':>6} {'width':>6} {'pixels':>6}"
    print(f"{'rule':14} {'factor':>7} {sides} {'exponent':>8} {'ms':>8} {'of uniform':>11}")
    for rule, found in scaled.items():
        by, took, uniform = found.by, times[rule], times["uniform"]
        exponent = math.log(activations(counted(found.network)) / before, found.factor)
        sizes = f"{by.depth:6.2f} {by.width:6.2f} {by.resolution:6.2f}"
        least, most = took.ci_ms[0] / uniform.ci_ms[1], took.ci_ms[1] / uniform.ci_ms[0]
        print(
            f"{rule:14} {found.factor:7.2f} {sizes} {exponent:8.2f} {took.median_ms:8.2f} "
            f"{took.median_ms / uniform.median_ms:11.3f}  {least:.3f} to {most:.3f}"
            f"{'  (disturbed)' if took.disturbed else ''}",
            flush=True,
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--factors", default="4,8")
    parser.add_argument("--networks", default=",".join(NETWORKS))
    parser.add_argument("--resolution", type=int, help="before scaling")
    parser.add_argument("--threads", type=int, default=1, help="0: all cores")
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--runs", type=int, default=30)
    parser.add_argument("--budget", type=float, default=10.0, help="seconds a file")
    options = parser.parse_args()
    for name in options.networks.split(","):
        for factor in map(float, options.factors.split(",")):
            rules(name, factor, options)


if __name__ == "__main__":
    main()
