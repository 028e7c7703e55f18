"""Was a search worth it? Of searches that were written down, of fits, of studies, or of a contest run on the spot."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from sartor.errors import InputError
from sartor.report.files import RunFiles, read_run
from sartor.search.audit.gap import setting_gap
from sartor.search.audit.hygiene import CLEAN, FOUL, UNKNOWN, check
from sartor.search.audit.judge import audit
from sartor.search.audit.poison import COPIES, KINDS, harmful, robustness
from sartor.search.audit.read import joined, read_searches_of, read_studies, traces_of
from sartor.search.contest import contest
from sartor.search.named import run, strategy_of
from sartor.search.tables.table import Table
from sartor.search.trace import RANDOM, Problem, Trace

LEAST_HARM = 200
"""Random archs from which harmful options are told, at least: as many as the audit's seeds evaluated, or so many."""


Audited = tuple[dict[str, Any], Problem, list[Trace]]
"""The audit, and what it is of."""


def audit_files(paths: Sequence[str | Path], *, baseline: str = RANDOM) -> Audited:
    """The audit of what is in ``paths``, together: files of ``sartor search --json``, studies, folders of fits.

    ``baseline`` is the strategy, or the study, that is random search. Raises InputError where a path is none of these,
    is empty, or is of another problem than the others.
    """
    sources = [Path(path) for path in paths]
    runs = {path: read_run(path) for path in sources if path.is_dir()}
    problem, traces = joined([(p, _read_run(p, runs[p]) if p in runs else read_searches_of(p)) for p in sources])
    found = audit(problem, traces, baseline=baseline)
    if runs:
        found["notes"].append("a fit's random sample begins with its largest and smallest network, which are not drawn")
    for path, files in runs.items():
        found["hygiene"] += _hygiene(path, files)
    taus = [files.evidence["tau"] for files in runs.values() if files.evidence.get("tau")]
    if len(taus) == 1:  # of several runs: their networks were trained for different times, and are not one sample
        found["tau"]["all"] = dict(taus[0])
    return found, problem, traces


def audit_table(
    table: Table,
    strategies: Sequence[str],
    budget: int,
    seeds: int,
    *,
    batch: int = 1,
    poison: Sequence[int] = (),
    kind: str = COPIES,
    setting: str | None = None,
    progress: Callable[[Iterable[dict[str, Any]]], Iterable[dict[str, Any]]] = iter,
) -> Audited:
    """The audit of ``strategies`` on ``table``, with random search beside them.

    ``poison``: how many bad options to add to each choice, once for each number (``search.audit.poison``).
    ``setting``: a choice that is one, such as the depth (``search.audit.gap``). ``progress`` is handed the contest's
    searches. Raises InputError for strategies and settings that there are not.
    """
    names = list(dict.fromkeys([RANDOM, *strategies]))
    for name in names:
        strategy_of(name)
    if kind not in KINDS or any(n < 1 for n in poison):
        raise InputError(f"--poison-with is {' or '.join(KINDS)}, --poison 1 or more: not {kind!r} and {list(poison)}")
    _ = table.problem  # before the work: with fidelities there is none
    gap = None if setting is None else setting_gap(table, setting)  # before the work: it may not be there
    problem, traces = traces_of(list(progress(contest(table, names, budget, seeds, batch=batch))))
    found = audit(problem, traces)
    found["gap"] = gap
    if poison:
        history = run(
            table.space, table.evaluate, RANDOM, max(LEAST_HARM, budget), objectives=table.objectives, batch=batch
        )
        found["poison"] = {
            "robustness": robustness(table, names[1:], budget, seeds, instances=poison, kind=kind, batch=batch),
            "harmful": harmful(table, history),
        }
    return found, problem, traces


def _read_run(path: Path, files: RunFiles) -> tuple[Problem, list[Trace]]:
    """A fit's two studies. Both have the run's seed: random's own is the next one, so that it draws other archs."""
    study = path / "study.db"
    if not study.is_file():
        raise InputError(f"{path} has no study.db: its search has not begun; go on with `sartor fit … --out {path}`")
    problem, traces = read_studies(study)
    limit = files.arguments.get("max_latency_ms")
    if limit and "int8" not in (files.arguments.get("precision") or ()):  # with int8 it may go over, for 8 bits save it
        problem = replace(problem, limits={"latency_ms": float(limit)})
    seed = int(files.info.get("seed", files.arguments.get("seed", 0)))
    return problem, [replace(trace, seed=seed) for trace in traces]


def _hygiene(path: Path, files: RunFiles) -> list[dict[str, str]]:
    """What a run's own files say of its test images."""
    return [_splits(path, files), _picked(path, files)]


def _splits(path: Path, files: RunFiles) -> dict[str, str]:
    question = f"{path.name}: test images are none of those searched with"
    splits: Mapping[str, Any] = (files.info.get("data") or {}).get("splits") or {}
    hashes = {name: (split or {}).get("sha256") for name, split in splits.items()}
    if "test" not in hashes or not all(hashes.values()):
        return check(question, UNKNOWN, "run.json does not say which images each split has")
    same = [name for name, value in hashes.items() if name != "test" and value == hashes["test"]]
    if same:
        return check(question, FOUL, f"test and {same[0]} are the same images")
    return check(question, CLEAN, "its splits differ")


def _picked(path: Path, files: RunFiles) -> dict[str, str]:
    question = f"{path.name}: test accuracy did not choose the network"
    front, picked = files.records, files.picked_record
    if picked is None or not all("accuracy_val" in r.metrics and "accuracy_test" in r.metrics for r in front):
        return check(question, UNKNOWN, "it has no front yet, or one without both accuracies")
    best_val = max(r.metrics["accuracy_val"] for r in front)
    best_test = max(r.metrics["accuracy_test"] for r in front)
    if picked.metrics["accuracy_val"] >= best_val:
        return check(question, CLEAN, "the one picked is the best on the validation images")
    if picked.metrics["accuracy_test"] >= best_test:
        return check(question, FOUL, "the one picked is the best on the test images, and not on the validation images")
    return check(question, UNKNOWN, "the one picked is the best on neither")
