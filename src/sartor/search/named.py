"""Every strategy by its name, and one call that runs any of them on anything that can be evaluated."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial

from sartor.errors import InputError
from sartor.records import Arch, Record
from sartor.search.loop import Records, search
from sartor.search.methods.brp import brp
from sartor.search.methods.eeea import eeea
from sartor.search.methods.evolution import evolution
from sartor.search.methods.fbnetv3 import fbnetv3
from sartor.search.methods.grid import grid
from sartor.search.methods.l2nas import l2nas
from sartor.search.methods.linas import linas
from sartor.search.methods.local import local_search
from sartor.search.methods.mcts import mcts
from sartor.search.methods.nsga2 import nsga2
from sartor.search.methods.ppo import ppo
from sartor.search.methods.random import random_search
from sartor.search.methods.reinforce import reinforce
from sartor.search.methods.smbo import smbo
from sartor.search.objective import ACCURACY_LATENCY, Objective
from sartor.space.space import Space

strategies: dict[str, Callable[..., list[Arch]]] = {
    "random": random_search,
    "grid": grid,
    "local": local_search,
    "evolution": evolution,
    "nsga2": nsga2,
    "linas": linas,
    "mcts": mcts,
    "smbo": smbo,
    "reinforce": reinforce,
    "ppo": ppo,
    "l2nas": l2nas,
    "brp": brp,
    "eeea": eeea,
    "fbnetv3": fbnetv3,
}
"""Each is a function ``(space, history, rng, n, *, objectives) -> archs``. See ``strategy.Strategy``."""


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
    store: Records | None = None,
) -> list[Record]:
    """The history of ``budget`` evaluations of ``space`` by ``strategy`` (a name, or a function as in
    :data:`strategies`), oldest first.

    ``batch`` archs are proposed at a time: one sees all that was evaluated before it. What ``store`` holds counts. What
    could not be measured is NaN.
    Raises InputError as :func:`sartor.search.loop.search` does, and where the evaluator does not return an objective.
    """
    chosen = strategy_of(strategy) if isinstance(strategy, str) else strategy
    bound = partial(chosen, objectives=tuple(objectives))

    def evaluate(arch: Arch) -> Mapping[str, float]:
        found = evaluator(arch)
        absent = [o.metric for o in objectives if o.metric not in found]
        if absent:  # without it every strategy would be random search
            raise InputError(
                f"the evaluator returns {', '.join(found) or 'nothing'}, and not {', '.join(absent)}: "
                "name what it returns as objectives"
            )
        return found

    return search(space, evaluate, bound, evaluations=budget, seed=seed, batch=batch, store=store)
