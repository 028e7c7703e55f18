"""Evaluated archs in a database: an Optuna study, one finished trial a record.

A record is appended in one transaction, so a kill at any moment leaves it there or not there; what was being evaluated
is evaluated again. Everything is JSON; nothing is pickled. Optuna's own tools (``optuna-dashboard
sqlite:///RUN/study.db``) read it: values are the objectives, parameters are the choices. Rejected: Optuna's ask and
tell, which writes an evaluation in as many transactions as it has parts, and does not know an arch that was evaluated
before.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

from sartor.errors import InputError
from sartor.records import Record
from sartor.search.database import PATIENCE_S, Database
from sartor.search.objective import ACCURACY_LATENCY, Objective
from sartor.search.trials import PLAN, RECORD, Row, Trials
from sartor.space.choice import Choice

if TYPE_CHECKING:
    from sqlalchemy import Connection

FORMAT = 1
IDENTITY = "sartor.identity"


class Store:
    """A list of records in the study ``name`` of ``place``: a file's path, or a database's URL
    (``sqlite:///PATH``, or ``postgresql+psycopg://USER@HOST/DB`` for many machines: a file's locks do not hold over a
    network).

    ``choices`` are written as the trials' parameters; ``identity`` is anything JSON-able that must be the same whenever
    the store is opened again, such as the space and the data's fingerprint. A server that goes away while the store is
    open is waited for, up to ``patience_s``, and up to ``opening_s`` one that is not there to begin with. Raises
    InputError in one line when ``place`` is no store, is damaged, cannot be written, stays away, or holds the records
    of something else.

    Use it as a context manager, or call :meth:`close`: an open store keeps SQLite's ``-wal`` file beside its own. Do
    not copy or hash the file from the process that has it open: POSIX drops a process's locks on a file when it closes
    any descriptor of it, and SQLite relies on them.
    """

    def __init__(
        self,
        place: Path | str,
        *,
        name: str = "search",
        objectives: Sequence[Objective] = ACCURACY_LATENCY,
        choices: Sequence[Choice] = (),
        identity: Mapping[str, Any] | None = None,
        patience_s: float = PATIENCE_S,
        opening_s: float = 0.0,
    ):
        self.name = name
        self.objectives = tuple(objectives)
        self.arguments: dict[str, Any] = {
            "place": place,
            "name": name,
            "objectives": self.objectives,
            "choices": tuple(choices),
            "identity": identity,
            "patience_s": patience_s,
        }
        """What another process opens the same store with."""
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
        self.database = Database(place, patience_s, opening_s)
        with self.database.one_line():
            study = self._study(expected)
            self.trials = Trials(study, self.objectives, choices)
        self._rows: dict[int, Record] = {}
        self.finished_to = -1
        """The last trial before which nothing is planned: what comes after it may change."""
        self.look()

    def records(self) -> list[Record]:
        """Every finished evaluation, as of the last :meth:`look` or :meth:`append`, in the order they were proposed."""
        return [self._rows[trial] for trial in sorted(self._rows)]

    def __len__(self) -> int:
        return len(self._rows)

    def look(self) -> list[Row]:
        """Read what other processes have finished; returns what is planned and not finished, first to last."""
        found = self.database.read(lambda connection: self.trials.rows(connection, self.finished_to))
        with self.database.one_line():
            self._rows |= {row.trial: Record.from_dict(row.value) for row in found if row.key == RECORD}
        planned = [row for row in found if row.key == PLAN]
        first = planned[0].trial if planned else math.inf
        self.finished_to = max([self.finished_to, *(row.trial for row in found if row.trial < first)])
        return planned

    def append(self, record: Record) -> None:
        """Add a finished evaluation; when this returns, a kill no longer loses it. Metrics must be finite.

        For one process that has the study for itself. Raises InputError where workers left evaluations unfinished:
        their archs have been given away.
        """
        check_finite(record)

        def add(connection: Connection) -> int:
            if self.trials.planned(connection, self.finished_to):
                raise InputError(
                    f"{self.database.where} holds evaluations that workers began and did not finish: "
                    "go on with sartor.search.run, which gives them to someone"
                )
            return self.trials.record(connection, record)

        trial = self.database.transact(add, study=self.trials.study)
        self._rows[trial] = record
        self.finished_to = max(self.finished_to, trial)

    def close(self) -> None:
        """Give the database back. A file is whole then: it alone is the whole store."""
        self.database.close()

    def __enter__(self) -> Store:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _study(self, expected: Mapping[str, Any]) -> int:
        import optuna

        storage = self.database.storage
        optuna.create_study(
            storage=storage,
            study_name=self.name,
            directions=["maximize" if o.maximise else "minimize" for o in self.objectives],
            load_if_exists=True,
        )
        study = storage.get_study_id_from_name(self.name)
        if IDENTITY not in storage.get_study_user_attrs(study):
            storage.set_study_user_attr(study, IDENTITY, expected)
        held = storage.get_study_user_attrs(study)[IDENTITY]  # read back: another process may have been first
        if held != expected:
            changed = sorted(k for k in held.keys() | expected.keys() if held.get(k) != expected.get(k))
            raise InputError(
                f"{self.database.where} holds the search of another problem ({', '.join(changed)} differ):"
                " choose another --out or repeat the arguments it was made with"
            )
        return study


def check_finite(record: Record) -> None:
    """Raises InputError where a metric is not finite: JSON has no such number."""
    bad = [k for k, v in record.metrics.items() if not math.isfinite(v)]
    if bad:
        raise InputError(f"{record.name}: {', '.join(bad)} is not finite: leave out what could not be measured")
