"""Strategies as samplers of Optuna: every kind of parameter, conditions, failures, several processes on one file."""

from __future__ import annotations

import math
import random
import subprocess
import sys
from collections import Counter
from pathlib import Path

import optuna
import pytest
from hypothesis import given
from hypothesis import strategies as st
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.trial import Trial, TrialState

from contracts.strategy import CONDITIONAL, evaluate
from sartor.errors import InputError
from sartor.records import Record
from sartor.search.methods.evolution import evolution
from sartor.search.named import MULTI_FIDELITY, strategies
from sartor.search.objective import ACCURACY_LATENCY, Objective
from sartor.search.sampler import StrategySampler, space_of, values_of
from sartor.space import Choice, Space
from sartor.space.fidelity import FIDELITY, with_fidelities

CHEAP = [name for name in strategies if name not in ("optuna-gp", "optuna-cmaes", "linas")]


@pytest.fixture(autouse=True)
def quiet():
    before = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    yield
    optuna.logging.set_verbosity(before)


def everything(trial: Trial) -> float:
    """Each kind of parameter; the planted optimum is at op "sep", width 48, learning rate 0.01, kernel 5, no drop."""
    op = trial.suggest_categorical("op", ["plain", "sep", None])
    width = trial.suggest_int("width", 16, 64, step=16)
    rate = trial.suggest_float("rate", 1e-4, 1e-1, log=True)
    drop = trial.suggest_float("drop", 0, 0.5, step=0.1)
    kernel = trial.suggest_int("kernel", 1, 7, step=2) if op == "sep" else 1
    loss = abs(kernel - 5) / 4 + abs(width - 48) / 48 + abs(math.log10(rate) + 2) + drop
    return loss + (op != "sep")


def best(sampler: optuna.samplers.BaseSampler, trials: int = 60) -> float:
    study = optuna.create_study(sampler=sampler)
    study.optimize(everything, n_trials=trials)
    return study.best_value


@pytest.mark.parametrize("name", CHEAP)
def test_any_strategy_in_a_study(name: str) -> None:
    study = optuna.create_study(sampler=StrategySampler(name, seed=1))
    study.optimize(everything, n_trials=30)
    assert [t.state for t in study.trials] == [TrialState.COMPLETE] * 30
    for trial in study.trials:
        assert ("kernel" in trial.params) == (trial.params["op"] == "sep")
    assert len({tuple(t.params.items()) for t in study.trials}) == 30


def test_the_planted_optimum_is_nearer_than_at_random() -> None:
    mine = [best(StrategySampler("bohb", seed=seed)) for seed in range(3)]
    theirs = [best(optuna.samplers.RandomSampler(seed=seed)) for seed in range(3)]
    assert sum(mine) < 0.7 * sum(theirs)


def test_the_same_seed_gives_the_same_study() -> None:
    def params(seed: int) -> list[dict[str, object]]:
        study = optuna.create_study(sampler=StrategySampler("evolution", seed=seed))
        study.optimize(everything, n_trials=25)
        return [t.params for t in study.trials]

    assert params(3) == params(3) != params(4)


def test_a_known_space_is_searched_as_by_the_strategy_itself() -> None:
    """From the first trial on, and with conditions: each proposal is what the strategy says of the same history."""

    def objective(trial: Trial) -> tuple[float, float]:
        held: dict[str, object] = {}
        for choice in CONDITIONAL.choices:
            if choice.when is None or held.get(choice.when[0]) in choice.when[1]:
                held[choice.name] = trial.suggest_categorical(choice.name, choice.options)
        found = evaluate(CONDITIONAL.canonical(held))  # type: ignore[arg-type]
        return found["accuracy_val"], found["latency_ms"]

    study = optuna.create_study(
        sampler=StrategySampler("evolution", seed=7, space=CONDITIONAL), directions=["maximize", "minimize"]
    )
    study.optimize(objective, n_trials=40)
    history: list[Record] = []
    for trial in study.trials:
        rng = random.Random(f"7:{trial.number}")
        (arch,) = evolution(CONDITIONAL, history, rng, 1, objectives=ACCURACY_LATENCY[:1])
        assert dict(arch) == trial.params
        history.append(Record("a", arch, metrics=evaluate(arch)))


