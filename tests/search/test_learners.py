"""Strategies that learn: their formulas against closed forms and enumerations, and what they find against chance."""

from __future__ import annotations

import itertools
import math
import random
from functools import partial

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from contracts.strategy import CONDITIONAL, history_of
from sartor.errors import InputError
from sartor.predict.gaussian import Gaussian
from sartor.records import Arch, Record
from sartor.search import run
from sartor.search.methods.brp import brp
from sartor.search.methods.eeea import eeea, median_size, rank_size
from sartor.search.methods.l2nas import l2nas, quantile_loss, states
from sartor.search.methods.mcts import Tree, mcts, uct
from sartor.search.methods.ppo import clipped_gradient, ppo
from sartor.search.methods.random import random_search
from sartor.search.methods.reinforce import reinforce, reinforce_gradient
from sartor.search.methods.smbo import smbo
from sartor.search.objective import Objective
from sartor.search.policy import Adam, Parameters, Policy, advantages
from sartor.search.reward import HARD, mnasnet, penalised, rewarded, shares
from sartor.search.tables import open_known
from sartor.space.choice import Choice
from sartor.space.listed import Listed
from sartor.space.space import Space

ACC = Objective("acc", maximise=True)
SMALL = Space(
    (
        Choice("op", ("a", "b")),
        Choice("kernel", (3, 5, 7), when=("op", ("b",))),
        Choice("width", (1, 2, 4)),
    )
)
PLANTED = Space(tuple(Choice(f"c{i}", (0, 1, 2, 3)) for i in range(8)))
BEST = (2, 0, 3, 1, 1, 3, 0, 2)


def planted(arch: Arch) -> dict[str, float]:
    """How many options are as planted, and half as much again for each that has its neighbour planted, too."""
    right = [arch[f"c{i}"] == option for i, option in enumerate(BEST)]
    return {"acc": sum(right) + 0.5 * sum(a and b for a, b in itertools.pairwise(right))}


def random_parameters(policy: Policy, seed: int) -> Parameters:
    rng = np.random.default_rng(seed)
    k = int(policy.sizes.sum())
    return Parameters(rng.normal(size=k), rng.normal(size=(k, k)))


# Policies


@pytest.mark.parametrize("seed", range(3))
def test_a_policy_is_a_distribution_over_the_archs_of_its_space(seed):
    """Also of a space with a conditional choice; and what it draws is what it says."""
    policy = Policy(SMALL)
    at = random_parameters(policy, seed)
    archs = list(SMALL.every())
    p = np.exp(policy.log_likelihood(at, policy.taken(archs)).sum(axis=1))
    assert p.sum() == pytest.approx(1)
    rng = random.Random(seed)
    drawn = [policy.sample(at, rng) for _ in range(4000)]
    share = np.array([drawn.count(arch) for arch in archs]) / len(drawn)
    assert np.abs(share - p).max() < 4 * 0.5 / math.sqrt(len(drawn))  # four standard deviations, at most


def test_without_parameters_a_policy_draws_as_the_space_does():
    policy = Policy(SMALL)
    logs = policy.log_likelihood(policy.zeros(), policy.taken(list(SMALL.every()))).sum(axis=1)
    assert sorted(np.exp(logs)) == pytest.approx(sorted([1 / 6] * 3 + [1 / 18] * 9))


def differences(function, at: Parameters, policy: Policy) -> Parameters:
    """The gradient by central differences."""
    found = []
    for name in ("bias", "weight"):
        array = getattr(at, name)
        slope = np.zeros_like(array)
        for index in np.ndindex(array.shape):
            values = []
            for step in (1e-5, -1e-5):
                moved = array.copy()
                moved[index] += step
                values.append(function(Parameters(**{"bias": at.bias, "weight": at.weight, name: moved})))
            slope[index] = (values[0] - values[1]) / 2e-5
        found.append(slope)
    return Parameters(*found)


def assert_close(a: Parameters, b: Parameters):
    np.testing.assert_allclose(a.bias, b.bias, atol=1e-7)
    np.testing.assert_allclose(a.weight, b.weight, atol=1e-7)


