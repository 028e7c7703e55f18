"""Searching two spaces as one: networks with their recipes, and with the bits of their layers; on the digits."""

from __future__ import annotations

import random
from functools import partial
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch

from sartor.errors import InputError
from sartor.predict.light import kendall
from sartor.records import Arch
from sartor.search import pareto, run
from sartor.search.methods.fbnetv3 import fbnetv3
from sartor.search.methods.linas import linas
from sartor.search.methods.random import random_search
from sartor.search.objective import Objective, costs
from sartor.search.pretrained import Pretrained
from sartor.search.tables import open_known
from sartor.space.choice import Choice
from sartor.space.joint import join, part, with_bits
from sartor.space.space import Space

ERROR, SIZE = Objective("error"), Objective("kilobytes", log=True)


@pytest.fixture(scope="module")
def digits() -> tuple[torch.Tensor, ...]:
    """Images to train on and to validate with, and their digits, of scikit-learn's 1,797."""
    from sklearn.datasets import load_digits

    x, y = load_digits(return_X_y=True)
    order = np.random.default_rng(0).permutation(len(x))
    images, classes = torch.tensor(x[order] / 16, dtype=torch.float32), torch.tensor(y[order])
    return images[:700], classes[:700], images[700:], classes[700:]


# Recipes

NETS = Space((Choice("width", (4, 8, 16, 32)), Choice("depth", (1, 2, 3))))
RECIPES = Space((Choice("lr", (0.03, 0.06, 0.12, 0.25)), Choice("batch", (16, 64)), Choice("momentum", (0.0, 0.8))))
USUAL = Arch({"lr": 0.06, "batch": 64, "momentum": 0.8})


def macs(arch: Arch) -> float:
    sizes = [64, *[arch["width"]] * arch["depth"], 10]
    return float(sum(a * b for a, b in pairwise(sizes)))


def trained_error(pair: Arch, digits: tuple[torch.Tensor, ...]) -> float:
    """The validation error of one network, trained by one recipe for three epochs."""
    x, y, held_x, held_y = digits
    net, recipe = part(pair, "net"), part(pair, "recipe")
    generator = torch.Generator().manual_seed(0)
    torch.manual_seed(0)
    sizes = [64, *[net["width"]] * net["depth"], 10]
    layers = [layer for a, b in pairwise(sizes) for layer in (torch.nn.Linear(a, b), torch.nn.ReLU())]
    model = torch.nn.Sequential(*layers[:-1])
    optimiser = torch.optim.SGD(model.parameters(), recipe["lr"], momentum=recipe["momentum"])
    for _ in range(3):
        for chosen in torch.randperm(len(x), generator=generator).split(recipe["batch"]):
            optimiser.zero_grad()
            torch.nn.functional.cross_entropy(model(x[chosen]), y[chosen]).backward()
            optimiser.step()
    return float((model(held_x).argmax(dim=1) != held_y).float().mean())


@pytest.fixture(scope="module")
def pairs(digits) -> dict[Arch, float]:
    """All 192 pairs of a network and a recipe, with their errors."""
    return {pair: trained_error(pair, digits) for pair in join({"net": NETS, "recipe": RECIPES}).every()}


@pytest.mark.heavy
def test_pretraining_helps_where_little_is_evaluated(data_dir):
    """NAS-Bench-Macro: from 30 networks, a predictor that knew their MACs and parameters first ranks others better."""
    table, sizes = open_known("macro:cifar10", data_dir, "flops"), open_known("macro:cifar10", data_dir, "params")
    archs = list(table.rows)

    def statistics(arch: Arch) -> list[float]:
        return [table.rows[arch]["flops"], sizes.rows[arch]["params"]]

    plain, pretrained = Pretrained(table.space), Pretrained(table.space, statistics, draws=256)
    gains = []
    for seed in range(3):
        chosen = random.Random(seed).sample(archs, 330)
        values = np.array([table.judge(arch) for arch in chosen])
        taus = [
            kendall(values[30:], predictor.fit(chosen[:30], values[:30]).predict(chosen[30:])[0])
            for predictor in (plain, pretrained)
        ]
        gains.append(taus[1] - taus[0])
    assert np.mean(gains) > 0.02


