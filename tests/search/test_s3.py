"""Ranges that move: on landscapes whose best place is known, and on really shared weights."""

from __future__ import annotations

import gzip
import itertools
import math
import os
import random
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st

from sartor.errors import InputError
from sartor.models.autoformer import build_autoformer
from sartor.models.supernet import Supernet
from sartor.records import Arch
from sartor.search.s3 import Dimension, Options, Round, drawn_that_fit, s3, slope
from sartor.search.shrinking import et_error
from sartor.space.autoformer import Ranges, autoformer_space
from sartor.space.choice import Choice
from sartor.space.space import Space


def make(options: Options) -> Space:
    return Space(tuple(Choice(name, tuple(held)) for name, held in options.items()))


BOWL = {"width": 80, "depth": 2, "ratio": 2.5}
DIMENSIONS = {
    "width": Dimension((16, 24, 32), 8, 128),
    "depth": Dimension((4, 5, 6), 1, 12),
    "ratio": Dimension((2.0, 2.5, 3.0), 0.5, 4.0),
}


def bowl(arch: Arch) -> float:
    """0 at BOWL, and a hundredth for each step away from it, squared."""
    return sum(0.01 * ((arch[name] - best) / DIMENSIONS[name].step) ** 2 for name, best in BOWL.items())


def searched(errors: Callable[[Arch], float] = bowl, **options) -> list[Round]:
    settings = {"rounds": 12, "tau": 0.02, "samples": 60, "top": 10, "furthest": 2}
    return s3(make, DIMENSIONS, lambda space, number: errors, **{**settings, **options})


def test_ranges_move_out_of_where_they_began_to_the_best_and_stop_there():
    rounds = searched()
    for name, best in BOWL.items():
        held = rounds[-1].options[name]
        assert held[0] <= best <= held[-1], name
    assert min(rounds[-1].options["width"]) > max(DIMENSIONS["width"].options), "beyond where it began"
    assert rounds[-1].options["depth"][0] < DIMENSIONS["depth"].options[0]
    assert all(r.options["ratio"] == DIMENSIONS["ratio"].options for r in rounds), "what is right stays"
    assert len(rounds) < 12
    errors = [r.error for r in rounds]
    assert all(later < earlier for earlier, later in itertools.pairwise(errors))
    assert rounds[-1].best[1] < rounds[0].best[1]


def test_every_round_is_what_it_says():
    trained = []
    rounds = s3(
        make,
        DIMENSIONS,
        lambda space, number: trained.append((number, space)) or bowl,
        rounds=3,
        tau=0.02,
        samples=40,
        top=8,
        on_round=lambda r: None,
    )
    assert trained == [(i, r.space) for i, r in enumerate(rounds)]
    for r in rounds:
        assert r.space == make(r.options)
        assert all(r.space.contains(arch) and error == bowl(arch) for arch, error in r.drawn)
        assert r.error == et_error([error for _, error in r.drawn], 8)
        assert r.slopes == {name: pytest.approx(np.polyfit(range(3), v, 1)[0]) for name, v in r.subspaces.items()}
    for before, after in itertools.pairwise(rounds):
        for name, dimension in DIMENSIONS.items():
            steps = round((after.options[name][0] - before.options[name][0]) / dimension.step)
            assert steps == max(-2, min(2, -math.trunc(before.slopes[name] / 0.02)))


def test_what_does_not_fit_is_neither_drawn_nor_moved_to():
    small = lambda arch: arch["width"] * arch["depth"] <= 128
    rounds = searched(lambda arch: -0.1 * arch["width"] * arch["depth"] / 16, fits=small)
    assert all(small(arch) for r in rounds for arch, _ in r.drawn)
    with pytest.raises(InputError, match="no arch of the space fits"):
        searched(fits=lambda arch: False)


def test_a_part_in_which_nothing_fits_says_nothing():
    assert slope([0.3, math.nan, 0.1]) == pytest.approx(-0.1)
    assert slope([math.nan, 0.1]) == 0
    rounds = searched(fits=lambda arch: arch["width"] < 24, rounds=1)
    assert math.isnan(rounds[0].subspaces["width"][1])
    assert rounds[0].slopes["width"] == 0


