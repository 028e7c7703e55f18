"""Successive halving, Hyperband, ASHA and BOHB over fidelities: closed forms, replay, planted optima, a real table."""

from __future__ import annotations

import json
import math
import random
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from contracts.strategy import CONDITIONAL, FLAT, InMemory
from sartor.errors import InputError
from sartor.recipes.audit import audit_table
from sartor.records import Arch, Record
from sartor.search import run, strategies
from sartor.search.contest import contest, summary
from sartor.search.density import codes_of, fit_density, without_inactive
from sartor.search.loop import search
from sartor.search.methods.hyperband import asha, halving, hyperband
from sartor.search.methods.random import random_search
from sartor.search.named import MULTI_FIDELITY
from sartor.search.objective import Objective
from sartor.search.rungs import brackets, rungs_of
from sartor.search.store import Store
from sartor.search.tables import open_known
from sartor.space import Choice, Space
from sartor.space.fidelity import FIDELITY, with_fidelities
from sartor.space.listed import Listed

LOSS = (Objective("loss"),)
THREES = {3**k: 3**k for k in range(5)}
SOME = Listed(CONDITIONAL.choices, tuple(arch for i, arch in enumerate(CONDITIONAL.every()) if i % 3))
LADDERS = {
    "threes": with_fidelities(FLAT, THREES),
    "epochs": with_fidelities(CONDITIONAL, {12: 12, 200: 200}),
    "listed": with_fidelities(SOME, {1: 1, 2: 2, 4: 4, 8: 8}),
}
named = pytest.mark.parametrize("strategy", MULTI_FIDELITY)


def loss(arch: Arch) -> dict[str, float]:
    """How many options are not the planted one, and a disturbance that a higher fidelity has less of."""
    away = sum(1 for name, option in arch.items() if name != FIDELITY and option not in (2, "mbconv", 5, 32, True))
    noise = random.Random(arch.key).gauss(0, 1) / math.sqrt(float(arch.get(FIDELITY, 81)))
    return {"loss": away + noise}


# --- the paper's numbers ----------------------------------------------------------------------------------------------


