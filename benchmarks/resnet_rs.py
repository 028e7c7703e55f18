"""What each of ResNet-RS's improvements is worth: added one by one, and left out one by one (P050, arXiv:2103.07579).

    python benchmarks/resnet_rs.py               # the paper's Table 1: from the training of old to all of them
    python benchmarks/resnet_rs.py --without     # all but one

A small bottleneck ResNet on scikit-learn's digits, of which a tenth is to train on and the rest to judge by, half of it
for choosing (``--split val``): networks that see few images for long overfit, which is what most of these are made
against. Prints held-out accuracy, its mean over seeds and the difference from vanilla, with the standard error of that
over the seeds. The learning rate is the one that suits vanilla.
"""

from __future__ import annotations

import argparse
import math
import statistics
from collections.abc import Iterator, Sequence
from functools import cache, partial

import torch
from torch import Tensor

from sartor.data import Dataset, in_order, open_data, shuffled
from sartor.models import resize
from sartor.models.resnet_rs import resnet_rs
from sartor.train.augment import Preprocess
from sartor.train.loop import Recipe, train
from sartor.train.resnet_rs import TOGGLES, VANILLA, Improvements
from sartor.train.steps import Inputs, plain_step

BASE = Recipe(optimiser="sgd", batch_size=64, peak_lr=0.8)
SIDE = 16
LAYERS, WIDTHS, STEM = (1, 1, 1, 1), (8, 16, 24, 32), 8
STEPS = 900


@cache
def digits() -> Dataset:
    return open_data("digits", val_fraction=0.45, test_fraction=0.45)


def trained_accuracy(improvements: Improvements, seed: int, *, steps: int = STEPS, split: str = "val") -> float:
    """On images that were not trained on."""
    data, recipe = digits(), improvements.recipe(BASE)
    preprocess = Preprocess(data.mean, data.std)
    torch.manual_seed(seed)
    network = resnet_rs(LAYERS, widths=WIDTHS, stem=STEM, channels=1, classes=10, **improvements.network())
    inputs = Inputs(preprocess, torch.device("cpu"), seed=seed, shift=1, flip=False, augment=improvements.augment())

    def batches(start: int) -> Iterator[tuple[Tensor, Tensor]]:
        return shuffled(data.train, recipe.batch_size, seed=seed, start=start)

    step = plain_step(network, inputs, recipe, side=SIDE)
    train(network, step, batches, recipe, seconds=math.inf, max_steps=steps)
    right = seen = 0
    with torch.no_grad():
        for images, labels in in_order(getattr(data, split), 512):
            right += int((network(resize(preprocess(images), SIDE)).argmax(1) == labels).sum())
            seen += len(labels)
    return right / seen


def difference(ours: Sequence[float], theirs: Sequence[float]) -> tuple[float, float]:
    """The mean of the differences, seed by seed, and its standard error."""
    gaps = [a - b for a, b in zip(ours, theirs, strict=True)]
    error = statistics.stdev(gaps) / math.sqrt(len(gaps)) if len(gaps) > 1 else math.nan
    return statistics.mean(gaps), error


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--without", action="store_true")
    parser.add_argument("--only", help="these rows, by commas")
    parser.add_argument("--seeds", default="0,1,2")
    parser.add_argument("--split", default="val", choices=["val", "test"])
    parser.add_argument("--steps", type=int, default=STEPS)
    options = parser.parse_args()
    full = Improvements()
    rows = full.added()
    if options.without:
        rows = {"vanilla": VANILLA, "all": full} | {f"all but {name}": full.without(name) for name in TOGGLES}
    if options.only:
        rows = {name: rows[name] for name in options.only.split(",")}
    one = partial(trained_accuracy, steps=options.steps, split=options.split)
    seeds, base = [int(seed) for seed in options.seeds.split(",")], list[float]()
    print(f"{len(digits().train)} images, {options.steps} steps, seeds {options.seeds}, {options.split}")
    for name, improvements in rows.items():
        found = [one(improvements, seed) for seed in seeds]
        base = base or found
        gap, error = difference(found, base)
        print(f"{name:24} {100 * statistics.mean(found):6.2f} % {100 * gap:+6.2f} ± {100 * error:.2f}", flush=True)


if __name__ == "__main__":
    main()
