"""Every schedule does what its paper says, and what the paper says of it shows on digits, where a few seconds can."""

from __future__ import annotations

import random
from collections import Counter
from functools import partial

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

from sartor.measure.counts import counts
from sartor.models import Supernet
from sartor.records import Arch, Budget
from sartor.search.loop import search
from sartor.search.methods.nsga2 import nsga2
from sartor.search.objective import Objective
from sartor.space import OPERATORS, Space, conv_space
from sartor.train.schedule import (
    SCHEDULES,
    Turn,
    attentive,
    delayed_shrinking,
    largest_only,
    multi_arch,
    progressive_shrinking,
    sandwich,
    uniform_single_path,
)
from sartor.train.steps import supernet_step
from train.digits import (
    RECIPE,
    alone,
    builder,
    digits,
    fit,
    gradient_error,
    inputs,
    macs,
    preprocess,
    separate_passes,
    small_space,
    subnet_accuracy,
    supernet,
)

SPACE = conv_space(32, width=32, depth=3)


def step_error(space: Space, schedule, *, n: int = 24, seed: int = 0) -> float:
    """Relative distance of one step's gradient from the sum of separate passes of extracted networks."""
    torch.manual_seed(seed)
    net = Supernet(space, builder).train()
    rng = random.Random(seed)
    turns = schedule(space, rng, 0.9)
    images = digits().train.take(np.arange(n))
    labels = torch.from_numpy(digits().train.labels[:n])
    make = inputs(seed)
    step = supernet_step(net, lambda *_: turns, make, RECIPE)
    x, y = make(images, labels, 5)
    expected = separate_passes(net, turns, x, y, smoothing=RECIPE.label_smoothing)
    step(images, labels, 0.9, 5)
    return gradient_error(net, expected)


SUM_TOLERANCE = 0.02
"""Of the gradient's length: both sides compute in bf16 where the machine does, in another order of memory."""


def test_sandwich_takes_the_largest_the_smallest_and_some_between():
    """BigNAS: the largest on the labels, the smallest and random ones distilled from it."""
    rng, twin = random.Random(0), random.Random(0)
    for middle in (1, 2, 4):
        turns = sandwich(SPACE, rng, 0.5, middle=middle)
        draws = [SPACE.sample(twin) for _ in range(middle)]
        assert [turn.arch for turn in turns] == [SPACE.largest(), SPACE.smallest(), *draws]
        assert [turn.distil for turn in turns] == [False] + [True] * (middle + 1)
    assert step_error(small_space((4, 8)), partial(sandwich, middle=2)) < SUM_TOLERANCE


@pytest.mark.claim
def test_sandwich():
    """BigNAS: the children of one training are as good as networks trained alone for as many steps; without the
    smallest in every step the smallest is worse."""
    space = small_space((8, 16, 24))
    levels = [(8, 8), (8, 16), (16, 16), (16, 24), (24, 24)]
    children = [space.smallest().replace(**{"s0.width": a, "s1.width": b}) for a, b in levels]
    assert len({macs(child) for child in children}) == 5
    gaps = []
    for seed in (0, 1):
        net = supernet(space, sandwich, 300, seed)
        gaps.append([subnet_accuracy(net, child) - alone(child, 300, seed) for child in children])
    assert np.mean(gaps) > -0.01  # within a point at five levels of MACs, without training any on its own
    assert np.mean(gaps, axis=0).min() > -0.02

    def no_smallest(space: Space, rng: random.Random, progress: float) -> list[Turn]:
        largest, _, middle = sandwich(space, rng, progress)
        return [largest, Turn(space.sample(rng), distil=True), middle]

    hard = small_space((2, 4, 8, 16), stem=(4, 8))
    with_rule, without = (subnet_accuracy(supernet(hard, s, 100), hard.smallest()) for s in (sandwich, no_smallest))
    assert with_rule > without


def test_single_paths_are_uniform():
    """SPOS: one arch a step on the labels, every option as often as any other."""
    counted: dict[str, Counter] = {choice.name: Counter() for choice in SPACE.choices}
    pairs: Counter = Counter()
    rng = random.Random(0)
    for _ in range(3000):
        (turn,) = uniform_single_path(SPACE, rng, 0.5)
        assert (turn.distil, turn.scale, turn.rows) == (False, 1.0, (0.0, 1.0))
        for name, option in turn.arch.items():
            counted[name][option] += 1
        pairs[turn.arch["s0.op"], turn.arch["s1.width"]] += 1
    p_values = [
        stats.chisquare([counted[c.name][o] for o in c.options]).pvalue for c in SPACE.choices if len(c.options) > 1
    ]
    assert min(p_values) > 0.01 / len(p_values)  # Bonferroni
    table = [[pairs[op, width] for width in sorted(counted["s1.width"])] for op in OPERATORS]
    assert stats.chi2_contingency(table).pvalue > 0.01  # choices are drawn independently


