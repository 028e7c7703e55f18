"""The audit of searches: against figures done by hand, planted strategies, and random search under another name."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from sartor.errors import InputError
from sartor.search.audit.gap import setting_gap
from sartor.search.audit.hygiene import CLEAN, FOUL, UNKNOWN, is_test
from sartor.search.audit.judge import audit, beside_random
from sartor.search.audit.read import traces_of
from sartor.search.contest import contest, summary
from sartor.search.hypervolume import hypervolume
from sartor.search.named import run
from sartor.search.objective import Objective
from sartor.search.tables import Table, open_known
from sartor.search.tables.table import table_of
from sartor.search.trace import Problem, Trace
from sartor.space import Choice, Space

VAL, TEST = Objective("val", maximise=True), Objective("quality", maximise=True)
PROBLEM = Problem("made up", (VAL,), TEST, archs=100, best=1.0)


def trace(strategy: str, seed: int, val: Sequence[float], quality: Sequence[float] | None = None) -> Trace:
    return Trace(strategy, seed, {"val": val, "quality": val if quality is None else quality}, seconds=0.5)


def noise(seed: int, n: int = 10) -> list[float]:
    return np.random.default_rng(seed).random(n).round(3).tolist()


def line_of(found, name):
    return next(line for line in found["strategies"] if line["strategy"] == name)


def searched(table: Table, name: str, strategy: str, seed: int, pair: int) -> Trace:
    history = run(table.space, table.evaluate, strategy, 40, seed, objectives=table.objectives, batch=4)
    return Trace(name, pair, {"mean_acc": [r.metrics["mean_acc"] for r in history]})


def test_the_winner_is_the_best_by_what_the_search_saw():
    one = trace("a", 0, [0.2, 0.9, 0.5, 0.95], [0.7, 0.3, 0.9, 0.6])
    assert one.results(PROBLEM) == [0.7, 0.3, 0.3, 0.6]
    less = replace(PROBLEM, objectives=(Objective("val"),))
    assert one.results(less) == [0.7] * 4
    holes = trace("a", 0, [math.nan, 0.1, math.nan], [0.5, 0.6, 0.7])
    assert holes.results(PROBLEM)[1:] == [0.6, 0.6]
    assert math.isnan(holes.results(PROBLEM)[0])


def test_relative_improvement_by_hand():
    """P131's RI of two seeds: 100 (m - r) / r with each seed's own random archs, and Student's interval of two."""
    random = [trace("random", 0, [0.4] * 6 + [0.8] * 2), trace("random", 1, [0.5] * 8)]
    found = audit(PROBLEM, [*random, trace("mine", 0, [0.6]), trace("mine", 1, [0.55])])
    share = line_of(found, "mine")["relative_improvement"]
    assert share["mean"] == pytest.approx((20 + 10) / 2)
    assert (share["seeds"], share["random_archs"]) == (2, 16)
    assert share["high"] - share["mean"] == pytest.approx(12.706 * 10 / 2, rel=1e-3), "t of one degree of freedom"
    assert found["random_arch"]["mean"] == pytest.approx((6 * 0.4 + 2 * 0.8 + 8 * 0.5) / 16)


def test_fewer_random_archs_than_eight_are_no_average():
    found = audit(PROBLEM, [trace("random", 0, [0.5] * 7), trace("mine", 0, [0.6])])
    assert line_of(found, "mine")["relative_improvement"] is None
    assert found["random_arch"] is None


def test_less_may_be_better():
    """Errors instead of accuracies: the same verdicts, the other way round."""
    up = [
        trace(n, s, [v + (n == "mine") for v in noise(s + 50 * (n == "mine"))])
        for s in range(8)
        for n in ("random", "mine")
    ]
    down = [replace(t, values={m: [5 - v for v in column] for m, column in t.values.items()}) for t in up]
    turned = replace(PROBLEM, objectives=(Objective("val"),), verdict=Objective("quality"))
    a, b = line_of(audit(PROBLEM, up), "mine"), line_of(audit(turned, down), "mine")
    assert a["beside_random"]["verdict"] == b["beside_random"]["verdict"] == "better"
    assert a["beside_random"]["shift"] == pytest.approx(b["beside_random"]["shift"])
    assert a["relative_improvement"]["mean"] > 0 < b["relative_improvement"]["mean"]


def test_costs_are_equal_before_results_are_compared():
    """A search of three times the evaluations is cut where random search ended."""
    long = [trace("mine", s, [*noise(s), *[2.0] * 20]) for s in range(8)]
    random = [trace("random", s, noise(s)) for s in range(8)]
    test = line_of(audit(PROBLEM, [*long, *random]), "mine")["beside_random"]
    assert (test["evaluations"], test["p"], test["mean_difference"]) == (10, 1, 0)


