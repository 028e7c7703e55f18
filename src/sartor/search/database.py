"""The database that a store is in: an SQLite file, or a PostgreSQL server that many machines share.

Optuna makes the tables; what is written goes through :meth:`Database.transact`, because Optuna's storage has no call
that does two things in one transaction, and its own ``add_trial`` asks twenty questions before it writes an arch of
ten choices.
"""

from __future__ import annotations

import contextlib
import logging
import random
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from sartor.disk import make_dir
from sartor.errors import InputError

if TYPE_CHECKING:
    from optuna.storages import RDBStorage
    from sqlalchemy import URL, Connection
    from sqlalchemy.exc import DBAPIError

log = logging.getLogger(__name__)

T = TypeVar("T")

PATIENCE_S = 300.0
"""How long a server may be away in the middle of a search: a restart, an upgrade, a failover."""

LONGEST_PAUSE_S = 10.0

OPENING_S = 30.0
"""How long to try again to open a database whose tables other processes are just making."""

SERVER = {"connect_timeout": 10, "keepalives_idle": 30, "keepalives_interval": 10, "keepalives_count": 3}
"""A machine that is gone without a word is noticed within a minute, not after TCP's quarter of an hour."""


class Database:
    """An open database. ``place`` is a file's path, or a URL: ``sqlite:///PATH``, ``postgresql+psycopg://USER@HOST/DB``.

    ``where`` is how to name it in a message: the path, or the URL without its password. A server that does not answer
    is waited for: up to ``opening_s`` when it is opened, and up to ``patience_s`` later on. Raises InputError in one
    line when it cannot be opened.
    """

    def __init__(self, place: Path | str, patience_s: float = PATIENCE_S, opening_s: float = 0.0):
        self.url = _url(place)
        self.is_file = self.url.get_backend_name() == "sqlite"
        self.where = str(self.url.database) if self.is_file else self.url.set(query={}).render_as_string()
        self.patience_s = patience_s
        self.back_at = -float("inf")  # on the monotonic clock: when it last came back from being away
        if self.is_file:
            make_dir(Path(self.where).parent)
        self.storage = self._patiently(self._open, opening_s)
        self.engine = self.storage.engine

    def transact(
        self,
        work: Callable[[Connection], T],
        *,
        study: int,
        durable: bool = True,
        patience_s: float | None = None,
    ) -> T:
        """What ``work`` returns, done in one transaction that no other process's runs beside in the same study.

        A server that is away is waited for, and the transaction is done again: ``work`` must bear being done twice,
        because the answer to a commit can be lost after the commit. When this returns, neither a kill nor, if
        ``durable``, a power cut loses what was written.
        """
        import sqlalchemy
        from optuna.storages._rdb.models import StudyModel

        def locked(connection: Connection) -> T:
            if self.is_file:
                level = "FULL" if durable else "NORMAL"
                if connection.info.get("synchronous") != level:  # kept with the connection
                    connection.exec_driver_sql(f"PRAGMA synchronous={level}")
                    connection.info["synchronous"] = level
                connection.exec_driver_sql("BEGIN IMMEDIATE")
            else:
                if not durable:
                    connection.exec_driver_sql("SET LOCAL synchronous_commit TO off")
                own = sqlalchemy.select(StudyModel.study_id).where(StudyModel.study_id == study)
                connection.execute(own.with_for_update())
            return work(connection)

        return self._patiently(lambda: self._begun(locked), self.patience_s if patience_s is None else patience_s)

    def read(self, work: Callable[[Connection], T]) -> T:
        """What ``work`` returns, which only reads."""
        return self._patiently(lambda: self._begun(work), self.patience_s)

    def close(self) -> None:
        """Fold the write-ahead log into the file, so that the file alone is the whole store."""
        if self.is_file:
            with self.one_line(), self.engine.connect() as connection:
                connection.exec_driver_sql("PRAGMA wal_checkpoint(TRUNCATE)")
        self.engine.dispose()

    @contextlib.contextmanager
    def one_line(self) -> Iterator[None]:
        """Turn what SQLAlchemy and Optuna raise into one line that names the fix."""
        import optuna
        import sqlalchemy

        try:
            yield
        except InputError:
            raise
        except ImportError as error:
            raise InputError(f"{self.where} needs a driver: pip install 'sartor[postgres]'") from error
        except (sqlalchemy.exc.SQLAlchemyError, optuna.exceptions.OptunaError, KeyError, ValueError) as error:
            cause = (str(error.__cause__ or error).splitlines() or [""])[0]
            unknown = "it is damaged or no study: choose another --out" if self.is_file else "check the server"
            fix = next((f for sign, f in _FIXES.items() if sign in cause), unknown)
            raise InputError(f"cannot use {self.where} ({cause}): {fix}") from error

    def _begun(self, work: Callable[[Connection], T]) -> T:
        with self.engine.begin() as connection:
            return work(connection)

    def _patiently(self, work: Callable[[], T], patience_s: float) -> T:
        import sqlalchemy

        began: float | None = None
        pause = 0.1
        while True:
            try:
                with self.one_line(), self._passing_on_what_is_away(patience_s > 0):
                    found = work()
                if began is not None:
                    self.back_at = time.monotonic()
                    log.warning("%s is back", self.where)
                return found
            except _Away as away:
                error = away.__cause__
                assert isinstance(error, sqlalchemy.exc.DBAPIError)
                cause = str(error.orig).splitlines()[0]
                if began is None:
                    began = time.monotonic()
                    log.warning("%s is away (%s): waiting for up to %g s", self.where, cause, patience_s)
                waited = time.monotonic() - began
                if waited >= patience_s:
                    raise InputError(
                        f"{self.where} is away ({cause}), and was not back within {patience_s:g} s: nothing that was "
                        "finished is lost; run the same command again when it is back"
                    ) from error
                time.sleep(min(pause, patience_s - waited))
                pause = min(2 * pause, LONGEST_PAUSE_S)

    @contextlib.contextmanager
    def _passing_on_what_is_away(self, patient: bool) -> Iterator[None]:
        import sqlalchemy

        try:
            yield
        except sqlalchemy.exc.DBAPIError as error:
            if not patient or self.is_file or not _away(error):
                raise
            raise _Away from error

    def _open(self) -> RDBStorage:
        """Optuna's storage. Processes that begin at the same moment make the tables at the same moment, and all but
        one of them fail: they try again."""
        import optuna
        import sqlalchemy

        optuna.logging.set_verbosity(optuna.logging.WARNING)
        # check_same_thread off: a progress bar's thread may read. timeout: another process may be writing.
        if self.is_file:
            options: dict[str, Any] = {"connect_args": {"timeout": 30, "check_same_thread": False}}
        else:  # what is read after the lock must be what was committed before it, whatever the server's default
            options = {"connect_args": dict(SERVER), "isolation_level": "READ COMMITTED"}
        url = self.url.render_as_string(hide_password=False).replace("{", "{{").replace("}", "}}")
        deadline = time.monotonic() + OPENING_S
        while True:
            try:
                storage = optuna.storages.RDBStorage(url, engine_kwargs=options)
                if self.is_file:
                    with storage.engine.connect() as connection:
                        # No kill can leave a torn page, and readers do not block. The file keeps it.
                        connection.exec_driver_sql("PRAGMA journal_mode=WAL")
                break
            except (sqlalchemy.exc.SQLAlchemyError, optuna.exceptions.StorageInternalError) as error:
                text = str(error.__cause__ or error).lower()
                just_made = any(sign in text for sign in ("already exists", "unique", "locked"))
                if not just_made or time.monotonic() > deadline:
                    raise
                time.sleep(random.uniform(0.02, 0.2))
        if self.is_file:

            @sqlalchemy.event.listens_for(storage.engine, "connect")
            def durable(connection: Any, _: object) -> None:
                connection.execute("PRAGMA synchronous=FULL")  # a power cut loses nothing

            storage.engine.dispose()  # the connection that made the tables has not been told yet
        return storage