def test_reinforces_expected_gradient_is_that_of_the_expected_reward():
    """Every arch of the space, weighted by its probability, against differences of the exact expectation; and a
    baseline changes nothing."""
    policy = Policy(SMALL)
    at = random_parameters(policy, 1)
    archs = list(SMALL.every())
    x = policy.taken(archs)
    rewards = np.random.default_rng(2).normal(size=len(archs))

    def chances(at: Parameters) -> np.ndarray:
        return np.exp(policy.log_likelihood(at, x).sum(axis=1))

    expected = differences(lambda at: float(chances(at) @ rewards), at, policy)
    for baseline in (0.0, 5.0):
        weights = chances(at) * (rewards - baseline) * len(archs)  # reinforce_gradient takes the mean
        assert_close(reinforce_gradient(policy, at, x, weights), expected)


def test_entropys_gradient_is_that_of_differences():
    policy = Policy(SMALL)
    at = random_parameters(policy, 3)
    x = policy.taken(list(SMALL.every())[:5])

    def entropy(at: Parameters) -> float:
        p = policy.probabilities(at, x)
        each = -np.add.reduceat(p * np.log(p), policy.starts, axis=1)
        return float((each * policy.active(x)).sum())

    assert_close(policy.entropy_gradient(at, x), differences(entropy, at, policy))


def test_ppos_gradient_is_that_of_its_objective():
    """The objective as figure 1 of arXiv:1707.06347 draws it."""
    policy = Policy(SMALL)
    drew, at = random_parameters(policy, 4), random_parameters(policy, 4).scaled(1.3)
    x = policy.taken(list(SMALL.every()))
    advantage = np.random.default_rng(5).normal(size=len(x))
    before = policy.log_likelihood(drew, x)

    def objective(at: Parameters) -> float:
        ratio = np.exp(policy.log_likelihood(at, x) - before)
        clipped = np.where(advantage[:, None] >= 0, np.minimum(ratio, 1.2), np.maximum(ratio, 0.8))
        return float((clipped * advantage[:, None] * policy.active(x)).sum() / len(x))

    ratio = np.exp(policy.log_likelihood(at, x) - before)
    assert (np.abs(ratio - 1) > 0.2).any()  # some are clipped, or this test says little
    assert_close(clipped_gradient(policy, at, x, before, advantage, 0.2), differences(objective, at, policy))


def test_adam_takes_the_steps_of_torchs():
    at = Parameters(np.array([0.3, -0.2]), np.array([[1.0, 2.0], [0.5, 0.1]]))
    theirs = torch.tensor(at.bias, requires_grad=True)
    optimiser = torch.optim.Adam([theirs], 0.1, maximize=True)
    mine = Adam(0.1)
    for slope in np.random.default_rng(0).normal(size=(5, 2)):
        theirs.grad = torch.tensor(slope)
        optimiser.step()
        at = mine.ascend(at, Parameters(slope, np.ones((2, 2))))
    np.testing.assert_allclose(at.bias, theirs.detach().numpy(), rtol=1e-6)


def test_advantages_do_not_depend_on_later_rewards_or_on_their_unit():
    rewards = np.random.default_rng(1).normal(size=23)
    found = advantages(rewards, 5)
    assert [len(batch) for batch in found] == [5] * 4
    np.testing.assert_allclose(np.concatenate(advantages(rewards[:12], 5)), np.concatenate(found[:2]))
    np.testing.assert_allclose(np.concatenate(advantages(100 * rewards - 7, 5)), np.concatenate(found))
    uncut = advantages(rewards, 5, limit=math.inf)[0]
    assert uncut.sum() == pytest.approx(0)  # there is nothing before the first to compare it with


# Rewards


