"""Are the children of one training as good as networks trained alone? On digits, at five levels of MACs.

    python benchmarks/once_for_all.py [--steps 600] [--seeds 0,1,2] [--schedules sandwich,progressive_shrinking]
    python benchmarks/once_for_all.py --widths 4,8,16,24 --schedules sandwich,delayed_shrinking,largest --equal-passes

One supernet a schedule and seed; some of its archs, each also trained alone for as many steps, with the same recipe.
Prints held-out accuracy of both and the mean difference: the claims of BigNAS (P030) and once-for-all (P058) are one
point at most. With ``--equal-passes`` each schedule takes as many steps as make as many passes as ``--steps`` of the
sandwich: delayed shrinking (DεpS, P450) is about what a training costs.
"""

from __future__ import annotations

import argparse
import math
import random
from collections.abc import Iterator
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from sartor.data import in_order, open_data, shuffled
from sartor.measure.counts import counts
from sartor.models import Supernet, build
from sartor.space import Choice, Space
from sartor.train.augment import Preprocess
from sartor.train.loop import Recipe, train
from sartor.train.recalibrate import accuracy, recalibrate
from sartor.train.schedule import SCHEDULES
from sartor.train.steps import Inputs, plain_step, supernet_step

DATA = open_data("digits", val_fraction=0.25, test_fraction=0.25)
BUILDER = partial(build, channels=1, classes=10, full_resolution=8)
RECIPE = Recipe(batch_size=64)
CPU = torch.device("cpu")
GRID = [(place + 0.5) / 100 for place in range(100)]


def space(widths: tuple[int, ...]) -> Space:
    """Two stages of residual blocks, narrower than any preset's, so that archs really differ on digits."""
    choices = [Choice("resolution", (8,)), Choice("stem.width", (8,))]
    for stage in ("s0", "s1"):
        choices += [Choice(f"{stage}.op", ("residual",)), Choice(f"{stage}.width", widths)]
        choices += [Choice(f"{stage}.depth", (1,)), Choice(f"{stage}.se", (False,))]
    return Space(tuple(choices))


def trained(module: nn.Module, step: Any, steps: int, seed: int) -> nn.Module:
    def batches(start: int) -> Iterator[tuple[Tensor, Tensor]]:
        return shuffled(DATA.train, RECIPE.batch_size, seed=seed, start=start)

    return train(module, step, batches, RECIPE, seconds=math.inf, max_steps=steps)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=600)
    parser.add_argument("--seeds", default="0,1,2")
    parser.add_argument("--schedules", default="sandwich,progressive_shrinking,delayed_shrinking")
    parser.add_argument("--widths", default="8,16,24")
    parser.add_argument("--equal-passes", action="store_true")
    options = parser.parse_args()
    widths = tuple(map(int, options.widths.split(",")))
    levels = [(widths[i // 2], widths[(i + 1) // 2]) for i in range(2 * len(widths) - 1)]
    preprocess = Preprocess(DATA.mean, DATA.std)
    calibration = [preprocess(images) for images, _ in in_order(DATA.train, 256)]
    held_out = [(preprocess(x), y) for split in (DATA.val, DATA.test) for x, y in in_order(split, 512)]
    archs = [space(widths).smallest().replace(**{"s0.width": a, "s1.width": b}) for a, b in levels]
    macs = [counts(BUILDER(arch), (1, 8, 8)).macs for arch in archs]
    seeds = list(map(int, options.seeds.split(",")))

    def judge(network: nn.Module) -> float:
        return accuracy(recalibrate(network, calibration).eval(), held_out)

    def alone(index: int, seed: int) -> float:
        torch.manual_seed(seed)
        network = BUILDER(archs[index])
        inputs = Inputs(preprocess, CPU, seed=seed, shift=1, flip=False)
        return judge(trained(network, plain_step(network, inputs, RECIPE, side=8), options.steps, seed))

    def steps_of(schedule: str) -> int:
        if not options.equal_passes:
            return int(options.steps)
        passes = [[len(SCHEDULES[n](space(widths), random.Random(0), p)) for p in GRID] for n in (schedule, "sandwich")]
        return round(options.steps * sum(passes[1]) / sum(passes[0]))

    def children(schedule: str, seed: int) -> list[float]:
        torch.manual_seed(seed)
        supernet = Supernet(space(widths), BUILDER)
        inputs = Inputs(preprocess, CPU, seed=seed, shift=1, flip=False)
        trained(supernet, supernet_step(supernet, SCHEDULES[schedule], inputs, RECIPE), steps_of(schedule), seed)
        return [judge(supernet.extract(arch)) for arch in archs]

    separate = np.array([[alone(index, seed) for index in range(len(archs))] for seed in seeds])
    print(f"{'k MACs':28}" + "".join(f"{m / 1e3:8.0f}" for m in macs) + f"{'difference':>12}")
    print(f"{f'alone {options.steps}':28}" + "".join(f"{100 * a:8.2f}" for a in separate.mean(0)), flush=True)
    for schedule in options.schedules.split(","):
        shared = np.array([children(schedule, seed) for seed in seeds])
        gap = 100 * (shared - separate).mean()
        print(
            f"{f'{schedule} {steps_of(schedule)}':28}"
            + "".join(f"{100 * a:8.2f}" for a in shared.mean(0))
            + f"{gap:+12.2f}",
            flush=True,
        )


if __name__ == "__main__":
    main()