class _Away(Exception):
    """The server did not answer, and may do so later."""


def _away(error: DBAPIError) -> bool:
    """Whether the same question may be answered later: the server stops, starts, has no connection left, or cannot be
    reached. What happens before a session is there has no code, only a text."""
    import sqlalchemy

    state = getattr(error.orig, "sqlstate", None)
    if state is not None:
        return state[:2] == "08" or state[:3] == "57P" or state in ("53300", "40001", "40P01")
    lasting = ("authentication failed", "does not exist", "no pg_hba.conf entry", "translate host name")
    return isinstance(error, (sqlalchemy.exc.OperationalError, sqlalchemy.exc.InterfaceError)) and not any(
        sign in str(error.orig) for sign in lasting
    )


def _url(place: Path | str) -> URL:
    import sqlalchemy

    if isinstance(place, Path) or "://" not in place:
        return sqlalchemy.engine.URL.create("sqlite", database=str(place))
    try:
        url = sqlalchemy.engine.make_url(place)
    except (sqlalchemy.exc.ArgumentError, ValueError) as error:
        raise InputError(
            "a store's URL is no URL: write sqlite:///PATH or postgresql+psycopg://USER@HOST/DB"
        ) from error
    backend = url.get_backend_name()
    if backend == "postgresql":
        return url.set(drivername="postgresql+psycopg")
    if backend == "sqlite" and url.database not in (None, "", ":memory:"):
        return sqlalchemy.engine.URL.create("sqlite", database=url.database)
    raise InputError(
        f"a store is an SQLite file or on a PostgreSQL server, not {url.render_as_string()}: "
        "write sqlite:///PATH or postgresql+psycopg://USER@HOST/DB"
    )


_FIXES = {
    "disk is full": "free some space and run the same command again",
    "No space left": "free some space on the server and run the same command again",
    "disk I/O error": "check the disk and its free space",
    "readonly": "fix the permissions or choose another --out",
    "read-only": "choose a server, or a user, that may write",
    "unable to open": "fix the permissions or choose another --out",
    "locked": "another program holds it open: close that program",
    "authentication failed": "give the password in the URL or in ~/.pgpass",
    "does not exist": "create it first, or correct the URL",
    "translate host name": "correct the host in the URL",
    "resolve host": "correct the host in the URL",
    "permission denied": "grant this user the rights to make and fill tables",
    "refused": "start the server, or correct host and port in the URL",
    "timeout": "start the server, or correct host and port in the URL",
}