@pytest.mark.parametrize(
    ("latency", "exponents", "expected"),
    [
        (80.0, (-0.07, -0.07), 0.75),  # on target nothing is lost
        (160.0, (-0.07, -0.07), 0.75 * 2**-0.07),
        (40.0, (-0.07, -0.07), 0.75 * 2**0.07),
        (40.0, HARD, 0.75),
        (160.0, HARD, 0.375),
    ],
)
def test_mnasnets_reward(latency, exponents, expected):
    reward = mnasnet("acc", "ms", 80, exponents=exponents)
    assert reward({"acc": 0.75, "ms": latency}) == pytest.approx(expected)
    assert mnasnet("acc", "ms", 80, exponents=exponents, percent=True)({"acc": 75, "ms": latency}) == pytest.approx(
        expected
    )


def test_mnasnets_soft_exponent_is_worth_five_per_cent_for_twice_the_latency():
    """How the paper chooses it: 5 % more accurate and twice as slow has about the same reward."""
    reward = mnasnet("acc", "ms", 50)
    assert reward({"acc": 0.5, "ms": 100}) * 1.05 == pytest.approx(reward({"acc": 0.5, "ms": 50}), rel=1e-3)


def test_penalties_are_for_what_is_violated():
    reward = penalised("acc", {"params": 100.0, "intensity": 10.0}, base=0.5, at_least=["intensity"])
    assert reward({"acc": 0.8, "params": 100, "intensity": 12}) == 0.8
    assert reward({"acc": 0.8, "params": 200, "intensity": 10}) == pytest.approx(0.4)
    assert reward({"acc": 0.8, "params": 50, "intensity": 5}) == pytest.approx(0.8 * 0.5**0.5)


@pytest.mark.parametrize(
    "wrong",
    [
        lambda: mnasnet("acc", "ms", 0),
        lambda: mnasnet("acc", "ms", math.nan),
        lambda: mnasnet("acc", "ms", 1)({"acc": 1, "ms": 0}),
        lambda: penalised("acc", {"params": -1}),
        lambda: penalised("acc", {"params": 1}, base=1.5),
        lambda: penalised("acc", {"params": 1}, at_least=["intensity"]),
    ],
)
def test_rewards_that_mean_nothing_are_refused(wrong):
    with pytest.raises(InputError):
        wrong()


@given(st.lists(st.integers(-3, 3), min_size=1, max_size=12))
def test_shares_are_the_wins_against_each_other(values):
    expected = [np.mean([(v > w) + 0.5 * (v == w) for w in values]) for v in values]
    np.testing.assert_allclose(shares(np.array(values, dtype=float)), expected)


def test_records_without_a_reward_are_left_out():
    records = [Record("a", Arch({"c": 1}), metrics=m) for m in ({"acc": 1.0}, {}, {"acc": math.nan}, {"acc": 2.0})]
    assert list(rewarded(records, [ACC], None)[1]) == [1, 2]
    assert list(rewarded(records, [ACC], lambda metrics: math.inf if metrics["acc"] == 1 else 5)[1]) == [5]


def test_a_reward_of_a_metric_that_there_is_not_is_refused():
    both, one = ({"acc": 1.0, "ms": 2.0}, {"acc": 1.0})
    reward = mnasnet("acc", "ms", 1.0)
    arch = Arch({"c": 1})
    assert len(rewarded([Record("a", arch, metrics=m) for m in (both, one)], [ACC], reward)[0]) == 1
    lost = Record("a", arch, metrics=one, provenance={"not_finite": ["ms"]})
    assert rewarded([lost], [ACC], reward)[0] == []
    with pytest.raises(InputError, match="needs ms"):
        rewarded([Record("a", arch, metrics=one)], [ACC], reward)


# Trees


def test_uct_is_ucb1_where_exploration_is_one():
    for n in range(2, 6):
        for visits in range(1, n):
            expected = 0.3 * visits / visits + math.sqrt(2 * math.log(n) / visits)
            assert uct(0.3 * visits, visits, n, 1) == pytest.approx(expected)
    assert uct(3.0, 4, 9, 0) == 0.75


