"""A poisoned space: bad options in every choice, and what a search still finds. Wu et al., P143 (arXiv:2106.14406).

The paper adds ineffective operations to ENAS's set, several instances of each, and the controller draws them more
often. Here a table's space is poisoned, in one of two ways, without knowing the table's data: ``worst``, options that
make any arch as bad as the worst there is; ``copies``, further instances of each choice's least effective option, so
that every poisoned arch is one that was really trained. Deviation: no weights are shared, so what is shown is what
poison does to a strategy; what it does to shared weights is to be seen with :class:`sartor.search.enas.Enas`.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np

from sartor.errors import InputError
from sartor.records import Arch, Option, Record
from sartor.search.audit.significance import declared, holm, paired
from sartor.search.named import run
from sartor.search.tables.table import Table
from sartor.space import Choice, Space
from sartor.space.listed import Listed

WORST, COPIES = "worst", "copies"
KINDS = (WORST, COPIES)


@dataclass(frozen=True)
class Poisoned:
    """A ``table`` whose choices have ``instances`` more options each; ``bad``: choice → the options that were added."""

    table: Table
    kind: str
    instances: int
    bad: Mapping[str, tuple[Option, ...]]

    def hit(self, arch: Mapping[str, Option]) -> bool:
        """Whether an arch has an option that was added."""
        return any(arch.get(name) in options for name, options in self.bad.items())


def poisoned(table: Table, instances: int, *, kind: str = COPIES) -> Poisoned:
    """``table`` with so many bad options more in each choice. What a search finds there is judged as in the table.

    Where only some archs of the choices exist, a poisoned arch is one of them with one option replaced. Raises
    InputError for other kinds, and fewer instances than one.
    """
    if kind not in KINDS or instances < 1:
        raise InputError(f"poison is one instance or more of {' or '.join(KINDS)}, not {instances} of {kind!r}")
    least = {choice.name: _least_effective(table, choice) for choice in table.space.choices}
    bad: dict[str, tuple[Option, ...]] = {
        name: tuple(f"{option} (copy {i + 1})" if kind == COPIES else f"poison {i + 1}" for i in range(instances))
        for name, option in least.items()
    }
    choices = []
    for choice in table.space.choices:
        when = choice.when
        if when is not None and kind == COPIES and least[when[0]] in when[1]:
            when = (when[0], (*when[1], *bad[when[0]]))  # a copy opens the choices that the original opens
        choices.append(Choice(choice.name, (*choice.options, *bad[choice.name]), when))
    rows = _Rows(table, kind, {n: dict.fromkeys(o, least[n]) for n, o in bad.items()})
    space = table.space
    if isinstance(space, Listed):
        archs, whole = list(space.archs), Space(tuple(choices))
        for arch in space.archs:
            replaced = [{**arch, n: o} for n in arch for o in bad[n] if kind == WORST or arch[n] == least[n]]
            archs += [whole.canonical(options) for options in replaced]  # without what the bad option closes
        wider: Space = replace(space, choices=tuple(choices), archs=tuple(dict.fromkeys(archs)))
    else:
        wider = replace(space, choices=tuple(choices))
    return Poisoned(replace(table, space=wider, rows=rows), kind, instances, bad)


def robustness(
    table: Table,
    strategies: Sequence[str],
    budget: int,
    seeds: int,
    *,
    instances: Sequence[int] = (1, 3),
    kind: str = COPIES,
    batch: int = 1,
) -> list[dict[str, Any]]:
    """What ``strategies`` find in the table's space with more and more poison, each seed beside the same one without.

    An object a strategy and number of instances: ``clean`` and ``found`` (mean verdicts on what it would pick),
    ``beside_clean`` (the loss, tested over seeds), ``drawn`` (share of its evaluations that poison took),
    ``drawn_late`` (of the second half: whether it learns), ``drawn_random`` (random search's), ``picked`` (seeds whose
    winner is poisoned) and ``beside_random`` (in the same poisoned space).
    """
    names = list(dict.fromkeys(["random", *strategies]))
    clean = {name: [_search(table, name, budget, seed, batch) for seed in range(seeds)] for name in names}
    found: list[dict[str, Any]] = []
    for n in instances:
        held = poisoned(table, n, kind=kind)
        runs = {name: [_search(held.table, name, budget, seed, batch) for seed in range(seeds)] for name in names}
        results = {name: [_result(held.table, h) for h in group] for name, group in runs.items()}
        losses = {name: paired(results[name], [_result(table, h) for h in clean[name]]) for name in names}
        gains = {name: paired(results[name], results["random"]) for name in names if name != "random"}
        for tests in (losses, gains):
            tests.update(declared(tests))
        for name, group in runs.items():
            hits = [[held.hit(record.arch) for record in history] for history in group]
            found.append(
                {
                    "strategy": name,
                    "kind": kind,
                    "instances": n,
                    "clean": _told(table, np.mean([_result(table, h) for h in clean[name]])),
                    "found": _told(table, np.mean(results[name])),
                    "beside_clean": losses[name],
                    "drawn": float(np.mean([np.mean(row) for row in hits])),
                    "drawn_late": float(np.mean([np.mean(row[len(row) // 2 :]) for row in hits])),
                    "drawn_random": float(np.mean([held.hit(r.arch) for h in runs["random"] for r in h])),
                    "picked": sum(held.hit(_winner(held.table, history).arch) for history in group),
                    "beside_random": gains.get(name),
                }
            )
    return found


def harmful(table: Table, history: Sequence[Record], *, level: float = 0.05) -> list[dict[str, Any]]:
    """The options that archs do worse with, of those a ``history`` of random archs shows: the ones to take out.

    An object an option whose archs have a worse first objective than the other archs that have the choice
    (Mann-Whitney, one-sided, Holm over all options), the most harmful first: ``choice``, ``option``, ``n`` archs with
    it, ``worse`` (chance that one of its archs is worse than one without it), ``p_holm``.
    """
    from scipy.stats import mannwhitneyu

    seen = table.objectives[0]
    found, p = [], []
    for choice in table.space.choices:
        costs = [(r.arch[choice.name], seen.cost(r.metrics[seen.metric])) for r in history if choice.name in r.arch]
        for option in choice.options:
            ours = [c for o, c in costs if o == option]
            others = [c for o, c in costs if o != option]
            if ours and others:
                test = mannwhitneyu(ours, others, alternative="greater")
                worse = float(test.statistic) / (len(ours) * len(others))
                found.append({"choice": choice.name, "option": option, "n": len(ours), "worse": worse})
                p.append(float(test.pvalue))
    held = [{**entry, "p_holm": q} for entry, q in zip(found, holm(p), strict=True) if q <= level]
    return sorted(held, key=lambda entry: -float(entry["worse"]))


@dataclass(frozen=True)
class _Rows(Mapping[Arch, Mapping[str, float]]):
    """A table's rows, and those of poisoned archs, which follow from them; only the former are listed."""

    table: Table
    kind: str
    original: Mapping[str, Mapping[Option, Option]]

    def __getitem__(self, arch: Arch) -> Mapping[str, float]:
        if arch in self.table.rows:
            return self.table.rows[arch]
        clean = {name: self.original[name].get(option, option) for name, option in arch.items()}
        if self.kind == COPIES:
            return self.table.rows[Arch(clean)]
        if clean == dict(arch):
            raise KeyError(arch)
        return self.worst

    def __iter__(self) -> Iterator[Arch]:
        return iter(self.table.rows)

    def __len__(self) -> int:
        return len(self.table.rows)

    @cached_property
    def worst(self) -> dict[str, float]:
        """The worst value of every metric."""
        kinds = {o.metric: o.maximise for o in (self.table.verdict, *self.table.objectives)}
        values = {m: [row[m] for row in self.table.rows.values()] for m in kinds}
        return {m: min(values[m]) if up else max(values[m]) for m, up in kinds.items()}


def _least_effective(table: Table, choice: Choice) -> Option:
    """The option whose archs have the worst mean first objective."""
    seen = table.objectives[0]
    sums: dict[Option, list[float]] = {option: [] for option in choice.options}
    for arch, row in table.rows.items():
        if choice.name in arch:
            sums[arch[choice.name]].append(seen.cost(row[seen.metric]))
    return max(sums, key=lambda option: float(np.mean(sums[option])) if sums[option] else -math.inf)


def _search(table: Table, name: str, budget: int, seed: int, batch: int) -> list[Record]:
    return run(table.space, table.evaluate, name, budget, seed, objectives=table.objectives, batch=batch)


def _winner(table: Table, history: Sequence[Record]) -> Record:
    seen = table.objectives[0]
    return min(history, key=lambda r: seen.cost(r.metrics[seen.metric]))


def _result(table: Table, history: Sequence[Record]) -> float:
    """The verdict on the winner, more is better."""
    value = table.judge(_winner(table, history).arch)
    return value if table.verdict.maximise else -value


def _told(table: Table, value: Any) -> float:
    return float(value if table.verdict.maximise else -value)
