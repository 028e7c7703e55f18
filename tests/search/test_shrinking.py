"""Spaces that become smaller: criteria against formulas, planted options and really trained tables."""

from __future__ import annotations

import itertools
import math
import random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from contracts.strategy import CONDITIONAL, StrategySuite, history_of
from sartor.errors import InputError
from sartor.records import Arch, Record
from sartor.search import pareto, run
from sartor.search.methods.evolution import evolution
from sartor.search.methods.random import random_search
from sartor.search.objective import ACCURACY_LATENCY, Objective, costs
from sartor.search.shrinking import autobuild, et_error, neas, prenas, profiled, searched_space, shrinking, traded
from sartor.search.shrinking.autobuild import assembled, lengths
from sartor.search.shrinking.dropping import without_worst
from sartor.search.shrinking.effects import beaten, effects, outbid
from sartor.search.shrinking.et_error import option_losses
from sartor.search.shrinking.wrapper import spaces, within
from sartor.search.tables import Table, open_known
from sartor.space.choice import Choice
from sartor.space.listed import Listed
from sartor.space.space import Space

ACC, MS = Objective("acc", maximise=True), Objective("ms")
SPACE = Space(tuple(Choice(f"c{i}", ("a", "b", "c", "d")) for i in range(6)))


def alike(name: str, one: object, other: object) -> float:
    return 1.0


CRITERIA = {
    "profiled": profiled(0.25),
    "traded": traded(0.25),
    "searched_space": searched_space(0.25),
    "autobuild": autobuild(0.25),
    "neas": neas(alike, 0.25),
}


class TestShrinkingEvolution(StrategySuite):
    strategy = staticmethod(shrinking(evolution, profiled(), every=10, least=20))


class TestShrinkingRandom(StrategySuite):
    strategy = staticmethod(shrinking(random_search, searched_space(0.3), every=8, least=2))


def records(table: Table, n: int, seed: int) -> list[Record]:
    archs = random.Random(seed).sample(list(table.rows), n)
    return [Record(f"a{i}", arch, metrics=table.evaluate(arch)) for i, arch in enumerate(archs)]


def additive(
    space: Space, n: int, seed: int, noise: float = 0.0
) -> tuple[list[Record], dict[str, dict[object, float]]]:
    """Archs whose cost is a sum over options, and what each option adds beyond its choice's mean."""
    rng = np.random.default_rng(seed)
    worth = {c.name: dict(zip(c.options, rng.normal(size=len(c.options)), strict=True)) for c in space.choices}
    drawn = random_search(space, [], random.Random(seed), n)
    metrics = [{"ms": sum(worth[k][v] for k, v in a.items()) + noise * rng.normal()} for a in drawn]
    centred = {k: {o: v - np.mean(list(held.values())) for o, v in held.items()} for k, held in worth.items()}
    return [Record(f"a{i}", a, metrics=m) for i, (a, m) in enumerate(zip(drawn, metrics, strict=True))], centred


@pytest.mark.parametrize("noise", [0.0, 0.5])
def test_effects_recover_what_options_add(noise):
    history, worth = additive(SPACE, 300, 1, noise)
    found = effects(SPACE, history, [MS], ridge=1e-6)
    error = [found[k][o][0] - v for k, held in worth.items() for o, v in held.items()]
    assert np.abs(error).max() < (1e-5 if noise == 0 else 4 * noise * np.sqrt(4 / 300))


def test_effects_recover_what_real_blocks_add(published):
    """FBNet's space of 22 places and nine operators, timed on an FPGA from end to end: from 200 networks, the ranks of
    all 198 effects are those that 4,800 others give."""
    rows = [(row["ops"].split(), float(row["lat_ms_fpga"])) for row in published("fbnet_latency.csv.gz")]
    space = Space(tuple(Choice(f"block{i:02}", tuple("012345678")) for i in range(22)))
    history = [
        Record(str(i), Arch({f"block{j:02}": o for j, o in enumerate(ops)}), metrics={"ms": ms})
        for i, (ops, ms) in enumerate(rows)
    ]
    few, many = (effects(space, part, [MS]) for part in (history[:200], history[200:]))
    pairs = np.array([(few[k][o][0], many[k][o][0]) for k in few for o in few[k]])
    ranks = pairs.argsort(axis=0).argsort(axis=0)
    assert np.corrcoef(ranks.T)[0, 1] > 0.9