def test_uct_goes_where_ucb1_goes_in_a_bandit():
    """One choice is a bandit: the counts are those of UCB1 played by hand."""
    space = Space((Choice("arm", tuple(range(3))), Choice("rest", tuple(range(500)))))
    worth = [0.2, 0.5, 0.8]
    tree = Tree(space, bisect=False)
    counts, totals = [0, 0, 0], [0.0, 0.0, 0.0]
    rng = random.Random(0)
    tree.visit((), 0.0)  # the root's first visit has no child yet
    for played in range(60):
        arch, path = tree.descend(rng, 0.7)
        if played >= 3:
            scores = [
                t / c + 0.7 * math.sqrt(2 * math.log(played + 1) / c) for t, c in zip(totals, counts, strict=True)
            ]
            assert scores[path[0]] == max(scores)
        counts[path[0]] += 1
        totals[path[0]] += worth[arch["arm"]]
        tree.visit(path, worth[arch["arm"]])
    assert counts[2] > counts[1] > counts[0]


@pytest.mark.parametrize("bisect", [True, False])
def test_paths_tell_archs_apart_and_branches_close_when_all_is_seen(bisect):
    tree = Tree(CONDITIONAL, bisect)
    archs = list(CONDITIONAL.every())
    assert len({tree.path(arch) for arch in archs}) == len(archs)
    for arch in archs[:-1]:
        tree.close(arch)
    assert () not in tree.closed
    assert tree.descend(random.Random(0), 1.0)[0] == archs[-1]  # the only one that is left
    tree.close(archs[-1])
    assert () in tree.closed


# Actor and critic


def test_the_quantile_loss_is_least_at_the_quantile():
    values = torch.tensor([1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 9.0, 10.0])
    at = torch.linspace(0, 11, 221)
    for tau in (0.25, 0.5, 0.85):
        losses = torch.stack([quantile_loss(values - guess, tau) for guess in at])
        assert float(at[losses.argmin()]) == pytest.approx(float(torch.quantile(values, tau)), abs=0.51)


@given(st.floats(-4, 4), st.floats(0.05, 0.95), st.floats(0.1, 2))
def test_the_quantile_huber_loss_by_hand(error, tau, kappa):
    huber = 0.5 * error**2 if abs(error) <= kappa else kappa * (abs(error) - 0.5 * kappa)
    expected = abs(tau - (error < 0)) * huber / kappa
    mine = float(quantile_loss(torch.tensor([error], dtype=torch.float64), tau, kappa))
    assert mine == pytest.approx(expected)


def test_a_state_is_the_mean_of_the_best_before():
    x = np.eye(5)
    rewards = np.array([3.0, 1.0, 2.0, 5.0, 4.0])
    for t in range(6):
        best = np.argsort(-rewards[:t])[:2]
        np.testing.assert_allclose(states(x, rewards, 2)[t], x[best].mean(axis=0) if t else np.zeros(5))


def test_l2nas_leaves_torchs_generator_alone():
    before = torch.random.get_rng_state()
    l2nas(CONDITIONAL, history_of(CONDITIONAL, 20), random.Random(0), 2, steps=2)
    assert torch.equal(before, torch.random.get_rng_state())


# Predictors and populations


def test_brp_alternates_the_best_and_others_that_are_good():
    small = Listed(PLANTED.choices, PLANTED.listed[::200])
    asked: list[Arch] = []

    class Scripted(Gaussian):
        def predict(self, archs):
            asked[:] = archs
            return -np.array([planted(arch)["acc"] for arch in archs]), np.zeros(len(archs))

    history = [Record("a", a, metrics=planted(a)) for a in small.archs[:20]]
    found = brp(small, history, random.Random(0), 10, objectives=[ACC], predictor=Scripted, share=0.2)
    ranked = sorted(asked, key=lambda arch: -planted(arch)["acc"])
    value = {arch: planted(arch)["acc"] for arch in ranked}
    tops = found[1::2]  # twenty evaluated: places 20, 22, … are random picks
    assert [value[arch] for arch in tops] == sorted([value[arch] for arch in tops], reverse=True)
    assert value[tops[0]] >= value[ranked[1]]
    assert all(value[arch] >= value[ranked[round(0.2 * len(ranked))]] for arch in found)
    one_by_one = []
    for _ in range(2):
        one_by_one += brp(small, history, random.Random(0), 1, objectives=[ACC], predictor=Scripted)
        history = [*history, Record("b", one_by_one[-1], metrics=planted(one_by_one[-1]))]
    assert value[one_by_one[1]] == max(value[arch] for arch in asked)


