"""Zela et al., arXiv:1807.06906: architectures and how they are trained, searched together by BOHB, on real digits.

The networks are trained by numpy, not by torch: on batches of a hundred images of 64 pixels torch would spend nearly
all of the time between its operators.
"""

from __future__ import annotations

import random
from functools import cache
from itertools import pairwise

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy.stats import spearmanr
from sklearn.datasets import load_digits

from sartor.records import Arch
from sartor.search import run
from sartor.search.objective import Objective
from sartor.space import Choice, Space
from sartor.space.fidelity import FIDELITY, Fidelities, with_fidelities

Floats = NDArray[np.float32]

EPOCHS = {3: 3, 10: 10, 50: 50}
TRAINED_ON, CHOSEN_BY = 200, 600
ERROR = (Objective("error"),)
ARCHITECTURE = (
    Choice("depth", (1, 2, 3, 4)),
    Choice("width", (8, 16, 32, 64, 128)),
    Choice("activation", ("relu", "tanh", "sigmoid")),
    Choice("residual", (False, True)),
)
TRAINING = (
    Choice("optimiser", ("sgd", "adam")),
    Choice("rate", (0.0003, 0.001, 0.003, 0.01, 0.03, 0.1, 0.3)),
    Choice("momentum", (0.0, 0.9), when=("optimiser", ("sgd",))),
    Choice("decay", (0.0, 0.001, 0.01)),
    Choice("batch", (20, 100)),
    Choice("dropout", (0.0, 0.2, 0.5)),
)
USUAL = Arch({"optimiser": "sgd", "rate": 0.01, "momentum": 0.9, "decay": 0.001, "batch": 20, "dropout": 0.0})
"""How every architecture is trained while architectures alone are searched: momentum, the middle rate and decay."""

ACTIVATIONS = {
    "relu": (lambda z: np.maximum(z, 0), lambda a: (a > 0).astype(np.float32)),
    "tanh": (np.tanh, lambda a: 1 - a * a),
    "sigmoid": (lambda z: (1 + np.tanh(z / 2)) / 2, lambda a: a * (1 - a)),
}
"""Each with its slope, from its value."""


@cache
def digits() -> tuple[Floats, NDArray[np.int64]]:
    """Images ``[1797, 64]`` in [0, 1] and labels, shuffled once: to train with, to choose by, and the rest to judge."""
    x, y = load_digits(return_X_y=True)
    order = np.random.default_rng(0).permutation(len(y))
    return (x[order] / 16).astype(np.float32), y[order]


class Net:
    """Fully connected, ``depth`` hidden layers; all of its weights are one vector, and so is their gradient."""

    def __init__(self, arch: Arch, rng: np.random.Generator):
        width, depth = int(arch["width"]), int(arch["depth"])
        sizes = [64, *[width] * depth, 10]
        shapes = [(a + 1, b) for a, b in pairwise(sizes)]  # the last row is the bias
        ends = np.cumsum([a * b for a, b in shapes])
        self.flat, self.slope = np.zeros((2, ends[-1]), np.float32)
        spans = [slice(end - a * b, end) for (a, b), end in zip(shapes, ends, strict=True)]
        self.weights = [self.flat[s].reshape(shape) for s, shape in zip(spans, shapes, strict=True)]
        self.slopes = [self.slope[s].reshape(shape) for s, shape in zip(spans, shapes, strict=True)]
        for w in self.weights:
            w[:-1] = rng.normal(0, np.sqrt(2 / (len(w) - 1)), (len(w) - 1, w.shape[1]))
        self.act, self.back = ACTIVATIONS[str(arch["activation"])]
        self.residual, self.dropout = bool(arch["residual"]), float(arch["dropout"])

    def forward(self, x: Floats, rng: np.random.Generator | None = None) -> tuple[Floats, list[tuple[Floats, ...]]]:
        """Logits, and of each hidden layer its input, activation and dropout mask. Dropped out only with ``rng``."""
        held = []
        for i, w in enumerate(self.weights[:-1]):
            a = self.act(x @ w[:-1] + w[-1])
            mask = np.ones_like(a)
            if rng is not None and self.dropout:
                mask = (rng.random(a.shape, np.float32) >= self.dropout) / np.float32(1 - self.dropout)
            held.append((x, a, mask))
            x = a * mask + x if self.residual and i else a * mask
        held.append((x,))
        return x @ self.weights[-1][:-1] + self.weights[-1][-1], held

    def backward(self, d: Floats, held: list[tuple[Floats, ...]]) -> None:
        """The gradient, from that of the logits."""
        for i in reversed(range(len(self.weights))):
            x, past = held[i][0], d
            if i < len(self.weights) - 1:
                d = d * held[i][2] * self.back(held[i][1])
            self.slopes[i][:-1] = x.T @ d
            self.slopes[i][-1] = d.sum(axis=0)
            below = d @ self.weights[i][:-1].T
            d = below + past if self.residual and 0 < i < len(self.weights) - 1 else below


def cross_entropy(logits: Floats, y: NDArray[np.int64]) -> tuple[float, Floats]:
    """The mean over a batch, and its gradient."""
    p = np.exp(logits - logits.max(axis=1, keepdims=True))
    p /= p.sum(axis=1, keepdims=True)
    loss = -float(np.log(p[np.arange(len(y)), y] + 1e-12).mean())
    p[np.arange(len(y)), y] -= 1
    return loss, p / np.float32(len(y))


