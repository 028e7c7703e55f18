"""Trains small networks of our own spaces, and writes what became of them into a table that tests and claims read.

    python benchmarks/local_tables.py      # tests/predict/trained.csv.gz, made anew or gone on with
    python benchmarks/local_tables.py --tables vit,cells --out mine.csv.gz

One thread, one network after the other, some minutes in all; written after every network, so that it can be stopped
anywhere and goes on where it was. Steps decide how long a network is trained, not seconds, and archs, weights and
batches come from fixed seeds, so the same machine writes the same table (another one sums in another order).

Images are 8 pixels a side: scikit-learn's digits, half to train on and half to validate with, and the first of
CIFAR-10's training images, reduced (found through $SARTOR_DATA, else ../shared/data beside the project).

Columns: table, arch and recipe (JSON), accuracy (validation), again (with other weights and batches: what luck is
worth), params, macs, and where the table has them proxies of the untrained network, on images that it is trained
on.
"""

from __future__ import annotations

import argparse
import csv
import gzip
import io
import json
import math
import os
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sartor.disk import write_atomic
from sartor.models.buildable import Buildable, autoformer_problem, macro_problem, nb201_problem
from sartor.models.buildable.buildable import images
from sartor.models.einspace import build_einspace
from sartor.records import Arch, Option
from sartor.search.proxies import proxies
from sartor.search.strategy import fresh
from sartor.search.tables.rows import read_rows
from sartor.space.autoformer import Ranges
from sartor.space.choice import Choice
from sartor.space.einspace import einspace
from sartor.space.joint import join, part
from sartor.space.space import Space

HOME = Path(__file__).resolve().parents[1]
OUT = HOME / "tests" / "predict" / "trained.csv.gz"
SIDE = 8
CIFAR_TRAIN, CIFAR_VALIDATION = 2000, 2000
ZERO_COST = ("l2_norm", "grad_norm", "snip", "plain", "grasp", "fisher", "synflow", "jacob_cov", "epe_nas", "naswot")
AS_VIT = ("length_distortion", "ntk_condition")
SCORED = 32
"""Images in the batch that proxies see."""

RECIPES = Space(
    (
        Choice("optimiser", ("sgd", "adamw")),
        Choice("lr", (0.5, 1.0, 2.0)),  # of what is usual for the optimiser
        Choice("decay", (0.0, 0.05)),
        Choice("smoothing", (0.0, 0.1)),
        Choice("mixup", (0.0, 0.2)),
        Choice("batch", (32, 64)),
    )
)
USUAL = Arch({"optimiser": "adamw", "lr": 1.0, "decay": 0.0, "smoothing": 0.0, "mixup": 0.0, "batch": 64})
ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {"relu": nn.ReLU, "tanh": nn.Tanh, "gelu": nn.GELU}
USUAL_LR = {"sgd": 0.1, "adamw": 3e-3}
GRAMMAR = einspace((3, SIDE, SIDE), height=8, widths=(16, 32), branches=(2, 4))


@dataclass(frozen=True)
class Images:
    """Normalised images ``[n, 3, SIDE, SIDE]`` and labels ``[n]``: to train on, and to validate with."""

    x: Tensor
    y: Tensor
    held_x: Tensor
    held_y: Tensor


@dataclass(frozen=True)
class Plan:
    """What a table holds: ``networks`` archs drawn with ``seed``, each trained for ``steps``."""

    buildable: Buildable
    networks: int
    steps: int
    data: str = "digits"
    proxies: tuple[str, ...] = ()
    recipes: bool = False
    seed: int = 0
    twice: int = 0  # so many of them are trained again with another seed


def cells() -> Buildable:
    return nb201_problem(SIDE, channels=4, cells=1)


def mobile() -> Buildable:
    return macro_problem(resolution=SIDE, stem=4, last=32)


def vit() -> Buildable:
    ranges = Ranges((16, 24, 32), (1, 2, 3, 4), (1, 2, 4), (0.5, 1.0, 2.0, 4.0))
    return autoformer_problem(ranges, resolution=SIDE, patch=4, per_head=8, classes=10)


def perceptrons() -> Buildable:
    """Chains of up to three hidden layers, whose widths differ."""
    widths = (4, 8, 16, 32, 64)
    space = Space(
        (
            Choice("depth", (1, 2, 3)),
            Choice("width0", widths),
            Choice("width1", widths, ("depth", (2, 3))),
            Choice("width2", widths, ("depth", (3,))),
            Choice("activation", tuple(ACTIVATIONS)),
        )
    )

    def build(arch: Arch) -> nn.Module:
        sizes = [3 * SIDE * SIDE, *(int(arch[f"width{i}"]) for i in range(int(arch["depth"]))), 10]
        layers = [nn.Flatten()]
        for c_in, c_out in pairwise(sizes):
            layers += [nn.Linear(c_in, c_out), ACTIVATIONS[str(arch["activation"])]()]
        return nn.Sequential(*layers[:-1])

    return Buildable(space, build, lambda arch, n: images(n, SIDE))


