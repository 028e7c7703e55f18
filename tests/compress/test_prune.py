"""Pruning reaches what was asked for, keeps what matters, and says what it cannot do."""

from __future__ import annotations

import copy
from functools import cache

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sartor.compress.choose import choose
from sartor.compress.prune import prune
from sartor.errors import BudgetError, InputError
from sartor.graph import trace
from sartor.graph.saliency import SALIENCIES, Evidence
from sartor.train.recalibrate import accuracy
from train.digits import digits, held_out, plain_network, preprocess, small_space

IMAGES = torch.randn(2, 1, 8, 8)


@cache
def trained() -> nn.Module:
    """A residual network on digits, of two stages of width 24."""
    arch = small_space((24,), stem=(16,)).largest()
    return plain_network(arch, 300)


@cache
def batches() -> list[tuple[Tensor, Tensor]]:
    split = digits().train
    return [
        (preprocess()(split.take(range(i, i + 64))), torch.from_numpy(split.labels[i : i + 64]))
        for i in range(0, 512, 64)
    ]


@pytest.mark.parametrize("name", SALIENCIES)
@pytest.mark.parametrize("ranking", ["global", "layer"])
def test_every_criterion_reaches_the_goal(name: str, ranking: str) -> None:
    """At most half of the multiply-accumulates, and not far below: the goal is met, not overshot."""
    model = trained()
    small = prune(model, IMAGES, macs=0.5, saliency=name, ranking=ranking, batches=batches())
    before, after = (trace(m, IMAGES).macs() for m in (model, small))
    assert 0.4 * before < after <= 0.5 * before
    assert accuracy(small.eval(), held_out()) > 0.15, "with its own statistics no cut network is at chance"


def test_informed_criteria_beat_chance() -> None:
    """Without any training after the cut, the loss's own measures keep more than a random choice does."""

    def kept(name: str, seed: int = 0) -> float:
        small = prune(trained(), IMAGES, macs=0.3, saliency=name, batches=batches(), seed=seed)
        return accuracy(small.eval(), held_out())

    by_chance = sum(kept("random", seed) for seed in range(5)) / 5
    assert kept("taylor") > by_chance - 0.02
    assert kept("hessian") > by_chance - 0.02


def test_recalibration_is_what_saves_a_cut_network() -> None:
    model = trained()
    with_statistics = prune(model, IMAGES, macs=0.5, batches=batches())
    without = prune(model, IMAGES, macs=0.5)
    assert accuracy(with_statistics.eval(), held_out()) > accuracy(without.eval(), held_out()) + 0.1


