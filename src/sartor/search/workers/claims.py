"""Who evaluates what: a batch that waits in the store, claimed arch by arch.

An evaluation is a trial that waits, runs, and has ended. Each step is one transaction of the study's, so one process
only takes it; a worker that is taken for dead and is not finds its claim given to another, and what it then has to say
is not written. Time is the database's: workers' clocks may differ. Rejected: Optuna's own ``fail_stale_trials``, which
makes a failed trial and a second one of the same arch, and lets a worker that only was slow write all the same.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from sartor.errors import InputError
from sartor.records import Arch, Record
from sartor.search.loop import Batch
from sartor.search.store import Store, check_finite
from sartor.search.trials import PLAN, Row
from sartor.search.workers.alive import is_gone, this_worker

if TYPE_CHECKING:
    from sqlalchemy import Connection

HEARTBEAT_S = 10.0
BEATS = 6
"""Heartbeats that a worker may miss. Each worker says how often its heart beats."""

DEATHS = 5
"""Workers that may die in the middle of an evaluation before it is recorded as one that cannot be made: one takes too
much memory, say, and takes whoever tries it along. Fewer, and a machine that is rebooted now and then would do it."""


@dataclass(frozen=True)
class Claim:
    """An evaluation that is this worker's to make. ``deaths``: how many died at it before."""

    trial: int
    index: int
    arch: Arch
    provenance: Mapping[str, Any]
    deaths: int


