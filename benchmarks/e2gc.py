"""Groups of one size beside one number of groups, at equal multiply-accumulates (P452, arXiv:2006.15100).

    python benchmarks/e2gc.py                          # latency, in pairs; --threads, --batch, --resolution
    python benchmarks/e2gc.py --energy                 # each by itself, with what a model of energy says
    python benchmarks/e2gc.py --accuracy               # what the size of groups is worth

A pair is a size of groups and the number of groups with which the whole network has most nearly as many
multiply-accumulates. Latencies are ONNX Runtime's, of whole networks, as the paper's energies are, in interleaved
rounds: worth something on a quiet machine only. ``of time``: the size's over the number's, between what it lies; below
1 the size is faster. Accuracies are of a quarter-wide MobileNet-V1 on half of scikit-learn's digits.
"""

from __future__ import annotations

import argparse
import math
import statistics
import tempfile
from collections.abc import Callable, Iterator
from functools import cache, partial
from pathlib import Path

import torch
from torch import Tensor, nn

from sartor.blocks.e2gc import group_size
from sartor.data import Dataset, in_order, open_data, shuffled
from sartor.errors import InputError
from sartor.export.onnx import export_onnx
from sartor.measure.counts import counts
from sartor.measure.energy.analytic import CACHE_PJ_PER_BYTE, mac_pj
from sartor.measure.energy.energy import energy
from sartor.measure.targets.named import open_target
from sartor.models import resize
from sartor.models.mobilenet_v1 import build_mobilenet_v1, grouped_layers
from sartor.models.resnext import build_resnext
from sartor.train.augment import Preprocess
from sartor.train.loop import Recipe, train
from sartor.train.steps import Inputs, plain_step

Build = Callable[..., nn.Module]
NETWORKS: dict[str, Build] = {"MobileNet-V1": build_mobilenet_v1, "ResNeXt-50": build_resnext}
SIZES, NUMBERS = (1, 2, 4, 8, 16, 32), (32, 16, 8, 4)
NEAR = 0.03
"""What the two of a pair may differ by in multiply-accumulates."""
RECIPE = Recipe(optimiser="sgd", batch_size=64, peak_lr=0.2)
"""Not Muon, which takes the kernels of all groups for one matrix."""
SMALL = partial(build_mobilenet_v1, width=0.25, channels=1, classes=10, stem_stride=1)
SIDE = 16


def macs(build: Build, resolution: int, **groups: int) -> int:
    with torch.device("meta"):
        network = build(**groups)
    return counts(network, (network_channels(network), resolution, resolution)).macs


def network_channels(network: nn.Module) -> int:
    return next(layer.in_channels for layer in network.modules() if isinstance(layer, nn.Conv2d))


def pairs(build: Build, resolution: int) -> list[tuple[int, int, float]]:
    """(size, number, multiply-accumulates of the one over the other's), of those that are near enough."""
    sized = {size: macs(build, resolution, group_size=size) for size in SIZES if divides(build, size)}
    found = []
    for number in NUMBERS:
        theirs = macs(build, resolution, groups=number)
        size = min(sized, key=lambda size: abs(math.log(sized[size] / theirs)))
        if abs(sized[size] / theirs - 1) <= NEAR:
            found.append((size, number, sized[size] / theirs))
    return found


def divides(build: Build, size: int) -> bool:
    try:
        with torch.device("meta"):
            build(group_size=size)
    except InputError:
        return False
    return True


def latency(options: argparse.Namespace) -> None:
    target, shape = open_target("onnxruntime", options.threads), (3, options.resolution, options.resolution)
    print(f"{options.resolution} pixels, batch {options.batch}, {options.threads} threads")
    print(f"{'network':14} {'size':>5} {'number':>6} {'of MACs':>8} {'ms':>8} {'ms':>8} {'of time':>8}")
    for name, build in NETWORKS.items():
        chosen = pairs(build, options.resolution)
        with tempfile.TemporaryDirectory() as folder:
            files = []
            for size, number, _ in chosen:
                for kind, groups in (("size", {"group_size": size}), ("number", {"groups": number})):
                    files.append(Path(folder) / f"{kind}{size}-{number}.onnx")
                    export_onnx(build(**groups).eval(), shape, files[-1], draft=True)
            found = target.latencies(
                files, runs=options.runs, min_time_s=0, budget_s=options.budget, batch=options.batch
            )
        for (size, number, ratio), ours, theirs in zip(chosen, found[::2], found[1::2], strict=True):
            least, most = ours.ci_ms[0] / theirs.ci_ms[1], ours.ci_ms[1] / theirs.ci_ms[0]
            print(
                f"{name:14} {size:5} {number:6} {ratio:8.3f} {ours.median_ms:8.2f} {theirs.median_ms:8.2f} "
                f"{ours.median_ms / theirs.median_ms:8.3f}  {least:.3f} to {most:.3f}"
                f"{'  (disturbed)' if ours.disturbed or theirs.disturbed else ''}",
                flush=True,
            )


