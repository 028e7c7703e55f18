"""Evaluators that cannot hold up a search: a time limit, tries, and a process to crash in."""

from __future__ import annotations

import contextlib
import math
import multiprocessing
import os
import signal
import time
import traceback
from collections.abc import Callable, Mapping
from multiprocessing.connection import Connection
from multiprocessing.context import SpawnProcess
from multiprocessing.reduction import ForkingPickler
from multiprocessing.util import Finalize
from types import TracebackType
from typing import Any, TypeAlias

from sartor.errors import InputError, SartorError
from sartor.records import Arch
from sartor.search.loop import NotMeasured, numbers
from sartor.search.workers.processes import ElsewhereError, die_with_parent

BEGIN_S = 300.0
"""How long the process may take to begin, to import the evaluator's module first of all: torch takes its time."""

ENDING_S = 10.0
LOOK_S = 1.0
"""Between two looks at whether the process is still there."""

Answer: TypeAlias = tuple[dict[str, float] | None, str, str]
"""What came out of an evaluation; or None, why nothing did, and the traceback where there is one."""


class Limited:
    """``evaluator`` in a process of its own, where it can neither hang nor crash the search. See :func:`limited`."""

    def __init__(
        self,
        evaluator: Callable[[Arch], Mapping[str, float]],
        seconds: float | None,
        retries: int,
        failures: int,
    ):
        if seconds is not None and not (math.isfinite(seconds) and seconds > 0):
            raise InputError(f"a time limit must be a positive number of seconds, not {seconds!r}")
        if retries < 0 or failures < 1:
            raise InputError(f"a limit needs retries >= 0 and failures >= 1, not {retries} and {failures}")
        self.evaluator, self.seconds, self.retries, self.failures = evaluator, seconds, retries, failures
        self._in_a_row = 0
        self._child: tuple[SpawnProcess, Connection] | None = None
        self._end: Finalize | None = None

    def __call__(self, arch: Arch) -> dict[str, float]:
        """What the evaluator returns. Raises NotMeasured where it fails and is tried no more, and InputError where it
        has failed so many times in a row that the evaluator must be at fault."""
        for _ in range(1 + self.retries):
            found, reason, trace = self._try(arch)
            if found is not None:
                self._in_a_row = 0
                return found
        self._in_a_row += 1
        if self._in_a_row >= self.failures:
            raise InputError(
                f"{self._in_a_row} evaluations in a row failed, the last of {arch.key}: {reason}; "
                "mend the evaluator and run the same command again"
            ) from (ElsewhereError(trace) if trace else None)
        raise NotMeasured(reason)

    def close(self) -> None:
        """End the process. It is started again where it is needed."""
        if self._end is not None:
            self._end()
        self._end = self._child = None

    def __enter__(self) -> Limited:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __reduce__(self) -> tuple[Any, ...]:
        """In another process it has a process of its own there."""
        return Limited, (self.evaluator, self.seconds, self.retries, self.failures)

    def _try(self, arch: Arch) -> Answer:
        process, pipe = self._child or self._start()
        try:
            pipe.send(dict(arch))
            if _answered(process, pipe, self.seconds):
                return pipe.recv()
            reason = f"not done after {self.seconds:g} s"
        except (EOFError, OSError):
            process.join(ENDING_S)
            code = process.exitcode
            how = f"was killed by signal {-code}" if code is not None and code < 0 else f"ended with exit code {code}"
            reason = f"the process it ran in {how}"
        except BaseException:
            self.close()  # Ctrl-C: what it would answer is another question's answer
            raise
        self.close()
        return None, reason, ""

    def _start(self) -> tuple[SpawnProcess, Connection]:
        try:
            ForkingPickler.dumps(self.evaluator)
        except Exception as error:  # pickling raises whatever an object's own code raises
            raise InputError(
                f"this evaluator cannot be sent to another process ({' '.join(str(error).split())[:200]}): "
                "give a function at the top of a module, not a lambda"
            ) from error
        ours, theirs = multiprocessing.Pipe()
        process = multiprocessing.get_context("spawn").Process(
            target=_serve, args=(theirs, self.evaluator), name="sartor-evaluator"
        )
        process.start()
        theirs.close()
        # Before multiprocessing waits, at exit, for processes that are no daemons. (Daemons may have none of their own,
        # such as the workers of a data loader.)
        self._end = Finalize(self, _end, args=(process, ours), exitpriority=10)
        self._child = process, ours
        with contextlib.suppress(EOFError, OSError):
            if ours.poll(BEGIN_S) and ours.recv() == "ready":
                return self._child
        self.close()
        raise InputError(
            "the evaluator's process ended before it began: give a function of a module that can be imported, and call "
            'this below `if __name__ == "__main__":`'
        )


def limited(
    evaluator: Callable[[Arch], Mapping[str, float]],
    *,
    seconds: float | None = None,
    retries: int = 0,
    failures: int = 10,
) -> Limited:
    """``evaluator``, run in another process and bound in what it can do to a search.

    An evaluation that takes longer than ``seconds``, raises, or kills its process (a crash in native code, too much
    memory) is tried ``retries`` more times, and then recorded as one that cannot be made, with the reason in its
    record's provenance (``failed``). With ``failures`` such archs in a row the evaluator itself must be broken: the
    search stops with one line, and the last of them is not recorded. In a search with workers each counts its own.

    The process is started once and serves all evaluations, until one has to be killed: what the evaluator caches
    stays. It is sent there by pickling, in memory: a function at the top of a module does, a lambda does not. The time
    limit does not count the start. Use it as a context manager, or call ``close``, to end the process before Python
    ends. Raises InputError where the limits make no sense, and, when it is called, where the process cannot be started.
    """
    return Limited(evaluator, seconds, retries, failures)


def _end(process: SpawnProcess, pipe: Connection) -> None:
    pipe.close()
    if process.pid:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)  # what it has started goes with it
    process.kill()
    process.join()


def _serve(pipe: Connection, evaluator: Callable[[Arch], Mapping[str, float]]) -> None:
    os.setpgid(0, 0)  # a group of its own, to be killed as one; Ctrl-C is for the search, which then ends this
    die_with_parent(whole_group=True)
    pipe.send("ready")
    while True:
        try:
            arch = Arch(pipe.recv())
        except EOFError:
            return
        try:
            answer: Answer = numbers(evaluator(arch)), "", ""
        except SartorError as error:  # NotMeasured among them: a whole line as it is
            answer = None, str(error), ""
        except Exception as error:
            answer = None, " ".join(f"{type(error).__name__}: {error}".split())[:500], traceback.format_exc()
        pipe.send(answer)


def _answered(process: SpawnProcess, pipe: Connection, seconds: float | None) -> bool:
    """Whether there is an answer within ``seconds``. Raises EOFError where the process is gone without one: what it
    started may hold its end of the pipe open."""
    end = math.inf if seconds is None else time.monotonic() + seconds
    while not pipe.poll(min(LOOK_S, max(0.0, end - time.monotonic()))):
        if process.exitcode is not None and not pipe.poll(0):
            raise EOFError
        if time.monotonic() >= end:
            return False
    return True
