"""A history as an Optuna study in memory, asked for archs: what the strategies of ``methods.optuna_samplers`` share.

Optuna's samplers hold what they learnt in the trials of a study, so a study filled with the history's records is all
the state they need, and a strategy stays a function. Every parameter is the place of an option among its choice's: a
whole number where the options are numbers in ascending order, which samplers may then interpolate, and a category
else. Objectives are costs, to be minimised.
"""

from __future__ import annotations

import contextlib
import random
import warnings
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from sartor.records import Arch, Option, Record
from sartor.search.objective import Objective, measured
from sartor.search.strategy import History, declared, fresh
from sartor.space.choice import Choice
from sartor.space.space import Space

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution
    from optuna.samplers import BaseSampler
    from optuna.study import Study
    from optuna.trial import FrozenTrial, Trial

SEEDS = 2**31
"""Samplers are seeded with a number below this, drawn from the strategy's generator."""


def study_of(
    space: Space,
    history: History,
    objectives: Sequence[Objective],
    sampler: BaseSampler,
    attributes: Callable[[int], dict[str, Any]] = lambda _: {},
) -> Study:
    """A study with one finished trial a record, oldest first; what could not be measured has failed, which samplers
    pass over. ``attributes`` are the system attributes of the i-th complete trial."""
    import optuna

    study = optuna.create_study(sampler=sampler, directions=["minimize"] * len(objectives))
    distributions = {choice.name: _distribution(choice) for choice in declared(space).choices}
    places = {c.name: {option: place for place, option in enumerate(c.options)} for c in space.choices}
    trials: list[FrozenTrial] = []
    complete = 0
    for record in history:
        usable = measured(record.metrics, objectives)
        trials.append(
            optuna.trial.create_trial(
                state=optuna.trial.TrialState.COMPLETE if usable else optuna.trial.TrialState.FAIL,
                values=_costs(record, objectives) if usable else None,
                params={name: places[name][option] for name, option in record.arch.items()},
                distributions={name: distributions[name] for name in record.arch},
                system_attrs=attributes(complete) if usable else {},
            )
        )
        complete += usable
    study.add_trials(trials)
    return study


def ask(study: Study, space: Space, rng: random.Random) -> Arch:
    """The arch of a new trial, choice by choice: conditional ones are suggested where they are active. Where the space
    is a list without it, the nearest that is there."""
    return arch_of(study.ask(), space, rng)


def arch_of(trial: Trial, space: Space, rng: random.Random) -> Arch:
    """What the objective of ``trial`` would see: see :func:`ask`."""

    def pick(choice: Choice) -> Option:
        suggest = trial.suggest_int if choice.ordered else _suggest_place(trial)
        return choice.options[suggest(choice.name, 0, len(choice.options) - 1)]

    return space.nearest(space.decide(pick), rng)


def asked(study: Study, space: Space, history: History, rng: random.Random, n: int, *, asks: int = 4) -> list[Arch]:
    """n archs that are not in the history. A sampler that repeats what was evaluated is asked again, up to ``asks``
    times, and then a mutant of what it repeats is taken: Optuna itself would evaluate it once more."""
    taken = {record.arch for record in history}
    seen = set(taken)
    if space.count() - len(seen) <= n:  # nothing to choose among, and samplers may take long to find it
        return fresh(space, lambda: space.sample(rng), rng, n, seen)

    def propose() -> Arch:
        for _ in range(asks):
            arch = ask(study, space, rng)
            if arch not in taken:
                break
        else:
            arch = space.mutate(arch, rng, rate=0.0)
        taken.add(arch)
        return arch

    return fresh(space, propose, rng, n, seen, patience=2)


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Optuna without a word: it warns of conditional parameters and of what it calls experimental, at every call."""
    import optuna

    before = optuna.logging.get_verbosity()
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        optuna.logging.set_verbosity(before)


def _costs(record: Record, objectives: Sequence[Objective]) -> list[float]:
    return [o.cost(record.metrics[o.metric]) for o in objectives]


def _distribution(choice: Choice) -> BaseDistribution:
    import optuna

    last = len(choice.options) - 1
    if choice.ordered:
        return optuna.distributions.IntDistribution(0, last)
    return optuna.distributions.CategoricalDistribution(range(last + 1))


def _suggest_place(trial: Trial) -> Callable[[str, int, int], int]:
    return lambda name, first, last: trial.suggest_categorical(name, range(first, last + 1))
