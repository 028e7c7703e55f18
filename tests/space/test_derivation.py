"""Languages as spaces: counted, drawn and moved within exactly, against plain enumeration."""

from __future__ import annotations

import math
import random
from collections import Counter
from functools import partial
from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from contracts.derivation import DerivationSuite
from sartor.errors import InputError
from sartor.records import Arch
from sartor.search.methods.linas import linas
from sartor.search.named import run, strategies
from sartor.search.objective import Objective
from sartor.space.chart import Done, Part, Rule
from sartor.space.derivation import Derivations
from sartor.space.grammar import Production, grammar
from sartor.space.projection import project

SHORT_LINAS = partial(linas, population=12, generations=2, first=8)
SMALL = 3_000
"""Derivations that a drawn grammar may have, to be listed."""

MODULES = {
    "module": [
        Production("op", ("op",), 2.0),
        Production("seq", ("module", "module")),
        Production("skip", ("module",)),
    ],
    "op": [Production("conv", ("kernel",)), Production("pool"), Production("norm")],
    "kernel": [Production(3), Production(5)],
}


class TestContextFree(DerivationSuite):
    space = grammar(MODULES, start="module", height=6)


class TestNumbers(DerivationSuite):
    """1 and the text "1" are two options."""

    space = grammar({"s": [Production(1), Production("1", ("s",)), Production(2.5, ("s", "s"))]}, start="s", height=4)


def pairs(widths=(1, 2, 3)) -> Derivations:
    """Sums of numbers where only equal ones are added: what the right may be depends on the left."""

    def rules(sort):
        numbers = [Rule(f"n{w}", lambda made, w=w: Done(w)) for w in widths]

        def add(made):
            if len(made) == 2:
                return Done(made[0] + made[1]) if made[0] == made[1] else None
            return Part("left", sort) if not made else Part("right", sort)

        return (*numbers, Rule("add", add))

    return Derivations((), "sum", rules, 4)


class TestSynthesised(DerivationSuite):
    space = pairs()


@st.composite
def grammars(draw) -> Derivations:
    symbols = ["a", "b", "c"][: draw(st.integers(1, 3))]
    productions = {}
    for symbol in symbols:
        options = draw(st.lists(st.integers(0, 9), min_size=1, max_size=3, unique=True))
        parts = st.lists(st.sampled_from(symbols), max_size=2).map(tuple)
        weight = st.sampled_from([0.25, 1.0, 3.0])
        productions[symbol] = [Production(o, draw(parts), draw(weight)) for o in options]
    if not any(not p.parts for p in productions["a"]):
        productions["a"] = [*productions["a"], Production(99)]
    height = draw(st.integers(1, 4))
    while grammar(productions, start="a", height=height).count() > SMALL:
        height -= 1
    return grammar(productions, start="a", height=height)


def listed(space: Derivations) -> list[Arch]:
    """Every derivation of a context-free grammar, by plain recursion that knows nothing of the chart."""

    def of(name: str, sort: str, height: int) -> list[dict]:
        found = []
        for rule in space.rules(sort) if height else ():
            parts, made = [], ()
            while isinstance(step := rule.after(made), Part):
                parts.append(of(f"{name}.{step.label}", step.sort, height - 1))
                made = (*made, None)
            for held in product(*parts):
                found.append({name: rule.option} | {k: v for part in held for k, v in part.items()})
        return found

    return [Arch(held) for held in of(space.root, space.start, space.height)]


@settings(max_examples=60)
@given(grammars())
def test_count_and_every_are_those_of_plain_recursion(space: Derivations):
    archs = listed(space)
    assert space.count() == len(archs) == len(set(archs))
    assert set(space.every()) == set(archs)
    assert len(list(space.every())) == len(archs)