def test_eeeas_first_generation_keeps_the_threshold():
    size = rank_size(CONDITIONAL)
    limit = median_size(CONDITIONAL, size)
    for seed in range(5):
        first = eeea(CONDITIONAL, [], random.Random(seed), 24)
        assert all(size(arch) <= limit for arch in first)
        assert any(size(arch) > limit for arch in random_search(CONDITIONAL, [], random.Random(seed), 24))


def test_eeeas_threshold_steps_up_where_nothing_is_below_it():
    asked: list[float] = []

    def size(arch: Arch) -> float:
        asked.append(float(len(arch)) + 100)
        return asked[-1]

    found = eeea(CONDITIONAL, [], random.Random(0), 6, size=size, threshold=1.0, growth=1.0, patience=5)
    assert len(set(found)) == 6
    smallest = min(asked[:5])  # all of them above 1: the threshold from then on, for all have one of two sizes
    assert {len(arch) + 100 for arch in found} == {smallest}


@pytest.mark.parametrize("wrong", [{"growth": 0.5}, {"patience": 0}, {"size": lambda arch: math.nan}])
def test_eeea_refuses_what_would_never_end(wrong):
    with pytest.raises(InputError):
        eeea(CONDITIONAL, [], random.Random(0), 3, **({"threshold": 1.0} | wrong))


@pytest.mark.parametrize("limit", [-5.0, 0.0])
def test_eeeas_threshold_steps_up_from_anywhere(limit):
    assert len(eeea(CONDITIONAL, [], random.Random(0), 3, threshold=limit)) == 3


# What they find


LEARNERS = {
    "mcts": mcts,
    "smbo": smbo,
    "reinforce": reinforce,
    "ppo": ppo,
    "l2nas": partial(l2nas, steps=30),
    "brp": partial(brp, pool=200),
}


@pytest.fixture(scope="module")
def chance() -> list[float]:
    """The best of 80 random archs, by seed."""
    return [max(r.metrics["acc"] for r in run(PLANTED, planted, "random", 80, s, objectives=[ACC])) for s in range(6)]


@pytest.mark.parametrize("name", LEARNERS)
def test_a_planted_optimum_is_come_nearer_to_than_by_chance(name, chance):
    best = []
    for seed in range(6):
        history = run(PLANTED, planted, LEARNERS[name], 80, seed, objectives=[ACC], batch=10)
        best.append(max(record.metrics["acc"] for record in history))
    assert np.mean(best) > np.mean(chance) + 1
    assert sum(a > b for a, b in zip(best, chance, strict=True)) >= 5


@pytest.mark.parametrize("name", LEARNERS)
def test_learners_cope_with_listed_spaces(name):
    rng = random.Random(0)
    some = Listed(PLANTED.choices, tuple(rng.sample(PLANTED.listed, 60)))
    found = run(some, planted, LEARNERS[name], 70, 0, objectives=[ACC], batch=10)
    assert {record.arch for record in found} == set(some.archs)


@pytest.mark.parametrize("name", [name for name in LEARNERS if name != "l2nas"])
def test_a_real_table_is_searched_better_than_by_chance(name, data_dir):
    """NAS-Bench-Macro, 60 evaluations: the mean regret over seeds is below random search's."""
    table = open_known("macro:cifar10", data_dir)

    def regret(strategy) -> float:
        ends = []
        for seed in range(5):
            history = run(table.space, table.evaluate, strategy, 60, seed, objectives=table.objectives, batch=10)
            ends.append(table.best - table.best_so_far(history)[-1])
        return float(np.mean(ends))

    assert regret(LEARNERS[name]) < regret(random_search)


@pytest.mark.parametrize("name", LEARNERS)
def test_a_space_without_choices_has_one_arch(name):
    found = run(Space(()), lambda arch: {"acc": 1.0}, LEARNERS[name], 5, 0, objectives=[ACC])
    assert [record.arch for record in found] == [Arch({})]