def test_with_two_objectives_only_what_is_beaten_in_both_goes():
    space = Space((Choice("op", ("good", "fast", "bad")), Choice("rest", tuple(range(50)))))
    acc, ms = {"good": 3.0, "fast": 1.0, "bad": 0.5}, {"good": 3.0, "fast": 1.0, "bad": 2.0}
    history = [Record("a", a, metrics={"acc": acc[a["op"]], "ms": ms[a["op"]]}) for a in space.every()]
    losses = beaten(space, history, [ACC, MS])
    assert losses["op"]["bad"] > 0
    assert losses["op"]["good"] == losses["op"]["fast"] == 0
    assert profiled(0.5)(space, history, [ACC, MS]).choices[0].options == ("good", "fast")


def test_what_gives_little_for_its_cost_is_outbid():
    """No option is beaten, but the middle one lies above the line between the others at one place, and below at the
    other; the ends go where a deviation would have to be worth more than ``rate`` allows."""
    space = Space((Choice("a", (0, 1, 2)), Choice("b", (0, 1, 2))))
    worth = {"a": (0.0, 0.2, 1.0), "b": (0.0, 0.8, 1.0)}
    history = [
        Record("x", a, metrics={"acc": sum(worth[k][o] for k, o in a.items()), "ms": float(a["a"] + a["b"])})
        for a in space.every()
    ]
    assert profiled(0.5)(space, history, [ACC, MS]) == space
    wide = outbid(space, history, [ACC, MS], 1e-6, rate=50)
    assert wide["a"][1] > 0.1
    assert max(wide["b"].values()) == pytest.approx(0, abs=1e-6)
    assert traded(0.2, 1e-6, 50)(space, history, [ACC, MS]).choices[0].options == (0, 2)
    assert outbid(space, history, [ACC, MS], 1e-6, rate=2)["b"][2] > 0.01
    with pytest.raises(InputError, match="two objectives"):
        outbid(space, history, [ACC, MS, ACC])
    for rate in (0.5, math.inf, math.nan):
        with pytest.raises(InputError, match="a number from 1"):
            traded(rate=rate)


@given(st.lists(st.floats(0, 1), min_size=1, max_size=30), st.integers(1, 10))
def test_the_e_t_error_is_two_means(errors, top):
    best = sorted(errors)[:top]
    assert et_error(errors, top) == pytest.approx((sum(errors) / len(errors) + sum(best) / len(best)) / 2)


