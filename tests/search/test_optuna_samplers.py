"""Optuna's samplers as strategies: what the study holds, planted optima, and what is left to chance."""

from __future__ import annotations

import random
import warnings
from collections.abc import Callable, Mapping
from functools import partial
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import optuna
import pytest

from contracts.strategy import CONDITIONAL, FLAT, InMemory, StrategySuite, evaluate, history_of
from programs import benchmark
from sartor.errors import InputError
from sartor.records import Arch, Record
from sartor.search import run
from sartor.search.contest import summary
from sartor.search.methods import optuna_samplers
from sartor.search.methods.optuna_samplers import optuna_cmaes, optuna_gp, optuna_nsga2, optuna_nsga3, optuna_tpe
from sartor.search.objective import ACCURACY_LATENCY, Objective
from sartor.search.studies import ask, quiet, study_of
from sartor.search.tables.table import table_of
from sartor.space import Choice, Space
from sartor.space.listed import Listed

LOSS = (Objective("loss"),)
QUICK = [optuna_tpe, partial(optuna_nsga2, population=10), partial(optuna_nsga3, population=10)]
no_cmaes = pytest.mark.skipif(find_spec("cmaes") is None, reason="the package cmaes is not installed")
OPERATORS = Space(tuple(Choice(f"op{i}", ("a", "b", "c", "d")) for i in range(8)))


def away(arch: Arch) -> Mapping[str, float]:
    """How many options are not the planted ones."""
    return {"loss": float(sum(option not in ("c", 2) for option in arch.values()))}


def test_a_study_holds_what_the_history_says() -> None:
    history = [*history_of(CONDITIONAL, 9), Record("lost", CONDITIONAL.sample(random.Random(77)))]
    study = study_of(CONDITIONAL, history, ACCURACY_LATENCY, optuna.samplers.RandomSampler(seed=0))
    trials = study.get_trials()
    assert [t.state.name for t in trials] == ["COMPLETE"] * 9 + ["FAIL"]
    for record, trial in zip(history, trials, strict=True):
        options = {c.name: c.options for c in CONDITIONAL.choices}
        assert {name: options[name][place] for name, place in trial.params.items()} == dict(record.arch)
        if record.metrics:
            assert trial.values == [o.cost(record.metrics[o.metric]) for o in ACCURACY_LATENCY]
    archs = [ask(study, CONDITIONAL, random.Random(0)) for _ in range(50)]
    assert all(CONDITIONAL.contains(arch) for arch in archs)
    assert {arch["op"] for arch in archs} == {"residual", "mbconv"}


@pytest.mark.parametrize(
    ("options", "is_ordered"),
    [((8, 16, 32), True), ((0.1, 1), True), ((3,), True), ((32, 16), False), ((False, True), False), (("a", 1), False)],
)
def test_what_is_ordered(options: tuple[object, ...], is_ordered: bool) -> None:
    assert Choice("x", options).ordered == is_ordered  # type: ignore[arg-type]


@pytest.mark.parametrize("strategy", QUICK)
@pytest.mark.parametrize("space", [FLAT, OPERATORS])
def test_a_planted_optimum_is_nearer_than_at_random(strategy: Callable[..., list[Arch]], space: Space) -> None:
    def best(chosen: Callable[..., list[Arch]] | str, seed: int) -> float:
        history = run(space, away, chosen, 80, seed, objectives=LOSS, batch=4)
        return min(r.metrics["loss"] for r in history)

    mine, theirs = ([best(s, seed) for seed in range(3)] for s in (strategy, "random"))
    assert sum(mine) <= sum(theirs) - 2


def test_the_gaussian_process_goes_where_the_optimum_is() -> None:
    """A parabola over one ordered choice: one proposal, from twelve points of which none is near."""
    space = Space((Choice("x", tuple(range(60))),))
    archs = [Arch({"x": x}) for x in (0, 3, 7, 11, 14, 16, 30, 38, 45, 52, 56, 59)]
    history = [Record(f"a{i}", a, metrics={"loss": (int(a["x"]) - 23) ** 2 / 100}) for i, a in enumerate(archs)]
    (found,) = optuna_gp(space, history, random.Random(0), 1, objectives=LOSS)
    assert abs(int(found["x"]) - 23) <= 2


def test_generations_are_those_of_the_records_places() -> None:
    """The children of a second generation have options of the first's survivors only, but for what is mutated."""
    space = Space(tuple(Choice(f"c{i}", tuple(range(50))) for i in range(10)))
    rng = random.Random(0)
    good = [Record(f"a{i}", Arch({f"c{j}": i for j in range(10)}), metrics={"loss": 0.0}) for i in range(4)]
    bad = [Record(f"b{i}", space.sample(rng), metrics={"loss": 9.0 + i}) for i in range(4)]
    found = optuna_nsga2(space, [*good, *bad, *_worse(space, rng, 8)], rng, 30, objectives=LOSS, population=4)
    inherited = [option for arch in found for option in arch.values() if option < 4]
    assert len(inherited) > 0.7 * 300


def _worse(space: Space, rng: random.Random, n: int) -> list[Record]:
    return [Record(f"c{i}", space.sample(rng), metrics={"loss": 20.0 + i}) for i in range(n)]


