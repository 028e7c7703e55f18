"""Other libraries' searches as they ship, on our tables: by their own ask and tell, with their own default settings.

What counts is *unique* evaluations: a library that asks for an arch again is told what it was told before, and that
costs nothing, for a table, or a cache beside a training, answers at once. Asked for nothing new ``PATIENCE`` times
in a row, a search has ended. Archs that a table does not have are told as failures, and cost nothing either.

    from shipped import optuna_shipped, syne_tune_shipped
    entry = optuna_shipped(open_known("nb201:cifar10"), 200, seed=0)       # as the objects of sartor.search.contest

``summary`` takes these beside those of ``contest``. Syne Tune is no dependency of this project: give the folder that
holds it (``pip install --no-deps --target FOLDER syne-tune``). ``seconds`` are the library's own, and the table's.
"""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from sartor.errors import InputError
from sartor.records import Arch, Option, Record
from sartor.search.studies import quiet
from sartor.search.tables import Table

PATIENCE = 1000
"""Repeats in a row after which a search is over."""

SYNE_TUNE = {"RandomSearch": "", "REA": "", "BORE": "xgboost", "CQR": "dill xgboost", "TPE": "statsmodels patsy"}
"""Names in ``syne_tune.optimizer.baselines``, and what each needs that this project does not. ``TPE`` is its kernel
density estimator."""


def optuna_shipped(table: Table, budget: int, seed: int, sampler: Callable[[int], Any] | None = None) -> dict[str, Any]:
    """A search by ``study.ask()`` and ``study.tell()``: of a seed, Optuna's default sampler, or that of ``sampler``.

    Options are suggested as categories, which is how a list of options is written in Optuna, choice by choice, so
    conditional ones only where they are active. Objectives are all that the table has, in their own units.
    """
    import optuna

    with quiet():
        if sampler is None:
            several = len(table.objectives) > 1  # what create_study takes by itself, with a seed
            sampler = optuna.samplers.NSGAIISampler if several else optuna.samplers.TPESampler
        chosen = sampler(seed=seed)  # type: ignore[call-arg]
        study = optuna.create_study(
            sampler=chosen, directions=["maximize" if o.maximise else "minimize" for o in table.objectives]
        )

        def ask() -> tuple[Any, Arch]:
            trial = study.ask()
            options: dict[str, Option] = {}
            for choice in table.space.choices:
                if choice.when is None or options.get(choice.when[0]) in choice.when[1]:
                    options[choice.name] = trial.suggest_categorical(choice.name, choice.options)
            return trial, Arch(options)

        def tell(trial: Any, metrics: dict[str, float] | None) -> None:
            if metrics is None:
                study.tell(trial, state=optuna.trial.TrialState.FAIL)
            else:
                study.tell(trial, [metrics[o.metric] for o in table.objectives])

        return _searched(table, f"Optuna {type(chosen).__name__}", budget, seed, ask, tell)


def syne_tune_shipped(table: Table, budget: int, seed: int, name: str, folder: Path) -> dict[str, Any]:
    """A search by the baseline ``name`` of :data:`SYNE_TUNE`, asked and told; Syne Tune is in ``folder``.

    By the first objective, as a cost. Options are categories, of an ascending list of numbers ordinal ones. Conditional
    choices are unknown to it: every one has an option, and inactive ones are dropped. Raises InputError where it, or
    something it needs, is not there.
    """
    if str(folder) not in sys.path:
        sys.path.append(str(folder))
    try:
        from syne_tune.config_space import choice as category
        from syne_tune.config_space import ordinal
        from syne_tune.optimizer import baselines
        from syne_tune.optimizer.schedulers.ask_tell_scheduler import AskTellScheduler

        first = table.objectives[0]
        space = {
            c.name: ordinal(list(c.options)) if c.ordered and len(c.options) > 1 else category(list(c.options))
            for c in table.space.choices
        }
        scheduler = getattr(baselines, name)
        metric = {"metrics": [first.metric]} if name == "RandomSearch" else {"metric": first.metric}
        asked = AskTellScheduler(
            base_scheduler=scheduler(config_space=space, do_minimize=True, random_seed=seed, **metric)
        )
    except ImportError as error:
        wanted = f"syne-tune {SYNE_TUNE.get(name, '')}".strip()
        raise InputError(
            f"Syne Tune's {name} cannot be imported: pip install --no-deps --target {folder} {wanted}"
        ) from error

    def ask() -> tuple[Any, Arch]:
        trial = asked.ask()
        options: dict[str, Option] = {}
        for choice in table.space.choices:
            if choice.when is None or options.get(choice.when[0]) in choice.when[1]:
                options[choice.name] = next(o for o in choice.options if o == trial.config[choice.name])
        return trial, Arch(options)

    def tell(trial: Any, metrics: dict[str, float] | None) -> None:
        if metrics is None:
            asked.base_scheduler.on_trial_error(trial)
        else:
            asked.tell(trial, {first.metric: first.cost(metrics[first.metric])})

    return _searched(table, f"Syne Tune {name}", budget, seed, ask, tell)


def _searched(
    table: Table,
    name: str,
    budget: int,
    seed: int,
    ask: Callable[[], tuple[Any, Arch]],
    tell: Callable[[Any, dict[str, float] | None], None],
) -> dict[str, Any]:
    """What ``contest`` says of a search, with ``asks``, and ``missing`` archs that the table does not have."""
    history: dict[Arch, Record] = {}
    asks = missing = idle = 0
    start = time.perf_counter()
    while len(history) < min(budget, table.space.count()) and idle < PATIENCE:
        trial, arch = ask()
        asks, idle = asks + 1, idle + 1
        if arch not in table.rows:
            missing += 1
            tell(trial, None)
            continue
        if arch not in history:
            idle = 0
            history[arch] = Record(f"a{len(history)}", arch, metrics=table.evaluate(arch))
        tell(trial, dict(history[arch].metrics))
    best = table.best_so_far(list(history.values()))
    return {
        "strategy": name,
        "seed": seed,
        "evaluations": len(history),
        "best_so_far": best + [best[-1] if best else math.nan] * (budget - len(best)),
        "seconds": time.perf_counter() - start,
        "asks": asks,
        "missing": missing,
    }