def test_hyperbands_brackets_for_81_and_3() -> None:
    """Algorithm 1 of arXiv:1603.06560 with R = 81 and eta = 3, written out: n = ceil((s_max + 1) / (s + 1) * 3^s), and
    floor(n * 3^-i) archs on rung i."""
    paper = []
    for s in (4, 3, 2, 1, 0):
        n = -(-5 * 3**s // (s + 1))
        paper.append([n // 3**i for i in range(s + 1)])
    assert [row[0] for row in paper] == [81, 34, 15, 8, 5]
    rungs = rungs_of(LADDERS["threes"], 3)
    assert brackets(rungs.costs) == paper


@given(st.integers(2, 6), st.integers(2, 5))
def test_brackets_of_any_powers(eta: int, top: int) -> None:
    """The same with whole numbers, for which there is nothing to round."""
    costs = [eta**k / eta**top for k in range(top + 1)]
    for s, row in zip(range(top, -1, -1), brackets(costs), strict=True):
        n = -(-(top + 1) * eta**s // (s + 1))
        assert row == [n // eta**i for i in range(s + 1)]


@given(st.lists(st.floats(0.001, 0.999), min_size=1, max_size=6, unique=True))
def test_a_rung_costs_no_more_than_its_brackets_first(shares: list[float]) -> None:
    costs = [*sorted(shares), 1.0]
    for start, row in enumerate(brackets(costs)):
        spent = [n * cost for n, cost in zip(row, costs[start:], strict=True)]
        assert all(s <= max(spent[0], 1) + 1e-6 for s in spent)
        assert row == sorted(row, reverse=True)


def test_which_fidelities_are_rungs() -> None:
    space = with_fidelities(FLAT, {k: k for k in (1, 2, 3, 4, 8, 9, 10, 27)})
    assert rungs_of(space, 3).fidelities == (1, 3, 9, 27)
    assert rungs_of(space, 2).fidelities == (1, 2, 4, 10, 27)
    assert rungs_of(space, 100).fidelities == (27,)
    assert rungs_of(FLAT, 3).fidelities == (None,)
    for eta in (1, 0, float("nan")):
        with pytest.raises(InputError, match="eta"):
            rungs_of(space, eta)


@pytest.mark.parametrize("batch", [1, 7, 100])
def test_a_round_of_hyperband_is_the_papers(batch: int) -> None:
    """As many evaluations at each fidelity as the table says; on each rung those that were best on the rung below."""
    space = LADDERS["threes"]
    sizes = brackets(space.costs)
    wanted = Counter()
    for start, row in enumerate(sizes):
        wanted.update({3 ** (start + i): n for i, n in enumerate(row)})
    found = search(
        space, loss, lambda *a: hyperband(*a, objectives=LOSS), evaluations=sum(wanted.values()), seed=0, batch=batch
    )
    if batch == 1:  # larger batches begin the next round while they wait
        assert Counter(record.arch[FIDELITY] for record in found) == wanted
    first = [r for r in found if r.arch[FIDELITY] == 1][:81]
    best = sorted(first, key=lambda r: r.metrics["loss"])[:27]
    promoted = {space.plain_of(r.arch) for r in found if r.arch[FIDELITY] == 3}
    assert {space.plain_of(r.arch) for r in best} <= promoted


def test_halving_is_hyperbands_first_bracket() -> None:
    space = LADDERS["threes"]
    a, b = (
        search(space, loss, lambda *g, s=s: s(*g, objectives=LOSS), evaluations=121, seed=4, batch=1)
        for s in (halving, hyperband)
    )
    assert [r.arch for r in a] == [r.arch for r in b]
    assert Counter(r.arch[FIDELITY] for r in a) == {1: 81, 3: 27, 9: 9, 27: 3, 81: 1}


def test_asha_promotes_the_best_third() -> None:
    """By an implementation that does it evaluation by evaluation, with lists (arXiv:1810.05934, algorithm 2)."""
    space = LADDERS["threes"]
    found = search(space, loss, lambda *a: asha(*a, objectives=LOSS), evaluations=150, seed=2, batch=1)
    held: list[list[tuple[float, Arch]]] = [[] for _ in range(5)]
    for record in found:
        plain, rung = space.plain_of(record.arch), round(math.log(record.arch[FIDELITY], 3))
        expected: tuple[Arch | None, int] = (None, 0)
        for k in (3, 2, 1, 0):
            top = [a for _, a in sorted(held[k], key=lambda pair: pair[0])[: len(held[k]) // 3]]
            waiting = [a for a in top if a not in {b for _, b in held[k + 1]}]
            if waiting:
                expected = waiting[0], k + 1
                break
        assert rung == expected[1]
        assert expected[0] in (None, plain)
        held[rung].append((record.metrics["loss"], plain))
    assert len(held[0]) > 80 > len(held[4]) > 0


# --- as strategies ----------------------------------------------------------------------------------------------------


@named
@pytest.mark.parametrize("ladder", LADDERS)
@pytest.mark.parametrize("batch", [1, 9])
def test_archs_are_new_and_of_the_space(strategy: Callable[..., list[Arch]], ladder: str, batch: int) -> None:
    space = LADDERS[ladder]
    found = search(space, loss, lambda *a: strategy(*a, objectives=LOSS), evaluations=90, seed=1, batch=batch)
    assert len({r.arch for r in found}) == len(found) == 90
    assert len({r.arch[FIDELITY] for r in found}) >= 2


@named
def test_everything_is_evaluated_in_the_end(strategy: Callable[..., list[Arch]]) -> None:
    space = with_fidelities(Space((Choice("a", (1, 2)), Choice("b", (1, 2, 3)))), {1: 1, 3: 3, 9: 9})
    found = search(space, loss, lambda *a: strategy(*a, objectives=LOSS), evaluations=99, seed=0, batch=4)
    assert {r.arch for r in found} == set(space.every())


@named
def test_a_killed_search_goes_on(strategy: Callable[..., list[Arch]]) -> None:
    space = LADDERS["threes"]

    def go(store: InMemory, until: int) -> list[tuple[str, Arch]]:
        found = search(
            space,
            loss,
            lambda *a: strategy(*a, objectives=LOSS),
            evaluations=60,
            seed=3,
            batch=8,
            store=store,
            should_stop=lambda: len(store.records()) >= until,
        )
        return [(r.name, r.arch) for r in found]

    whole = go(InMemory(), 99)
    for stopped in (1, 13, 41):
        store = InMemory()
        go(store, stopped)
        assert go(store, 99) == whole


@named
def test_what_cannot_be_measured_is_not_promoted(strategy: Callable[..., list[Arch]]) -> None:
    space = LADDERS["epochs"]

    def evaluate(arch: Arch) -> dict[str, float]:
        return {"loss": math.nan} if arch["depth"] == 2 else loss(arch)

    found = search(space, evaluate, lambda *a: strategy(*a, objectives=LOSS), evaluations=80, seed=0, batch=5)
    assert any(r.arch["depth"] == 2 for r in found)
    lost = {space.plain_of(r.arch) for r in found if r.arch[FIDELITY] == 12 and r.arch["depth"] == 2}
    assert not lost & {space.plain_of(r.arch) for r in found if r.arch[FIDELITY] == 200}
    assert len(strategy(space, [Record("a0", found[0].arch)], random.Random(0), 3, objectives=LOSS)) == 3


@named
def test_records_of_others_do_no_harm(strategy: Callable[..., list[Arch]]) -> None:
    """A history by another strategy, at fidelities that are no rungs."""
    space = with_fidelities(FLAT, {k: k for k in range(1, 28)})
    rng = random.Random(0)
    others = [Record(f"a{i}", a, metrics=loss(a)) for i, a in enumerate({space.sample(rng): 0 for _ in range(60)})]
    found = strategy(space, others, random.Random(1), 12, objectives=LOSS)
    assert len(set(found)) == 12
    assert not {r.arch for r in others} & set(found)


@pytest.mark.parametrize("strategy", [halving, hyperband, asha])
def test_a_plain_space_has_one_rung_where_all_is_random(strategy: Callable[..., list[Arch]]) -> None:
    assert strategy(FLAT, (), random.Random(5), 6) == random_search(FLAT, (), random.Random(5), 6)


# --- the density ------------------------------------------------------------------------------------------------------


def test_a_density_sums_to_one() -> None:
    """Over all codes of a space without conditions, ordered choices and others."""
    space = Space((Choice("w", (1, 2, 4, 8)), Choice("op", ("a", "b", "c")), Choice("one", (5,))))
    every = list(space.every())
    rng = random.Random(0)
    centres = codes_of(space, rng.sample(every, 5))
    density = fit_density(space, centres, np.random.default_rng(0))
    assert np.exp(density.log(codes_of(space, every))).sum() == pytest.approx(1)
    drawn = density.draw(np.random.default_rng(1), 20_000)
    shares = Counter(map(tuple, drawn.tolist()))
    for code, p in zip(codes_of(space, every).tolist(), np.exp(density.log(codes_of(space, every))), strict=True):
        assert shares[tuple(code)] / 20_000 == pytest.approx(p, abs=4 * math.sqrt(p / 20_000) + 1e-4)


def test_inactive_choices_are_those_that_archs_lack() -> None:
    rng = np.random.default_rng(0)
    full = np.stack([rng.integers(len(c.options), size=50) for c in CONDITIONAL.choices], axis=1)
    codes = without_inactive(CONDITIONAL, full)
    archs = [
        CONDITIONAL.canonical({c.name: c.options[i] for c, i in zip(CONDITIONAL.choices, row, strict=True)})
        for row in full
    ]
    assert (codes == codes_of(CONDITIONAL, archs)).all()
    assert (codes < 0).any()


# --- what they are good for -------------------------------------------------------------------------------------------


def best_found(strategy: Callable[..., list[Arch]] | str, seed: int, budget: int = 12) -> int:
    """How many options of the best at the full fidelity, by what was seen there, are not the planted ones."""
    space = LADDERS["threes"]
    history = run(space, loss, strategy, budget, seed, objectives=LOSS, batch=4, cost=space.cost)
    full = [r for r in history if r.arch[FIDELITY] == 81]
    best = min(full, key=lambda r: r.metrics["loss"]).arch
    return sum(option != 2 for name, option in best.items() if name != FIDELITY)


@pytest.fixture(scope="module")
def at_random() -> list[int]:
    return [best_found("random", seed) for seed in range(10)]


@named
def test_better_archs_are_found_than_at_random(strategy: Callable[..., list[Arch]], at_random: list[int]) -> None:
    """At the cost of twelve full evaluations: by a mean over seeds, and in most of them."""
    mine = [best_found(strategy, seed) for seed in range(10)]
    assert np.mean(mine) < np.mean(at_random) - 0.5
    assert sum(a <= b for a, b in zip(mine, at_random, strict=True)) >= 8


def test_the_budget_is_paid_in_full_evaluations(tmp_path: Path) -> None:
    space = LADDERS["epochs"]
    history = run(space, loss, "hyperband", 4, 0, objectives=LOSS, cost=space.cost)
    total = sum(space.cost(r.arch) for r in history)
    assert 4 <= total + 1e-9 < 5
    assert len(history) == 20, "17 at 0.06, and 3 in full"
    with Store(tmp_path / "s.db", objectives=LOSS, choices=space.choices) as store:
        run(space, loss, "hyperband", 1, 0, objectives=LOSS, cost=space.cost, store=store)
        assert len(store) == 17
    with Store(tmp_path / "s.db", objectives=LOSS, choices=space.choices) as store:
        again = run(space, loss, "hyperband", 4, 0, objectives=LOSS, cost=space.cost, store=store)
    assert [r.arch for r in again] == [r.arch for r in history]


@pytest.mark.parametrize("name", ["random", "evolution", "nsga2"])
def test_strategies_that_know_no_fidelities_search_the_full_one(name: str) -> None:
    found = run(LADDERS["threes"], loss, name, 12, 0, objectives=LOSS)
    assert {r.arch[FIDELITY] for r in found} == {81}
    assert {strategies[n] for n in ("halving", "hyperband", "asha", "bohb")} == set(MULTI_FIDELITY)


def test_a_table_with_epochs(data_dir: Path) -> None:
    """BOHB against random search, at equal cost; and the verdict is on the best at the highest fidelity seen."""
    table = open_known("nb201:cifar10:epochs", data_dir)
    plain = open_known("nb201:cifar10", data_dir)
    arch = next(iter(plain.rows))
    low, full = (Arch({**arch, FIDELITY: epochs}) for epochs in (12, 200))
    assert table.cost(low) == 12 / 200
    assert table.evaluate(low)["accuracy"] == plain.evaluate(arch)["acc12ep_cifar10_val"]
    assert table.evaluate(full)["accuracy"] == table.judge(low) == table.judge(full) == plain.judge(arch)

    runs = list(contest(table, ["random", "hyperband", "bohb"], 30, 4))
    lines = {line["strategy"]: line for line in summary(table, runs)}
    assert json.loads(json.dumps(runs)) == runs
    for entry in runs:
        assert len(entry["best_so_far"]) == 30
        assert "hypervolume" not in entry
        assert entry["evaluations"] == 30 if entry["strategy"] == "random" else entry["evaluations"] > 60
    assert lines["bohb"]["regret"][30] < 0.5 * lines["random"]["regret"][30]
    assert lines["hyperband"]["regret"][30] < lines["random"]["regret"][30]

    with pytest.raises(InputError, match="has fidelities: audit and draw"):
        audit_table(table, ["bohb"], 30, 4)

    order = sorted(plain.rows, key=lambda a: table.evaluate(Arch({**a, FIDELITY: 12}))["accuracy"])
    history = [
        Record(f"a{i}", at, metrics=table.evaluate(at))
        for i, at in enumerate(
            Arch({**a, FIDELITY: epochs}) for a, epochs in ((order[0], 12), (order[9], 12), (order[1], 200))
        )
    ]
    assert table.best_so_far(history) == [plain.judge(a) for a in (order[0], order[9], order[1])]
