"""Which training recipe learns most in a few epochs, or in a given time? One plain network, one change at a time.

    python benchmarks/recipe.py [--steps 900] [--variants base,shift4,lr0.2,lr0.8]
    python benchmarks/recipe.py --seconds 300 --sizes 64x1,64x2,96x1 --variants base
    python benchmarks/recipe.py --seconds 300 --sizes 96x1 --variants base,growing
    python benchmarks/recipe.py --seconds 150 --sizes 48x1 --operators pooled --variants base,se
    python benchmarks/recipe.py --seconds 240 --sizes 48x1,64x1 --operators residual,pooled --variants base

CIFAR-10, plain networks of one operator (width x blocks a stage); prints latency, validation accuracy with recalibrated
batch-norm statistics, steps and seconds. 900 steps of 256 images are 5 epochs. ``growing`` has small images first,
``se`` squeeze-excite in every block.
"""

from __future__ import annotations

import argparse
import itertools
import math
import os
import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from sartor.data import Dataset, in_order, open_data, shuffled
from sartor.export.onnx import export_onnx
from sartor.measure.targets.onnxruntime import OnnxRuntime
from sartor.models import build
from sartor.records import Arch
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
    "se": {"se": True},
    "growing": {"sides": ((0.0, 20), (0.4, 24), (0.7, 28), (0.85, 32))},
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=900, help="steps of 256 images")
    parser.add_argument("--seconds", type=float, default=math.inf, help="train for so long instead")
    parser.add_argument("--variants", default=",".join(VARIANTS))
    parser.add_argument("--sizes", default="48x1")
    parser.add_argument("--operators", default="residual")
    options = parser.parse_args()
    data = open_data(Path(os.environ.get("SARTOR_DATA", "../shared/data")) / "cifar10")
    preprocess = Preprocess(data.mean, data.std)
    for operator, size in itertools.product(options.operators.split(","), options.sizes.split(",")):
        width, depth = map(int, size.split("x"))
        space = conv_space(32, width=width, depth=depth, operators=(operator,))
        gates = [c.name for c in space.choices if c.name.endswith(".se")]
        for name in options.variants.split(","):
            changes = dict(VARIANTS[name])
            gated = changes.pop("se", False)
            arch = space.largest().replace(**dict.fromkeys(gates, gated))
            model, steps, seconds = trained(arch, changes, data, preprocess, options)
            recalibrate(model, [preprocess(x) for x in data.train.take(np.arange(2000)).split(250)])
            right = accuracy(model.eval(), ((preprocess(x), y) for x, y in in_order(data.val, 250)))
            with tempfile.TemporaryDirectory() as folder:
                file = Path(folder) / "model.onnx"
                export_onnx(model.float(), (3, 32, 32), file, draft=True)
                latency = OnnxRuntime(1).latency_ms(file).median_ms
            print(
                f"{operator:9} {size:6} {name:14} {latency:6.3f} ms {100 * right:6.2f}% "
                f"{steps:5} steps {seconds:5.0f} s",
                flush=True,
            )


def trained(arch: Arch, changes: dict[str, Any], data: Dataset, preprocess: Preprocess, options: Any) -> Any:
    """The network of ``arch`` trained with one change to the recipe, its steps, its seconds."""
    shift, sides = changes.pop("shift", 2), changes.pop("sides", ((0.0, 32),))
    recipe = replace(Recipe(), **changes)
    torch.manual_seed(0)
    model = place(build(arch, channels=3, classes=10, full_resolution=32), pick_device())
    inputs = Inputs(preprocess, pick_device(), seed=0, shift=shift, flip=True)
    step_at = {side: plain_step(model, inputs, recipe, side=side) for _, side in sides}
    taken = 0

    def step(images: torch.Tensor, labels: torch.Tensor, progress: float, index: int) -> float:
        nonlocal taken
        taken = max(taken, index + 1)
        return step_at[max(at for at in sides if at[0] <= progress)[1]](images, labels, progress, index)

    def batches(start: int) -> Iterator[Any]:
        return shuffled(data.train, recipe.batch_size, seed=0, start=start)

    limit = None if math.isfinite(options.seconds) else options.steps * 256 // recipe.batch_size
    begin = time.monotonic()
    train(model, step, batches, recipe, seconds=options.seconds, max_steps=limit)
    return model.cpu(), taken, time.monotonic() - begin


if __name__ == "__main__":
    main()