def test_params_and_absolute_goals() -> None:
    model = trained()
    whole = trace(model, IMAGES)
    small = prune(model, IMAGES, params=0.9)
    assert trace(small, IMAGES).macs() > 0.6 * whole.macs(), "nothing was asked of the multiply-accumulates"
    small = prune(model, IMAGES, params=0.3)
    assert trace(small, IMAGES).params() <= 0.3 * whole.params()
    small = prune(model, IMAGES, macs=whole.macs() // 3)
    assert trace(small, IMAGES).macs() <= whole.macs() // 3


def test_protected_layers_keep_their_shapes() -> None:
    model = trained()
    name = next(n for n, m in model.named_modules() if isinstance(m, nn.Conv2d))
    small = prune(model, IMAGES, macs=0.5, protect=[name])
    assert small.get_parameter(f"{name}.weight").shape == model.get_parameter(f"{name}.weight").shape


def test_multiples() -> None:
    small = prune(trained(), IMAGES, macs=0.6, round_to=4)
    assert all(m.out_channels % 4 == 0 for m in small.modules() if isinstance(m, nn.Conv2d))


def test_the_mode_is_left_as_it_was() -> None:
    for training in (False, True):
        model = copy.deepcopy(trained()).train(training)
        frozen = next(m for m in model.modules() if isinstance(m, nn.BatchNorm2d)).eval()
        assert not frozen.training
        small = prune(model, IMAGES, macs=0.5, batches=batches())
        assert [m.training for m in small.modules()] == [m.training for m in model.modules()]


def test_the_least_share_is_of_the_first_network() -> None:
    """However many steps there are."""
    model = trained()
    with pytest.raises(BudgetError):
        prune(model, IMAGES, macs=0.01, least=0.5, steps=3)
    whole = {group.name: group.size for group in trace(model, IMAGES).groups}
    small = prune(model, IMAGES, macs=0.35, least=0.5, steps=3)
    left = {group.name: group.size for group in trace(small, IMAGES).groups}
    assert all(left[name] >= 0.5 * size for name, size in whole.items())


def test_several_steps_with_training_between() -> None:
    """The schedule's goals are met one after the other: cubic is below linear on the way."""
    ways = {}
    for schedule in ("linear", "cubic"):
        seen: list[int] = []
        prune(
            trained(),
            IMAGES,
            macs=0.4,
            steps=3,
            schedule=schedule,
            tune=lambda m, s=seen: s.append(trace(m, IMAGES).macs()),
        )
        assert seen == sorted(seen, reverse=True)
        ways[schedule] = seen
    assert ways["cubic"][0] < ways["linear"][0]
    assert ways["cubic"][-1] <= 0.4 * trace(trained(), IMAGES).macs()


def test_nothing_constant_is_missed() -> None:
    """P275: hidden units that never vary go first, and with their mean in the next bias nothing changes."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 16), nn.ReLU(), nn.Linear(16, 3)).eval()
    with torch.no_grad():
        model[0].weight[:8] = 0  # units 0 to 7 say the same whatever they see
    x = torch.randn(64, 6)
    graph = trace(model, x)
    evidence = Evidence([(x, torch.zeros(64, dtype=torch.long))])
    scores = SALIENCIES["variance"](graph, evidence)
    assert set(scores["0"].argsort()[:8].tolist()) == set(range(8))
    small = prune(model, x, macs=0.5, saliency="variance", batches=evidence.batches, compensate=True)
    plain = prune(model, x, macs=0.5, saliency="variance", batches=evidence.batches)
    y = torch.randn(32, 6)
    with torch.no_grad():
        torch.testing.assert_close(small(y), model(y), atol=1e-6, rtol=1e-5)
        assert (plain(y) - model(y)).abs().max() > 1e-3


def test_taylor_is_what_masking_changes() -> None:
    """For a small entry, the first-order score is the squared change of the loss when the entry is masked."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 3)).double().eval()
    with torch.no_grad():
        model[0].weight[2] *= 1e-3
        model[0].bias[2] = 0
    x, y = torch.randn(32, 6).double(), torch.randint(0, 3, (32,))
    graph = trace(model, x)
    score = SALIENCIES["taylor"](graph, Evidence([(x, y)]))["0"][2]
    with torch.no_grad():
        before = F.cross_entropy(model(x), y)
        after = F.cross_entropy(graph.mask({"0": [i for i in range(8) if i != 2]})(x), y)
    assert float(score) == pytest.approx(float((after - before).square()), rel=0.05)


def test_hessian_of_a_quadratic_is_exact() -> None:
    """For a linear layer and a squared loss the diagonal is known: the inputs' second moments."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(4, 6, bias=False), nn.Linear(6, 2, bias=False)).eval()
    x = torch.randn(2000, 4)
    graph = trace(model, x[:2])
    loss = lambda out, _: 0.5 * out.square().sum() / len(out)
    found = SALIENCIES["hessian"](graph, Evidence([(x, None)] * 200, loss))["0"]
    w, v = model[0].weight.detach(), model[1].weight.detach()
    moments = (x.square().sum(0) / len(x))[None] * v.square().sum(0)[:, None]
    torch.testing.assert_close(found.float(), (0.5 * w.square() * moments).sum(1), rtol=0.25, atol=1e-3)


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"protect": ["hed"]}, "no layer of ConvNet is called 'hed'"),
        ({"macs": 0}, "a share up to 1"),
        ({"macs": -1.0}, "a share up to 1"),
        ({"saliency": "l3"}, "no criterion 'l3'"),
        ({"ranking": "best"}, "ranking is"),
        ({"steps": 0}, "at least 1"),
        ({"schedule": "sudden"}, "no schedule 'sudden'"),
        ({"saliency": "taylor"}, "needs data"),
        ({"saliency": lambda graph, evidence: {}}, "gives no"),
        ({"saliency": lambda g, e: {x.name: torch.full((x.size,), torch.nan) for x in g.groups}}, "not finite"),
    ],
)
def test_bad_arguments(arguments: dict, says: str) -> None:
    with pytest.raises(InputError, match=says):
        prune(trained(), IMAGES, **arguments)


def test_what_cannot_be_reached() -> None:
    with pytest.raises(BudgetError, match="is the least"):
        prune(trained(), IMAGES, macs=1e-6)


def test_weights_that_are_not_finite() -> None:
    model = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 2))
    with torch.no_grad():
        model[0].weight[0, 0] = torch.nan
    with pytest.raises(InputError, match="not finite"):
        prune(model, torch.randn(1, 4))


def test_the_best_by_score_are_kept() -> None:
    model = nn.Sequential(nn.Linear(4, 8), nn.Linear(8, 2))
    graph = trace(model, torch.randn(1, 4))
    scores = {"0": torch.tensor([1.0, 8, 2, 7, 3, 6, 4, 5])}
    cut = choose(graph, scores, {"macs": graph.macs() // 2})
    assert cut.keep["0"] == (1, 3, 5, 7)