@pytest.mark.heavy
def test_recipes_found_with_networks_beat_a_fixed_one_at_equal_macs(pairs):
    """At most 1,500 MACs and 30 evaluations: the pairs that are found are better than the best of all networks by the
    usual recipe, of which there are fewer than 30."""
    space = join({"net": NETS, "recipe": RECIPES})

    def allowed(pair: Arch) -> bool:
        return macs(part(pair, "net")) <= 1500

    fixed = [pairs[p] for p in pairs if allowed(p) and part(p, "recipe") == USUAL]
    assert 3 <= len(fixed) < 30
    found = []
    for seed in range(5):
        strategy = partial(fbnetv3, allowed=allowed, first=10, coarse=20, candidates=100, population=20)
        history = run(space, lambda p: {"error": pairs[p]}, strategy, 30, seed, objectives=[ERROR], batch=5)
        found.append(min(record.metrics["error"] for record in history if allowed(record.arch)))
    assert np.mean(found) < min(fixed)


def test_a_predictor_refuses_what_it_cannot_learn_from():
    predictor = Pretrained(NETS)
    archs = list(NETS.every())
    with pytest.raises(InputError):
        predictor.predict(archs)
    for values in ([1.0], [1.0, float("nan")]):
        with pytest.raises(InputError):
            predictor.fit(archs[: len(values)], np.array(values))
    with pytest.raises(InputError):
        Pretrained(NETS, lambda arch: [float("inf")]).fit(archs[:3], np.arange(3.0))
    with pytest.raises(InputError, match="recipe"):
        Pretrained(NETS, about="recipe")


def test_a_predictor_is_a_function_of_what_it_was_given():
    archs = list(NETS.every())
    values = np.array([macs(arch) for arch in archs])
    torch.manual_seed(3)
    before = torch.random.get_rng_state()
    first = Pretrained(NETS, lambda arch: [macs(arch)]).fit(archs[:8], values[:8]).predict(archs)
    again = Pretrained(NETS, lambda arch: [macs(arch)])
    again.fit(archs[2:], values[2:])  # what it learnt before is no part of the next fit
    second = again.fit(archs[:8], values[:8]).predict(archs)
    np.testing.assert_array_equal(first[0], second[0])
    assert torch.equal(before, torch.random.get_rng_state())


def test_a_predictor_whose_encoder_sees_networks_alone_learns_what_recipes_do():
    """Its head sees them; and statistics are asked of as many pairs as it says."""
    space = join({"net": NETS, "recipe": RECIPES})
    pairs = list(space.every())[::7]
    predictor = Pretrained(space, lambda pair: [macs(part(pair, "net"))], about="net", draws=32)
    predictor.fit(pairs, np.array([pair["recipe.lr"] for pair in pairs]))
    told = predictor.predict(pairs)[0]
    assert kendall(told, np.array([pair["recipe.lr"] for pair in pairs])) > 0.6
    asked: list[Arch] = []
    Pretrained(space, lambda pair: [asked.append(pair) or macs(part(pair, "net"))], about="net", draws=9).fit(
        pairs, np.arange(len(pairs))
    )
    assert len(asked) == 9


# Bits

LAYERS = ("first", "second", "third", "last")
SUBNETS = Space(tuple(Choice(f"width{i}", (6, 12, 24, 48)) for i in range(3)))
JOINT = with_bits(SUBNETS, LAYERS)


@pytest.fixture(scope="module")
def elastic(digits) -> list[torch.Tensor]:
    """The weights [out, in + 1] of a network of which every width is trained: the largest, the smallest and two others
    in each step."""
    x, y, _, _ = digits
    torch.manual_seed(0)
    sizes = [64, 48, 48, 48, 10]
    weights = [(torch.randn(b, a + 1) * a**-0.5).requires_grad_() for a, b in pairwise(sizes)]
    optimiser, rng = torch.optim.Adam(weights, 0.005), random.Random(0)
    for _ in range(250):
        chosen = torch.randint(len(x), (64,))
        optimiser.zero_grad()
        for net in (SUBNETS.largest(), SUBNETS.smallest(), SUBNETS.sample(rng), SUBNETS.sample(rng)):
            torch.nn.functional.cross_entropy(forward(cut(weights, net), x[chosen]), y[chosen]).backward()
        optimiser.step()
    return [weight.detach() for weight in weights]


