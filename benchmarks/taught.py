"""What a cut network learns most from in a minute or two: labels, or the network it was cut from; and how fast.

    python benchmarks/taught.py [--net resnet56] [--train 15m] [--shares 0.2,0.4] [--steps 260] [--seed 0]

The network is that of ``pruning_pays.py``, trained for ``--train`` and kept. To each share of its multiply-accumulates
it is pruned (by ``sartor.prune``, whole blocks too) and trained for ``--steps`` steps of the same images by each
variant: the learning rate for a batch of 256, and the labels' share of the loss, the rest being the outputs of the
network as it came. Printed are validation accuracies, and the seconds each took. The test images are not touched.
"""

from __future__ import annotations

import argparse
import copy
import math
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from nets import NETS, SHAPE
from pruning_pays import Bench, base
from torch import nn

from sartor.compress.prune import prune
from sartor.data import shuffled
from sartor.recipes.bench import recipe_for
from sartor.records import parse_quantity
from sartor.train.loop import train
from sartor.train.steps import Inputs, family_step, plain_step

VARIANTS = ((0.05, 1.0), (0.1, 1.0), (0.2, 1.0), (0.1, 0.5), (0.1, 0.1))
"""Peak learning rate, labels' share."""
BATCH = 128


def shares(text: str) -> list[float]:
    return [float(part) for part in text.split(",")]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--net", default="resnet56", choices=list(NETS))
    parser.add_argument("--train", default="15m")
    parser.add_argument("--shares", type=shares, default=[0.2, 0.4])
    parser.add_argument("--steps", type=int, default=260)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--data", type=Path, default=Path(__file__).parents[2] / "shared" / "data" / "cifar10")
    parser.add_argument("--cache", type=Path, default=Path.home() / ".cache" / "sartor" / "pruning_pays")
    options = parser.parse_args()
    torch.set_num_threads(2)
    bench = Bench(options.data)
    model = base(bench, options.net, parse_quantity(options.train, "time"), options.cache).eval()
    print(f"as it came: {100 * bench.judge(model, 'val'):.2f}%")
    for share in options.shares:
        evidence = bench.evidence(options.seed)
        small = prune(model, torch.zeros(2, *SHAPE), macs=share, depth=True, batches=evidence)
        print(f"{share:.0%} of the multiply-accumulates, right after the cut: {100 * bench.judge(small, 'val'):.2f}%")
        for lr, labels in VARIANTS:
            seconds, right = trained(bench, copy.deepcopy(small), model, lr, labels, options.steps, options.seed)
            print(
                f"  learning rate {lr:.2f}, {labels:.0%} labels: {100 * right:.2f}% after {options.steps} steps, "
                f"{seconds:.0f} s",
                flush=True,
            )


def trained(
    bench: Bench, small: nn.Module, teacher: nn.Module, lr: float, labels: float, steps: int, seed: int
) -> tuple[float, float]:
    """Seconds that training took, and validation accuracy then."""
    recipe = replace(recipe_for(small, BATCH, cut=True), peak_lr=lr)
    inputs = Inputs(bench.preprocess, torch.device("cpu"), seed=seed, shift=2, flip=True)
    if labels == 1:
        step = plain_step(small, inputs, recipe, side=SHAPE[1])
    else:
        step = family_step([small], [SHAPE[1]], inputs, recipe, teacher=teacher, leads=False, labels_share=labels)

    def batches(start: int) -> Iterator[Any]:
        return shuffled(bench.data.train, BATCH, seed=seed, start=start)

    begin = time.monotonic()
    train(small.train(), step, batches, recipe, seconds=math.inf, max_steps=steps)
    seconds = time.monotonic() - begin
    bench.recalibrate(small)
    return seconds, bench.judge(small, "val")


if __name__ == "__main__":
    main()
