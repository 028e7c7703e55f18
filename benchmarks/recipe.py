"""Which training recipe learns most in a few epochs? One small network, equal steps, one change at a time.

    python benchmarks/recipe.py [--steps 900] [--variants base,shift4,lr0.2,lr0.8]

CIFAR-10, the plain residual network of width 48 (one block a stage); prints validation accuracy with recalibrated
batch-norm statistics, and seconds. 900 steps are 5 epochs.
"""

from __future__ import annotations

import argparse
import math
import os
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from sartor.data import in_order, open_data, shuffled
from sartor.models import build
from sartor.space import conv_space
from sartor.train.augment import Preprocess
from sartor.train.device import pick_device, place
from sartor.train.loop import Recipe, train
from sartor.train.recalibrate import accuracy, recalibrate
from sartor.train.steps import Inputs, plain_step

VARIANTS: dict[str, dict[str, Any]] = {
    "base": {},
    "shift4": {"shift": 4},
    "lr0.2": {"peak_lr": 0.2},
    "lr0.8": {"peak_lr": 0.8},
    "muon0.15": {"muon_share": 0.15},
    "muon0.6": {"muon_share": 0.6},
    "sgd": {"optimiser": "sgd"},
    "sgd-warmup0.15": {"optimiser": "sgd", "warmup": 0.15},
    "no-smoothing": {"label_smoothing": 0.0},
    "warmup0.15": {"warmup": 0.15},
    "batch128": {"batch_size": 128},
    "batch512": {"batch_size": 512},
    "no-ema": {"ema_half_life": 1e-9},
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=900, help="steps of 256 images")
    parser.add_argument("--variants", default=",".join(VARIANTS))
    parser.add_argument("--width", type=int, default=48)
    options = parser.parse_args()
    data = open_data(Path(os.environ.get("SARTOR_DATA", "../shared/data")) / "cifar10")
    device, preprocess = pick_device(), Preprocess(data.mean, data.std)
    space = conv_space(32, width=options.width, depth=1, operators=("residual",))
    arch = space.restrict({c.name: (False,) for c in space.choices if c.name.endswith(".se")}).largest()
    for name in options.variants.split(","):
        changes = dict(VARIANTS[name])
        shift = changes.pop("shift", 2)
        recipe = replace(Recipe(), **changes)
        torch.manual_seed(0)
        model = place(build(arch, channels=3, classes=10, full_resolution=32), device)
        inputs = Inputs(preprocess, device, seed=0, shift=shift, flip=True)

        def batches(start: int, size: int = recipe.batch_size) -> Iterator[Any]:
            return shuffled(data.train, size, seed=0, start=start)

        steps = options.steps * 256 // recipe.batch_size
        begin = time.monotonic()
        step = plain_step(model, inputs, recipe, side=32)
        train(model, step, batches, recipe, seconds=math.inf, max_steps=steps)
        seconds = time.monotonic() - begin
        recalibrate(model, [preprocess(x.to(device)) for x in data.train.take(np.arange(2000)).split(250)])
        right = accuracy(model.eval(), ((preprocess(x.to(device)), y) for x, y in in_order(data.val, 250)))
        print(f"{name:14} {100 * right:6.2f}%  {seconds:5.0f} s", flush=True)


if __name__ == "__main__":
    main()
