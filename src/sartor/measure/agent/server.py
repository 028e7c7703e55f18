"""The agent's HTTP server: who may ask, how large, how long, one job at a time."""

from __future__ import annotations

import contextlib
import hmac
import json
import os
import signal
import socket
import ssl
import subprocess
import sys
import tempfile
import threading
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from sartor.errors import InputError
from sartor.machine import cores
from sartor.measure.agent.cache import Cache
from sartor.measure.agent.wire import ANSWER_BYTES, HASH, PROTOCOL, Malformed, one_line, read_object
from sartor.measure.device import fingerprint, versions

CONNECTIONS = 32
"""Open at a time; more are closed at once."""
WAITING = 8
"""Jobs that may wait for their turn, each for as long as two jobs may take."""
SILENCE_S = 30.0
"""A connection on which nothing moves for so long is closed."""
FILES = 256
"""Files of one request."""


class Refused(Exception):
    """An answer that is an error: HTTP's status and one line."""

    def __init__(self, status: int, reason: str, **more: Any):
        super().__init__(reason)
        self.status, self.more = status, more


@dataclass
class Agent:
    """What is run, for whom, within which limits."""

    token: str
    cache: Cache
    target: str
    max_size_bytes: int
    max_time_s: float

    def __post_init__(self) -> None:
        self._turn, self._waiting = threading.Lock(), threading.BoundedSemaphore(WAITING)

    def hello(self) -> dict[str, Any]:
        return {
            "protocol": PROTOCOL,
            "versions": versions(),
            "device": fingerprint(),
            "cores": cores(),
            "target": self.target,
            "max_size_bytes": self.max_size_bytes,
            "max_time_s": self.max_time_s,
        }

    def job(self, work: dict[str, Any], given: bytes = b"") -> tuple[dict[str, Any], bytes]:
        """Do ``work`` in a process of its own: its result and its outputs. Raises Refused."""
        if not self._waiting.acquire(blocking=False):
            raise Refused(503, "too many jobs wait for this agent: ask again later")
        try:
            if not self._turn.acquire(timeout=2 * self.max_time_s):
                raise Refused(503, "this agent is busy: ask again later")
        finally:
            self._waiting.release()
        try:
            missing = [name for name in dict.fromkeys(work["files"]) if not self.cache.holds(name)]
            if missing:
                raise Refused(404, "files are not here: send them", missing=missing)
            with tempfile.TemporaryDirectory(prefix="sartor-agent-") as folder:
                return self._run(work, given, Path(folder))
        finally:
            self._turn.release()

    def _run(self, work: dict[str, Any], given: bytes, folder: Path) -> tuple[dict[str, Any], bytes]:
        (folder / "in").write_bytes(given)
        files = [str(self.cache.path(name)) for name in work["files"]]
        told = {
            **work,
            "agent": os.getpid(),
            "files": files,
            "folder": str(folder),
            "target": self.target,
            "max_time_s": self.max_time_s,
        }
        process = subprocess.Popen(
            [sys.executable, "-m", "sartor.measure.agent.job"],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
            # The token is nothing to a process that runs somebody's file.
            env={key: value for key, value in os.environ.items() if key != "SARTOR_TOKEN"},
        )
        try:
            process.communicate((json.dumps(told) + "\n").encode(), timeout=self.max_time_s)
        except subprocess.TimeoutExpired:
            raise Refused(422, f"it takes longer than {self.max_time_s:g} s, this agent's --max-time") from None
        finally:
            if process.poll() is None:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(process.pid, signal.SIGKILL)
                process.wait()
        try:
            result = read_object((folder / "result").read_bytes())
        except (OSError, Malformed):
            code = process.returncode
            raise Refused(422, f"running it ended the process (exit code {code}): too large, or broken") from None
        if "error" in result:
            raise Refused(422, one_line(result["error"]))
        outputs = folder / "outputs"
        if outputs.exists() and outputs.stat().st_size > ANSWER_BYTES:
            raise Refused(422, f"its outputs are larger than {ANSWER_BYTES} bytes: send smaller batches")
        return result, outputs.read_bytes() if outputs.exists() else b""


