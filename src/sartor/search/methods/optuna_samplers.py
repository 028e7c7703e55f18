"""Optuna's samplers as strategies, with the settings that Optuna ships.

Each call rebuilds the study from the history (``sartor.search.studies``), seeds the sampler from ``rng``, and asks it
for one arch after another; those asked for in one call count as running, which TPE and the Gaussian process keep away
from. Two deviations of all of them: no arch is evaluated twice, while Optuna repeats itself freely on finite choices;
and the random state begins anew in each call.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from importlib.util import find_spec
from typing import TYPE_CHECKING

from sartor.errors import InputError
from sartor.records import Arch
from sartor.search.objective import ACCURACY_LATENCY, Objective, measured
from sartor.search.strategy import History
from sartor.search.studies import SEEDS, arch_of, asked, quiet, study_of
from sartor.space.space import Space

if TYPE_CHECKING:
    from optuna.samplers import BaseSampler


def optuna_tpe(
    space: Space,
    history: History,
    rng: random.Random,
    n: int,
    *,
    objectives: Sequence[Objective] = ACCURACY_LATENCY,
    startup: int = 10,
) -> list[Arch]:
    """n archs of tree-structured Parzen estimators: what is likelier among the good than among the rest.

    Bergstra et al., NIPS 2011; several objectives: Ozaki et al., 10.1145/3377930.3389817. The first ``startup`` are
    random. With one objective the densities are joint over the choices that every arch has; a conditional one has its
    own.
    """
    import optuna

    with quiet():
        sampler = optuna.samplers.TPESampler(
            n_startup_trials=startup,
            multivariate=len(objectives) == 1,
            constant_liar=True,
            seed=rng.randrange(SEEDS),
        )
        return asked(study_of(space, history, objectives, sampler), space, history, rng, n)


def optuna_nsga2(
    space: Space,
    history: History,
    rng: random.Random,
    n: int,
    *,
    objectives: Sequence[Objective] = ACCURACY_LATENCY,
    population: int = 50,
) -> list[Arch]:
    """n children of NSGA-II as Optuna has it: uniform crossover of the choices that every arch has, tournaments of two,
    and a mutated choice drawn anew. Deb et al. 2002 (10.1109/4235.996017).

    Not our ``nsga2``: its population is 50, and conditional choices are always drawn at random. What generation a
    record is of follows from its place.
    """
    import optuna

    sampler = optuna.samplers.NSGAIISampler(population_size=population, seed=rng.randrange(SEEDS))
    return _generations(space, history, rng, n, objectives, sampler, population)


def optuna_nsga3(
    space: Space,
    history: History,
    rng: random.Random,
    n: int,
    *,
    objectives: Sequence[Objective] = ACCURACY_LATENCY,
    population: int = 50,
) -> list[Arch]:
    """n children of NSGA-III: as :func:`optuna_nsga2`, but who survives is nearest to reference points spread over the
    objectives, which pays from three objectives on. Deb & Jain 2014 (10.1109/TEVC.2013.2281535).

    Deviation: which of equally crowded points survive is drawn, and drawn anew in each call.
    """
    import optuna

    with quiet():
        sampler = optuna.samplers.NSGAIIISampler(population_size=population, seed=rng.randrange(SEEDS))
    return _generations(space, history, rng, n, objectives, sampler, population)


def optuna_gp(
    space: Space,
    history: History,
    rng: random.Random,
    n: int,
    *,
    objectives: Sequence[Objective] = ACCURACY_LATENCY,
    startup: int = 10,
) -> list[Arch]:
    """n archs of the largest expected improvement, or of several objectives hypervolume improvement, under a Gaussian
    process: Optuna's own, on torch (log EI: arXiv:2310.20708; EHVI: arXiv:2006.05078).

    The first ``startup`` are random. Only choices that every arch has are modelled. A second an arch, more or less.
    """
    import optuna

    with quiet():
        sampler = optuna.samplers.GPSampler(n_startup_trials=startup, seed=rng.randrange(SEEDS))
        return asked(study_of(space, history, objectives, sampler), space, history, rng, n, asks=1)


def optuna_cmaes(
    space: Space,
    history: History,
    rng: random.Random,
    n: int,
    *,
    objectives: Sequence[Objective] = ACCURACY_LATENCY,
) -> list[Arch]:
    """n archs of CMA-ES by the first objective (Hansen, arXiv:1604.00772), over the places of ordered options.

    As Optuna has it, options without an order and conditional choices are drawn at random. Its state is replayed: the
    records are told again, in order, which takes milliseconds each. Raises InputError where the package ``cmaes`` is
    not installed, or no choice that every arch has is ordered: what were left is random search.
    """
    import optuna

    if find_spec("cmaes") is None:
        raise InputError("optuna-cmaes needs the package cmaes: pip install cmaes")
    if not any(c.when is None and len(c.options) > 1 and c.ordered for c in space.choices) and space.count() > 1:
        raise InputError("CMA-ES needs a choice among ascending numbers: take optuna-tpe, which orders nothing")
    first = objectives[:1]
    with quiet():
        sampler = optuna.samplers.CmaEsSampler(seed=rng.randrange(SEEDS))
        study = optuna.create_study(sampler=sampler, direction="minimize")
        places = {c.name: {option: place for place, option in enumerate(c.options)} for c in space.choices}
        for record in history:
            if measured(record.metrics, first):
                study.enqueue_trial({name: places[name][option] for name, option in record.arch.items()})
                trial = study.ask()
                assert trial.relative_params is not None  # asked for: only then does the sampler note the generation
                arch_of(trial, space, rng)
                study.tell(trial, first[0].cost(record.metrics[first[0].metric]))
        return asked(study, space, history, rng, n)


def _generations(
    space: Space,
    history: History,
    rng: random.Random,
    n: int,
    objectives: Sequence[Objective],
    sampler: BaseSampler,
    population: int,
) -> list[Arch]:
    """The samplers that note each trial's generation in its attributes, under a name that is looked up, for it is not
    the same in every version."""
    with quiet():
        empty = study_of(space, (), objectives, sampler)
        assert empty.ask().relative_params is not None  # asked for: only then is the generation noted
        notes = empty.get_trials(deepcopy=False)[0].system_attrs
        (key,) = (name for name in notes if name.endswith(":generation"))
        study = study_of(space, history, objectives, sampler, lambda i: {key: i // population})
        return asked(study, space, history, rng, n)