@pytest.mark.claim
def test_uniform_single_path():
    """SPOS: with batch-norm statistics of their own the subnets rank like networks trained alone, without they are
    lost; evolution over them finds the best within a limit."""
    space = small_space((2, 4, 6, 8, 16), stem=(4, 8))
    net = supernet(space, uniform_single_path, 300)
    archs = list(space.every())
    assert len(archs) == 50
    recalibrated = [subnet_accuracy(net, arch) for arch in archs]
    as_trained = [subnet_accuracy(net, arch, recalibrated=False) for arch in archs]
    assert np.mean(recalibrated) > np.mean(as_trained) + 0.1
    separate = [alone(arch, 80) for arch in archs]
    tau, tau_as_trained = (stats.kendalltau(separate, shared)[0] for shared in (recalibrated, as_trained))
    assert tau > 0.5
    assert tau > tau_as_trained

    accuracies = dict(zip(archs, recalibrated, strict=True))
    limit = int(np.median([macs(arch) for arch in archs]))
    budget = Budget(max_macs=limit)
    evolve = partial(nsga2, objectives=(Objective("accuracy_val", maximise=True),), budget=budget, population=8)

    def evaluate(arch: Arch) -> dict[str, float]:
        return {"accuracy_val": accuracies[arch], "macs": float(counts(builder(arch), (1, 8, 8)).macs)}

    found = search(space, evaluate, evolve, evaluations=30, seed=0, batch=8)
    bred = [record.arch for record in found[8:]]  # all but the random ones it begins with
    assert np.mean([macs(arch) <= limit for arch in bred]) > np.mean([macs(arch) <= limit for arch in archs])
    within = [record.arch for record in found if budget.excess(record.metrics) <= 0]
    best = max(accuracies[arch] for arch in archs if macs(arch) <= limit)
    assert max(accuracies[arch] for arch in within) > best - 0.01


def test_progressive_shrinking():
    """Once-for-all: kernels, then depths, then widths are opened and stay open, subnets distilled from the largest; one
    training answers several budgets, which training the largest alone does not."""
    space = conv_space(32, width=32, depth=3, operators=("mbconv",))
    largest = space.largest()
    opened: list[set[str]] = []
    for progress in (0.0, 0.29, 0.31, 0.49, 0.51, 0.69, 0.71, 1.0):
        rng = random.Random(0)
        varied = set()
        for _ in range(200):
            teacher, student = progressive_shrinking(space, rng, progress)
            assert teacher == Turn(largest)
            assert student.distil
            assert space.contains(student.arch)
            varied |= {name.rsplit(".", 1)[-1] for name in largest if student.arch[name] != largest[name]}
        opened.append(varied)
    first, kernels, depths = {"resolution"}, {"resolution", "kernel"}, {"resolution", "kernel", "depth"}
    everything = depths | {"width", "expand", "se"}
    assert opened == [first, first, kernels, kernels, depths, depths, everything, everything]
    only_widths = small_space((4, 8))  # what a space cannot vary takes no time from what it can
    for progress, closed in ((0.29, True), (0.31, False)):
        students = {progressive_shrinking(only_widths, random.Random(i), progress)[1].arch for i in range(20)}
        assert (students == {only_widths.largest()}) is closed
    tiny = small_space((4, 8, 16), depth=2)
    assert step_error(tiny, partial(progressive_shrinking, middle=2)) < SUM_TOLERANCE

    net, unshrunk = supernet(tiny, progressive_shrinking, 200), supernet(tiny, largest_only, 200)
    draw = random.Random(1)
    archs = list(dict.fromkeys(tiny.sample(draw) for _ in range(8)))
    shrunk = [subnet_accuracy(net, arch) for arch in archs]
    assert np.mean(shrunk) > np.mean([subnet_accuracy(unshrunk, arch) for arch in archs]) + 0.1
    assert subnet_accuracy(net, tiny.largest()) > 0.9

    sizes = [sum(p.numel() for p in net.extract(arch).parameters()) for arch in archs]
    answers = [
        max(a for a, size in zip(shrunk, sizes, strict=True) if size <= limit) for limit in (min(sizes), max(sizes))
    ]
    assert answers[0] < answers[1]