def test_pruned_and_failed_trials_are_not_made_again() -> None:
    space = Space((Choice("a", (0, 1, 2, 3)), Choice("b", (0, 1, 2, 3))))

    def objective(trial: Trial) -> float:
        a, b = (trial.suggest_categorical(name, (0, 1, 2, 3)) for name in "ab")
        if a == 1:
            raise optuna.TrialPruned
        if a == 2:
            raise RuntimeError
        return float(a + b) if b else math.inf

    study = optuna.create_study(sampler=StrategySampler("evolution", seed=0, space=space))
    optuna.logging.set_verbosity(optuna.logging.CRITICAL)
    study.optimize(objective, n_trials=16, catch=(RuntimeError,))
    assert Counter(t.state for t in study.trials) == {TrialState.COMPLETE: 8, TrialState.PRUNED: 4, TrialState.FAIL: 4}
    assert len({tuple(t.params.values()) for t in study.trials}) == 16
    study.optimize(objective, n_trials=3, catch=(RuntimeError,))  # nothing is left: at random
    assert len(study.trials) == 19


def test_trials_that_run_are_kept_away_from() -> None:
    space = Space((Choice("a", (0, 1, 2, 3)), Choice("b", (0, 1, 2, 3))))
    study = optuna.create_study(sampler=StrategySampler("random", seed=0, space=space))
    trials = [study.ask() for _ in range(16)]
    found = {tuple(t.suggest_categorical(name, (0, 1, 2, 3)) for name in "ab") for t in trials}
    assert len(found) == 16


def test_epochs_are_a_choice_like_any_other() -> None:
    """A strategy over fidelities, in Optuna: the objective reads how long to train."""
    space = with_fidelities(Space((Choice("width", tuple(range(20))),)), {1: 1, 3: 3, 9: 9})

    def objective(trial: Trial) -> float:
        width = trial.suggest_int("width", 0, 19)
        return abs(width - 7) + 1 / trial.suggest_categorical(FIDELITY, [1, 3, 9])

    study = optuna.create_study(sampler=StrategySampler(MULTI_FIDELITY[0], seed=0, space=space))
    study.optimize(objective, n_trials=13)
    assert Counter(t.params[FIDELITY] for t in study.trials) == {1: 9, 3: 3, 9: 1}
    first = sorted(study.trials[:9], key=lambda t: t.value)[:3]
    assert {t.params["width"] for t in first} == {t.params["width"] for t in study.trials[9:12]}


@pytest.mark.parametrize("given", [{"strategy": "best"}, {"strategy": "random", "startup": 0}])
def test_samplers_that_are_none(given: dict[str, object]) -> None:
    with pytest.raises(InputError):
        StrategySampler(**given)  # type: ignore[arg-type]


def test_a_space_that_is_not_the_objectives() -> None:
    study = optuna.create_study(sampler=StrategySampler("random", space=Space((Choice("width", (8, 16)),))))
    with pytest.raises(InputError, match="does not allow"):
        study.optimize(lambda trial: trial.suggest_int("width", 1, 4), n_trials=1)


# --- the space that trials went through -------------------------------------------------------------------------------


def test_conditions_are_read_off_the_trials() -> None:
    def objective(trial: Trial) -> float:
        if trial.suggest_categorical("op", ["a", "b", "c"]) != "a":
            if trial.suggest_int("groups", 1, 3) == 2:
                trial.suggest_float("share", 0, 1, step=0.5)
        else:
            trial.suggest_int("kernel", 3, 7, step=2)
        return trial.suggest_float("rate", 0, 1)

    study = optuna.create_study(sampler=optuna.samplers.RandomSampler(seed=0))
    study.optimize(objective, n_trials=60)
    found = {c.name: (len(c.options), c.when) for c in space_of(study.trials).space.choices}
    assert found == {
        "op": (3, None),
        "rate": (33, None),
        "groups": (3, ("op", (1, 2))),
        "kernel": (3, ("op", (0,))),
        "share": (3, ("groups", (1,))),
    }


def test_what_no_parameter_explains_is_left_to_chance() -> None:
    def objective(trial: Trial) -> float:
        a, b = trial.suggest_int("a", 0, 1), trial.suggest_int("b", 0, 1)
        if a + b == 1:
            trial.suggest_int("both", 0, 9)
        return trial.suggest_float("wide", 0, 1 + trial.number)

    study = optuna.create_study(sampler=StrategySampler("evolution", seed=0))
    study.optimize(objective, n_trials=40)
    assert {c.name for c in space_of(study.trials).space.choices} == {"a", "b"}