class Handler(BaseHTTPRequestHandler):
    """One connection. Nothing of a request is read before its token was."""

    protocol_version = "HTTP/1.1"
    server_version, sys_version = "sartor-agent", ""
    timeout = SILENCE_S
    server: Server

    def do_GET(self) -> None:
        self._answer(self._get)

    def do_PUT(self) -> None:
        self._answer(self._put)

    def do_POST(self) -> None:
        self._answer(self._post)

    def _answer(self, make: Any) -> None:
        self._left = 0
        try:
            self._check_token()
            status, kind, body = 200, "application/json", b""
            answer = make()
            if isinstance(answer, bytes):
                kind, body = "application/octet-stream", answer
            else:
                body = json.dumps(answer).encode()
        except Refused as refused:
            status, body = refused.status, json.dumps({"error": str(refused), **refused.more}).encode()
            kind = "application/json"
        except Malformed as wrong:
            status, kind, body = 400, "application/json", json.dumps({"error": str(wrong)}).encode()
        except OSError as error:
            if isinstance(error, (TimeoutError, ConnectionError)):
                self.close_connection = True
                return
            status, kind = 507, "application/json"
            body = json.dumps({"error": f"the agent cannot keep files: {error.strerror or error}"}).encode()
        if self._left:  # a body that was not read: what comes next on this connection is not a request
            self.close_connection = True
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        if self.close_connection:
            self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(body)

    def _check_token(self) -> None:
        self._left = self._length()
        given = self.headers.get("Authorization", "")
        wanted = f"Bearer {self.server.agent.token}"
        if not hmac.compare_digest(given.encode("utf-8", "replace"), wanted.encode()):
            raise Refused(401, "the token is missing or wrong")

    def _length(self) -> int:
        text = self.headers.get("Content-Length", "0")
        if self.headers.get("Transfer-Encoding") or not text.isdecimal():
            self.close_connection = True
            raise Refused(411, "say how long the body is")
        return int(text)

    def _body(self, most: int) -> bytes:
        if self._left > most:
            raise Refused(413, f"{self._left} bytes are more than this agent takes, {most}")
        body = self.rfile.read(self._left)
        if len(body) < self._left:
            raise Malformed("the request is cut off")
        self._left = 0
        return body

    def _get(self) -> Any:
        if self.path != "/v1/hello":
            raise Refused(404, "there is nothing at this address")
        return self.server.agent.hello()

    def _put(self) -> Any:
        agent, name = self.server.agent, self._name("/v1/files/")
        if self._left > agent.max_size_bytes:
            raise Refused(413, f"{self._left} bytes are more than this agent's --max-size, {agent.max_size_bytes}")
        agent.cache.put(name, self.rfile, self._left)
        self._left = 0
        return {"file": name}

    def _post(self) -> Any:
        agent = self.server.agent
        if self.path == "/v1/latencies":
            work = _timing(read_object(self._body(2**20)))
            result, _ = agent.job(work)
            return {"files": work["files"], **result}
        name, _, query = self._name("/v1/run/", True).partition("?threads=")
        if not query.isdecimal() or not 1 <= int(query) <= cores():
            raise Refused(422, f"threads must be from 1 to {cores()}, the cores of that machine")
        given = self._body(max(agent.max_size_bytes, 2**20))
        _, outputs = agent.job({"do": "run", "files": [name], "threads": int(query)}, given)
        return outputs

    def _name(self, prefix: str, query: bool = False) -> str:
        name = self.path.removeprefix(prefix)
        if name == self.path or not HASH.fullmatch(name.partition("?")[0] if query else name):
            raise Refused(404, "there is nothing at this address")
        return name

    def log_message(self, format: str, *args: Any) -> None:
        """Nothing is logged of requests: addresses name files by their hash only, and headers hold the token."""


def _timing(asked: dict[str, Any]) -> dict[str, Any]:
    """What to time and how, checked. Raises Refused."""
    files = asked.get("files")
    if not isinstance(files, list) or not 1 <= len(files) <= FILES:
        raise Refused(422, f"from 1 to {FILES} files can be timed at a time")
    if not all(isinstance(name, str) and HASH.fullmatch(name) for name in files):
        raise Refused(422, "a file is named by the SHA-256 of its content")
    whole = {"runs": 10**6, "batch": 2**16, "threads": cores()}
    for name, most in whole.items():
        if type(asked.get(name)) is not int or not 1 <= asked[name] <= most:
            raise Refused(422, f"{name} must be from 1 to {most}" + ", the cores of that machine" * (name == "threads"))
    budget_s, min_time_s = asked.get("budget_s"), asked.get("min_time_s")
    for seconds in (min_time_s, 1.0 if budget_s is None else budget_s):
        if isinstance(seconds, bool) or not isinstance(seconds, (int, float)) or not 0 <= seconds < 1e6:
            raise Refused(422, "times must be seconds")
    return {
        "do": "time",
        "files": files,
        **{name: asked[name] for name in whole},
        "budget_s": budget_s,
        "min_time_s": min_time_s,
    }


class Server(ThreadingHTTPServer):
    """Listens; each connection has a thread, at most ``CONNECTIONS`` at a time."""

    daemon_threads = True
    request_queue_size = CONNECTIONS

    def __init__(self, address: tuple[str, int], agent: Agent, tls: ssl.SSLContext | None = None):
        self.agent, self._tls = agent, tls
        self._free = threading.BoundedSemaphore(CONNECTIONS)
        self.address_family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
        try:
            super().__init__(address, Handler)
        except (OSError, OverflowError) as error:
            raise InputError(f"cannot listen on {address[0]} port {address[1]} ({error}): choose another") from error

    def process_request(self, request: Any, client_address: Any) -> None:
        if not self._free.acquire(blocking=False):
            self.shutdown_request(request)
            return
        super().process_request(request, client_address)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._free.release()

    def finish_request(self, request: Any, client_address: Any) -> None:
        if self._tls is None:
            super().finish_request(request, client_address)
            return
        # Here and not on the listening socket: a client that never ends its handshake would keep all others out.
        request.settimeout(SILENCE_S)
        with self._tls.wrap_socket(request.dup(), server_side=True) as secure:
            super().finish_request(secure, client_address)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A client that went away or that does not speak TLS is no news."""