def cut(weights: list[torch.Tensor], net: Arch) -> list[torch.Tensor]:
    """The subnet's weights: the first rows and columns, and the last column, which is the bias."""
    sizes = [64, *(net[f"width{i}"] for i in range(3)), 10]
    return [torch.cat([w[:b, :a], w[:b, -1:]], dim=1) for w, (a, b) in zip(weights, pairwise(sizes), strict=True)]


def forward(weights: list[torch.Tensor], x: torch.Tensor) -> torch.Tensor:
    for i, weight in enumerate(weights):
        x = x @ weight[:, :-1].T + weight[:, -1]
        x = torch.relu(x) if i < len(weights) - 1 else x
    return x


def integers(weight: torch.Tensor, bits: int) -> tuple[np.ndarray, np.ndarray]:
    """Whole numbers of as many bits, and the scale of each row."""
    scale = weight.abs().amax(dim=1, keepdim=True).clamp(min=1e-8) / (2 ** (bits - 1) - 1)
    return torch.round(weight / scale).to(torch.int8).numpy(), scale.numpy()


def quantised(weights: list[torch.Tensor], arch: Arch) -> list[tuple[np.ndarray, np.ndarray]]:
    bits = part(arch, "bits")
    return [integers(w, bits[layer]) for w, layer in zip(cut(weights, part(arch, "arch")), LAYERS, strict=True)]


def error_of(rows: list[tuple[np.ndarray, np.ndarray]], digits: tuple[torch.Tensor, ...]) -> float:
    weights = [torch.tensor(whole.astype(np.float32)) * torch.tensor(scale) for whole, scale in rows]
    return float((forward(weights, digits[2]).argmax(dim=1) != digits[3]).float().mean())


def kilobytes(arch: Arch) -> float:
    sizes = [64, *(part(arch, "arch")[f"width{i}"] for i in range(3)), 10]
    bits = [part(arch, "bits")[layer] for layer in LAYERS]
    return sum((a + 1) * b * n for (a, b), n in zip(pairwise(sizes), bits, strict=True)) / 8000


@pytest.mark.heavy
def test_bits_searched_with_subnets_beat_eight_bits_for_all(elastic, digits, tmp_path):
    """SimQ-NAS: in 64 evaluations of subnet and bits, LINAS finds a larger hypervolume of error and size than all 64
    subnets have with eight bits; and its front, measured again from integers in a file, is the same."""

    def evaluate(arch: Arch) -> dict[str, float]:
        return {"error": error_of(quantised(elastic, arch), digits), "kilobytes": kilobytes(arch)}

    def joined(net: Arch) -> Arch:
        return Arch({f"arch.{k}": v for k, v in net.items()} | {f"bits.{layer}": 8 for layer in LAYERS})

    eight = np.array([[m["error"], np.log(m["kilobytes"])] for m in map(evaluate, map(joined, SUBNETS.every()))])
    reference = [0.5, float(eight[:, 1].max())]
    known = {"kilobytes": lambda archs: np.array([kilobytes(arch) for arch in archs])}
    for seed in range(2):
        volumes = {}
        for name, strategy in (
            ("joint", partial(linas, known=known, population=40, generations=8)),
            ("random", random_search),
        ):
            history = run(JOINT, evaluate, strategy, 64, seed, objectives=[ERROR, SIZE], batch=8)
            volumes[name] = pareto.hypervolume_2d(costs(history, [ERROR, SIZE]), reference)
            if name == "joint":
                found = [history[i] for i in np.flatnonzero(pareto.nondominated(costs(history, [ERROR, SIZE])))]
        assert volumes["joint"] > pareto.hypervolume_2d(eight, reference)
        assert volumes["joint"] > volumes["random"]
        for record in found:
            assert error_of(written(quantised(elastic, record.arch), tmp_path / "net.npz"), digits) == pytest.approx(
                record.metrics["error"]
            )


def written(rows: list[tuple[np.ndarray, np.ndarray]], file: Path) -> list[tuple[np.ndarray, np.ndarray]]:
    """What a file of whole numbers and scales gives back."""
    np.savez(file, **{f"{kind}{i}": array for i, row in enumerate(rows) for kind, array in zip("ws", row, strict=True)})
    with np.load(file, allow_pickle=False) as held:
        return [(held[f"w{i}"], held[f"s{i}"]) for i in range(len(rows))]