class Claims:
    """This process's share of the evaluations that are planned in ``store``. ``terms`` is what all who work on them
    must agree on."""

    def __init__(self, store: Store, terms: Mapping[str, Any], heartbeat_s: float = HEARTBEAT_S):
        import sqlalchemy
        from optuna.storages._rdb.models import TrialHeartbeatModel

        self.store = store
        self.terms = dict(terms)
        self.heartbeat_s = heartbeat_s
        self.worker = this_worker()
        self._hearts = TrialHeartbeatModel.__table__
        self._mine = {**self.worker.to_dict(), "heartbeat_s": heartbeat_s}
        there = self._hearts.c.trial_id == sqlalchemy.bindparam("trial")
        self._add_heart = self._hearts.insert().values(heartbeat=self._now())
        self._beat = self._hearts.update().where(there).values(heartbeat=self._now())
        self._delete_heart = self._hearts.delete().where(there)

    def plan(self, batch: Batch, archs: Sequence[Arch], provenance: Mapping[str, Any]) -> bool:
        """Write down ``archs`` of ``batch``, for anyone to claim, unless another worker has gone on meanwhile."""
        store, first = self.store, len(self.store)

        def write(connection: Connection) -> bool:
            if store.trials.rows(connection, store.finished_to):
                return False
            for place, arch in enumerate(archs):
                value = {
                    "index": first + place,
                    "arch": dict(arch),
                    "provenance": dict(provenance),
                    "terms": self.terms,
                    "worker": None,
                    "deaths": 0,
                }
                store.trials.plan(connection, arch, value)
            return True

        return self._transact(write, durable=False)

    def free(self, below: int) -> bool:
        """Whether there is something to take, as far as can be seen without a lock."""
        return self.store.database.read(lambda connection: self._free(connection, below)) is not None

    def take(self, below: int) -> Claim | None:
        """The first planned evaluation of an index ``below`` this one that waits, or whose worker is dead. None where
        others are at all of them. Raises InputError where another search than this one is on in the study."""

        def claim(connection: Connection) -> Claim | None:
            row = self._free(connection, below)
            if row is None:
                return None
            self.check([row])
            plan = row.value
            if plan["worker"] is not None and plan["worker"]["token"] == self.worker.token:
                return _claim(row.trial, plan)
            died = plan["worker"] is not None
            plan = {**plan, "worker": self._mine, "deaths": plan["deaths"] + died}
            self.store.trials.begin(connection, row.trial, plan)
            if died:
                self._forget(connection, row.trial)
            connection.execute(self._add_heart, {"trial_id": row.trial})
            return _claim(row.trial, plan)

        # A file's claim can be lost in a power cut only, and its worker with it; but a server crashes alone.
        return self._transact(claim, durable=not self.store.database.is_file)

    def beat(self, claim: Claim) -> bool:
        """Say that this worker is alive. False where the claim is no longer its own; True where nobody answers."""

        def write(connection: Connection) -> bool:
            if self._held(connection, claim) is None:
                return False
            connection.execute(self._beat, {"trial": claim.trial})
            return True

        try:
            return self._transact(write, durable=False, patience_s=0.0)
        except InputError:
            return True

    def finish(self, claim: Claim, record: Record) -> bool:
        """Store what became of it. False where another worker has the claim by now: then nothing is stored."""
        check_finite(record)

        def write(connection: Connection) -> bool:
            if self._held(connection, claim, or_nobodys=True) is None:
                return False
            self.store.trials.finish(connection, claim.trial, record)
            self._forget(connection, claim.trial)
            return True

        return self._transact(write)

    def give_back(self, claim: Claim) -> None:
        """Let another worker have it, now. Where the database is away, the others have to wait for its heartbeat."""

        def write(connection: Connection) -> None:
            row = self._held(connection, claim)
            if row is not None:
                self.store.trials.put_back(connection, claim.trial, {**row.value, "worker": None})
                self._forget(connection, claim.trial)

        with contextlib.suppress(InputError):
            self._transact(write, patience_s=0.0)

    def check(self, planned: Sequence[Row]) -> None:
        """Raises InputError where another search than this one is on in the study."""
        for row in planned:
            if row.value["terms"] != self.terms:
                theirs, mine = (", ".join(f"{k} {v}" for k, v in t.items()) for t in (row.value["terms"], self.terms))
                raise InputError(
                    f"the study {self.store.name} is being searched with {theirs}, not {mine}: "
                    "give the same, or choose another study"
                )

    def _transact(self, work: Any, *, durable: bool = True, patience_s: float | None = None) -> Any:
        return self.store.database.transact(work, study=self.store.trials.study, durable=durable, patience_s=patience_s)

    def _free(self, connection: Connection, below: int) -> Row | None:
        planned = [
            row for row in self.store.trials.planned(connection, self.store.finished_to) if row.value["index"] < below
        ]
        ages = self._ages(connection, [row.trial for row in planned if row.value["worker"] is not None])
        return next((row for row in planned if self._is_free(row.value["worker"], ages.get(row.trial))), None)

    def _is_free(self, worker: Mapping[str, Any] | None, age_s: float | None) -> bool:
        if worker is None or worker["token"] == self.worker.token:  # own: the answer to the claim was lost
            return True
        if is_gone(worker) or age_s is None:
            return True
        # While the database was away no heart could beat, and those that beat again may come after this question.
        stale = BEATS * worker["heartbeat_s"]
        return age_s > stale and time.monotonic() - self.store.database.back_at > stale

    def _held(self, connection: Connection, claim: Claim, *, or_nobodys: bool = False) -> Row | None:
        """The row of ``claim``, if it still is this worker's; or nobody's, which a server's crash can make of it."""
        row = self.store.trials.row(connection, claim.trial)
        if row.key != PLAN:
            return None
        worker = row.value["worker"]
        mine = or_nobodys if worker is None else worker["token"] == self.worker.token
        return row if mine else None

    def _forget(self, connection: Connection, trial: int) -> None:
        connection.execute(self._delete_heart, {"trial": trial})

    def _now(self) -> Any:
        """The database's time, in UTC, as an expression. (Its sessions may be in different time zones.)"""
        import sqlalchemy

        if self.store.database.is_file:
            return sqlalchemy.func.strftime("%Y-%m-%d %H:%M:%f", "now")
        return sqlalchemy.func.timezone("utc", sqlalchemy.func.clock_timestamp())

    def _ages(self, connection: Connection, trials: Sequence[int]) -> dict[int, float]:
        """Seconds since the last heartbeats, or since the server was started, if that was later."""
        import sqlalchemy

        if not trials:
            return {}
        heart, func = self._hearts.c.heartbeat, sqlalchemy.func
        if self.store.database.is_file:
            age = (func.julianday("now") - func.julianday(heart)) * 86400
        else:
            last = func.greatest(heart, func.timezone("utc", func.pg_postmaster_start_time()))
            age = func.extract("epoch", self._now() - last)
        query = sqlalchemy.select(self._hearts.c.trial_id, age).where(self._hearts.c.trial_id.in_(trials))
        return {trial: float(seconds) for trial, seconds in connection.execute(query)}


def _claim(trial: int, plan: Mapping[str, Any]) -> Claim:
    return Claim(trial, plan["index"], Arch(plan["arch"]), plan["provenance"], plan["deaths"])
