"""What scaling rules cost beside each other at equal multiply-accumulates, and groups of one size beside one number.

    python benchmarks/scaling.py               # rules: activations and latency (P396, arXiv:2103.06877)
    python benchmarks/scaling.py --groups      # group convolutions (P452, arXiv:2006.15100)

Latencies are ONNX Runtime's, one thread, in interleaved rounds: worth something on a quiet machine only. ``exponent``:
of the factor, by which activations grow.
"""

from __future__ import annotations

import argparse
import math
import tempfile
from pathlib import Path

from torch import nn

from sartor.blocks.e2gc import group_size
from sartor.export.onnx import export_onnx
from sartor.measure.counts import Counts, counts
from sartor.measure.energy.analytic import CACHE_PJ_PER_BYTE, mac_pj
from sartor.measure.energy.energy import energy
from sartor.measure.scaling import activations, scale
from sartor.measure.targets.named import open_target
from sartor.models.mobilenet_v1 import build_mobilenet_v1, grouped_layers
from sartor.models.resnet_rs import scalable_resnet_rs
from sartor.models.scalable import Scalable, scalable_mnasnet
from sartor.space.mnasnet import mnasnet_a1

RULES = ("fast", "uniform", "efficientnet", "resnet-rs", "depth", "width")
NETWORKS = {
    "ResNet-RS-50 at 64": lambda: scalable_resnet_rs(50, resolution=64),
    "MnasNet-A1 at 96": lambda: scalable_mnasnet(mnasnet_a1(), resolution=96),
}


def latencies(networks: dict[str, tuple[nn.Module, tuple[int, int, int]]], runs: int, budget_s: float) -> list[float]:
    """Milliseconds of each."""
    with tempfile.TemporaryDirectory() as folder:
        files = [Path(folder) / f"{i}.onnx" for i in range(len(networks))]
        for file, (module, shape) in zip(files, networks.values(), strict=True):
            export_onnx(module.eval(), shape, file)
        found = open_target("onnxruntime", 1).latencies(files, runs=runs, min_time_s=0, budget_s=budget_s)
    return [latency.median_ms for latency in found]


def counted(network: Scalable) -> Counts:
    return counts(network.outline(), network.input_shape)


def rules(name: str, factor: float, runs: int, budget_s: float) -> None:
    base = NETWORKS[name]()
    scaled = {rule: scale(base, factor, rule) for rule in RULES}
    times = latencies({r: (s.network.module(), s.network.input_shape) for r, s in scaled.items()}, runs, budget_s)
    before = activations(counted(base))
    print(f"\n{name}, {factor:g} times: {counted(base).macs * factor / 1e6:,.0f}M multiply-accumulates")
    print(f"{'rule':14} {'factor':>7} {'depth':>6} {'width':>6} {'pixels':>6} {'exponent':>8} {'ms':>8}")
    for (rule, found), ms in zip(scaled.items(), times, strict=True):
        by = found.by
        exponent = math.log(activations(counted(found.network)) / before, found.factor)
        sizes = f"{by.depth:6.2f} {by.width:6.2f} {by.resolution:6.2f}"
        print(f"{rule:14} {found.factor:7.2f} {sizes} {exponent:8.2f} {ms:8.2f}", flush=True)


def groups(resolution: int, runs: int, budget_s: float) -> None:
    layers = grouped_layers(resolution)
    chosen = group_size(layers, mac=mac_pj(32), moved=4 * CACHE_PJ_PER_BYTE)
    print(f"MobileNet-V1 at {resolution}; the balance of fp32 in cache chooses groups of {chosen}")
    kinds = [("group_size", n) for n in (1, 2, 4, 8, 16, 32)] + [("groups", n) for n in (32, 16, 8, 4)]
    shape = (3, resolution, resolution)
    made = {f"{kind} {n}": (build_mobilenet_v1(**{kind: n}), shape) for kind, n in kinds}
    times = latencies(made, runs, budget_s)
    print(f"{'network':14} {'Mmacs':>7} {'Mparams':>8} {'ms':>8} {'mJ (model)':>10}")
    for (name, (module, _)), ms in zip(made.items(), times, strict=True):
        found = counts(module, shape)
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / "model.onnx"
            export_onnx(module.eval(), shape, file)
            spent = energy(file, open_target("onnxruntime", 1), run=False)
        print(f"{name:14} {found.macs / 1e6:7.1f} {found.params / 1e6:8.2f} {ms:8.2f} {spent['mj']:10.3f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--groups", action="store_true")
    parser.add_argument("--factors", default="4,8")
    parser.add_argument("--resolution", type=int, default=160)
    parser.add_argument("--runs", type=int, default=30)
    parser.add_argument("--budget", type=float, default=10.0, help="seconds a file")
    options = parser.parse_args()
    if options.groups:
        groups(options.resolution, options.runs, options.budget)
        return
    for name in NETWORKS:
        for factor in map(float, options.factors.split(",")):
            rules(name, factor, options.runs, options.budget)


if __name__ == "__main__":
    main()
