"""What NASNet's paper rests on: cells rank alike in a small network and in a larger one."""

from __future__ import annotations

import random

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from sartor.models.cells import build_two_input
from sartor.records import Arch
from sartor.space.two_input import nasnet_space

TRAINED = 500
"""Images that are trained on, of scikit-learn's 1,797 digits; the others are the test."""


def digits() -> tuple[Tensor, Tensor]:
    from sklearn.datasets import load_digits

    x, y = load_digits(return_X_y=True)
    order = np.random.default_rng(0).permutation(len(y))
    images = torch.tensor(x[order], dtype=torch.float32).reshape(-1, 1, 8, 8) / 8 - 1
    return images.expand(-1, 3, -1, -1), torch.tensor(y[order])


def accuracy(arch: Arch, channels: int, cells: int, seed: int, epochs: int) -> float:
    images, labels = digits()
    torch.manual_seed(seed)
    model = build_two_input(arch, channels=channels, cells=cells, relu=True)
    batches: tuple[Tensor, ...] = ()
    each = TRAINED // 50
    steps = epochs * each
    optimiser = torch.optim.Adam(model.parameters())
    rate = torch.optim.lr_scheduler.OneCycleLR(optimiser, 3e-3, total_steps=steps)
    for step in range(steps):
        at = step % each
        batches = torch.randperm(TRAINED).split(50) if at == 0 else batches
        chosen = batches[at]
        optimiser.zero_grad()
        F.cross_entropy(model(images[chosen]), labels[chosen]).backward()
        optimiser.step()
        rate.step()
    with torch.no_grad():
        return float((model.eval()(images[TRAINED:]).argmax(1) == labels[TRAINED:]).float().mean())


@pytest.mark.claim
def test_cells_rank_alike_in_a_small_network_and_a_larger_one():
    """P036's check: Spearman above 0.5 between 3 cells of 4 channels and 5 cells of 8, other weights and batches."""
    from scipy.stats import spearmanr

    space, rng = nasnet_space(blocks=2), random.Random(0)
    archs = [space.sample(rng) for _ in range(10)]
    small = [accuracy(arch, 4, 3, 0, epochs=4) for arch in archs]
    large = [accuracy(arch, 8, 5, 1, epochs=4) for arch in archs]
    found = spearmanr(small, large).statistic
    assert found > 0.5, (small, large)