@given(st.integers(-9, 9), st.integers(-9, 9))
def test_ranges_stay_where_they_may_be(one, other):
    dimension = Dimension((1.0, 1.5, 2.0), 0.5, 4.0)
    for steps in (one, other):
        moved = dimension.moved(dimension.options, steps)
        assert moved[0] >= 0.5
        assert moved[-1] <= 4.0
        assert [b - a for a, b in itertools.pairwise(moved)] == [0.5, 0.5]
        assert dimension.moved(moved, -steps) == dimension.options or abs(steps) > 1
    assert dimension.moved(dimension.options, 2) == (2.0, 2.5, 3.0)
    assert dimension.moved(dimension.options, -1) == (0.5, 1.0, 1.5)


@pytest.mark.parametrize("wrong", [{"rounds": 0}, {"tau": 0}, {"samples": 0}, {"tau": math.nan}, {"furthest": 0}])
def test_settings_that_make_no_sense_are_refused(wrong):
    with pytest.raises(InputError):
        searched(**wrong)


@pytest.mark.parametrize("options", [(1,), (2, 1), (1, 2, 4), (), (0, 1)])
def test_what_is_no_range_is_refused(options):
    with pytest.raises(InputError):
        Dimension(options, 1, 9)


# -- on images

PATCH, PER_HEAD, TOKENS = 7, 8, 17
VIT = {
    "width": Dimension((16, 24, 32), 8, 64),
    "depth": Dimension((1, 2, 3), 1, 6),
    "heads": Dimension((1, 2, 3), 1, 6),
    "ratio": Dimension((0.5, 1.0, 1.5), 0.5, 4.0),
}


def vits(options: Options) -> Space:
    return autoformer_space(Ranges(options["width"], options["depth"], options["heads"], options["ratio"]))


def build(arch: Arch) -> torch.nn.Module:
    return build_autoformer(arch, channels=1, classes=10, resolution=28, patch=PATCH, per_head=PER_HEAD)


def macs(arch: Arch) -> float:
    """Of the layers' products."""
    width, total = int(arch["width"]), 0.0
    for i in range(int(arch["depth"])):
        inner = int(arch[f"heads{i}"]) * PER_HEAD
        total += TOKENS * (4 * width * inner + 2 * TOKENS * inner + 2 * width * int(width * float(arch[f"ratio{i}"])))
    return total


MOST = macs(vits({name: d.options for name, d in VIT.items()}).largest())


def fits(arch: Arch) -> bool:
    """No network costs more than the largest that there was at first."""
    return macs(arch) <= MOST


Images = tuple[torch.Tensor, torch.Tensor]


@pytest.fixture(scope="module")
def fashion() -> dict[str, Images]:
    """Fashion-MNIST: 20,000 images to learn from, 1,000 to choose by, the test set's 10,000."""
    places = [
        Path(os.environ.get("SARTOR_DATA", "")) / "fashion-mnist",
        Path("/usr/share/datasets/fashion-mnist"),  # where Debian's package has it
    ]
    folder = next((place for place in places if (place / "t10k-labels-idx1-ubyte.gz").is_file()), None)
    if folder is None:
        pytest.skip("no Fashion-MNIST: apt-get install dataset-fashion-mnist, or put its files in $SARTOR_DATA")

    def part(name: str) -> Images:
        images, classes = (folder / f"{name}-{kind}-ubyte.gz" for kind in ("images-idx3", "labels-idx1"))
        pixels = np.frombuffer(gzip.decompress(images.read_bytes()), np.uint8, offset=16)
        labels = np.frombuffer(gzip.decompress(classes.read_bytes()), np.uint8, offset=8)
        x = torch.from_numpy(pixels.reshape(-1, 1, 28, 28).astype(np.float32))
        return (x / 255 - 0.286) / 0.353, torch.from_numpy(labels.astype(np.int64))

    x, y = part("train")
    return {"train": (x[:20_000], y[:20_000]), "val": (x[-1_000:], y[-1_000:]), "test": part("t10k")}


