"""Variance-based pruning (P275) on a transformer that reads digits."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from sartor.compress.prune import shrink
from sartor.graph import Cut, trace
from sartor.graph.saliency import SALIENCIES, Evidence
from sartor.models.vit import build_vit
from sartor.space.vit import vit_space
from sartor.train.recalibrate import accuracy
from train.digits import VIT_RECIPE, digits, held_out, plain_network, preprocess

STEPS = 1000


def make(arch):
    return build_vit(arch, channels=1, classes=10, patch=2)


def loss(net: nn.Module) -> float:
    """Mean cross-entropy on held-out images: finer than accuracy, of which one image is a tenth of a point."""
    with torch.no_grad():
        sums = [F.cross_entropy(net(x), y, reduction="sum") for x, y in held_out()]
    return float(sum(sums)) / sum(len(y) for _, y in held_out())


@pytest.mark.claim
def test_variance_based_pruning() -> None:
    """A third and more of the hidden units go, and nothing is trained after it: those that vary least, with their mean
    put into the next bias, cost less than the smallest weights do, and less than without their mean."""
    arch = vit_space(8, width=32, depth=2).largest()
    split = digits().train
    batches = [
        (preprocess()(split.take(range(i, i + 64))), torch.from_numpy(split.labels[i : i + 64]))
        for i in range(0, 512, 64)
    ]
    net = plain_network(arch, STEPS, 0, make, VIT_RECIPE).eval()
    assert accuracy(net, held_out()) > 0.8, "a network that learnt nothing loses nothing"
    graph, evidence = trace(net, batches[0][0][:2]), Evidence(batches)
    hidden = [group for group in graph.groups if group.name.endswith(".expand")]
    assert len(hidden) == 4
    ways = {"variance": ("variance", True), "without the mean": ("variance", False), "magnitude": ("l2", False)}
    for share in (0.35, 0.6):
        left = {}
        for way, (name, compensate) in ways.items():
            scores = SALIENCIES[name](graph, evidence)
            keep = {}
            for group in hidden:
                best = scores[group.name].argsort(descending=True)[: math.ceil((1 - share) * group.size)]
                keep[group.name] = tuple(sorted(best.tolist()))
            left[way] = shrink(graph, Cut(keep), evidence, compensate=compensate).eval()
        losses = {way: loss(small) for way, small in left.items()}
        accuracies = {way: accuracy(small, held_out()) for way, small in left.items()}
        print(f"{share:.0%} cut: loss {losses} (whole {loss(net):.4f}), accuracy {accuracies}")
        assert losses["variance"] < losses["without the mean"]
        assert losses["variance"] < losses["magnitude"]
        assert accuracies["variance"] >= max(accuracies.values()) - 0.02
