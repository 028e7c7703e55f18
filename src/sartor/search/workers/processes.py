"""Workers on this machine, a process each.

They are spawned. Rejected: forking, because a fork takes along the locks of threads that it does not have (a BLAS's,
torch's, a database connection's) and hangs on them; and a fork server, which saves a second a worker and keeps what it
loaded first, be it changed since.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import threading
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess
from multiprocessing.reduction import ForkingPickler
from typing import Any

from sartor.errors import InputError, SartorError
from sartor.records import Arch, Record
from sartor.search.store import Store
from sartor.search.strategy import Strategy
from sartor.search.workers.claims import DEATHS, HEARTBEAT_S
from sartor.search.workers.work import work
from sartor.space.space import Space

STOPPING_S = 5.0
"""How long workers may take to give back what they are at."""


def run_workers(
    workers: int,
    space: Space,
    evaluate: Callable[[Arch], Mapping[str, float]],
    strategy: Strategy,
    store: Store,
    *,
    evaluations: int,
    seed: int,
    batch: int = 8,
    initial: Sequence[Arch] = (),
    provenance: Mapping[str, Any] | None = None,
    heartbeat_s: float = HEARTBEAT_S,
) -> list[Record]:
    """:func:`sartor.search.workers.work` in ``workers`` processes of this machine; processes elsewhere may join in.

    A worker that dies is replaced. One whose evaluator raises stops the others, which give back what they are at; so
    does Ctrl-C. ``space``, ``evaluate`` and ``strategy`` go to the processes by pickling, in memory: a function at the
    top of a module does, a lambda does not. As with every Python program that spawns, a script's own call stands below
    ``if __name__ == "__main__":``.

    Raises InputError as ``work`` does, where something cannot be sent, where workers die before they begin, and where
    they go on dying without one evaluation finished.
    """
    if workers < 1 or workers > batch:
        raise InputError(
            f"{workers} workers need batch >= {max(workers, 1)}, not {batch}: only what is proposed together is "
            "evaluated side by side"
        )
    options = {
        "evaluations": evaluations,
        "seed": seed,
        "batch": batch,
        "initial": tuple(initial),
        "provenance": provenance,
        "heartbeat_s": heartbeat_s,
    }
    arguments = {**store.arguments, "opening_s": store.arguments["patience_s"]}
    task = (space, evaluate, strategy, arguments, options)
    try:
        ForkingPickler.dumps(task)
    except Exception as error:  # pickling raises whatever an object's own code raises
        raise InputError(
            f"this cannot be sent to another process ({' '.join(str(error).split())[:200]}): "
            "give an evaluator and a strategy that are functions at the top of a module, not lambdas"
        ) from error
    started: dict[SpawnProcess, Connection] = {}
    try:
        for _ in range(workers):
            _start(task, started)
        _see_to(started, task, store, DEATHS * workers)
    finally:
        _stop(started)
    store.look()
    return store.records()


def _start(task: tuple[Any, ...], started: dict[SpawnProcess, Connection]) -> None:
    ours, theirs = multiprocessing.Pipe(duplex=False)
    process = multiprocessing.get_context("spawn").Process(target=_worker, args=(theirs, *task), name="sartor-worker")
    process.start()
    theirs.close()
    started[process] = ours


def _see_to(started: dict[SpawnProcess, Connection], task: tuple[Any, ...], store: Store, most_deaths: int) -> None:
    """Until every worker has come to its end: replace who dies, and raise what one of them says."""
    deaths, finished = 0, len(store)
    while started:
        wait([process.sentinel for process in started])
        for process in [process for process in started if not process.is_alive()]:
            said = _said(started.pop(process))
            process.join()
            code = process.exitcode
            process.close()
            if isinstance(said[-1], tuple):
                line, trace = said[-1]
                raise InputError(line) from (ElsewhereError(trace) if trace else None)
            if code == 0:
                continue
            how = f"by signal {-code}" if code is not None and code < 0 else f"with exit code {code}"
            if "ready" not in said:
                raise InputError(
                    f"a worker ended {how} before it began: give functions of a module that can be imported, and call "
                    'this below `if __name__ == "__main__":`'
                )
            store.look()
            deaths, finished = (deaths + 1, finished) if len(store) == finished else (1, len(store))
            if deaths >= most_deaths:
                raise InputError(
                    f"{deaths} workers died without one evaluation finished, the last {how}: is there memory for "
                    f"{len(started) + 1} of them?"
                )
            _start(task, started)


def _said(pipe: Connection) -> list[Any]:
    """All that a worker that has ended had said, oldest first, after a None."""
    said: list[Any] = [None]
    with contextlib.suppress(EOFError, OSError), pipe:
        while pipe.poll():
            said.append(pipe.recv())
    return said


def _stop(started: Mapping[SpawnProcess, Connection]) -> None:
    for process in started:
        if process.is_alive() and process.pid is not None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(process.pid, signal.SIGINT)
    deadline = time.monotonic() + STOPPING_S
    for process, pipe in started.items():
        process.join(max(0.0, deadline - time.monotonic()))
        process.kill()
        process.join()
        pipe.close()


class ElsewhereError(Exception):
    """What another process raised, as the cause of what is raised here: its traceback, as text."""

    def __str__(self) -> str:
        return f"in another process:\n{self.args[0]}"


def _worker(
    pipe: Connection,
    space: Space,
    evaluate: Callable[[Arch], Mapping[str, float]],
    strategy: Strategy,
    arguments: dict[str, Any],
    options: dict[str, Any],
) -> None:
    die_with_parent()
    try:
        pipe.send("ready")
        with Store(**arguments) as store:
            work(space, evaluate, strategy, store, **options)
    except KeyboardInterrupt:
        os._exit(130)  # without a traceback a worker; the parent has its own
    except SartorError as error:
        pipe.send((str(error)[:5000], ""))
    except Exception as error:
        text = " ".join(str(error).split())[:500]
        line = f"the evaluator or the strategy raised {type(error).__name__}: {text}"
        # Cut, because a pipe holds 64 kB and nobody reads it before this process has ended.
        pipe.send((f"{line}: mend it and run the same command again", traceback.format_exc()[-20_000:]))


def die_with_parent(*, whole_group: bool = False) -> None:
    """End this process, as a kill would, when the one that started it has ended: nobody would hear of it. With
    ``whole_group``, all processes of its group."""
    parent = multiprocessing.parent_process()
    if parent is None:
        return

    def watch() -> None:
        wait([parent.sentinel])
        if whole_group:
            os.killpg(0, signal.SIGKILL)
        os._exit(1)

    threading.Thread(target=watch, name="watch-parent", daemon=True).start()