def energies(options: argparse.Namespace) -> None:
    chosen = group_size(grouped_layers(options.resolution), mac=mac_pj(32), moved=4 * CACHE_PJ_PER_BYTE)
    shape = (3, options.resolution, options.resolution)
    print(f"MobileNet-V1 at {options.resolution}; the balance of fp32 in cache chooses groups of {chosen}")
    print(f"{'network':14} {'Mmacs':>7} {'Mparams':>8} {'mJ (model)':>10}")
    for kind, n in [*(("group_size", n) for n in SIZES), *(("groups", n) for n in NUMBERS)]:
        network = build_mobilenet_v1(**{kind: n}).eval()  # type: ignore[arg-type]
        found = counts(network, shape)
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / "model.onnx"
            export_onnx(network, shape, file)
            spent = energy(file, open_target("onnxruntime", 1), run=False)
        print(f"{kind} {n:<3} {found.macs / 1e6:7.1f} {found.params / 1e6:8.2f} {spent['mj']:10.3f}", flush=True)


@cache
def digits() -> Dataset:
    return open_data("digits", val_fraction=0.25, test_fraction=0.25)


def trained_accuracy(size: int, seed: int, *, steps: int = 300, split: str = "val") -> float:
    """Of the small MobileNet-V1 with groups of ``size`` channels, on images that were not trained on."""
    data = digits()
    preprocess = Preprocess(data.mean, data.std)
    torch.manual_seed(seed)
    network = SMALL(group_size=size)
    inputs = Inputs(preprocess, torch.device("cpu"), seed=seed, shift=1, flip=False)

    def batches(start: int) -> Iterator[tuple[Tensor, Tensor]]:
        return shuffled(data.train, RECIPE.batch_size, seed=seed, start=start)

    train(network, plain_step(network, inputs, RECIPE, side=SIDE), batches, RECIPE, seconds=math.inf, max_steps=steps)
    right = seen = 0
    with torch.no_grad():
        for images, labels in in_order(getattr(data, split), 512):
            right += int((network(resize(preprocess(images), SIDE)).argmax(1) == labels).sum())
            seen += len(labels)
    return right / seen


def accuracies(options: argparse.Namespace) -> None:
    seeds = [int(seed) for seed in options.seeds.split(",")]
    print(f"{len(digits().train)} images, {options.steps} steps, seeds {options.seeds}, {options.split}")
    print(f"{'size':>4} {'Mmacs':>6} accuracy")
    for size in (1, 2, 4, 8):
        found = [trained_accuracy(size, seed, steps=options.steps, split=options.split) for seed in seeds]
        error = statistics.stdev(found) / math.sqrt(len(found)) if len(found) > 1 else math.nan
        cost = macs(SMALL, SIDE, group_size=size) / 1e6
        print(f"{size:4} {cost:6.2f} {100 * statistics.mean(found):.2f} ± {100 * error:.2f} %", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--energy", action="store_true")
    parser.add_argument("--accuracy", action="store_true")
    parser.add_argument("--resolution", type=int, default=160)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--runs", type=int, default=60)
    parser.add_argument("--budget", type=float, default=20.0, help="seconds a file")
    parser.add_argument("--seeds", default="0,1,2")
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--split", default="val", choices=["val", "test"])
    options = parser.parse_args()
    if options.energy:
        energies(options)
    elif options.accuracy:
        accuracies(options)
    else:
        latency(options)


if __name__ == "__main__":
    main()