numbers = st.one_of(
    st.builds(lambda low, n, step: IntDistribution(low, low + n * step, step=step), *[st.integers(1, 90)] * 3),
    st.builds(lambda low, n: IntDistribution(low, low + n, log=True), *[st.integers(1, 900)] * 2),
    st.builds(lambda low, n, step: FloatDistribution(low, low + n * step, step=step),
              st.floats(-9, 9), st.integers(1, 90), st.floats(0.01, 3)),
    st.builds(lambda low, by: FloatDistribution(low, low * by, log=True), st.floats(1e-6, 9), st.floats(1.1, 1e6)),
    st.builds(lambda low, by: FloatDistribution(low, low + by), st.floats(-99, 99), st.floats(0.01, 99)),
)  # fmt: skip


@pytest.mark.filterwarnings("ignore:The distribution is specified")
@given(numbers)
def test_values_are_the_distributions_and_spread_over_it(distribution: IntDistribution | FloatDistribution) -> None:
    values = values_of(distribution)
    assert values == sorted(set(values))
    assert 2 <= len(values) <= 33
    assert all(distribution._contains(distribution.to_internal_repr(value)) for value in values)
    extent = distribution.high - distribution.low
    assert values[0] - distribution.low <= 1e-9 + 1e-9 * abs(distribution.low)
    assert distribution.high - values[-1] <= 1e-9 + 1e-9 * extent
    if distribution.step and not distribution.log and extent / distribution.step < 32:
        assert len(values) == round(extent / distribution.step) + 1


def test_categories_are_their_values() -> None:
    assert values_of(CategoricalDistribution(("a", None, 3, True))) == ["a", None, 3, True]


# --- processes --------------------------------------------------------------------------------------------------------

WORKER = """
import sys, time
import optuna
from sartor.search.sampler import StrategySampler
optuna.logging.set_verbosity(optuna.logging.WARNING)
study = optuna.load_study(study_name="both", storage=sys.argv[1], sampler=StrategySampler("bohb", seed=5))

def objective(trial):
    width, op = trial.suggest_int("width", 1, 30), trial.suggest_categorical("op", ["a", "b", "c"])
    depth = trial.suggest_int("depth", 1, 30) if op == "b" else 30
    time.sleep(0.01)
    trial.set_user_attr("worker", sys.argv[2])
    return abs(width - 20) + abs(depth - 10), width

study.optimize(objective, n_trials=20)
"""


@pytest.mark.heavy
def test_two_processes_on_one_file(tmp_path: Path) -> None:
    """Trials of both teach both; conditions hold; what one is at is not proposed to the other, but for a race."""
    url = f"sqlite:///{tmp_path / 'study.db'}"
    optuna.create_study(study_name="both", storage=url, directions=["minimize", "minimize"])
    workers = [subprocess.Popen([sys.executable, "-c", WORKER, url, str(i)]) for i in range(2)]
    assert [worker.wait(timeout=120) for worker in workers] == [0, 0]
    trials = optuna.load_study(study_name="both", storage=url).get_trials()
    assert Counter(t.user_attrs["worker"] for t in trials) == {"0": 20, "1": 20}
    assert all(t.state == TrialState.COMPLETE for t in trials)
    assert all(("depth" in t.params) == (t.params["op"] == "b") for t in trials)
    late = [tuple(t.params.items()) for t in trials[15:]]
    assert len(set(late)) >= len(late) - 3
    space = {c.name: c.when for c in space_of(trials).space.choices}
    assert space == {"width": None, "op": None, "depth": ("op", (1,))}


def test_objectives_are_the_studys() -> None:
    """A strategy is told every value with its direction."""
    told: list[tuple[Objective, ...]] = []

    def spy(space, history, rng, n, *, objectives):
        told.append(tuple(objectives))
        return evolution(space, history, rng, n, objectives=objectives)

    study = optuna.create_study(sampler=StrategySampler(spy, seed=0, startup=2), directions=["maximize", "minimize"])
    study.optimize(lambda trial: (trial.suggest_int("x", 0, 9), 1.0), n_trials=5)
    assert set(told) == {(Objective("value0", maximise=True), Objective("value1"))}
    assert len(told) == 3