def test_random_search_under_another_name_is_never_better(data_dir: Path):
    """P209 on 15,625 cells that were all trained: each policy's mean beside random search with its interval, and tau of
    the cheap evaluation with the true one. Seeds are pairs, so a planted random policy differs from random search in
    nothing, whatever the seeds; a climber does."""
    table = open_known("nb201:cifar10", data_dir)
    problem, traces = traces_of(list(contest(table, ["random", "local"], 60, 12, batch=10)))
    random = [t for t in traces if t.strategy == "random"]
    planted = [replace(t, strategy="planted") for t in random]
    for n in (1, 5, 8, 12):
        test = beside_random(problem, {"planted": planted[:n]}, random)["planted"]
        assert (test["p"], test["shift"]) == (1, 0)
        assert test["verdict"] in ("not shown", "too few seeds")
    found = audit(problem, [*traces, *planted])
    climber, twin = (line_of(found, name)["beside_random"] for name in ("local", "planted"))
    assert (climber["verdict"], twin["verdict"]) == ("better", "not shown")
    assert 0 < climber["low"] < climber["shift"] < climber["high"]
    assert 0.4 < found["tau"]["all"]["low"] < found["tau"]["all"]["value"] < found["tau"]["all"]["high"] < 0.8
    assert 0 < found["tau"]["top"]["value"] < found["tau"]["all"]["value"], "the best are the hardest to rank"
    assert json.loads(json.dumps(found, allow_nan=False)) == found


def test_random_search_with_seeds_of_its_own_is_better_no_oftener_than_the_level(data_dir: Path):
    """20 audits of 8 seeds: one in forty by chance, and more than three in one of a thousand such tests."""
    table = open_known("macro:cifar10", data_dir)
    pool = [searched(table, "random", "random", seed, seed % 8) for seed in range(320)]
    verdicts = []
    for i in range(20):
        ours = [replace(t, strategy="planted") for t in pool[16 * i : 16 * i + 8]]
        found = beside_random(table.problem, {"planted": ours}, pool[16 * i + 8 : 16 * i + 16])["planted"]
        assert found["low"] <= found["shift"] <= found["high"]
        verdicts.append(found["verdict"])
    assert verdicts.count("better") <= 3
    assert set(verdicts) <= {"better", "worse", "not shown"}


def test_every_search_is_beside_the_average_random_arch(data_dir: Path):
    """P131: each strategy's improvement over eight random archs and more, with an interval over seeds, which a search's
    keeps above zero; that of half of the random archs on the other half holds zero. And the depth gap: ranks that
    change between 8 cells and 20 are seen."""
    table = open_known("nb201:cifar10", data_dir)
    found = audit(*traces_of(list(contest(table, ["random", "local"], 40, 12, batch=10))))
    for line in found["strategies"]:
        share = line["relative_improvement"]
        assert share["random_archs"] >= 8
        assert 0 < share["low"] < share["mean"] < share["high"]
    none = found["random_arch"]["relative_improvement"]
    assert none["low"] < 0 < none["high"]

    cells = [Choice("depth", (8, 20)), *(Choice(f"op{i}", tuple(range(4))) for i in range(3))]
    space = Space(tuple(cells))
    for turn, least in ((1, 0.99), (-1, -1.0)):  # the last operator is worth as much in a deep network, or the contrary
        rows = []
        for arch in space.every():
            sign = turn if arch["depth"] == 20 else 1
            rows.append(
                (dict(arch), {"val": float(arch["op0"]) + 0.3 * float(arch["op1"]) + sign * float(arch["op2"])})
            )
        (gap,) = setting_gap(table_of("planted", space, rows, [VAL], VAL), "depth")
        assert gap["tau"]["value"] >= least
        assert (gap["tau"]["high"] < 0.5) == (turn < 0)


def test_a_summary_says_what_the_audit_says(data_dir: Path):
    table = open_known("macro:cifar10", data_dir)
    runs = list(contest(table, ["random", "local"], 30, 6, batch=10))
    found = audit(*traces_of(runs))
    for line in summary(table, runs):
        assert line["beside_random"] == line_of(found, line["strategy"])["beside_random"]
    assert all(line["beside_random"] is None for line in summary(table, [r for r in runs if r["strategy"] == "local"]))


def test_too_few_seeds_are_told_however_clear_it_looks():
    traces = [trace(n, s, [v + 9 * (n == "mine") for v in noise(s)]) for s in range(5) for n in ("random", "mine")]
    found = audit(PROBLEM, traces)
    assert line_of(found, "mine")["beside_random"]["verdict"] == "too few seeds"
    assert found["seeds_needed"] == 6
    more = [trace(n, 5, [v + 9 * (n == "mine") for v in noise(5)]) for n in ("random", "mine")]
    assert line_of(audit(PROBLEM, [*traces, *more]), "mine")["beside_random"]["verdict"] == "better"


def test_one_seed_and_no_random_search_are_said():
    found = audit(PROBLEM, [trace("mine", 0, noise(0))])
    assert found["baseline"] is None
    assert line_of(found, "mine")["beside_random"] is None
    assert "random search at equal cost" in found["notes"][0]
    assert "one seed only" in found["notes"][1]
    assert json.loads(json.dumps(found, allow_nan=False)) == found
    with pytest.raises(InputError, match="no search"):
        audit(PROBLEM, [])