def test_several_archs_share_the_batch_of_a_step():
    """ViT-ResNAS: several archs a step, each on its part of the batch; the gradient is the sum of separate passes."""
    for archs in (1, 2, 4, 5):
        rng, twin = random.Random(1), random.Random(1)
        turns = multi_arch(SPACE, rng, 0.5, archs=archs)
        assert [turn.arch for turn in turns] == [SPACE.sample(twin) for _ in range(archs)]
        assert sum(turn.scale for turn in turns) == pytest.approx(1)
        assert not any(turn.distil for turn in turns)
        for n in (1, 3, 64, 100):  # every image is seen by exactly one arch
            seen = [i for turn in turns for i in range(*(round(edge * n) for edge in turn.rows))]
            assert seen == list(range(n))
        for seed in (0, 1):
            assert step_error(small_space((4, 8, 16)), partial(multi_arch, archs=archs), seed=seed) < SUM_TOLERANCE

    # Fewer images than archs: those without an image sit out.
    assert step_error(small_space((4, 8, 16)), partial(multi_arch, archs=5), n=3) < SUM_TOLERANCE


@pytest.mark.claim
def test_multi_arch():
    """ViT-ResNAS: in as many epochs four archs a step rank better than one. The mean over seeds: one is noise."""
    space, draw = small_space((2, 4, 8, 16), stem=(4, 8)), random.Random(1)
    sample = list(dict.fromkeys(space.sample(draw) for _ in range(16)))
    separate = np.mean([[alone(arch, 100, seed) for arch in sample] for seed in (0, 1)], axis=0)

    def tau(archs: int, seed: int) -> float:
        net = supernet(space, partial(multi_arch, archs=archs), 60, seed)
        return stats.kendalltau(separate, [subnet_accuracy(net, arch) for arch in sample])[0]

    four, one = (np.mean([tau(archs, seed) for seed in range(5)]) for archs in (4, 1))
    assert four > one + 0.03


def test_attentive():
    """AttentiveNAS: BestUp trains, at each cost, the arch that scores best, WorstUp the worst; costs stay spread as the
    space's own. Scored by one batch's loss, BestUp leaves a larger hypervolume than uniform draws in as many steps."""
    space = small_space((2, 8, 16), stem=(2, 8))
    everything = list(space.every())
    quality = {arch: random.Random(arch.key).random() for arch in everything}
    picks: dict[str, list[Arch]] = {}
    for best in (True, False):
        rng = random.Random(0)
        turns = [attentive(space, rng, 0.5, score=quality.get, cost=macs, best=best, candidates=4) for _ in range(400)]
        assert all(t[0] == Turn(space.largest()) and t[1] == Turn(space.smallest(), distil=True) for t in turns)
        assert all(len(t) == 3 and t[2].distil for t in turns)
        picks["best" if best else "worst"] = [t[2].arch for t in turns]
    drawn_rng = random.Random(1)
    drawn = [space.sample(drawn_rng) for _ in range(400)]
    means = {name: np.mean([quality[a] for a in archs]) for name, archs in (*picks.items(), ("drawn", drawn))}
    assert means["worst"] + 0.15 < means["drawn"] < means["best"] - 0.15
    thirds = np.quantile([macs(arch) for arch in drawn], [1 / 3, 2 / 3])
    for archs in picks.values():  # the score decides within a cost; cheap, middling and dear archs all get their share
        assert min(np.bincount(np.digitize([macs(arch) for arch in archs], thirds), minlength=3)) > 0.15 * 400

    images, labels = digits().train.take(np.arange(512)), torch.from_numpy(digits().train.labels[:512])
    batches = list(zip(preprocess()(images).split(64), labels.split(64), strict=True))

    def trained(up: bool, seed: int) -> Supernet:
        if not up:
            return supernet(space, sandwich, 60, seed)
        torch.manual_seed(seed)
        net = Supernet(space, builder)
        now = 0

        @torch.no_grad()
        def score(arch: Arch) -> float:
            x, y = batches[now % len(batches)]
            return -float(F.cross_entropy(net(x, arch).float(), y))

        def schedule(space: Space, rng: random.Random, progress: float) -> list[Turn]:
            nonlocal now
            now += 1
            return attentive(space, rng, progress, score=score, cost=macs, candidates=5)

        fit(net, supernet_step(net, schedule, inputs(seed), RECIPE), 60, seed)
        return net

    hypervolumes = [[hypervolume(trained(up, seed), everything) for seed in (0, 1, 2)] for up in (True, False)]
    assert np.mean(hypervolumes[0]) > np.mean(hypervolumes[1])


