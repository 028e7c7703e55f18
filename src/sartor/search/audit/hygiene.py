"""Whether test data stayed out of a search: what searches saw, what judged them, and how the winner was chosen."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence

import numpy as np

from sartor.search.trace import Problem, Trace

CLEAN, FOUL, UNKNOWN = "clean", "not clean", "cannot tell"


def check(name: str, verdict: str, why: str) -> dict[str, str]:
    """One question to a search, its answer, and the reason."""
    return {"check": name, "verdict": verdict, "why": why}


def is_test(metric: str) -> bool:
    """Whether a metric's name says that it was measured on test data."""
    words = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", metric).lower()
    return re.search(r"(?<![a-z])(test(set|ing)?|(hold|held)[-_ ]?out)(?![a-z])", words) is not None


def hygiene(problem: Problem, traces: Sequence[Trace]) -> list[dict[str, str]]:
    """The checks that every search gets. Names are all that tells test data: ``acc_test`` is, ``quality`` may be."""
    return [_seen(problem), _verdict(problem, traces), _chosen(problem, traces)]


def _seen(problem: Problem) -> dict[str, str]:
    question = "no search saw test data"
    tests = [o.metric for o in problem.objectives if is_test(o.metric)]
    if tests:
        return check(question, FOUL, f"{', '.join(tests)} was an objective: what it found is fitted to the test data")
    names = ", ".join(o.metric for o in problem.objectives)
    return check(question, CLEAN, f"it saw {names}")


def _verdict(problem: Problem, traces: Sequence[Trace]) -> dict[str, str]:
    question = "what judges is not what was searched by"
    seen = problem.objectives[0]
    if problem.verdict is None:
        why = f"{seen.metric} is both: the best of many noisy values is better than the arch is"
        return check(question, FOUL, why)
    if problem.verdict.metric in {o.metric for o in problem.objectives}:
        return check(question, FOUL, f"{problem.verdict.metric} was an objective, too: the search saw what judges it")
    compared = False
    for trace in traces:
        a, b = (np.asarray(trace.values[m], dtype=np.float64) for m in (seen.metric, problem.verdict.metric))
        both = np.isfinite(a) & np.isfinite(b)
        compared |= bool(both.any())
        if both.any() and not np.allclose(a[both], b[both], rtol=1e-9, atol=0):
            return check(question, CLEAN, f"searched by {seen.metric}, judged by {problem.verdict.metric}")
    if not compared:
        return check(question, UNKNOWN, f"no evaluation has both {seen.metric} and {problem.verdict.metric}")
    return check(question, FOUL, f"{problem.verdict.metric} holds the same numbers as {seen.metric}")


def _chosen(problem: Problem, traces: Sequence[Trace]) -> dict[str, str]:
    """Whether what was told as the best so far is the verdict on the best by what the search saw."""
    question = "the winner was not chosen by the verdict"
    told = [t for t in traces if t.told is not None]
    if problem.verdict is None:
        return check(question, UNKNOWN, "there is no verdict but what was searched by")
    if not told:
        return check(question, UNKNOWN, "what was reported as the best was not written down")
    turn = np.fmax if problem.verdict.maximise else np.fmin
    wrong = luck = 0.0
    for trace in told:
        assert trace.told is not None
        honest = np.array(trace.results(problem))
        best = turn.accumulate(np.asarray(trace.values[problem.verdict.metric], dtype=np.float64))
        wrong += not np.allclose(honest, trace.told, rtol=1e-9, atol=0, equal_nan=True)
        luck += abs(float(best[-1] - honest[-1])) / len(told)
    if wrong:
        why = f"{wrong:.0f} of {len(told)} searches report another winner than the one their own evaluations name"
        return check(question, FOUL, why)
    gift = (
        "" if math.isnan(luck) else f"; choosing by it would have told {luck:.3g} better, which is not theirs to have"
    )
    return check(question, CLEAN, f"the winner is the best by {problem.objectives[0].metric}{gift}")