@pytest.mark.parametrize("strategy", QUICK)
def test_of_a_list_only_what_exists(strategy: Callable[..., list[Arch]]) -> None:
    some = Listed(CONDITIONAL.choices, tuple(arch for i, arch in enumerate(CONDITIONAL.every()) if i % 3))
    found = run(some, evaluate, strategy, 40, 0, batch=4)
    assert len({r.arch for r in found}) == 40
    assert all(some.contains(r.arch) for r in found)


@pytest.mark.parametrize("strategy", QUICK)
def test_nothing_is_said(strategy: Callable[..., list[Arch]], capfd: pytest.CaptureFixture[str]) -> None:
    before = optuna.logging.get_verbosity()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        strategy(CONDITIONAL, history_of(CONDITIONAL, 25), random.Random(0), 3)
    assert optuna.logging.get_verbosity() == before
    assert capfd.readouterr() == ("", "")


def test_quiet_is_for_a_while_only() -> None:
    before = optuna.logging.get_verbosity()
    with pytest.raises(KeyError), quiet():
        raise KeyError
    assert optuna.logging.get_verbosity() == before


def test_cmaes_says_what_it_needs(monkeypatch: pytest.MonkeyPatch) -> None:
    if find_spec("cmaes") is None:
        with pytest.raises(InputError, match="pip install cmaes"):
            optuna_cmaes(FLAT, (), random.Random(0), 1)
    monkeypatch.setattr(optuna_samplers, "find_spec", lambda name: object())
    with pytest.raises(InputError, match="ascending numbers"):
        optuna_cmaes(OPERATORS, (), random.Random(0), 1)


@no_cmaes
def test_cmaes_goes_on_where_it_was() -> None:
    """A quadratic over ordered choices; and a replay that gives what went on without one."""
    space = Space(tuple(Choice(f"x{i}", tuple(range(100))) for i in range(4)))

    def bowl(arch: Arch) -> dict[str, float]:
        return {"loss": float(sum((int(x) - 77) ** 2 for x in arch.values()))}

    mine = [min(r.metrics["loss"] for r in run(space, bowl, optuna_cmaes, 80, s, objectives=LOSS)) for s in range(3)]
    rand = [min(r.metrics["loss"] for r in run(space, bowl, "random", 80, s, objectives=LOSS)) for s in range(3)]
    assert np.mean(mine) < 0.5 * np.mean(rand)
    store = InMemory()
    run(space, bowl, optuna_cmaes, 17, 5, objectives=LOSS, store=store)
    again = run(space, bowl, optuna_cmaes, 30, 5, objectives=LOSS, store=store)
    assert [r.arch for r in again] == [r.arch for r in run(space, bowl, optuna_cmaes, 30, 5, objectives=LOSS)]


@pytest.mark.heavy
class TestOneObjectiveGp(StrategySuite):
    strategy = staticmethod(partial(optuna_gp, startup=28, objectives=ACCURACY_LATENCY[:1]))


class TestOneObjectiveTpe(StrategySuite):
    strategy = staticmethod(partial(optuna_tpe, objectives=ACCURACY_LATENCY[:1]))


@pytest.fixture(scope="module")
def shipped():
    """The benchmark's module that runs other libraries as they ship."""
    return benchmark("shipped")


@pytest.mark.parametrize("sampler", [None, optuna.samplers.RandomSampler])
def test_optuna_as_shipped_counts_what_is_new(shipped, sampler: Callable[..., optuna.samplers.BaseSampler]) -> None:
    """Repeats cost nothing, archs that a table lacks fail, and a space that is searched through ends the search."""
    whole = [(dict(arch), away(arch)) for arch in CONDITIONAL.every()]
    full = table_of("full", CONDITIONAL, whole, LOSS, LOSS[0])
    entry = shipped.optuna_shipped(full, 30, 0, sampler)
    assert (entry["evaluations"], entry["missing"], len(entry["best_so_far"])) == (30, 0, 30)
    assert entry["asks"] >= 30
    assert entry["best_so_far"] == sorted(entry["best_so_far"], reverse=True)
    assert entry["best_so_far"] == shipped.optuna_shipped(full, 30, 0, sampler)["best_so_far"]
    assert summary(full, [entry])[0]["strategy"] == entry["strategy"]
    holes = table_of("holes", CONDITIONAL, whole[::9], LOSS, LOSS[0])
    entry = shipped.optuna_shipped(holes, 500, 1, sampler)
    assert entry["missing"] > 0
    assert entry["evaluations"] <= len(holes.rows)
    assert len(entry["best_so_far"]) == 500


def test_syne_tune_that_is_not_there(shipped, tmp_path: Path) -> None:
    if find_spec("syne_tune") is not None:
        pytest.skip("Syne Tune is installed")
    table = table_of("t", OPERATORS, [({f"op{i}": "a" for i in range(8)}, {"loss": 1.0})], LOSS, LOSS[0])
    with pytest.raises(InputError, match="pip install"):
        shipped.syne_tune_shipped(table, 5, 0, "REA", tmp_path)