def hypervolume(net: Supernet, archs: list[Arch]) -> float:
    """Area under accuracy over log MACs of the extracted, recalibrated subnets."""
    points = sorted((np.log(macs(arch)), subnet_accuracy(net, arch)) for arch in archs)
    costs = np.array([cost for cost, _ in points])
    best = np.maximum.accumulate([value for _, value in points])
    return float(np.sum(best[:-1] * np.diff(costs)))


def test_delayed_shrinking():
    """DεpS: the largest alone until half of training, then the sandwich with gradients that rise to full size. In as
    many steps the smallest subnet ends better than when shrinking never starts."""
    rng = random.Random(0)
    scales = []
    for progress in np.linspace(0, 1, 101):
        turns = delayed_shrinking(SPACE, rng, progress, start=0.5, ramp=0.2, middle=2)
        assert turns[0] == Turn(SPACE.largest())
        if progress < 0.5:
            assert len(turns) == 1
            continue
        assert [turn.arch for turn in turns[1:2]] == [SPACE.smallest()]
        assert len(turns) == 4
        assert all(turn.distil for turn in turns[1:])
        (scale,) = {turn.scale for turn in turns[1:]}
        scales.append(scale)
    assert scales[0] == pytest.approx(0.1)
    assert scales == sorted(scales)
    assert scales[20] == pytest.approx(1)
    assert set(scales[21:]) == {1.0}
    assert max(np.diff(scales)) == pytest.approx(0.9 / 20)  # without a jump
    tiny = small_space((4, 8))
    assert step_error(tiny, partial(delayed_shrinking, start=0.85)) < SUM_TOLERANCE  # at 0.9: scaled by 0.325

    space = small_space((2, 4, 8, 16), stem=(4, 8))
    sample = [space.sample(rng) for _ in range(12)]
    right: dict[float, list[tuple[float, float, float]]] = {0.5: [], 1.0: []}
    for start, rows in right.items():
        for seed in (0, 1):  # one seed's smallest subnet varies by 0.1 with the order of sums, and so with the threads
            net = supernet(space, partial(delayed_shrinking, start=start), 200, seed)
            rest = float(np.mean([subnet_accuracy(net, arch) for arch in sample]))
            rows.append((subnet_accuracy(net, space.smallest()), rest, subnet_accuracy(net, space.largest())))
    gains = np.mean(right[0.5], axis=0) - np.mean(right[1.0], axis=0)
    assert gains[0] > 0.08  # the smallest
    assert gains[1] > 0.08  # the sample
    assert gains[2] > -0.03  # at next to no cost to the largest


@settings(max_examples=60)
@given(st.sampled_from(sorted(SCHEDULES)), st.integers(0, 2**32), st.floats(0, 1))
def test_every_schedule_is_sound(name: str, seed: int, progress: float):
    """Archs of the space, the same for the same seed; a turn that distils has the whole largest arch before it."""
    turns = SCHEDULES[name](SPACE, random.Random(seed), progress)
    assert turns == SCHEDULES[name](SPACE, random.Random(seed), progress)
    assert turns
    for index, turn in enumerate(turns):
        assert SPACE.contains(turn.arch)
        assert 0 <= turn.rows[0] < turn.rows[1] <= 1
        assert turn.scale > 0
        assert not turn.distil or any(t.arch == SPACE.largest() and t.rows == (0.0, 1.0) for t in turns[:index])


turn_lists = st.lists(
    st.tuples(
        st.integers(0, 2**16), st.booleans(), st.floats(0.1, 2), st.sampled_from([(0.0, 1.0), (0.0, 0.5), (0.25, 1.0)])
    ),
    min_size=1,
    max_size=3,
)


@settings(max_examples=15)
@given(turn_lists)
def test_a_step_is_the_sum_of_its_turns(drawn):
    """Whatever turns a schedule returns: the gradient is the sum of separate passes, scaled, on their rows."""
    space = small_space((4, 8, 16))
    turns = [Turn(space.largest())]
    turns += [Turn(space.sample(random.Random(seed)), distil, scale, rows) for seed, distil, scale, rows in drawn]
    assert (
        step_error(space, lambda *_: [t for t in turns if t.rows == (0.0, 1.0) or t.arch != space.largest()])
        < SUM_TOLERANCE
    )
