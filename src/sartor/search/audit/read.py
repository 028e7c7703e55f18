"""Searches that were written down, as traces: the file of ``sartor search --json``, and studies of Optuna."""

from __future__ import annotations

import contextlib
import hashlib
import json
import math
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from sartor.disk import read_json
from sartor.errors import InputError
from sartor.search.objective import ACCURACY_LATENCY, Objective
from sartor.search.store import IDENTITY
from sartor.search.trace import Problem, Trace
from sartor.search.trials import RECORD

if TYPE_CHECKING:
    from optuna.study import Study

Searched = tuple[Problem, list[Trace]]


def joined(sources: Sequence[tuple[Path, Searched]]) -> Searched:
    """The searches of several files, which must be of one problem, each seed of a strategy once.

    Raises InputError naming the file, and what about it differs.
    """
    if not sources:
        raise InputError("name what to audit: the file of a search, the folder of a fit, or a study")
    first, (problem, _) = sources[0]
    held: dict[tuple[str, int], Path] = {}
    traces: list[Trace] = []
    for path, (its, more) in sources:
        if differ := _differ(problem, its):
            raise InputError(f"{first} and {path} are not of one problem: {differ}; audit them apart")
        for trace in more:
            key = (trace.strategy, trace.seed)
            if key in held:
                again = f"seed {trace.seed} of {trace.strategy} is in {held[key]} and again in {path}"
                raise InputError(f"{again}: name each search once")
            held[key] = path
        traces += more
    return problem, traces


def read_searches_of(path: Path) -> Searched:
    """The searches of one file: a .json file that ``sartor search --json`` wrote, or an SQLite file of studies."""
    try:
        begin = path.open("rb").read(16)
    except OSError as error:
        raise InputError(f"cannot read {path} ({error.strerror}): name the file of a search") from error
    if begin.startswith(b"SQLite format 3"):
        return read_studies(path)
    return read_json_runs(path)


def read_json_runs(path: Path) -> Searched:
    """What ``sartor search --json`` wrote. Raises InputError where it is something else, empty, or of two problems."""
    value = read_json(path)
    if not isinstance(value, list) or not all(isinstance(entry, dict) for entry in value):
        raise InputError(f"{path} is no list of searches: write one with `sartor search --table T --json {path.name}`")
    if not value:
        raise InputError(f"{path} holds no search: the contest was stopped before the first one ended")
    try:
        return traces_of(value)
    except (InputError, TypeError, ValueError, KeyError, AttributeError, OverflowError) as error:
        said = f"{error} is missing" if isinstance(error, KeyError) else error
        fix = "write it again with `sartor search --json`, without fidelities"
        raise InputError(f"{path} cannot be audited ({said}): {fix}") from error


def traces_of(runs: Sequence[dict[str, Any]]) -> Searched:
    """What :func:`sartor.search.contest.contest` gave. Raises InputError where there are two problems, or none, and
    KeyError, TypeError or ValueError where it is something else."""
    if not runs:
        raise InputError("it holds no search")
    problem = Problem.from_dict(runs[0]["problem"])
    traces: dict[tuple[str, int], Trace] = {}
    for entry in runs:
        its = Problem.from_dict(entry["problem"])
        if differ := _differ(problem, its):
            raise InputError(f"it holds searches of two problems: {differ}")
        trace = _trace(entry, problem)
        if (trace.strategy, trace.seed) in traces:
            raise InputError(f"seed {trace.seed} of {trace.strategy} is in it twice")
        traces[trace.strategy, trace.seed] = trace
    return problem, list(traces.values())


def _trace(entry: dict[str, Any], problem: Problem) -> Trace:
    values = {m: [math.nan if v is None else float(v) for v in entry["values"][m]] for m in problem.metrics}
    told = entry.get("best_so_far")
    lengths = {len(column) for column in values.values()} | ({len(told)} if told is not None else set())
    if len(lengths) != 1 or 0 in lengths:
        raise InputError("its searches are empty, or their columns differ in length")
    return Trace(
        str(entry["strategy"]),
        int(entry["seed"]),
        values,
        seconds=None if entry.get("seconds") is None else float(entry["seconds"]),
        told=None if told is None else [float(v) for v in told],
    )