@cache
def trained(arch: Arch, seed: int) -> tuple[float, float]:
    """Errors on the images to choose by and to judge with, after ``arch``'s epochs: the rate falls along a cosine."""
    (x, y), rng = digits(), np.random.default_rng(seed)
    net, batch = Net(arch, rng), int(arch["batch"])
    rate, decay = float(arch["rate"]), np.float32(arch["decay"])
    first, second = np.zeros((2, *net.flat.shape), np.float32)
    steps = int(arch[FIDELITY]) * TRAINED_ON // batch
    for step in range(steps):
        if step % (TRAINED_ON // batch) == 0:
            order = rng.permutation(TRAINED_ON)
        part = order[step % (TRAINED_ON // batch) * batch :][:batch]
        logits, held = net.forward(x[part], rng)
        net.backward(cross_entropy(logits, y[part])[1], held)
        now = np.float32(rate * (1 + np.cos(np.pi * step / steps)) / 2)
        if arch["optimiser"] == "sgd":
            first = np.float32(arch["momentum"]) * first + net.slope + decay * net.flat
            net.flat -= now * first
        else:
            first += np.float32(0.1) * (net.slope - first)
            second += np.float32(0.001) * (net.slope**2 - second)
            unbiased = np.sqrt(second / (1 - 0.999 ** (step + 1))) + 1e-8
            net.flat -= (now * (first / (1 - 0.9 ** (step + 1)) / unbiased + decay * net.flat)).astype(np.float32)
    with np.errstate(all="ignore"):
        wrong = net.forward(x)[0].argmax(axis=1) != y
    return float(wrong[TRAINED_ON:][:CHOSEN_BY].mean()), float(wrong[TRAINED_ON + CHOSEN_BY :].mean())


BUDGET = 24
"""Full trainings of 50 epochs: what each way may spend."""


def found(choices: tuple[Choice, ...], fixed: Arch, budget: int, seed: int) -> Arch:
    """The best that BOHB finds of ``choices`` with ``budget``, the rest of each arch being ``fixed``."""
    space: Fidelities = with_fidelities(Space(choices), EPOCHS)
    history = run(
        space,
        lambda arch: {"error": trained(Arch({**arch, **fixed}), seed)[0]},
        "bohb",
        budget,
        seed,
        objectives=ERROR,
        cost=space.cost,
    )
    full = [record for record in history if record.arch[FIDELITY] == 50]
    best = min(full, key=lambda record: record.metrics["error"]).arch
    return Arch({**best, **fixed})


def jointly(seed: int) -> float:
    return trained(found((*ARCHITECTURE, *TRAINING), Arch({}), BUDGET, seed), seed)[1]


def one_after_the_other(seed: int) -> float:
    """Half of the epochs for the architecture, trained as usual, and half for how it is trained."""
    first = found(ARCHITECTURE, USUAL, BUDGET // 2, seed)
    fixed = Arch({choice.name: first[choice.name] for choice in ARCHITECTURE})
    return trained(found(TRAINING, fixed, BUDGET // 2, seed), seed)[1]


def test_the_gradient_is_that_of_the_loss() -> None:
    """By differences, in random directions."""
    x, y = digits()
    for seed, activation in enumerate(ACTIVATIONS):
        rng = np.random.default_rng(seed)
        arch = Arch({"depth": 3, "width": 8, "activation": activation, "residual": seed != 1, "dropout": 0.0})
        net = Net(arch, rng)
        logits, held = net.forward(x[:50])
        _, d = cross_entropy(logits, y[:50])
        net.backward(d, held)
        for _ in range(5):
            step = rng.normal(size=net.flat.shape).astype(np.float32)
            step *= np.float32(3e-3) / np.linalg.norm(step)
            slope, here = float(net.slope @ step), net.flat.copy()
            ends = []
            for sign in (1, -1):
                net.flat[:] = here + sign * step
                ends.append(cross_entropy(net.forward(x[:50])[0], y[:50])[0])
            net.flat[:] = here
            assert (ends[0] - ends[1]) / 2 == pytest.approx(slope, rel=0.05, abs=2e-5)


@pytest.mark.claim
def test_both_at_once_against_one_after_the_other(record_property) -> None:
    """At equal epochs, over five seeds: no worse by more than half a point. That it is better, as the paper has it, is
    not shown: on these images the two came out even, each ahead on some seeds."""
    joint, apart = ([way(seed) for seed in range(5)] for way in (jointly, one_after_the_other))
    record_property("errors", {"jointly": joint, "one after the other": apart})
    assert np.mean(joint) <= np.mean(apart) + 0.005


@pytest.mark.claim
def test_few_epochs_tell_something_of_many(record_property) -> None:
    """The rank correlation of errors after 3 and after 50 epochs, over random archs: there, and far from whole."""
    space, rng = Space((*ARCHITECTURE, *TRAINING)), random.Random(0)
    archs = [space.sample(rng) for _ in range(40)]
    errors = {n: [trained(Arch({**arch, FIDELITY: n}), 0)[0] for arch in archs] for n in EPOCHS}
    told = {n: float(spearmanr(errors[n], errors[50]).statistic) for n in (3, 10)}
    record_property("spearman", told)
    print(told)
    assert 0.2 < told[3] < told[10] < 0.99