@settings(max_examples=60)
@given(grammars(), st.integers(0, 2**32))
def test_moves_stay_in_the_space(space: Derivations, seed: int):
    rng, everything = random.Random(seed), set(space.every())
    a, b = space.sample(rng), space.sample(rng)
    assert {a, b, space.smallest(), space.largest(), space.cross(a, b, rng)} <= everything
    assert set(space.neighbours(a)) <= everything - {a}
    mutant = space.mutate(a, rng, rng.choice([0.0, 0.3, 1.0]))
    assert mutant in everything
    assert (mutant == a) == (len(everything) == 1)
    assert space.canonical(dict(a)) == a


@settings(max_examples=60)
@given(grammars())
def test_probabilities_sum_to_one_and_encodings_tell_archs_apart(space: Derivations):
    archs = list(space.every())
    assert sum(math.exp(space.log_probability(arch)) for arch in archs) == pytest.approx(1)
    codes = {space.encode(arch).tobytes() for arch in archs}
    assert len(codes) == len(archs)


@settings(max_examples=60)
@given(grammars(), st.data())
def test_contains_refuses_what_is_not_derived(space: Derivations, data):
    arch = data.draw(st.sampled_from(list(space.every())))
    name = data.draw(st.sampled_from(sorted(arch)))
    other = Arch({**arch, name: data.draw(st.integers(0, 9))})
    assert space.contains(other) == (other in set(space.every()))
    assert not space.contains(Arch({**arch, name + ".9": 1}))


def test_drawn_as_often_as_their_probability_says():
    """Of rules that look at each other too: a chi-squared statistic below its 0.999 quantile."""
    from scipy.stats import chi2

    for space in (pairs((1, 2)), grammar(MODULES, start="module", height=3)):
        archs, rng, draws = list(space.every()), random.Random(0), 8_000
        seen = Counter(space.sample(rng) for _ in range(draws))
        expected = {arch: draws * math.exp(space.log_probability(arch)) for arch in archs}
        often = [arch for arch in archs if expected[arch] >= 5]
        statistic = sum((seen[a] - expected[a]) ** 2 / expected[a] for a in often)
        assert set(seen) <= set(archs)
        assert statistic < chi2.ppf(0.999, len(often))


def test_the_right_fits_the_left():
    """Full binary trees of height h whose leaves are one number: none but these can be added up."""
    space = pairs((1,))
    sums = {1: {1: 1}}  # height → result → ways, by hand: r = 2^k in one way, if it is low enough
    for h in range(2, 5):
        sums[h] = {1: 1} | {2 * r: n * n for r, n in sums[h - 1].items()}
    assert space.count() == sum(sums[4].values()) == 4
    assert {node.result for arch in space.every() for node in [space.derivation(arch)]} == {1, 2, 4, 8}


def test_what_cannot_be_finished_is_never_begun():
    """At the last height only leaves fit, and a rule whose parts never agree is no rule."""

    def rules(sort):
        never = Rule("never", lambda made: Part("p", "s") if not made else None)
        return (Rule("leaf", lambda made: Done()), never, Rule("deep", lambda m: Done() if m else Part("p", "s")))

    space = Derivations((), "s", rules, 3)
    assert space.count() == 3
    assert all("never" not in arch.values() for arch in space.every())


@pytest.mark.parametrize(
    ("productions", "start", "height", "fix"),
    [
        ({"a": [Production(1, ("b",))]}, "a", 3, "no production derives b"),
        ({"a": [Production(1)]}, "b", 3, "start from one of a"),
        ({"a": [Production(1, ("a",))]}, "a", 3, "allow more"),
        ({"a": [Production(1)]}, "a", 0, "allow more"),
        ({"a": [Production(1), Production(1)]}, "a", 2, "two rules of one name"),
        ({"a": [Production(1, weight=0.0)]}, "a", 2, "positive"),
        ({"a": [Production(1, weight=math.nan)]}, "a", 2, "positive"),
    ],
)
def test_refuses_what_is_no_grammar(productions, start, height, fix):
    with pytest.raises(InputError, match=fix):
        grammar(productions, start=start, height=height)


