"""LowFormer's dense kernels beside depthwise ones, at equal multiply-accumulates (P289, arXiv:2409.03460).

    python benchmarks/lowformer.py                                # latency; --threads, --batch
    python benchmarks/lowformer.py --accuracy [--data DATA]       # what both learn, with the same recipe and steps

The rival is the same network with every mobile block depthwise, widened until it has as many multiply-accumulates
(within 5 %). Latencies are ONNX Runtime's, in interleaved rounds: worth something on a quiet machine only. ``of time``:
the dense one's over the depthwise one's, between what it lies; below 1 the dense one is faster. ``DATA`` is what
``sartor fit`` takes; images are made 32 pixels wide. Accuracy is of the small network, on validation images, or
``--split test``.
"""

from __future__ import annotations

import argparse
import math
import statistics
import tempfile
from collections.abc import Iterator
from functools import cache, partial
from pathlib import Path

import torch
from torch import Tensor

from sartor.data import Dataset, in_order, open_data, shuffled
from sartor.export.onnx import export_onnx
from sartor.measure.counts import counts
from sartor.measure.scaling import scale
from sartor.measure.targets.named import open_target
from sartor.measure.timing import Latency
from sartor.models import resize
from sartor.models.lowformer import LowFormer, scalable_lowformer
from sartor.models.scalable import Scalable
from sartor.train.augment import Preprocess
from sartor.train.device import pick_device, place
from sartor.train.loop import Recipe, train
from sartor.train.steps import Inputs, plain_step

SIDE = 32
SMALL = LowFormer((16, 32, 48, 64, 96), (0, 0, 0, 1, 2), down=4, head=(256, 256))
NETWORKS = {
    "small at 32": partial(scalable_lowformer, SMALL, resolution=SIDE, classes=10, stem_stride=1),
    "B0 at 224": partial(scalable_lowformer, "B0"),
    "B1 at 224": partial(scalable_lowformer, "B1"),
}
RECIPE = Recipe(optimiser="adamw", batch_size=64, peak_lr=8e-3, weight_decay=0.05)
"""After the paper's (AdamW, cosine): the learning rate is for networks ten times narrower."""


def macs(network: Scalable) -> int:
    return counts(network.outline(), network.input_shape).macs


def pair(name: str, **options: int) -> tuple[Scalable, Scalable]:
    """The dense one and its depthwise rival."""
    dense, depthwise = (NETWORKS[name](fused=fused, **options) for fused in (True, False))
    return dense, scale(depthwise, macs(dense) / macs(depthwise), "width").network


def timed(
    name: str, *, threads: int = 1, batch: int = 1, runs: int = 1000, budget_s: float = 20
) -> tuple[Latency, Latency]:
    """Of the dense one and its rival, in turns."""
    with tempfile.TemporaryDirectory() as folder:
        files = [Path(folder) / f"{place}.onnx" for place in range(2)]
        for file, network in zip(files, pair(name), strict=True):
            export_onnx(network.module().eval(), network.input_shape, file, draft=True)
        target = open_target("onnxruntime", threads)
        ours, theirs = target.latencies(files, runs=runs, min_time_s=0, budget_s=budget_s, batch=batch)
    return ours, theirs


def latency(options: argparse.Namespace) -> None:
    print(f"batch {options.batch}, {options.threads} threads")
    print(f"{'network':12} {'Mmacs':>7} {'Mmacs':>7} {'ms':>8} {'ms':>8} {'of time':>8}")
    for name in options.networks.split(","):
        ours, theirs = timed(
            name, threads=options.threads, batch=options.batch, runs=options.runs, budget_s=options.budget
        )
        least, most = ours.ci_ms[0] / theirs.ci_ms[1], ours.ci_ms[1] / theirs.ci_ms[0]
        work = " ".join(f"{macs(network) / 1e6:7.1f}" for network in pair(name))
        print(
            f"{name:12} {work} {ours.median_ms:8.3f} {theirs.median_ms:8.3f} "
            f"{ours.median_ms / theirs.median_ms:8.3f}  {least:.3f} to {most:.3f}"
            f"{'  (disturbed)' if ours.disturbed or theirs.disturbed else ''}",
            flush=True,
        )


@cache
def images_of(source: str) -> Dataset:
    """The built-in set has no split of its own: half to train on, a quarter each for validation and test."""
    return open_data(source, val_fraction=0.25, test_fraction=0.25) if source == "digits" else open_data(source)


def trained_accuracy(fused: bool, seed: int, *, steps: int, source: str = "digits", split: str = "val") -> float:
    """Of the small network, dense or depthwise, on images that were not trained on."""
    data, device = images_of(source), pick_device()
    preprocess = Preprocess(data.mean, data.std)
    network = pair("small at 32", channels=len(data.mean))[0 if fused else 1]
    torch.manual_seed(seed)
    module = place(network.module(), device)
    inputs = Inputs(preprocess, device, seed=seed, shift=1 if source == "digits" else 2, flip=source != "digits")

    def batches(start: int) -> Iterator[tuple[Tensor, Tensor]]:
        return shuffled(data.train, RECIPE.batch_size, seed=seed, start=start)

    train(module, plain_step(module, inputs, RECIPE, side=SIDE), batches, RECIPE, seconds=math.inf, max_steps=steps)
    right = seen = 0
    with torch.no_grad():
        for images, labels in in_order(getattr(data, split), 256):
            found = module(resize(preprocess(images.to(device)), SIDE)).argmax(1).cpu()
            right += int((found == labels).sum())
            seen += len(labels)
    return right / seen


def accuracies(options: argparse.Namespace) -> None:
    seeds = [int(seed) for seed in options.seeds.split(",")]
    print(f"{options.data}, {options.steps} steps, seeds {options.seeds}, {options.split}")
    one = partial(trained_accuracy, steps=options.steps, source=options.data, split=options.split)
    found = {fused: [one(fused, seed) for seed in seeds] for fused in (True, False)}
    gaps = [ours - theirs for ours, theirs in zip(found[True], found[False], strict=True)]
    error = statistics.stdev(gaps) / math.sqrt(len(gaps)) if len(gaps) > 1 else math.nan
    print(f"dense {100 * statistics.mean(found[True]):.2f} %, depthwise {100 * statistics.mean(found[False]):.2f} %")
    print(f"difference {100 * statistics.mean(gaps):+.2f} ± {100 * error:.2f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--accuracy", action="store_true")
    parser.add_argument("--networks", default=",".join(NETWORKS))
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--runs", type=int, default=1000)
    parser.add_argument("--budget", type=float, default=20.0, help="seconds a file")
    parser.add_argument("--data", default="digits")
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--seeds", default="0,1,2")
    parser.add_argument("--split", default="val", choices=["val", "test"])
    options = parser.parse_args()
    accuracies(options) if options.accuracy else latency(options)


if __name__ == "__main__":
    main()
