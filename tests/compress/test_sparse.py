"""Sparse weights: the schedule (P364), what masks do to a training, and that they survive its checkpoints."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from torch import nn

from sartor.compress.sparse import MASK, GradualMagnitude, Masks, gradual_sparsity
from sartor.data import shuffled
from sartor.errors import InputError
from sartor.train.loop import Recipe, train
from sartor.train.recalibrate import accuracy
from sartor.train.steps import plain_step
from train.digits import builder, digits, fit, held_out, inputs, small_space

SGD = Recipe(batch_size=64, optimiser="sgd", peak_lr=0.8)
ARCH = small_space((8,), stem=(8,)).largest()


def test_the_schedule_is_the_papers() -> None:
    span = {"final": 0.9, "initial": 0.1, "start": 0.2, "end": 0.7}
    assert gradual_sparsity(0.0, **span) == gradual_sparsity(0.2, **span) == pytest.approx(0.1)
    assert gradual_sparsity(0.45, **span) == pytest.approx(0.9 - 0.8 / 8), "half-way an eighth is left to go"
    assert gradual_sparsity(0.7, **span) == gradual_sparsity(1.0, **span) == 0.9
    steps = [gradual_sparsity(p / 100, **span) for p in range(101)]
    assert steps == sorted(steps)


@pytest.mark.parametrize("ranking", ["layer", "global"])
def test_the_share_of_zeros_is_exact(ranking: str) -> None:
    """At every refresh, and in the end, after the average of the weights took the place of the last ones."""
    torch.manual_seed(0)
    model = builder(ARCH)
    gradual = GradualMagnitude(model, 0.9, ranking=ranking, every=5)  # type: ignore[arg-type]
    matrices = {n: p for n, p in model.named_parameters() if p.dim() > 1}
    count = sum(p.numel() for p in matrices.values())
    plain, seen = plain_step(model, inputs(0), SGD, side=8), []

    def counted(images, labels, progress, index):
        seen.append((progress, index, [int((p == 0).sum()) for p in matrices.values()]))
        return plain(images, labels, progress, index)

    fit(model, gradual.step(counted), 60, 0, SGD)
    for progress, index, zeros in seen:
        if index % 5 == 0 and progress >= 0.1:
            wanted = gradual_sparsity(progress, 0.9, start=0.1, end=0.6)
            if ranking == "layer":
                assert zeros == [round(wanted * p.numel()) for p in matrices.values()]
            else:
                assert sum(zeros) == round(wanted * count)
    shares = gradual.finish()
    assert set(shares) == set(matrices)
    zeros = {n: int((p == 0).sum()) for n, p in model.named_parameters() if p.dim() > 1}
    if ranking == "layer":
        assert zeros == {n: round(0.9 * p.numel()) for n, p in matrices.items()}
    else:
        assert sum(zeros.values()) == round(0.9 * count)
    assert not [name for name, _ in model.named_buffers() if MASK in name], "no trace of the tool"


def test_masked_weights_stay_zero() -> None:
    torch.manual_seed(0)
    model = builder(ARCH)
    drawn = {n: torch.rand(p.shape) < 0.3 for n, p in model.named_parameters() if p.dim() > 1}
    masks = Masks(model, drawn)
    fit(model, masks.step(plain_step(model, inputs(0), SGD, side=8)), 20, 0, SGD)
    masks.finish()
    for name, mask in drawn.items():
        assert not bool(model.get_parameter(name)[~mask].any())
        assert bool(model.get_parameter(name)[mask].all())


class Killed(Exception):
    pass


def test_masks_survive_a_checkpoint(tmp_path: Path) -> None:
    """A training that was killed and resumed ends with the same zeros and the same weights, to the bit."""

    def go(checkpoint: Path | None, kill_at: int | None = None) -> nn.Module:
        torch.manual_seed(0)
        model = builder(ARCH)
        gradual = GradualMagnitude(model, 0.8, every=7)
        step = gradual.step(plain_step(model, inputs(0), SGD, side=8))
        taken = []

        def check_stop() -> None:
            taken.append(1)
            if kill_at is not None and len(taken) > kill_at:
                raise Killed

        batches = lambda start: shuffled(digits().train, 64, seed=0, start=start)
        train(model, step, batches, SGD, seconds=math.inf, max_steps=48, checkpoint=checkpoint, check_stop=check_stop)
        gradual.finish()
        return model

    whole = go(None)
    with pytest.raises(Killed):
        go(tmp_path / "c.safetensors", kill_at=30)
    resumed = go(tmp_path / "c.safetensors")
    for (name, a), b in zip(whole.state_dict().items(), resumed.state_dict().values(), strict=True):
        assert torch.equal(a, b), name


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"final": 1.0}, "final < 1"),
        ({"final": 0.5, "initial": 0.6}, "initial ≤ final"),
        ({"start": 0.7, "end": 0.7}, "start < end"),
        ({"ranking": "rows"}, "ranking"),
        ({"keep": ("*",)}, "no matrices"),
        ({"keep": ("heed",)}, "no layer of"),
    ],
)
def test_bad_options(options: dict, says: str) -> None:
    with pytest.raises(InputError, match=says):
        GradualMagnitude(builder(ARCH), **options)


def test_masks_of_other_networks_are_refused() -> None:
    with pytest.raises(InputError, match=r"given for 0\.weight, which has shape \[2, 3\]"):
        Masks(nn.Sequential(nn.Linear(3, 2)), {"0.weight": torch.ones(4, 4)})
    with pytest.raises(InputError, match="is no parameter"):
        Masks(nn.Sequential(nn.Linear(3, 2)), {"1.weight": torch.ones(4, 4)})


@pytest.mark.claim
def test_large_and_sparse_beats_small_and_dense() -> None:
    """Of a network of width 24, a tenth of the weights; beside it a dense one with as many: over five seeds the sparse
    one is better."""
    large, small = (small_space((w,), stem=(s,)).largest() for w, s in ((24, 16), (7, 8)))
    matrices = lambda model: [p for p in model.parameters() if p.dim() > 1]
    sparse, dense = [], []
    for seed in range(5):
        torch.manual_seed(seed)
        model = builder(large)
        gradual = GradualMagnitude(model, 0.9, ranking="global", every=10)
        fit(model, gradual.step(plain_step(model, inputs(seed), SGD, side=8)), 600, seed, SGD)
        gradual.finish()
        sparse.append(accuracy(model, held_out()))
        torch.manual_seed(seed)
        rival = builder(small)
        fit(rival, plain_step(rival, inputs(seed), SGD, side=8), 600, seed, SGD)
        dense.append(accuracy(rival, held_out()))
        assert sum(int((p != 0).sum()) for p in matrices(model)) <= sum(p.numel() for p in matrices(rival))
    print(f"sparse {sparse}, dense {dense}")
    assert sum(sparse) > sum(dense)
