"""Every strategy by its name, and one call that runs any of them on anything that can be evaluated."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from sartor.errors import InputError
from sartor.records import Arch, Record
from sartor.search.loop import Records, numbers, search
from sartor.search.methods.bananas import bananas
from sartor.search.methods.bayes import bayes
from sartor.search.methods.bohb import bohb
from sartor.search.methods.brp import brp
from sartor.search.methods.eeea import eeea
from sartor.search.methods.evolution import evolution
from sartor.search.methods.fbnetv3 import fbnetv3
from sartor.search.methods.grid import grid
from sartor.search.methods.hyperband import asha, halving, hyperband
from sartor.search.methods.l2nas import l2nas
from sartor.search.methods.linas import linas
from sartor.search.methods.local import local_search
from sartor.search.methods.mcts import mcts
from sartor.search.methods.neural_predictor import neural_predictor
from sartor.search.methods.nsga2 import nsga2
from sartor.search.methods.optuna_samplers import optuna_cmaes, optuna_gp, optuna_nsga2, optuna_nsga3, optuna_tpe
from sartor.search.methods.ppo import ppo
from sartor.search.methods.random import random_search
from sartor.search.methods.reinforce import reinforce
from sartor.search.methods.rena import rena
from sartor.search.methods.smbo import smbo
from sartor.search.objective import ACCURACY_LATENCY, Objective
from sartor.search.store import Store
from sartor.search.workers import run_workers, work
from sartor.space.fidelity import Fidelities
from sartor.space.space import Space

strategies: dict[str, Callable[..., list[Arch]]] = {
    "random": random_search,
    "grid": grid,
    "local": local_search,
    "evolution": evolution,
    "nsga2": nsga2,
    "linas": linas,
    "bayes": bayes,
    "bananas": bananas,
    "neural-predictor": neural_predictor,
    "optuna-tpe": optuna_tpe,
    "optuna-nsga2": optuna_nsga2,
    "optuna-nsga3": optuna_nsga3,
    "optuna-gp": optuna_gp,
    "optuna-cmaes": optuna_cmaes,
    "halving": halving,
    "hyperband": hyperband,
    "asha": asha,
    "bohb": bohb,
    "mcts": mcts,
    "smbo": smbo,
    "reinforce": reinforce,
    "ppo": ppo,
    "l2nas": l2nas,
    "rena": rena,
    "brp": brp,
    "eeea": eeea,
    "fbnetv3": fbnetv3,
}
"""Each is a function ``(space, history, rng, n, *, objectives) -> archs``. See ``strategy.Strategy``."""

MULTI_FIDELITY = (halving, hyperband, asha, bohb)
"""Those that choose the fidelity, too, of a space that has them."""


def strategy_of(name: str) -> Callable[..., list[Arch]]:
    """The strategy called ``name``. Raises InputError with those there are."""
    if name not in strategies:
        raise InputError(f"unknown strategy {name!r}: choose from {', '.join(strategies)}")
    return strategies[name]


def run(
    space: Space,
    evaluator: Callable[[Arch], Mapping[str, float]],
    strategy: str | Callable[..., list[Arch]],
    budget: int,
    seed: int = 0,
    *,
    objectives: Sequence[Objective] = ACCURACY_LATENCY,
    batch: int = 1,
    store: Records | Path | str | None = None,
    workers: int = 1,
    cost: Callable[[Arch], float] | None = None,
) -> list[Record]:
    """The history of ``budget`` evaluations of ``space`` by ``strategy`` (a name, or a function as in
    :data:`strategies`), in the order they were proposed.

    ``batch`` archs are proposed at a time: one sees all that was evaluated before it. What could not be measured is
    NaN. Of a space with fidelities, strategies of :data:`strategies` that know nothing of them search the full one
    alone.

    ``store`` keeps the history, and what it holds counts: a file's path, a database's URL (``sqlite:///PATH``,
    ``postgresql+psycopg://USER@HOST/DB``), or an open :class:`sartor.search.store.Store`. Every process that makes the
    same call with the same store takes part, and so do ``workers`` processes that are started here; the history is the
    same whatever their number. See :func:`sartor.search.workers.work` and :func:`sartor.search.workers.run_workers`.

    ``cost``: what an evaluation of an arch costs, where it is not 1: the search ends with the evaluation that makes the
    sum ``budget``, or more. It is for one process.

    Raises InputError as :func:`sartor.search.loop.search` and those two do, and where the evaluator does not return an
    objective.
    """
    if not objectives:
        raise InputError("a search needs an objective: name a metric that the evaluator returns")
    chosen = strategy_of(strategy) if isinstance(strategy, str) else strategy
    if isinstance(store, (str, Path)):
        with Store(store, objectives=objectives, choices=space.choices) as opened:
            more: dict[str, Any] = {"objectives": objectives, "batch": batch, "workers": workers, "cost": cost}
            return run(space, evaluator, chosen, budget, seed, store=opened, **more)
    if isinstance(space, Fidelities) and chosen in strategies.values() and chosen not in MULTI_FIDELITY:
        space = space.only_full()
    bound = partial(chosen, objectives=tuple(objectives))
    evaluate = _Evaluator(evaluator, tuple(objectives))
    if workers != 1 and not isinstance(store, Store):
        raise InputError(f"{workers} workers need a store that they share: give a file's path or a database's URL")
    if workers != 1 and cost is not None:
        raise InputError("a budget of costs is for one process: leave out workers, or cost")
    if cost is not None:
        paid = [cost(record.arch) for record in store.records()] if store is not None else []
        return search(
            space,
            evaluate,
            bound,
            evaluations=space.count(),
            seed=seed,
            batch=batch,
            store=store,
            on_record=lambda record: paid.append(cost(record.arch)),
            should_stop=lambda: math.fsum(paid) >= budget - 1e-9,
        )
    if not isinstance(store, Store):
        return search(space, evaluate, bound, evaluations=budget, seed=seed, batch=batch, store=store)
    if workers != 1:
        return run_workers(workers, space, evaluate, bound, store, evaluations=budget, seed=seed, batch=batch)
    return work(space, evaluate, bound, store, evaluations=budget, seed=seed, batch=batch)


@dataclass(frozen=True)
class _Evaluator:
    """An evaluator whose answers hold every objective: without one, every strategy would be random search."""

    evaluator: Callable[[Arch], Mapping[str, float]]
    objectives: tuple[Objective, ...]

    def __call__(self, arch: Arch) -> Mapping[str, float]:
        found = numbers(self.evaluator(arch))
        absent = [o.metric for o in self.objectives if o.metric not in found]
        if absent:
            raise InputError(
                f"the evaluator returns {', '.join(found) or 'nothing'}, and not {', '.join(absent)}: "
                "name what it returns as objectives"
            )
        return found