def learnt(images: Images, forward: Callable[[torch.Tensor, int], torch.Tensor], weights, steps: int, seed: int):
    """AdamW, one descent of the learning rate."""
    optimiser = torch.optim.AdamW(weights, lr=3e-3, weight_decay=0.05)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, 3e-3, total_steps=steps)
    generator = torch.Generator().manual_seed(seed)
    x, y = images
    for step in range(steps):
        chosen = torch.randint(len(x), (64,), generator=generator)
        loss = F.cross_entropy(forward(x[chosen], step), y[chosen])
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        schedule.step()


@torch.no_grad()
def wrong(images: Images, forward: Callable[[torch.Tensor], torch.Tensor]) -> float:
    return 1 - float((forward(images[0]).argmax(1) == images[1]).float().mean())


def supernet_errors(data: dict[str, Images], space: Space, steps: int, seed: int) -> Callable[[Arch], float]:
    """The errors of a space's archs with weights that they share, of which a drawn arch learns in each step."""
    torch.manual_seed(seed)
    supernet, rng = Supernet(space, build), random.Random(seed)

    def forward(x: torch.Tensor, step: int) -> torch.Tensor:
        (arch,) = drawn_that_fit(space, 1, fits, rng)
        return supernet.run((x,), arch)

    learnt(data["train"], forward, supernet.parameters(), steps, seed)
    supernet.eval()
    return lambda arch: wrong(data["val"], lambda x: supernet.run((x,), arch))


def alone(data: dict[str, Images], arch: Arch, steps: int, seed: int) -> float:
    """The test error of a network that learns by itself."""
    torch.manual_seed(seed)
    network = build(arch)
    learnt(data["train"], lambda x, step: network(x), network.parameters(), steps, seed)
    network.eval()
    return wrong(data["test"], network)


STEPS, ROUNDS, SAMPLES, TOP, TAU = 250, 3, 12, 2, 0.004
"""Chosen on seed 0, which is not among those that show it."""
CHOSEN_FROM = 60


@pytest.mark.claim
@pytest.mark.parametrize("seed", [1, 2])
def test_spaces_of_transformers_become_better_and_so_does_the_best_of_them(fashion: dict[str, Images], seed: int):
    """The E-T error falls in every round, and the network chosen from the last space, of CHOSEN_FROM, learns better by
    itself than the one from the first space, which is chosen from as many and all that the rounds evaluated; no
    network may cost more than the largest of the first space."""
    judges: list[Callable[[Arch], float]] = []
    asked = 0

    def trained(space: Space, number: int) -> Callable[[Arch], float]:
        errors = supernet_errors(fashion, space, STEPS, 1000 * seed + number)
        judges.append(errors)

        def counted(arch: Arch) -> float:
            nonlocal asked
            asked += 1
            return errors(arch)

        return counted

    def told(r: Round) -> None:
        slopes = {name: round(100 * value, 2) for name, value in r.slopes.items()}
        print(f"E-T error {r.error:.4f}, {dict(r.options)}, points a step {slopes}", flush=True)

    search = {"samples": SAMPLES, "top": TOP, "tau": TAU, "fits": fits, "seed": seed}
    rounds = s3(vits, VIT, trained, rounds=ROUNDS, on_round=told, **search)
    assert len(rounds) == ROUNDS
    assert all(later.error < earlier.error for earlier, later in itertools.pairwise(rounds))
    tested = []
    for place, evaluations in ((0, CHOSEN_FROM + asked), (-1, CHOSEN_FROM)):
        archs = drawn_that_fit(rounds[place].space, evaluations, fits, random.Random(seed))
        best = min(dict.fromkeys(archs), key=judges[place])
        tested.append([alone(fashion, best, STEPS, 10 * seed + i) for i in range(2)])
        print(f"{best} of {evaluations}, {macs(best) / MOST:.2f} of the MACs: test errors {tested[-1]}", flush=True)
    assert np.mean(tested[1]) < np.mean(tested[0])