def grammar() -> Buildable:
    return Buildable(GRAMMAR, lambda arch: build_einspace(GRAMMAR, arch, classes=10), lambda arch, n: images(n, SIDE))


PLANS: dict[str, Callable[[], Plan]] = {
    "grammar": lambda: Plan(grammar(), 160, 100, proxies=ZERO_COST),
    "grammar-cifar10": lambda: Plan(grammar(), 60, 100, data="cifar10", proxies=ZERO_COST, seed=1),
    "cells": lambda: Plan(cells(), 60, 60),
    "mobile": lambda: Plan(mobile(), 40, 60),
    "recipes": lambda: Plan(perceptrons(), 200, 100, recipes=True, twice=200),
    "vit": lambda: Plan(vit(), 30, 200, proxies=AS_VIT, twice=10),
}


@dataclass(frozen=True)
class Row:
    """One network of a table. ``scores`` are NaN where a proxy had nothing to tell, and ``again`` where it was trained
    once."""

    arch: Arch
    recipe: Arch
    accuracy: float
    again: float
    params: float
    macs: float
    scores: Mapping[str, float]


def trained(file: Path = OUT) -> dict[str, list[Row]]:
    """The tables in ``file``, by name, in the order they were written. Raises InputError where it cannot be read."""
    found: dict[str, list[Row]] = {}
    for line in read_rows(file, "make it with benchmarks/local_tables.py"):
        scores = {name: float(line[name] or "nan") for name in (*ZERO_COST, *AS_VIT)}
        numbers = [float(line[name] or "nan") for name in ("accuracy", "again", "params", "macs")]
        row = Row(Arch(json.loads(line["arch"])), Arch(json.loads(line["recipe"])), *numbers, scores)
        found.setdefault(line["table"], []).append(row)
    return found