def test_of_numbers_only_the_worse_end_of_the_range_goes():
    space = Space((Choice("width", (8, 16, 24, 32)), Choice("rest", tuple("abcdefgh"))))
    history = [Record("a", a, metrics={"ms": (1.0, 3.0, 2.0, 4.0)[a["width"] // 8 - 1]}) for a in space.every()]
    losses = option_losses(space, history, MS)
    assert list(losses["width"]) == [32]
    assert losses["width"][32] == pytest.approx(3 * np.polyfit(range(4), [1, 3, 2, 4], 1)[0])


def test_diversity_keeps_an_option_that_is_not_good():
    """``c`` is worst and unlike the others: with weight on diversity, ``b`` goes in its place."""
    space = Space((Choice("op", ("a", "b", "c")), Choice("rest", tuple(range(40)))))
    history = [Record("x", a, metrics={"ms": {"a": 1.0, "b": 2.0, "c": 2.1}[a["op"]]}) for a in space.every()]

    def distance(name: str, one: object, other: object) -> float:
        return float(name == "op" and "c" in (one, other))

    op = Space(space.choices[:1])
    ops = [Record(r.name, Arch({"op": r.arch["op"]}), metrics=r.metrics) for r in history]
    assert neas(distance, 0.34, weight=0.0)(op, ops, [MS]).choices[0].options == ("a", "b")
    assert neas(distance, 0.34, weight=2.0)(op, ops, [MS]).choices[0].options == ("a", "c")


@given(st.floats(0, 0.99), st.integers(0, 20))
def test_a_choice_keeps_an_option_and_no_more_go_than_asked(share, seed):
    rng = random.Random(seed)
    losses = {c.name: {o: rng.choice([0.0, rng.random()]) for o in c.options} for c in CONDITIONAL.choices}
    smaller = without_worst(CONDITIONAL, losses, share)
    kept = {c.name: c.options for c in smaller.choices}
    gone = sum(len(c.options) - len(kept[c.name]) for c in CONDITIONAL.choices if c.name in kept)
    assert all(kept.values())
    assert gone <= round(share * sum(len(c.options) for c in CONDITIONAL.choices))
    assert all(CONDITIONAL.contains(arch) for arch in smaller.every())
    for choice in CONDITIONAL.choices:
        for option in choice.options:
            if losses[choice.name][option] == 0 and choice.name in kept:
                assert option in kept[choice.name]


@pytest.mark.parametrize(
    "wrong",
    [
        lambda: without_worst(SPACE, {}, 1.0),
        lambda: shrinking(evolution, profiled(), every=0),
        lambda: shrinking(evolution, profiled(), least=0),
        lambda: prenas(SPACE, len, len, random.Random(0), bins=0),
        lambda: lengths(CONDITIONAL, history_of(CONDITIONAL, 1), ACCURACY_LATENCY[0]),
    ],
)
def test_what_means_nothing_is_refused(wrong):
    with pytest.raises(InputError):
        wrong()


@pytest.mark.parametrize("name", CRITERIA)
def test_criteria_cope_with_nothing_to_go_by(name):
    for history in ([], history_of(CONDITIONAL, 1), [Record("a", CONDITIONAL.smallest())]):
        assert CRITERIA[name](CONDITIONAL, history, ACCURACY_LATENCY).count() > 0


@pytest.mark.parametrize("name", CRITERIA)
def test_an_options_harm_is_found(name):
    """One option of each choice ruins an arch: after 60 archs at random, all of what goes is harmful."""
    space = Space(tuple(Choice(f"c{i}", ("fine", "good", "ruin")) for i in range(5)))
    drawn = random_search(space, [], random.Random(0), 60)
    worth = {"fine": 0.0, "good": 0.3, "ruin": -5.0}
    history = [Record("a", a, metrics={"acc": sum(worth[str(o)] for o in a.values())}) for a in drawn]
    smaller = CRITERIA[name](space, history, [ACC])
    gone = [o for c, d in zip(space.choices, smaller.choices, strict=True) for o in c.options if o not in d.options]
    assert gone == ["ruin"] * round(0.25 * 15)


@pytest.fixture(scope="module", params=["macro:cifar10", "nb201:cifar10"])
def table(request, data_dir) -> Table:
    return open_known(request.param, data_dir)


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=[pytest.mark.heavy] if name == "autobuild" else []) for name in CRITERIA]
)
def test_real_spaces_become_better_and_keep_their_best(name, table):
    """After 100 random archs, what a space keeps is better on average, in every seed; and what there is within 0.3
    points of the best of all, by the verdict that no criterion saw, is still there in most."""
    first = table.objectives[0]
    seen = {arch: row[first.metric] for arch, row in table.rows.items()}
    whole = np.mean(list(seen.values()))
    lost = []
    for seed in range(3 if name == "autobuild" else 6):
        smaller = CRITERIA[name](table.space, records(table, 100, seed), [first])
        assert smaller.count() < 0.5 * table.space.count()
        kept = [arch for arch in table.rows if smaller.contains(arch)]
        assert np.mean([seen[arch] for arch in kept]) > whole + 2
        lost.append(table.best - max(table.judge(arch) for arch in kept))
    assert sum(gap <= 0.3 for gap in lost) > len(lost) / 2


@pytest.mark.heavy
def test_modules_lengths_rank_as_their_marginal_accuracy_and_build_the_best(data_dir):
    """AutoBuild, from 200 networks of NAS-Bench-Macro: lengths of modules correlate with the mean accuracy of all the
    networks that have them, and what is built of the longest beats every labelled network."""
    table = open_known("macro:cifar10", data_dir)
    first = table.objectives[0]
    accuracy = {arch: row[first.metric] for arch, row in table.rows.items()}
    for seed in range(2):
        history = records(table, 200, seed)
        learnt = lengths(table.space, history, first, seed=seed)
        modules = [(module, length) for held in learnt.modules for module, length in held.items()]
        means = [np.mean([v for a, v in accuracy.items() if all(a[n] == o for n, o in m)]) for m, _ in modules]
        ranks = np.argsort(np.argsort(np.array([[length for _, length in modules], means]), axis=1), axis=1)
        assert np.corrcoef(ranks)[0, 1] > 0.6
        built = assembled(table.space, learnt)
        assert max(accuracy[arch] for arch in built) > max(accuracy[record.arch] for record in history)


def test_preferred_archs_are_the_best_scored_of_each_size():
    size, score = (lambda a: sum(ord(str(o)) for o in a.values())), (lambda a: ord(str(a["c0"])))
    found = prenas(SPACE, score, size, random.Random(0), bins=8, each=3, draws=400)
    assert isinstance(found, Listed)
    assert found.count() == 24
    assert len({size(arch) for arch in found.archs}) >= 8
    whole = prenas(Space(SPACE.choices[:3]), score, size, random.Random(0), bins=1, each=2, draws=1000)
    assert sorted(score(a) for a in whole.archs) == [ord("d")] * 2


def test_preferred_archs_are_better_than_others_of_their_size(published):
    """725 cells of NAS-Bench-201 by MACs, SynFlow as the score, which needs no training: of every hundred the one
    preferred is more accurate than those of its size are on average."""
    rows = [
        row for row in published("zero_cost_2022.csv.gz") if (row["space"], row["task"]) == ("nasbench201", "cifar10")
    ]
    archs = {Arch({f"edge{i}": o for i, o in enumerate(row["arch"].strip("() ").split(","))}): row for row in rows}
    names = sorted({name for arch in archs for name in arch})
    space = Listed(tuple(Choice(n, tuple(sorted({str(a[n]) for a in archs}))) for n in names), tuple(archs))

    def column(name: str):
        return lambda arch: float(archs[arch][name] or "-inf")  # some have no score: they would go last

    found = prenas(space, column("synflow"), column("flops"), random.Random(0), bins=7, each=1, draws=725)
    assert found.count() < 0.01 * space.count()
    order = sorted(archs, key=lambda arch: (column("flops")(arch), arch.key))
    bins = [[order[i] for i in places] for places in np.array_split(np.arange(len(order)), 7)]
    means = [np.mean([column("val_accuracy")(arch) for arch in held]) for held in bins]
    preferred = [column("val_accuracy")(arch) for arch in found.archs]
    assert sum(a > b for a, b in zip(preferred, means, strict=True)) >= 6


def test_spaces_follow_from_the_history_and_are_nested(data_dir):
    table = open_known("macro:cifar10", data_dir)
    history = records(table, 130, 0)
    made = spaces(table.space, history, profiled(), objectives=table.objectives, every=40, least=10)
    assert len(made) == 4
    assert all(a.count() > b.count() >= 10 for a, b in itertools.pairwise(made))
    assert all(made[0].contains(arch) for arch in made[-1].every())
    assert spaces(table.space, history[:85], profiled(), objectives=table.objectives, every=40, least=10) == made[:3]
    assert len(within(made[-1], history)) < 130


def test_e_t_errors_fall_from_space_to_space_and_the_search_ends_better(table):
    """S3's claim, on networks that were really trained: each space that is made has a lower E-T error than the one
    before; and random search in them finds better archs than in the whole, at equal evaluations."""
    first = table.objectives[0]
    strategy = shrinking(random_search, searched_space(), every=25, least=50)
    ends: dict[str, list[float]] = {"whole": [], "shrinking": []}
    for seed in range(5):
        found = run(table.space, table.evaluate, strategy, 100, seed, objectives=[first], batch=5)
        made = spaces(table.space, found, searched_space(), objectives=[first], every=25, least=50)
        errors = []
        for space in made:
            kept = random_search(space, [], random.Random(seed), 200)
            errors.append(et_error([first.cost(table.rows[a][first.metric]) for a in kept]))
        assert errors[-1] < errors[0]
        plain = run(table.space, table.evaluate, "random", 100, seed, objectives=[first], batch=5)
        for name, history in (("whole", plain), ("shrinking", found)):
            ends[name].append(max(record.metrics[first.metric] for record in history))
    assert np.mean(ends["shrinking"]) > np.mean(ends["whole"])


@pytest.mark.parametrize(("name", "cost"), [("macro:cifar10", "flops"), ("nb201:cifar10", "flops_m")])
def test_what_profiling_keeps_has_a_better_front(name, cost, data_dir):
    """Accuracy and MACs: random search in what profiling keeps, against the whole space, at equal evaluations; those
    that were profiled count."""
    table = open_known(name, data_dir, cost)
    everything = costs([Record("a", a, metrics=m) for a, m in table.rows.items()], table.objectives)
    reference = [float(np.median(everything[:, 0])), float(everything[:, 1].max()) + 0.1]

    def volume(strategy) -> float:
        found = []
        for seed in range(8):
            history = run(table.space, table.evaluate, strategy, 100, seed, objectives=table.objectives, batch=10)
            found.append(pareto.hypervolume_2d(costs(history, table.objectives), reference))
        return float(np.mean(found))

    assert volume(shrinking(random_search, profiled(0.1), every=30)) > volume(random_search)
