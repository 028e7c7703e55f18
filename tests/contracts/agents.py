"""Real agents in processes of their own, and little servers that answer what no agent would."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

TOKEN = "a-token-of-the-tests-0123"


@dataclass
class Started:
    address: str
    process: subprocess.Popen[str]
    said: list[str]


@contextlib.contextmanager
def started(folder: Path, *options: str, inside: tuple[str, ...] = (), token: str | None = TOKEN) -> Iterator[Started]:
    """``sartor agent`` with ``options``; ``inside`` is a command that runs it elsewhere."""
    environment = {**os.environ, "XDG_CACHE_HOME": str(folder), "SARTOR_TOKEN": token or ""}
    command = [*inside, sys.executable, "-m", "sartor.cli", "agent", "--port", "0", *options]
    process = subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    said = []
    try:
        assert process.stdout is not None
        while line := process.stdout.readline():
            said.append(line.strip())
            if found := re.match(r"listening on (\S+)", line):
                yield Started(found[1], process, said)
                return
        assert process.stderr is not None
        raise AssertionError(process.stderr.read())
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGCONT)
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        process.stderr.close()


@contextlib.contextmanager
def pretending(answer: Callable[[bytes, socket.socket], None]) -> Iterator[str]:
    """The address of a server that gives each connection's request (its head) and socket to ``answer``."""
    listening = socket.create_server(("127.0.0.1", 0))
    over = threading.Event()

    def serve() -> None:
        while not over.is_set():
            try:
                connection, _ = listening.accept()
            except OSError:
                return
            threading.Thread(target=talk, args=(connection,), daemon=True).start()

    def talk(connection: socket.socket) -> None:
        with connection, contextlib.suppress(OSError):
            head = b""
            while b"\r\n\r\n" not in head and (more := connection.recv(65536)):
                head += more
            if found := re.search(rb"Content-Length: (\d+)", head):
                left = int(found[1]) - len(head.partition(b"\r\n\r\n")[2])
                while left > 0 and (more := connection.recv(65536)):
                    left -= len(more)
            answer(head, connection)

    threading.Thread(target=serve, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"
    finally:
        over.set()
        listening.close()


def reply(connection: socket.socket, body: bytes, status: int = 200, *headers: str) -> None:
    """One HTTP answer."""
    lines = [f"HTTP/1.1 {status} X", f"Content-Length: {len(body)}", "Connection: close", *headers]
    connection.sendall("\r\n".join(lines).encode() + b"\r\n\r\n" + body)