def test_searches_that_found_nothing_are_counted():
    nothing = [trace("mine", s, [math.nan] * 10) for s in range(3)]
    found = audit(PROBLEM, [*nothing, *[trace("random", s, noise(s)) for s in range(3)]])
    line = line_of(found, "mine")
    assert (line["found_nothing"], line["result"]) == (3, None)
    assert line["beside_random"]["mean_difference"] <= 0
    json.dumps(found, allow_nan=False)
    neither = audit(PROBLEM, [*nothing, *[trace("random", s, [math.nan]) for s in range(3)]])
    assert line_of(neither, "mine")["beside_random"] is None


def test_failing_on_some_seeds_does_not_help():
    """Equal to random search on six seeds and without a result on six: worse, not equal."""
    random = [trace("random", s, noise(s)) for s in range(12)]
    mine = [trace("mine", s, noise(s) if s % 2 else [math.nan] * 10) for s in range(12)]
    test = line_of(audit(PROBLEM, [*mine, *random]), "mine")["beside_random"]
    assert (test["n"], test["found_nothing"]) == (12, 6)
    assert test["effect"] < 0


def test_seeds_that_differ_are_paired_in_order():
    found = audit(
        PROBLEM, [trace("mine", s + 100, noise(s)) for s in range(4)] + [trace("random", s, noise(s)) for s in range(4)]
    )
    assert line_of(found, "mine")["beside_random"]["paired"] == "in order"
    assert line_of(found, "mine")["beside_random"]["p"] == 1


def test_ranks_are_asked_of_random_archs_only():
    """A search that looks only where the cheap value misleads would pull tau down."""
    val = np.linspace(0, 1, 40).tolist()
    found = audit(PROBLEM, [trace("random", 0, val, val), trace("mine", 0, val, [1 - v for v in val])])
    assert found["tau"]["all"]["value"] == 1
    assert found["tau"]["all"]["n"] == 40
    assert "too few" in found["tau"]["top"]["note"]
    alone = audit(PROBLEM, [trace("mine", 0, val, [1 - v for v in val])])["tau"]["all"]
    assert alone["value"] == -1
    assert "not random" in alone["note"]


def test_fronts_are_compared_by_volume_and_within_limits():
    two = Problem("two", (VAL, Objective("ms")), None)
    rng = np.random.default_rng(0)

    def front(name: str, seed: int, better: float) -> Trace:
        return Trace(name, seed, {"val": (rng.random(12) + better).tolist(), "ms": (rng.random(12) + 1).tolist()})

    traces = [front(name, s, 0.8 * (name == "mine")) for s in range(7) for name in ("random", "mine")]
    test = line_of(audit(two, traces), "mine")["hypervolume"]
    assert test["verdict"] == "better"
    points = np.vstack([t.costs(two) for t in traces])
    assert 0 < test["random"] < test["mean"] <= 1
    assert hypervolume(points, points.max(axis=0) + 1) > 0
    tight = replace(two, limits={"ms": 1.3})
    for t in traces:
        inside = [v for v, ms in zip(t.values["val"], t.values["ms"], strict=True) if ms <= 1.3]
        assert t.results(tight)[-1] == max(inside)


HYGIENE = (
    "no search saw test data",
    "what judges is not what was searched by",
    "the winner was not chosen by the verdict",
)


def verdicts(problem: Problem, *traces: Trace) -> list[str]:
    entries = audit(problem, list(traces))["hygiene"]
    assert tuple(e["check"] for e in entries) == HYGIENE
    return [e["verdict"] for e in entries]


def test_hygiene_of_a_clean_search_and_of_foul_ones():
    one = trace("a", 0, [0.2, 0.9, 0.5], [0.4, 0.3, 0.8])
    honest = replace(one, told=[0.4, 0.3, 0.3])
    assert verdicts(PROBLEM, honest) == [CLEAN, CLEAN, CLEAN]
    assert verdicts(PROBLEM, one) == [CLEAN, CLEAN, UNKNOWN]
    by_test = replace(one, told=[0.4, 0.4, 0.8])
    assert verdicts(PROBLEM, honest, replace(by_test, seed=1))[2] == FOUL
    assert verdicts(PROBLEM, trace("a", 0, [0.2, 0.9]))[1] == FOUL, "another name, the same numbers"
    assert verdicts(replace(PROBLEM, verdict=None), honest) == [CLEAN, FOUL, UNKNOWN]
    seen = Problem("x", (Objective("acc_test", maximise=True),), VAL)
    assert verdicts(seen, Trace("a", 0, {"acc_test": [1.0], "val": [2.0]}))[0] == FOUL


def test_names_of_test_data():
    for name in ("accuracy_test", "test_acc", "acc200ep_cifar10_test", "Test", "top1.test", "test-error", "holdout"):
        assert is_test(name), name
    for name in ("accuracy_val", "latest", "greatest_ms", "contest", "fastest", "attested"):
        assert not is_test(name), name


def test_a_table_says_what_it_is(data_dir: Path):
    table: Table = open_known("nb201:cifar10", data_dir)
    assert table.problem.verdict == table.verdict
    assert Problem.from_dict(json.loads(json.dumps(table.problem.to_dict()))) == table.problem
    assert open_known("macro:cifar10", data_dir).problem.verdict is None
