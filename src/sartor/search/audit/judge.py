"""The audit of searches: what they found over the average random arch, and over random search at equal cost.

Yang et al. (P131, arXiv:1912.12522): improvement over the average random arch. Yu et al. (P209, arXiv:1902.08142) and
Li & Talwalkar (arXiv:1902.07638): random search at equal cost, over seeds, and the ranks that a cheap evaluation gives.
Everything returned is JSON-able; what cannot be said is None, with a note that says why.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from sartor.errors import InputError
from sartor.search import pareto
from sartor.search.audit.hygiene import hygiene
from sartor.search.audit.significance import declared, paired, seeds_needed, student
from sartor.search.audit.tau import kendall_tau, top_tau
from sartor.search.hypervolume import MOST, hypervolume, reference_of
from sartor.search.trace import RANDOM, Problem, Trace

FORMAT = 1

RESAMPLES = 500
"""Resamples of the archs for the interval of tau."""

FEWEST_RANDOM = 8
"""Random archs below which there is no average to improve on: P131 takes eight."""


def audit(problem: Problem, traces: Sequence[Trace], *, baseline: str = RANDOM) -> dict[str, Any]:
    """The audit of ``traces``, of which those of the strategy ``baseline`` are random search.

    ``strategies``: of each its ``result`` (the verdict on what it would pick) over seeds, its cost, its
    ``relative_improvement`` and ``beside_random``; ``random_arch``; ``tau``; ``hygiene``; ``notes``. Raises InputError
    where there is nothing to audit.
    """
    if not traces:
        raise InputError("there is no search to audit")
    by_name: dict[str, list[Trace]] = {}
    for trace in sorted(traces, key=lambda t: t.seed):
        by_name.setdefault(trace.strategy, []).append(trace)
    random = by_name.get(baseline, [])
    notes = []
    if not random:
        notes.append(f"no search is called {baseline}: without random search at equal cost nothing is shown")
    seeds = {name: len(group) for name, group in by_name.items()}
    if min(seeds.values()) == 1:
        notes.append("one seed only: what it found may be luck, and no test can tell")
    lines: list[dict[str, Any]] = [
        {
            "strategy": name,
            "seeds": len(group),
            "evaluations": _spread([len(t) for t in group]),
            "seconds": _spread([t.seconds for t in group if t.seconds is not None]),
            "evaluation_seconds": _spread([t.evaluation_seconds for t in group if t.evaluation_seconds is not None]),
            "result": _spread([t.results(problem)[-1] for t in group]),
            "found_nothing": sum(math.isnan(t.results(problem)[-1]) for t in group),
            "relative_improvement": _improvement(problem, group, random),
        }
        for name, group in by_name.items()
    ]
    rivals = {name: group for name, group in by_name.items() if name != baseline}
    beside = beside_random(problem, rivals, random)
    volumes = _volumes(problem, rivals, random)
    for line in lines:
        line["beside_random"] = beside.get(line["strategy"])
        line["hypervolume"] = volumes.get(line["strategy"])
    return {
        "format": FORMAT,
        "problem": problem.to_dict(),
        "baseline": baseline if random else None,
        "strategies": lines,
        "seeds_needed": seeds_needed(len(rivals)) if rivals else None,
        "random_arch": _random_arch(problem, random),
        "tau": _tau(problem, random or list(traces), bool(random)),
        "hygiene": hygiene(problem, traces),
        "poison": None,
        "gap": None,
        "notes": notes,
    }


def beside_random(
    problem: Problem, rivals: Mapping[str, Sequence[Trace]], random: Sequence[Trace]
) -> dict[str, dict[str, Any]]:
    """Each strategy against random search, seed by seed, after as many evaluations as the shorter of the two made:
    ``significance.declared``, with ``evaluations`` and how seeds were ``paired``. Better is positive, whichever way the
    verdict points. A search that found nothing counts as the worst result of either, and in ``found_nothing``; where no
    search found anything at all, there is no entry."""
    sign = 1 if problem.judge.maximise else -1
    tests, about = {}, {}
    for name, group in rivals.items():
        pairs, how = pairs_of(group, random)
        cut = [(ours, theirs, min(len(ours), len(theirs))) for ours, theirs in pairs]
        held = np.array([[sign * t.results(problem)[n - 1] for t in pair] for *pair, n in cut]).reshape(-1, 2)
        if np.isfinite(held).any():
            nothing = ~np.isfinite(held)
            held[nothing] = held[~nothing].min()  # leaving these seeds out would praise who fails on the hard ones
            tests[name] = paired(held[:, 0], held[:, 1])
            about[name] = {
                "evaluations": min(n for *_, n in cut), "paired": how, "found_nothing": int(nothing.any(axis=1).sum()),
            }  # fmt: skip
    return {name: {**test, **about[name]} for name, test in declared(tests).items()}


def pairs_of(group: Sequence[Trace], random: Sequence[Trace]) -> tuple[list[tuple[Trace, Trace]], str]:
    """Searches of the same seed; in order where no seed is shared, which is as valid and finds less."""
    theirs = {trace.seed: trace for trace in random}
    same = [(trace, theirs[trace.seed]) for trace in group if trace.seed in theirs]
    if same:
        return same, "by seed"
    return list(zip(group, random, strict=False)), "in order"


def _improvement(problem: Problem, group: Sequence[Trace], random: Sequence[Trace]) -> dict[str, Any] | None:
    """P131's RI = 100 (m - r) / |r|, with Student's interval over seeds: m is what a seed's search found, r the mean of
    that seed's random archs (of all of them where seeds differ). Where less is better, its negative.

    Deviation: a seed has an improvement of its own, and the paper averages m and r first; so the interval holds the
    noise of both. Random archs are all that random search evaluated.
    """
    results = [t.results(problem)[-1] for t in group]
    averages = {t.seed: _average(problem, t) for t in random}
    everything = [v for t in random for v in _judged(problem, t)]
    if len(everything) < FEWEST_RANDOM:
        return None
    overall = float(np.mean(everything))
    sign = 1 if problem.judge.maximise else -1
    shares = [
        sign * 100 * (m - r) / abs(r)
        for m, r in ((m, averages.get(t.seed, overall)) for m, t in zip(results, group, strict=True))
        if math.isfinite(m) and math.isfinite(r) and r
    ]
    return None if not shares else _shares(shares, len(everything))


def _shares(shares: Sequence[float], archs: int) -> dict[str, Any]:
    interval = student(shares)
    low, high = interval if interval else (None, None)
    return {"mean": float(np.mean(shares)), "low": low, "high": high, "seeds": len(shares), "random_archs": archs}


def _random_arch(problem: Problem, random: Sequence[Trace]) -> dict[str, Any] | None:
    """The average random arch; and, as what an improvement has to be seen beside, that of half of a seed's random archs
    on the other half: zero, but for luck. Of single archs it would be zero on average only, for a few are far worse
    than all others."""
    held = [_judged(problem, t) for t in random]
    everything = [v for values in held for v in values]
    if len(everything) < FEWEST_RANDOM:
        return None
    sign = 1 if problem.judge.maximise else -1
    halves = [(values[: len(values) // 2], values[len(values) // 2 :]) for values in held if len(values) > 1]
    means = [(float(np.mean(first)), float(np.mean(second))) for first, second in halves]
    shares = [sign * 100 * (second - first) / abs(first) for first, second in means if first]
    return (
        {"n": len(everything), **_described(everything), "relative_improvement": _shares(shares, len(everything))}
        if (shares)
        else None
    )


def _judged(problem: Problem, trace: Trace) -> list[float]:
    """The verdicts on everything usable that a search evaluated."""
    usable = np.isfinite(trace.costs(problem)).all(axis=1)
    values = np.asarray(trace.values[problem.judge.metric], dtype=np.float64)
    return [float(v) for v in values[usable & np.isfinite(values)]]


def _average(problem: Problem, trace: Trace) -> float:
    values = _judged(problem, trace)
    return float(np.mean(values)) if values else math.nan


def _volumes(
    problem: Problem, rivals: Mapping[str, Sequence[Trace]], random: Sequence[Trace]
) -> dict[str, dict[str, Any]]:
    """Of two or three objectives, the fronts' hypervolumes tested as the results are: from one reference, beyond the
    worst costs of every front there is, and as shares of what all searches together cover."""
    if not 2 <= len(problem.objectives) <= MOST or not random:
        return {}
    found = {id(t): _front(t.costs(problem)) for group in [*rivals.values(), random] for t in group}
    fronts = [points for points in found.values() if len(points)]
    if not fronts:
        return {}
    everything = np.vstack(fronts)
    reference = reference_of(everything)
    whole = hypervolume(everything, reference)
    tests, about = {}, {}
    for name, group in rivals.items():
        pairs, how = pairs_of(group, random)
        shares = []
        for ours, theirs in pairs:
            n = min(len(ours), len(theirs))
            shares.append([hypervolume(_front(t.costs(problem)[:n]), reference) / whole for t in (ours, theirs)])
        if shares:
            a, b = np.array(shares).T
            tests[name] = paired(a, b)
            about[name] = {"mean": float(a.mean()), "random": float(b.mean()), "paired": how}
    return {name: {**test, **about[name]} for name, test in declared(tests).items()}


def _front(costs: pareto.Costs) -> pareto.Costs:
    usable = costs[np.isfinite(costs).all(axis=1)]
    return np.asarray(usable[pareto.nondominated(usable)]) if len(usable) else usable


def _tau(problem: Problem, traces: Sequence[Trace], drawn: bool) -> dict[str, Any]:
    """Of the first objective with the verdict, over the archs that random search drew: a search's own are the good
    ones, and rank worse than all."""
    if problem.verdict is None:
        none = {"value": None, "n": 0, "low": None, "high": None, "note": "what the search sees is the verdict itself"}
        return {"all": none, "top": none}
    seen, judged = (problem.objectives[0], problem.verdict)
    columns = [(t.values[seen.metric], t.values[judged.metric]) for t in traces]
    # Two searches may evaluate one arch: a pair of values counts once.
    pairs = {(a, b) for s, j in columns for a, b in zip(s, j, strict=True) if math.isfinite(a) and math.isfinite(b)}
    ordered = np.array(sorted(pairs), dtype=np.float64).reshape(-1, 2)
    cheap = (1 if seen.maximise else -1) * ordered[:, 0]
    true = (1 if judged.maximise else -1) * ordered[:, 1]
    note = f"{len(ordered)} random archs" if drawn else f"{len(ordered)} archs that searches chose, not random ones"
    return {"all": kendall_tau(cheap, true, resamples=RESAMPLES, note=note), "top": top_tau(cheap, true)}


def _spread(values: Sequence[float]) -> dict[str, Any] | None:
    """Of what seeds gave: ``values``, and what there is to say of them; None of none."""
    finite = [float(v) for v in values if math.isfinite(v)]
    if not finite:
        return None
    return {"values": finite, **_described(finite)}


def _described(values: Sequence[float]) -> dict[str, Any]:
    low, median, high = np.quantile(values, [0.25, 0.5, 0.75])
    deviation = float(np.std(values, ddof=1)) if len(values) > 1 else None
    return {
        "mean": float(np.mean(values)), "sd": deviation, "low": float(low), "median": float(median),
        "high": float(high), "min": float(min(values)), "max": float(max(values)),
    }  # fmt: skip