@lru_cache
def digits() -> Images:
    from sklearn.datasets import load_digits

    x, y = load_digits(return_X_y=True)
    order = np.random.default_rng(0).permutation(len(x))
    pixels = torch.tensor(x[order].reshape(-1, 1, SIDE, SIDE), dtype=torch.float32).expand(-1, 3, -1, -1)
    return halves(pixels.contiguous(), torch.tensor(y[order]), len(x) // 2)


@lru_cache
def cifar10() -> Images:
    """The first images of the training file, in which rows are shuffled."""
    import pyarrow.parquet as pq
    from PIL import Image

    folder = Path(os.environ.get("SARTOR_DATA") or HOME.parent / "shared" / "data")
    wanted = CIFAR_TRAIN + CIFAR_VALIDATION
    batches = pq.ParquetFile(folder / "cifar10" / "train.parquet").iter_batches(wanted, columns=["image", "label"])
    rows = next(iter(batches)).to_pylist()[:wanted]
    opened = (Image.open(io.BytesIO(row["image"]["bytes"])).convert("RGB") for row in rows)
    small = np.stack([np.asarray(image.resize((SIDE, SIDE), Image.Resampling.BOX)) for image in opened])
    pixels = torch.tensor(small, dtype=torch.float32).permute(0, 3, 1, 2).contiguous()
    return halves(pixels, torch.tensor([row["label"] for row in rows]), CIFAR_TRAIN)


def halves(pixels: Tensor, labels: Tensor, first: int) -> Images:
    """The ``first`` images to train on; all normalised by them, channel by channel."""
    seen = pixels[:first]
    mean, deviation = seen.mean((0, 2, 3), keepdim=True), seen.std((0, 2, 3), keepdim=True)
    x = (pixels - mean) / deviation
    return Images(x[:first], labels[:first], x[first:], labels[first:])


DATA = {"digits": digits, "cifar10": cifar10}


def accuracy(
    build: Callable[[], nn.Module], recipe: Mapping[str, Option], data: Images, steps: int, seed: int
) -> float:
    """The share of validation images that the network gets right after ``steps`` of ``recipe``: the rate goes up for a
    tenth of them, then down to zero along a cosine."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = build().train()
        optimiser = optimiser_of(network, recipe)
        schedule = torch.optim.lr_scheduler.LambdaLR(
            optimiser, lambda s: min(1.0, (s + 1) / (0.1 * steps)) * (1 + math.cos(math.pi * s / steps)) / 2
        )
        rng, strength = np.random.default_rng(seed), float(recipe["mixup"])
        for _ in range(steps):
            rows = torch.randint(len(data.x), (int(recipe["batch"]),))
            x, y = data.x[rows], F.one_hot(data.y[rows], 10).float()
            if strength:
                share = float(rng.beta(strength, strength))
                x, y = (share * t + (1 - share) * t.flip(0) for t in (x, y))
            optimiser.zero_grad()
            F.cross_entropy(network(x), y, label_smoothing=float(recipe["smoothing"])).backward()
            optimiser.step()
            schedule.step()
        with torch.no_grad():
            return float((network.eval()(data.held_x).argmax(dim=1) == data.held_y).float().mean())


def optimiser_of(network: nn.Module, recipe: Mapping[str, Option]) -> torch.optim.Optimizer:
    name = str(recipe["optimiser"])
    lr, decay = USUAL_LR[name] * float(recipe["lr"]), float(recipe["decay"])
    if name == "sgd":  # whose decay is not apart from its rate: as much of it a step as AdamW's of the usual rate
        return torch.optim.SGD(network.parameters(), lr, momentum=0.9, nesterov=True, weight_decay=decay / 50)
    return torch.optim.AdamW(network.parameters(), lr, weight_decay=decay, fused=True)


def drawn(plan: Plan) -> list[tuple[Arch, Arch]]:
    """The archs of a table with their recipes."""
    rng = random.Random(plan.seed)
    if plan.recipes:
        both = join({"net": plan.buildable.space, "recipe": RECIPES})
        pairs = fresh(both, lambda: both.sample(rng), rng, plan.networks, ())
        return [(part(pair, "net"), part(pair, "recipe")) for pair in pairs]
    space = plan.buildable.space
    return [(arch, USUAL) for arch in fresh(space, lambda: space.sample(rng), rng, plan.networks, ())]


def evaluated(plan: Plan, arch: Arch, recipe: Arch, *, twice: bool = False) -> Row:
    data = DATA[plan.data]()
    build = lambda: plan.buildable.build(arch)
    found = accuracy(build, recipe, data, plan.steps, 0)
    again = accuracy(build, recipe, data, plan.steps, 1) if twice else math.nan
    size = scores(plan, arch, "params", "macs")
    return Row(arch, recipe, found, again, size["params"], size["macs"], scores(plan, arch) if plan.proxies else {})


def scores(plan: Plan, arch: Arch, *names: str, seed: int = 0) -> dict[str, float]:
    """Proxies of the untrained network whose weights ``seed`` draws: the plan's, or ``names``."""
    data = DATA[plan.data]()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = plan.buildable.build(arch)
    return {name: proxies[name](network, data.x[:SCORED], data.y[:SCORED]) for name in names or plan.proxies}


def written(tables: Mapping[str, Sequence[Row]], file: Path) -> None:
    text = io.StringIO()
    names = (*ZERO_COST, *AS_VIT)
    out = csv.writer(text, lineterminator="\n")
    out.writerow(["table", "arch", "recipe", "accuracy", "again", "params", "macs", *names])
    for table, rows in tables.items():
        for row in rows:
            told = [row.scores.get(name, math.nan) for name in names]
            sizes = [f"{row.params:.0f}", f"{row.macs:.0f}"]
            first, again, *texts = ["" if math.isnan(v) else f"{v:.6g}" for v in (row.accuracy, row.again, *told)]
            out.writerow([table, row.arch.to_json(), row.recipe.to_json(), first, again, *sizes, *texts])
    write_atomic(file, gzip.compress(text.getvalue().encode(), mtime=0))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tables", default=",".join(PLANS))
    parser.add_argument("--out", type=Path, default=OUT)
    options = parser.parse_args()
    wanted = options.tables.split(",")
    if unknown := [name for name in wanted if name not in PLANS]:
        parser.error(f"no table is called {', '.join(unknown)}: there are {', '.join(PLANS)}")
    torch.set_num_threads(1)
    done = trained(options.out) if options.out.exists() else {}
    tables = {name: list(done.get(name, [])) for name in PLANS}
    for name in wanted:
        plan = PLANS[name]()
        known = {(row.arch, row.recipe) for row in tables[name]}
        for place, (arch, recipe) in enumerate(drawn(plan), 1):
            if (arch, recipe) not in known:
                tables[name].append(evaluated(plan, arch, recipe, twice=place <= plan.twice))
                written(tables, options.out)
                print(f"{name} {place}/{plan.networks}: {tables[name][-1].accuracy:.3f}", flush=True)


if __name__ == "__main__":
    main()