def test_refuses_sequences_that_end_too_soon_or_too_late():
    space = grammar(MODULES, start="module", height=4)
    for words, reason in ((("op", "conv"), "the end"), (("op", "pool", 3), "complete"), (("op", "tanh"), "tanh")):
        with pytest.raises(InputError, match=reason):
            space.spelled(words)


def test_a_space_far_larger_than_atoms_is_counted_exactly():
    """Binary trees over two leaves of height at most h: t(h) = 2 + t(h−1)², Python's integers all the way."""
    space = grammar({"t": [Production("x"), Production("y"), Production("n", ("t", "t"))]}, start="t", height=12)
    expected = 2
    for _ in range(11):
        expected = 2 + expected**2
    assert space.count() == expected > 10**80


def test_projections_keep_inner_products_on_average():
    """⟨p(A), p(B)⟩ has mean |A ∩ B| over features' names, and a deviation of about √(|A||B| / length)."""
    products = [
        project([f"{i}:{n}" for n in range(6)], 64) @ project([f"{i}:{n}" for n in range(3, 9)], 64) for i in range(200)
    ]
    assert np.mean(products) == pytest.approx(3, abs=4 * math.sqrt(36 / 64 / 200))


def planted(space: Derivations):
    """How much of a planted derivation an arch has: places that hold what it holds, less what is too much."""
    goal = space.spelled(["seq", "skip", "op", "conv", 5, "seq", "op", "norm", "op", "conv", 3])
    assert space.contains(goal)

    def evaluate(arch: Arch) -> dict[str, float]:
        same = sum(goal.get(name) == option for name, option in arch.items())
        return {"score": same - 0.3 * abs(len(arch) - len(goal))}

    return evaluate


@pytest.mark.parametrize(("strategy", "budget"), [("evolution", 150), ("local", 40)])
def test_strategies_beat_random_search_on_a_grammar(strategy: str, budget: int):
    space = grammar(MODULES, start="module", height=6)
    search = partial(run, space, planted(space), budget=budget, objectives=[Objective("score", maximise=True)])
    best = lambda name: [max(r.metrics["score"] for r in search(strategy=name, seed=seed)) for seed in range(5)]
    found, chance = best(strategy), best("random")
    assert np.mean(found) > np.mean(chance)
    assert sum(f >= c for f, c in zip(found, chance, strict=True)) >= 4


DECLARED = {"optuna-tpe", "optuna-nsga2", "optuna-nsga3", "optuna-gp", "bohb", "reinforce", "ppo", "l2nas", "rena"}
"""They model every choice, and so must know all of them beforehand."""


@pytest.mark.parametrize("strategy", sorted(DECLARED))
def test_strategies_that_model_every_choice_refuse_a_grammar_in_one_line(strategy):
    space = grammar(MODULES, start="module", height=5)
    with pytest.raises(InputError, match="grammar's are made on the way: take random, evolution"):
        run(space, planted(space), strategy, 20, seed=1, objectives=[Objective("score", maximise=True)])


@pytest.mark.parametrize("strategy", [*sorted(set(strategies) - DECLARED - {"linas", "optuna-cmaes"}), SHORT_LINAS])
def test_every_strategy_runs_on_a_grammar(strategy):
    space = grammar(MODULES, start="module", height=5)
    goals = [Objective("score", maximise=True), Objective("places")]
    evaluate = planted(grammar(MODULES, start="module", height=6))
    both = lambda arch: evaluate(arch) | {"places": float(len(arch))}
    found = run(space, both, strategy, 20, seed=1, objectives=goals, batch=4)
    again = run(space, both, strategy, 20, seed=1, objectives=goals, batch=4)
    assert len({record.arch for record in found}) == 20
    assert [r.arch for r in found] == [r.arch for r in again]
