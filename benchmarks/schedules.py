"""Which arch schedule trains the best supernet in a given time? It is to settle the default of `fit`.

    python benchmarks/schedules.py --seconds 240 [--schedules delayed_shrinking,sandwich,…]

CIFAR-10, one space of one operator, equal wall time a schedule, the same seed. Prints validation accuracy of the
largest, the smallest and a fixed random sample of archs, after batch-norm recalibration and no other training, and the
hypervolume they span in (accuracy above 50 %, log MACs below the largest's).
"""

from __future__ import annotations

import argparse
import math
import os
import random
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from sartor.data import in_order, open_data, shuffled
from sartor.measure.counts import counts
from sartor.models import Supernet, build, resize
from sartor.records import Arch
from sartor.search.pareto import hypervolume_2d
from sartor.space import conv_space
from sartor.train.augment import Preprocess
from sartor.train.device import pick_device, place
from sartor.train.loop import Recipe, train
from sartor.train.recalibrate import accuracy, recalibrate
from sartor.train.schedule import SCHEDULES, Schedule, attentive
from sartor.train.steps import Inputs, supernet_step


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=240)
    parser.add_argument("--schedules", default=",".join([*(s for s in SCHEDULES if s != "largest"), "attentive"]))
    parser.add_argument("--width", type=int, default=48)
    parser.add_argument("--depth", type=int, default=1)
    parser.add_argument("--operator", default="pooled")
    parser.add_argument("--archs", type=int, default=12)
    options = parser.parse_args()
    data = open_data(Path(os.environ.get("SARTOR_DATA", "../shared/data")) / "cifar10")
    device, preprocess, recipe = pick_device(), Preprocess(data.mean, data.std), Recipe()
    space = conv_space(32, width=options.width, depth=options.depth, operators=(options.operator,))
    space = space.restrict({c.name: (False,) for c in space.choices if c.name.endswith(".se")})
    builder = partial(build, channels=3, classes=len(data.classes), full_resolution=32)
    rng = random.Random(0)
    archs = [space.largest(), space.smallest(), *(space.sample(rng) for _ in range(options.archs))]
    macs = [counts(builder(a), (3, int(a["resolution"]), int(a["resolution"]))).macs for a in archs]
    calibration = data.train.take(np.arange(2000)).split(250)

    def batches(start: int) -> Iterator[Any]:
        return shuffled(data.train, recipe.batch_size, seed=0, start=start)

    def validate(supernet: Supernet, arch: Arch) -> float:
        side = int(arch["resolution"])
        network = supernet.extract(arch)
        recalibrate(network, [resize(preprocess(x.to(device)), side) for x in calibration])
        network.eval()
        images = ((resize(preprocess(x.to(device)), side), y) for x, y in in_order(data.val, 250))
        return accuracy(network, images)

    print(f"{'schedule':22} {'largest':>8} {'smallest':>9} {'sample mean':>12} {'hypervolume':>12}")
    for name in options.schedules.split(","):
        torch.manual_seed(0)
        supernet = place(Supernet(space, builder), device)
        schedule = by_name(name, archs, macs, space)
        inputs = Inputs(preprocess, device, seed=0, shift=2, flip=True)
        train(supernet, supernet_step(supernet, schedule, inputs, recipe), batches, recipe, seconds=options.seconds)
        right = [validate(supernet, arch) for arch in archs]
        costs = np.array([[-a, math.log(m)] for a, m in zip(right, macs, strict=True)])
        volume = hypervolume_2d(costs, (-0.5, math.log(max(macs) * 1.01)))
        print(
            f"{name:22} {100 * right[0]:8.2f} {100 * right[1]:9.2f} {100 * np.mean(right[2:]):12.2f} {volume:12.4f}",
            flush=True,
        )


def by_name(name: str, archs: list[Arch], macs: list[int], space: Any) -> Schedule:
    """A schedule by name; attentive sampling scores by size in the space, BestUp's simplest prior."""
    if name != "attentive":
        return SCHEDULES[name]

    def size(arch: Arch) -> float:
        return float(space.encode(arch)[-len(space.choices) :].sum())

    return partial(attentive, score=size, cost=size)


if __name__ == "__main__":
    main()
