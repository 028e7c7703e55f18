"""LINAS where it is used: on supernets, with latencies measured on exported files. P310 and P246."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy.signal import stft
from torch import nn

from sartor.data import Dataset, in_order, open_data, shuffled
from sartor.export.onnx import export_onnx
from sartor.measure.targets.onnxruntime import OnnxRuntime
from sartor.models import Supernet, build
from sartor.models.vit import build_vit
from sartor.records import Arch
from sartor.search.loop import search
from sartor.search.methods.linas import linas
from sartor.search.methods.nsga2 import nsga2
from sartor.search.methods.random import random_search
from sartor.space import Space
from sartor.space.vit import vit_space
from sartor.train.augment import Preprocess
from sartor.train.loop import Recipe, train
from sartor.train.recalibrate import accuracy, recalibrate
from sartor.train.schedule import sandwich
from sartor.train.steps import Inputs, supernet_step
from train.digits import CPU, RECIPE, VIT_RECIPE, digits, small_space

pytestmark = pytest.mark.claim
STRATEGIES = {"random": random_search, "nsga2": nsga2, "linas": linas}
SEEDS, EVALUATIONS = 15, 120
Evaluate = Callable[[Arch], dict[str, float]]


@pytest.fixture
def speech(data_dir: Path) -> Dataset:
    """Spoken digits as log power in 16 bands by 16 moments of each clip, 8 bits a value."""
    file = data_dir / "fsdd" / "fsdd.npz"
    if not file.is_file():
        pytest.skip(f"no fsdd in {data_dir}: spoken digits are not searched for")
    with np.load(file) as held:
        audio, offsets, labels = (held[name] for name in ("audio", "offsets", "labels"))
    x = np.zeros((len(labels), 16, 16), np.uint8)
    for i, (begin, end) in enumerate(pairwise(offsets)):
        _, _, z = stft(audio[begin:end].astype(np.float64), nperseg=256, noverlap=192)
        bands = np.stack([band.mean(0) for band in np.array_split(np.log1p(np.abs(z[1:])), 16)])
        cells = np.stack([moment.mean(1) for moment in np.array_split(bands, 16, axis=1)], axis=1)
        x[i] = np.rint(255 * (cells - cells.min()) / np.ptp(cells))
    return open_data((x, labels.astype(np.int64)), val_fraction=0.25, test_fraction=0.25)


def evaluator(
    data: Dataset, space: Space, make: Callable[[Arch], nn.Module], recipe: Recipe, steps: int, folder: Path
) -> Evaluate:
    """Train a supernet on ``data``; then: the accuracy of a subnet on validation images and the latency of its file.

    The same for every network and modality. Every arch is measured once, so that all strategies see the same value.
    """
    torch.manual_seed(0)
    net = Supernet(space, make)
    preprocess = Preprocess(data.mean, data.std)
    step = supernet_step(net, sandwich, Inputs(preprocess, CPU, seed=0, shift=1, flip=False), recipe)
    batches = partial(shuffled, data.train, recipe.batch_size, seed=0)
    train(net, step, lambda start: batches(start=start), recipe, seconds=math.inf, max_steps=steps)
    calibration = [preprocess(images) for images, _ in in_order(data.train, 256)]
    held_out = [(preprocess(images), labels) for images, labels in in_order(data.val, 512)]
    shape = tuple(held_out[0][0].shape[1:])
    target = OnnxRuntime(1)
    known: dict[Arch, dict[str, float]] = {}

    def evaluate(arch: Arch) -> dict[str, float]:
        if arch not in known:
            subnet = recalibrate(net.extract(arch), calibration)
            file = folder / f"{arch.key}.onnx"
            export_onnx(subnet, shape, file, draft=True)
            latency = target.latency_ms(file, runs=100, min_time_s=0.02)
            known[arch] = {"accuracy_val": accuracy(subnet, held_out), "latency_ms": latency.median_ms}
        return known[arch]

    return evaluate


def median_needed(table: Any) -> dict[str, float]:
    """By strategy: networks measured until 95 % of the hypervolume of the whole space's front, in the median."""
    needed = {}
    for name, strategy in STRATEGIES.items():
        counts = []
        for seed in range(SEEDS):
            found = search(table.space, table.metrics.__getitem__, strategy, evaluations=EVALUATIONS, seed=seed)
            shares = table.progress(found)
            counts.append(next((i + 1 for i, share in enumerate(shares) if share >= 0.95), math.inf))
        needed[name] = statistics.median(counts)
    return needed


@pytest.mark.parametrize("modality", ["images", "speech"])
def test_fewer_true_evaluations_on_supernets(
    modality: str, request: pytest.FixtureRequest, tmp_path: Path, engine: Any
) -> None:
    """A convolutional supernet on images of digits, a transformer on spoken ones; each subnet's accuracy and latency
    (of its file) are measured. LINAS reaches 95 % of the true front's hypervolume after fewer networks than NSGA-II
    and random search, in the median over seeds."""
    if modality == "images":
        space = small_space((4, 8, 12, 16, 24), stem=(4, 8, 12), depth=2)
        make = partial(build, channels=1, classes=10, full_resolution=8)
        evaluate = evaluator(digits(), space, make, RECIPE, 300, tmp_path)
    else:
        space = vit_space(16, width=32, depth=2).restrict(
            {"s0.width": (16, 32), "s0.heads": (2, 4), "s1.heads": (4,), "s0.expand": (1, 4), "s1.expand": (1, 4)}
        )
        make = partial(build_vit, channels=1, classes=10, patch=4)
        evaluate = evaluator(request.getfixturevalue("speech"), space, make, VIT_RECIPE, 400, tmp_path)
    assert evaluate(space.largest())["accuracy_val"] > 0.8, "a supernet that learnt nothing ranks nothing"
    archs = list(space.every())
    assert len(archs) > 150
    table = engine.Table(modality, space, {arch: evaluate(arch) for arch in archs})
    needed = median_needed(table)
    print(f"{modality}, {len(archs)} networks: measured until 95 %: {needed}")
    assert needed["linas"] < min(needed["nsga2"], needed["random"])
