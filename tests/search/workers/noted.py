"""Evaluators and searches that the tests run in processes of their own."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from contracts.strategy import evaluate
from sartor.records import Arch, Record
from sartor.search.loop import NotMeasured

ROOT = Path(__file__).resolve().parents[3]

WORKER = """
import sys
from pathlib import Path
from contracts.strategy import CONDITIONAL
from sartor.search.named import strategies
from sartor.search.objective import ACCURACY_LATENCY
from sartor.search.store import Store
from sartor.search.workers import work
from search.workers.noted import Noted, note, notes, until
from functools import partial

url, file, seconds, heartbeat_s, budget, waiting_for, *names = sys.argv[1:]
if int(waiting_for):
    note(Path(file), "joined", CONDITIONAL.smallest())
    until(lambda: len(notes(Path(file), "joined")) >= int(waiting_for))
for name in names:
    strategy = partial(strategies[name], objectives=ACCURACY_LATENCY)
    with Store(url, name=name, choices=CONDITIONAL.choices) as store:
        work(CONDITIONAL, Noted(Path(file), float(seconds)), strategy, store,
             evaluations=int(budget), seed=1, batch=6, heartbeat_s=float(heartbeat_s))
"""
"""Takes part in searches of CONDITIONAL, one after another, each in the study of its strategy's name; begins when as
many as it is ``waiting_for`` are there."""


@dataclass(frozen=True)
class Noted:
    """What ``contracts.strategy.evaluate`` says, after ``seconds``. Notes in ``file`` that it begins and has ended."""

    file: Path
    seconds: float = 0.0

    def __call__(self, arch: Arch) -> dict[str, float]:
        note(self.file, "begun", arch)
        time.sleep(self.seconds)
        note(self.file, "ended", arch)
        return dict(evaluate(arch))


@dataclass(frozen=True)
class Deadly:
    """Noted, but ``arch`` kills whoever evaluates it, as too much memory does."""

    file: Path
    arch: Arch

    def __call__(self, arch: Arch) -> dict[str, float]:
        if arch == self.arch:
            os.kill(os.getpid(), signal.SIGKILL)
        return Noted(self.file)(arch)


@dataclass(frozen=True)
class Raising:
    """Noted, until the file named has ``many`` lines; then it raises."""

    file: Path
    many: int

    def __call__(self, arch: Arch) -> dict[str, float]:
        if len(notes(self.file)) >= self.many:
            raise RuntimeError("out of\nmemory")
        return Noted(self.file)(arch)


@dataclass(frozen=True)
class Once:
    """Fails in the way named ``how`` the first time that an arch is evaluated, and is well the second time."""

    file: Path
    how: str

    def __call__(self, arch: Arch) -> dict[str, float]:
        known = {line["arch"] for line in notes(self.file)}
        note(self.file, "begun", arch)
        if arch.key not in known:
            fail(self.how)
        return dict(evaluate(arch))


@dataclass(frozen=True)
class Always:
    """Fails in the way named ``how``."""

    how: str

    def __call__(self, arch: Arch) -> dict[str, float]:
        return fail(self.how) or dict(evaluate(arch))


def fail(how: str):
    if how == "hangs":
        time.sleep(600)
    if how == "hangs with a child":
        child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
        Path(os.environ["SARTOR_TEST_PID"]).write_text(str(child.pid))
        child.wait()
    if how == "crashes":
        os.kill(os.getpid(), signal.SIGSEGV)
    if how == "exits":
        sys.exit(3)
    if how == "raises":
        raise ValueError("no such\nlayer")
    if how == "cannot":
        raise NotMeasured("the target\nis not there")
    return {"text": {"accuracy_val": "0.5"}, "list": [0.5, 1.0], "nothing": None}.get(how)


def note(file: Path, what: str, arch: Arch) -> None:
    """One line, written at once: lines of many processes do not mix."""
    line = json.dumps({"what": what, "arch": arch.key, "pid": os.getpid()}) + "\n"
    handle = os.open(file, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    os.write(handle, line.encode())
    os.close(handle)


def notes(file: Path, what: str = "") -> list[dict[str, str]]:
    """What has been noted, oldest first."""
    lines = file.read_text().splitlines() if file.exists() else []
    return [line for line in map(json.loads, lines) if not what or line["what"] == what]


def join(
    url: str,
    file: Path,
    names: Sequence[str],
    *,
    seconds: float = 0.0,
    budget: int = 24,
    heartbeat_s: float = 10.0,
    waiting_for: int = 0,
    under: Sequence[str] = (),
) -> subprocess.Popen[bytes]:
    """A process that takes part (see WORKER), started by the command ``under`` where there is one."""
    paths = [str(ROOT / "src"), str(ROOT / "tests"), os.environ.get("PYTHONPATH", "")]
    arguments = [url, str(file), str(seconds), str(heartbeat_s), str(budget), str(waiting_for), *names]
    return subprocess.Popen(
        [*under, sys.executable, "-c", WORKER, *arguments],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)},
        stderr=subprocess.PIPE,
    )


def ended(*processes: subprocess.Popen[bytes]) -> list[str]:
    """What each wrote on its standard error, once it has ended well."""
    said = [process.communicate(timeout=300)[1].decode() for process in processes]
    assert [p.returncode for p in processes] == [0] * len(processes), said
    return said


def until(condition, seconds: float = 60.0):
    """What ``condition`` returns, once that is true."""
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.02)
    return found


def plain(records: Sequence[Record]) -> list[tuple[str, Arch, dict[str, float]]]:
    """What must not depend on who evaluated."""
    return [(r.name, r.arch, dict(r.metrics)) for r in records]


def orphaned(arch: Arch) -> dict[str, float]:
    """Dies while something that it started lives on, and holds what it was to answer through."""
    if os.fork() == 0:
        time.sleep(20)
        os._exit(0)
    os.kill(os.getpid(), signal.SIGSEGV)
    return {}
