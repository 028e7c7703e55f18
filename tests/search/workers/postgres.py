"""A PostgreSQL server of a test's own, in a folder of its own, that can be stopped, killed and started again."""

from __future__ import annotations

import os
import pwd
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

import pytest


class Server:
    """``url()`` is a new, empty database on it. Skips the test where PostgreSQL or its driver is not installed."""

    def __init__(self) -> None:
        pytest.importorskip("psycopg", reason="no driver: pip install 'sartor[postgres]'")
        self._programs = _programs()
        # The server refuses to run as root; and below pytest's own folder, which is root's, another user sees nothing.
        self._folder = Path(tempfile.mkdtemp(prefix="sartor-postgres-"))
        self._user = None
        if os.geteuid() == 0:
            self._user = _unprivileged()
            os.chown(self._folder, self._user.pw_uid, self._user.pw_gid)
        self._data = self._folder / "data"
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self._port = free.getsockname()[1]
        self._databases = 0
        self._run("initdb", "-D", str(self._data), "-U", "sartor", "-A", "trust", "--no-sync")
        self.start()

    def start(self) -> None:
        options = f"-k {self._folder} -p {self._port} -c listen_addresses=127.0.0.1"
        self._run("pg_ctl", "-D", str(self._data), "-w", "-l", str(self._folder / "log"), "-o", options, "start")

    def stop(self, how: str = "immediate") -> None:
        """``immediate`` is a crash: connections break in the middle of what they do."""
        self._run("pg_ctl", "-D", str(self._data), "-m", how, "-w", "stop")

    def url(self) -> str:
        name = f"study{self._databases}"
        self._databases += 1
        self._run("createdb", "-h", "127.0.0.1", "-p", str(self._port), "-U", "sartor", name)
        return f"postgresql+psycopg://sartor@127.0.0.1:{self._port}/{name}"

    def close(self) -> None:
        if (self._data / "postmaster.pid").exists():
            self.stop()
        shutil.rmtree(self._folder)

    def _run(self, program: str, *arguments: str) -> None:
        command: Sequence[str] = [str(self._programs / program), *arguments]
        if self._user is not None:
            identity = [f"--reuid={self._user.pw_uid}", f"--regid={self._user.pw_gid}", "--clear-groups"]
            command = ["setpriv", *identity, *command]
        # The server inherits what pg_ctl has open: a pipe would never end.
        with tempfile.TemporaryFile() as said:
            done = subprocess.run(command, cwd=self._folder, stdout=said, stderr=said, stdin=subprocess.DEVNULL)
            said.seek(0)
            assert done.returncode == 0, f"{program}: {said.read().decode()}"


def _programs() -> Path:
    """Where ``initdb`` is: Debian keeps one folder a version, and out of the path."""
    folders = sorted(Path("/usr/lib/postgresql").glob("*/bin"), key=lambda f: float(f.parent.name))
    on_path = shutil.which("initdb")
    for folder in [*([Path(on_path).parent] if on_path else []), *reversed(folders)]:
        if all((folder / program).exists() for program in ("initdb", "pg_ctl", "createdb")):
            return folder
    pytest.skip("no PostgreSQL server: apt-get install postgresql")


def _unprivileged() -> pwd.struct_passwd:
    if shutil.which("setpriv") is None:
        pytest.skip("PostgreSQL does not run as root, and there is no setpriv to become another user")
    for name in ("postgres", "nobody"):
        try:
            return pwd.getpwnam(name)
        except KeyError:
            continue
    pytest.skip("PostgreSQL does not run as root, and there is no other user")
