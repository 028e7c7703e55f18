"""Evaluated archs on disk: an Optuna study in an SQLite file, one finished trial a record.

A record is appended in one transaction, so a kill at any moment leaves it there or not there; what was being evaluated
is evaluated again. Everything is JSON; nothing is pickled. Optuna's own tools (``optuna-dashboard
sqlite:///RUN/study.db``) read the file: values are the objectives, parameters are the choices. Rejected: Optuna's ask
and tell, because a running trial that a kill leaves behind would have to be told apart from one that another process is
evaluating.
"""

from __future__ import annotations

import contextlib
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from sartor.disk import make_dir
from sartor.errors import InputError
from sartor.records import Record
from sartor.search.objective import ACCURACY_LATENCY, Objective, measured
from sartor.space.choice import Choice

if TYPE_CHECKING:
    from optuna.storages import RDBStorage
    from optuna.study import Study

FORMAT = 1
RECORD = "sartor.record"
IDENTITY = "sartor.identity"


class Store:
    """An append-only list of records in the study ``name`` of the file ``path``.

    ``choices`` are written as the trials' parameters; ``identity`` is anything JSON-able that must be the same whenever
    the store is opened again, such as the space and the data's fingerprint. Raises InputError in one line when the
    file is no store, is damaged, cannot be written, or holds the records of something else.

    Use it as a context manager, or call :meth:`close`: an open store keeps SQLite's ``-wal`` file beside its own. Do
    not copy or hash the file from the process that has it open: POSIX drops a process's locks on a file when it closes
    any descriptor of it, and SQLite relies on them.
    """

    def __init__(
        self,
        path: Path,
        *,
        name: str = "search",
        objectives: Sequence[Objective] = ACCURACY_LATENCY,
        choices: Sequence[Choice] = (),
        identity: Mapping[str, Any] | None = None,
    ):
        self.path = Path(path)
        self.objectives = tuple(objectives)
        self._choices = {choice.name: choice for choice in choices}
        expected = json.loads(
            json.dumps(
                {
                    "format": FORMAT,
                    "objectives": [[o.metric, o.maximise] for o in self.objectives],
                    "choices": [[c.name, list(c.options), c.when] for c in choices],
                    **(identity or {}),
                }
            )
        )
        make_dir(self.path.parent)
        with _one_line(self.path):
            self._storage, self._study = _open(self.path, name, self.objectives)
            held = self._study.user_attrs.get(IDENTITY)
            if held is None:
                self._study.set_user_attr(IDENTITY, expected)
            elif held != expected:
                changed = sorted(k for k in held.keys() | expected.keys() if held.get(k) != expected.get(k))
                raise InputError(
                    f"{self.path} holds the search of another problem ({', '.join(changed)} differ):"
                    " choose another --out or repeat the arguments it was made with"
                )
            self._records = self._read()

    def records(self) -> list[Record]:
        """Every finished evaluation, oldest first."""
        return list(self._records)

    def __len__(self) -> int:
        return len(self._records)

    def append(self, record: Record) -> None:
        """Add a finished evaluation; when this returns, a kill no longer loses it. Metrics must be finite."""
        bad = [k for k, v in record.metrics.items() if not math.isfinite(v)]
        if bad:
            raise InputError(f"{record.name}: {', '.join(bad)} is not finite: leave out what could not be measured")
        with _one_line(self.path):
            self._study.add_trial(self._trial(record))
        self._records.append(record)

    def close(self) -> None:
        """Fold the write-ahead log into the file, so that the file alone is the whole store."""
        import sqlalchemy

        engine = self._storage.engine
        with _one_line(self.path), engine.connect() as connection:
            connection.execute(sqlalchemy.text("PRAGMA wal_checkpoint(TRUNCATE)"))
        engine.dispose()

    def __enter__(self) -> Store:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _trial(self, record: Record) -> Any:
        import optuna

        params = {name: option for name, option in record.arch.items() if name in self._choices}
        complete = measured(record.metrics, self.objectives)
        return optuna.trial.create_trial(
            state=optuna.trial.TrialState.COMPLETE if complete else optuna.trial.TrialState.FAIL,
            values=[record.metrics[o.metric] for o in self.objectives] if complete else None,
            params=params,
            distributions={
                name: optuna.distributions.CategoricalDistribution(self._choices[name].options) for name in params
            },
            user_attrs={RECORD: record.to_dict()},
        )

    def _read(self) -> list[Record]:
        trials = self._study.get_trials(deepcopy=False)
        return [Record.from_dict(trial.user_attrs[RECORD]) for trial in trials if RECORD in trial.user_attrs]


def _open(path: Path, name: str, objectives: Sequence[Objective]) -> tuple[RDBStorage, Study]:
    import optuna
    import sqlalchemy

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    # check_same_thread off: a progress bar's thread may read. timeout: a dashboard may hold the file for a moment.
    url = sqlalchemy.engine.URL.create("sqlite", database=str(path)).render_as_string()
    arguments = {"timeout": 30, "check_same_thread": False}
    storage = optuna.storages.RDBStorage(url, engine_kwargs={"connect_args": arguments})

    @sqlalchemy.event.listens_for(storage.engine, "connect")
    def durable(connection: Any, _: object) -> None:
        connection.execute("PRAGMA journal_mode=WAL")  # a kill can never leave a torn page, and readers do not block
        connection.execute("PRAGMA synchronous=FULL")  # a power cut loses nothing either

    storage.engine.dispose()  # the connection that made the tables has not been told yet
    study = optuna.create_study(
        storage=storage,
        study_name=name,
        directions=["maximize" if o.maximise else "minimize" for o in objectives],
        load_if_exists=True,
    )
    return storage, study


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


@contextlib.contextmanager
def _one_line(path: Path) -> Iterator[None]:
    """Turn what SQLAlchemy and Optuna raise into one line that names the fix."""
    import optuna
    import sqlalchemy

    try:
        yield
    except InputError:
        raise
    except (sqlalchemy.exc.SQLAlchemyError, optuna.exceptions.OptunaError, KeyError, ValueError) as error:
        cause = str(error.__cause__ or error).splitlines()[0]
        fixes = {
            "disk is full": "free some space and run the same command again",
            "disk I/O error": "check the disk and its free space",
            "readonly": "fix the permissions or choose another --out",
            "unable to open": "fix the permissions or choose another --out",
            "locked": "another program holds it open: close that program",
        }
        fix = next((f for sign, f in fixes.items() if sign in cause), "it is damaged or no study: choose another --out")
        raise InputError(f"cannot use {path} ({cause}): {fix}") from error
