"""Any strategy as a sampler of Optuna: ``optuna.create_study(sampler=StrategySampler("evolution", seed=0))``.

An objective of Optuna defines its parameters as it runs, and a strategy searches a space that is known. Where no space
is given it is read off the finished trials: a parameter's options, and on which option of another parameter it depends.
Optuna's own intersection of the trials' parameters knows no conditional ones, and its groups do not say on what they
depend; either would leave the conditional half of a search to chance.
"""

from __future__ import annotations

import json
import math
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.trial import FrozenTrial, TrialState

from sartor.errors import InputError
from sartor.records import Arch, Record
from sartor.search.named import strategy_of
from sartor.search.objective import Objective
from sartor.space.choice import Choice
from sartor.space.space import Space

LEVELS = 33
"""Options of a number that has more values, or is continuous: evenly spread, of a logarithmic one by ratio."""
STARTUP = 10
"""Finished trials from which on a space is read off them, as Optuna's samplers have it."""
_PROPOSED = "sartor:params"


class StrategySampler(optuna.samplers.BaseSampler):
    """Proposes what ``strategy`` does: a name of ``sartor.search.strategies``, or a function as those are.

    ``space``: the choices, under the parameters' names, where they are known; the strategy then decides from the first
    trial on, and what is suggested must have its options. Else trials are random until ``startup`` have finished, and
    the space is read off those (:func:`space_of`). Parameters that are in no space, or depend on more than one other,
    are drawn at random.

    Pruned and failed trials are archs that could not be measured: never proposed again, and nothing more is concluded
    from them. So are trials that run: processes that share a storage stay apart, but for two that ask at the same
    instant. Randomness comes from ``seed`` and the trial's number, so processes may share it, too. When a space is
    exhausted, trials are random. A sampler must be a class for Optuna; this one holds nothing but its arguments and
    what it proposed for trials that run.

    Raises InputError for an unknown strategy, and where a study suggests what ``space`` does not have.
    """

    def __init__(
        self,
        strategy: str | Callable[..., list[Arch]],
        *,
        seed: int | None = None,
        space: Space | None = None,
        startup: int = STARTUP,
        levels: int = LEVELS,
    ):
        if startup < 1 or levels < 2:
            raise InputError(f"a sampler needs startup >= 1 and levels >= 2, not {startup} and {levels}")
        self._strategy = strategy_of(strategy) if isinstance(strategy, str) else strategy
        self._seed = random.SystemRandom().randrange(2**31) if seed is None else seed
        self._space, self._startup, self._levels = space, startup, levels
        self._proposed: dict[int, dict[str, Any]] = {}
        self._drawn: dict[int, random.Random] = {}

    def infer_relative_search_space(self, study: optuna.Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        """Nothing: which parameters a trial has shows only as it runs, and each is answered when it is asked for."""
        return {}

    def sample_relative(
        self, study: optuna.Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """Decide the whole trial, once, at its beginning; other processes can read what was decided."""
        proposed = self._propose(study, trial)
        self._proposed[trial.number] = proposed
        self._drawn[trial.number] = random.Random(f"{self._seed}:{trial.number}:drawn")
        if proposed:
            study._storage.set_trial_system_attr(trial._trial_id, _PROPOSED, json.dumps(proposed, default=repr))
        return {}

    def sample_independent(
        self, study: optuna.Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        """What was decided, where it is one of the distribution's values; at random where nothing was."""
        values = values_of(param_distribution, self._levels)
        proposed = self._proposed.get(trial.number, {})
        if param_name in proposed:
            held = proposed[param_name]
            if param_distribution._contains(_internal(param_distribution, held)):
                return held
            if self._space is not None:
                raise InputError(
                    f"the space has {param_name} = {held!r}, which the objective does not allow: give both one list"
                )
        return self._drawn.setdefault(trial.number, random.Random(f"{self._seed}:{trial.number}:drawn")).choice(values)

    def after_trial(
        self, study: optuna.Study, trial: FrozenTrial, state: TrialState, values: Sequence[float] | None
    ) -> None:
        self._proposed.pop(trial.number, None)
        self._drawn.pop(trial.number, None)

    def _propose(self, study: optuna.Study, trial: FrozenTrial) -> dict[str, Any]:
        """The parameters' values by the strategy; none while there is nothing to go by."""
        trials = [t for t in study.get_trials(deepcopy=False) if t.number != trial.number]
        if self._space is not None:
            named = Named(self._space, {c.name: c.options for c in self._space.choices})
        else:
            complete = [t for t in trials if t.state == TrialState.COMPLETE]
            if len(complete) < self._startup:
                return {}
            named = space_of(complete, self._levels)
        if not named.space.choices:
            return {}
        directions = enumerate(study.directions)
        objectives = [Objective(f"value{i}", d == optuna.study.StudyDirection.MAXIMIZE) for i, d in directions]
        history = [r for r in (_record(named, t, objectives) for t in trials) if r is not None]
        rng = random.Random(f"{self._seed}:{trial.number}")
        archs = self._strategy(named.space, _once(history), rng, 1, objectives=objectives)
        return named.params(archs[0]) if archs else {}


@dataclass(frozen=True)
class Named:
    """A space, and of each choice the values of the parameter that its options stand for."""

    space: Space
    values: Mapping[str, Sequence[Any]]

    def params(self, arch: Arch) -> dict[str, Any]:
        """The values of ``arch``."""
        places = {choice.name: choice.options for choice in self.space.choices}
        return {name: self.values[name][places[name].index(option)] for name, option in arch.items()}

    def arch(self, params: Mapping[str, Any]) -> Arch | None:
        """The arch of ``params``, by the nearest values where numbers are between two; None where it is none."""
        options = {}
        for choice in self.space.choices:
            if choice.name in params:
                place = _nearest(self.values[choice.name], params[choice.name])
                if place is None:
                    return None
                options[choice.name] = choice.options[place]
        try:
            return self.space.canonical(options)
        except InputError:
            return None


def space_of(trials: Sequence[FrozenTrial], levels: int = LEVELS) -> Named:
    """The space that ``trials`` went through, whose options are the places of the parameters' values.

    A parameter that is not in every trial depends on one suggested before it, whose value alone tells whether it is
    there: of several such, on that which had the fewest values, for of many values, each seen once, any explains
    anything. One that no single other explains, or whose values changed between trials, is left out.
    """
    names = dict.fromkeys(name for t in trials for name in t.params)
    before: dict[str, set[str]] = {name: set(names) for name in names}
    for t in trials:
        for place, name in enumerate(t.params):
            before[name] &= set(list(t.params)[:place])
    steady: dict[str, BaseDistribution] = {}
    for name in names:
        found = [t.distributions[name] for t in trials if name in t.params]
        if all(distribution == found[0] for distribution in found):
            steady[name] = found[0]
    values = {name: values_of(distribution, levels) for name, distribution in steady.items()}
    choices: list[Choice] = []
    for name in sorted(steady, key=lambda n: (len(before[n]), list(names).index(n))):
        options = tuple(range(len(values[name])))
        if all(name in t.params for t in trials):
            choices.append(Choice(name, options))
        elif when := _condition(name, trials, [c for c in choices if c.name in before[name]], values):
            choices.append(Choice(name, options, when))
    return Named(Space(tuple(choices)), {choice.name: values[choice.name] for choice in choices})


def _condition(
    name: str, trials: Sequence[FrozenTrial], earlier: Sequence[Choice], values: Mapping[str, Sequence[Any]]
) -> tuple[str, tuple[int, ...]] | None:
    """The parameter and its places with which ``name`` is there, and without which it is not; None where none is so."""
    best: tuple[str, tuple[int, ...]] | None = None
    fewest = math.inf
    for parent in reversed(earlier):
        where: dict[int | None, set[bool]] = {}
        for t in trials:
            place = _nearest(values[parent.name], t.params[parent.name]) if parent.name in t.params else None
            where.setdefault(place, set()).add(name in t.params)
        told = all(len(seen) == 1 for seen in where.values()) and where.get(None, {False}) == {False}
        if told and len(where) < fewest:
            fewest = len(where)
            best = parent.name, tuple(sorted(p for p, seen in where.items() if p is not None and seen == {True}))
    return best


def values_of(distribution: BaseDistribution, levels: int = LEVELS) -> list[Any]:
    """The values a parameter may have, in order; of a number with more, ``levels`` spread over its range."""
    if isinstance(distribution, CategoricalDistribution):
        return list(distribution.choices)
    if not isinstance(distribution, (IntDistribution, FloatDistribution)):
        raise InputError(f"a parameter of {type(distribution).__name__} has no options: suggest a category or a number")
    low, high, step = distribution.low, distribution.high, distribution.step
    whole = isinstance(distribution, IntDistribution)
    count = math.inf if step is None or distribution.log else round((high - low) / step) + 1
    if whole and distribution.log:
        count = high - low + 1
    if count <= levels:
        found = [low + place * (step or 1) for place in range(int(count))]
    else:
        shares = [place / (levels - 1) for place in range(levels)]
        if distribution.log:
            found = [math.exp(math.log(low) + s * (math.log(high) - math.log(low))) for s in shares]
        else:
            found = [low + s * (high - low) for s in shares]
        if step is not None and not distribution.log:
            found = [low + round((value - low) / step) * step for value in found]
    kept = [round(value) if whole else float(value) for value in found]
    return list(dict.fromkeys(min(max(value, low), high) for value in kept))


def _internal(distribution: BaseDistribution, value: Any) -> float:
    """Optuna's number of a value; one that is out of every range where it has none."""
    try:
        return distribution.to_internal_repr(value)
    except (ValueError, TypeError):
        return math.inf


def _nearest(values: Sequence[Any], value: Any) -> int | None:
    """The place of ``value``; of a number that is none of them, that of the nearest number."""
    for place, other in enumerate(values):
        if type(other) is type(value) and other == value:
            return place
    numbers = [v for v in values if isinstance(v, (int, float)) and not isinstance(v, bool)]
    if len(numbers) < len(values) or isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    return min(range(len(values)), key=lambda place: abs(values[place] - value))


def _record(named: Named, trial: FrozenTrial, objectives: Sequence[Objective]) -> Record | None:
    """A trial as a record, without metrics where it has none; None where it is of no arch of the space."""
    params = dict(trial.params)
    if not trial.state.is_finished():  # what it has not asked for yet is what was decided for it
        params = json.loads(trial.system_attrs.get(_PROPOSED, "{}")) | params
    arch = named.arch(params)
    if arch is None:
        return None
    values = trial.values if trial.state == TrialState.COMPLETE else []
    pairs = zip(objectives, values or [], strict=False)
    return Record(f"a{trial.number}", arch, metrics={o.metric: v for o, v in pairs if math.isfinite(v)})


def _once(history: Sequence[Record]) -> list[Record]:
    """Each arch once, as strategies know it: as it was measured last, where it was."""
    found: dict[Arch, Record] = {}
    for record in history:
        if record.metrics or record.arch not in found:
            found[record.arch] = record
    return list(found.values())