def read_studies(path: Path) -> Searched:
    """Every study of an SQLite file as one search: what ``sartor.search.store`` or any other Optuna program wrote.

    A study's name is its strategy, and the number behind a dash its seed, as in ``tpe-3``; without one, the seed its
    records tell, or 0. The one called ``random`` is the baseline: a study does not say what sampled it. Trials that
    failed or were pruned cost an evaluation and gave nothing. Raises InputError where there is no study, no finished
    trial, or the studies are not of one problem.
    """
    problem: Problem | None = None
    traces: list[Trace] = []
    with read_only(path) as studies:
        for study in studies:
            trials = [t for t in study.get_trials(deepcopy=False) if t.state.is_finished()]
            if not trials:
                continue
            objectives = _objectives(study)
            its = Problem(_space_of(study, trials), objectives)
            if problem is not None and (differ := _differ(problem, its)):
                raise InputError(f"{path} holds studies of two problems: {differ}; put them into files of their own")
            problem = its
            traces.append(_study_trace(study.study_name, trials, objectives))
    if problem is None:
        raise InputError(
            f"{path} holds no study with a finished trial: name the file of a search that evaluated something"
        )
    return problem, traces


@contextlib.contextmanager
def read_only(path: Path) -> Iterator[list[Study]]:
    """Every study of an SQLite file that any Optuna program wrote, to read without writing to it.

    Raises InputError where the file is none, or is damaged.
    """
    import optuna
    import sqlalchemy

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    name = f"file:{quote(str(Path(path).absolute()))}"
    url = sqlalchemy.engine.URL.create("sqlite", database=name, query={"mode": "ro", "uri": "true"})
    storage = None
    try:
        storage = optuna.storages.RDBStorage(url.render_as_string(), skip_table_creation=True)
        names = optuna.get_all_study_names(storage)
        yield [optuna.load_study(study_name=name, storage=storage) for name in names]
    except InputError:
        raise
    except (sqlalchemy.exc.SQLAlchemyError, optuna.exceptions.OptunaError, KeyError, ValueError, RuntimeError) as error:
        cause = str(error.__cause__ or error).splitlines()[0]
        raise InputError(f"{path} is no file of studies, or damaged ({cause}): name one that Optuna wrote") from error
    finally:
        if storage is not None:
            storage.engine.dispose()


def _space_of(study: Any, trials: Sequence[Any]) -> str:
    """A name that two studies share where they are of one space and one data set: what a store wrote down, or the
    parameters that every trial has."""
    held = study.user_attrs.get(IDENTITY)
    if held:
        space = [held.get("choices"), held.get("data")]
        return f"{len(held.get('choices') or ())} choices, {_digest(space)}"
    drawn = [t.distributions for t in trials if t.distributions]  # others failed before they asked for anything
    common = sorted(set.intersection(*map(set, drawn))) if drawn else []
    return f"{len(common)} parameters, {_digest([[name, str(drawn[0][name])] for name in common])}"


def _digest(value: object) -> str:
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:8]


def _objectives(study: Any) -> tuple[Objective, ...]:
    """A study's directions, with the names a store or the study itself has for them."""
    ups = [d.name == "MAXIMIZE" for d in study.directions]
    held = study.user_attrs.get(IDENTITY)
    names = [m for m, _ in held["objectives"]] if held else study.metric_names
    named = names or [f"value {i}" for i in range(len(ups))]
    usual = {(o.metric, o.maximise): o for o in ACCURACY_LATENCY}  # on their scales, which a study does not tell
    return tuple(usual.get((m, up), Objective(m, up)) for m, up in zip(named, ups, strict=True))


def _study_trace(name: str, trials: Sequence[Any], objectives: Sequence[Objective]) -> Trace:
    values: dict[str, list[float]] = {o.metric: [] for o in objectives}
    for trial in trials:
        complete = trial.state.name == "COMPLETE" and trial.values is not None
        for place, objective in enumerate(objectives):
            values[objective.metric].append(float(trial.values[place]) if complete else math.nan)
    records = [t.user_attrs[RECORD] for t in trials if RECORD in t.user_attrs]
    match = re.fullmatch(r"(.+?)[\s:_-]+(\d+)", name)
    seeds = {record["provenance"].get("seed") for record in records} - {None}
    seed = int(match[2]) if match else int(min(seeds, default=0))
    took = [record["provenance"]["seconds"] for record in records if "seconds" in record["provenance"]]
    if not records:
        took = [t.duration.total_seconds() for t in trials if t.duration is not None]
    strategy = (match[1] if match else name) or name
    return Trace(strategy, seed, values, evaluation_seconds=sum(took) if took else None)


def _differ(a: Problem, b: Problem) -> str:
    """What about two problems differs, in words; empty where they are one."""
    mine, others = a.to_dict(), b.to_dict()
    said = [f"{k} {json.dumps(mine[k])} and {json.dumps(others[k])}" for k in mine if mine[k] != others[k]]
    return ", ".join(said)
