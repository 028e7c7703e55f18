"""A board that runs ``sartor agent``, over HTTP or HTTPS.

``http://board:8711``, or ``https://board:8711,ca=FILE``; the token is in $SARTOR_TOKEN, or ``token-file=FILE``.

What a stranger could answer is bounded: a request has one deadline for all of it, an answer a largest size, nothing
is unpickled or unpacked, redirects are not followed, and figures are looked at before they are believed. Saying hello
and sending a file are tried again when the connection breaks, since a second time changes nothing; a job is not, since
it may be what broke the agent. Only one that was never begun, because the agent is busy, is asked for again.
"""

from __future__ import annotations

import contextlib
import functools
import http.client
import json
import socket
import ssl
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import numpy as np

from sartor.errors import InputError
from sartor.measure.agent.token import read_token
from sartor.measure.agent.wire import (
    ANSWER_BYTES,
    PROTOCOL,
    Malformed,
    one_line,
    read_arrays,
    read_latencies,
    read_object,
    write_arrays,
)
from sartor.measure.caches import sha256_of
from sartor.measure.targets.target import OneByOne, refuse_nonsense
from sartor.measure.timing import Latency

CONNECT_S = 10.0
ANSWER_S = 20.0
"""For what needs no work."""
LONGEST_S = 3600.0
"""No job is waited for longer, whatever an agent says that it allows."""
SEND_BYTES_S = 50_000.0
"""The slowest connection over which a file is sent."""
TRIES = 3
BATCH_BYTES = 32 * 2**20
"""Of the batches of one request: what comes lazily is sent lazily, and a slow board answers in between."""


class Broken(Exception):
    """The connection, before there was an answer."""


@dataclass(frozen=True)
class Answer:
    """What the agent said."""

    status: int
    body: bytes

    def reason(self) -> str:
        """Its own words for what is wrong, fit to be printed."""
        with contextlib.suppress(Malformed):
            if isinstance(error := read_object(self.body).get("error"), str):
                return one_line(error)
        return f"HTTP {self.status}"


@dataclass(frozen=True)
class Remote(OneByOne):
    """See the module. ``cores``, ``device`` and the limits are what the agent said of itself when it was opened."""

    address: str
    threads: int
    token_file: Path | None = None
    ca: Path | None = None
    budget_s: float = LONGEST_S
    """Seconds after which a job is given up whatever the agent's limit is."""

    @property
    def name(self) -> str:
        """As ``--target`` takes it; a file's name is no secret."""
        settings = {"ca": self.ca, "token-file": self.token_file}
        return self.address + "".join(f",{key}={file}" for key, file in settings.items() if file is not None)

    @property
    def device(self) -> dict[str, Any]:
        """The fingerprint of the machine that the agent runs on."""
        return dict(self._hello["device"])

    @property
    def most_threads(self) -> int:
        return int(self._hello["cores"])

    def latencies(
        self,
        files: Sequence[Path],
        *,
        runs: int = 200,
        min_time_s: float = 0.3,
        budget_s: float | None = None,
        batch: int = 1,
    ) -> list[Latency]:
        """See ``targets.target.Target``: one job of the agent's, so that the files are interleaved there."""
        if not files:
            return []
        refuse_nonsense(runs, batch, budget_s)
        named = self._named(files)
        hashes = [name for name, _ in named]
        asked = {
            "files": hashes,
            "runs": runs,
            "min_time_s": min_time_s,
            "budget_s": budget_s,
            "batch": batch,
            "threads": self.threads,
        }
        body = self._job("/v1/latencies", asked, named)
        try:
            found = read_latencies(read_object(body), hashes, self.threads)
        except Malformed as wrong:
            raise self._distrusted(wrong) from wrong
        return [replace(latency, device=f"{latency.device} ({self.address})") for latency in found]

    def run(self, file: Path, batches: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
        """See ``targets.target.Target``. With as many threads as were asked for, or the board's cores where those are
        fewer: they change how long it takes, not what comes out."""
        named = self._named([file])
        threads = min(self.threads, self.most_threads)
        largest = min(BATCH_BYTES, self._max_size)
        for group in _groups(batches, largest):
            sent = write_arrays(group)
            if len(sent) > self._max_size:
                raise InputError(
                    f"{self.address} takes {self._max_size} bytes at a time, and a batch has {len(sent)}: "
                    "make batches smaller, or start the agent with a larger --max-size"
                )
            body = self._job(f"/v1/run/{named[0][0]}?threads={threads}", sent, named)
            try:
                outputs = read_arrays(body)
                if len(outputs) != len(group):
                    raise Malformed(f"{len(outputs)} outputs of {len(group)} batches")
                if any(o.ndim == 0 or len(o) != len(b) for o, b in zip(outputs, group, strict=True)):
                    raise Malformed("outputs of another number of examples than were sent")
            except Malformed as wrong:
                raise self._distrusted(wrong) from wrong
            yield from outputs

    # --- the agent ----------------------------------------------------------------------------------------------------

    @functools.cached_property
    def _hello(self) -> dict[str, Any]:
        answer = self._patiently("GET", "/v1/hello", b"", ANSWER_S)
        self._refuse(answer, {})
        try:
            said = read_object(answer.body)
        except Malformed as wrong:
            raise InputError(f"{self.address} is no sartor agent ({wrong}): check the address") from wrong
        if said.get("protocol") != PROTOCOL:
            theirs = said["versions"].get("sartor") if isinstance(said.get("versions"), dict) else None
            raise InputError(
                f"{self.address} speaks another version of the protocol ({one_line(said.get('protocol'), 20)}, not "
                f"{PROTOCOL}; its sartor is {one_line(theirs, 40)}): install the same sartor on both machines"
            )
        try:
            for name, kind in (("device", dict), ("cores", int), ("max_size_bytes", int), ("max_time_s", (int, float))):
                if not isinstance(said.get(name), kind) or isinstance(said[name], bool):
                    raise Malformed(f"{name} is not what it must be")
            if min(said["cores"], said["max_size_bytes"], said["max_time_s"]) <= 0:
                raise Malformed("a limit that lets nothing through")
        except Malformed as wrong:
            raise self._distrusted(wrong) from wrong
        return said

    @property
    def _max_size(self) -> int:
        return int(self._hello["max_size_bytes"])

    def _job(self, path: str, work: dict[str, Any] | bytes, named: Sequence[tuple[str, Path]]) -> bytes:
        """The body of the answer to ``work``, files being sent where the agent has them not. Raises InputError."""
        body = work if isinstance(work, bytes) else json.dumps(work).encode()
        limit = min(float(self._hello["max_time_s"]), self.budget_s)
        # Others' jobs are waited for there as long as two may take; then it says that it is busy.
        patience = min(3 * limit + ANSWER_S, self.budget_s) + len(body) / SEND_BYTES_S
        for attempt in range(TRIES):
            answer = self._begin(path, body, patience)
            if answer.status == 404 and (missing := self._missing(answer, named)):
                for name in missing:
                    self._send(name, dict(named)[name])
                answer = self._begin(path, body, patience)
            if answer.status != 503 or attempt == TRIES - 1:
                break
            time.sleep(1.0 + attempt)  # it was not begun
        self._refuse(answer, dict(named))
        return answer.body

    def _begin(self, path: str, body: bytes, patience: float) -> Answer:
        try:
            return self._ask("POST", path, body, patience)
        except Broken as error:
            raise InputError(
                f"{self.address} broke off in the middle of a job ({error}): see whether the agent still runs there, "
                "then give the same command again"
            ) from error

    def _missing(self, answer: Answer, named: Sequence[tuple[str, Path]]) -> set[str]:
        with contextlib.suppress(Malformed):
            missing = read_object(answer.body).get("missing")
            if isinstance(missing, list):
                return {name for name, _ in named if name in missing}
        return set()

    def _send(self, name: str, file: Path) -> None:
        try:
            content = file.read_bytes()
        except OSError as error:
            raise InputError(f"{file} cannot be read ({error})") from error
        answer = self._patiently("PUT", f"/v1/files/{name}", content, ANSWER_S + len(content) / SEND_BYTES_S)
        self._refuse(answer, {name: file})

    def _named(self, files: Sequence[Path]) -> list[tuple[str, Path]]:
        """Each file with the hash of its content. Raises InputError for one that is missing or too large."""
        named = []
        for file in files:
            if not file.is_file():
                raise InputError(f"{file} is missing")
            if (size := file.stat().st_size) > self._max_size:
                raise InputError(
                    f"{file} has {size} bytes, and {self.address} takes {self._max_size}: start the agent with a "
                    "larger --max-size"
                )
            named.append((sha256_of(file), file))
        return named

    def _refuse(self, answer: Answer, named: dict[str, Path]) -> None:
        """Raises InputError unless the answer is one."""
        if answer.status == 200:
            return
        if answer.status in (401, 403):
            raise InputError(f"{self.address} refuses the token: set $SARTOR_TOKEN to the one that the agent printed")
        if 300 <= answer.status < 400:
            raise InputError(f"{self.address} sends elsewhere, and agents do not: give the address of the agent itself")
        reason = answer.reason()
        for name, file in named.items():
            reason = reason.replace(name, str(file))
        raise InputError(f"{self.address}: {reason}")

    def _distrusted(self, wrong: Malformed) -> InputError:
        return InputError(
            f"{self.address} answers what cannot be ({wrong}): its figures are not used; check what runs there"
        )

    # --- the connection -----------------------------------------------------------------------------------------------

    def _patiently(self, method: str, path: str, body: bytes, limit_s: float) -> Answer:
        """As :meth:`_ask`, again where the connection breaks: for what may be done twice. Raises InputError."""
        for attempt in range(TRIES):
            try:
                return self._ask(method, path, body, limit_s)
            except Broken as error:
                last = error
                time.sleep(0.1 * 3**attempt)
        raise InputError(
            f"{self.address} does not answer ({last}): start `sartor agent` there, and check the address and firewalls"
        ) from last

    def _ask(self, method: str, path: str, body: bytes, limit_s: float) -> Answer:
        """One request and its answer, in ``limit_s`` seconds altogether. Raises Broken and InputError."""
        token = read_token(self.token_file)
        parts = urlsplit(self.address)
        tls = parts.scheme == "https"
        port = parts.port or (443 if tls else 80)
        host = parts.hostname or ""
        connection = (
            http.client.HTTPSConnection(host, port, timeout=CONNECT_S, context=self._context())
            if tls
            else http.client.HTTPConnection(host, port, timeout=CONNECT_S)
        )
        late = threading.Event()
        try:
            connection.connect()
            connection.sock.settimeout(limit_s)
            # A time-out counts from the last byte, and a byte a second would go on for ever: cut it off as a whole.
            with _deadline(connection.sock, limit_s, late):
                headers = {"Authorization": f"Bearer {token}", "Connection": "close"}
                with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # it may have refused the body's size
                    connection.request(method, path, body=body, headers=headers)
                response = connection.getresponse()
                content = response.read(ANSWER_BYTES + 1)
                if len(content) > ANSWER_BYTES:
                    raise InputError(f"{self.address} answers without end: check what runs there")
                if late.is_set() or (response.length or 0) > 0:
                    raise http.client.IncompleteRead(content)
                return Answer(response.status, content)
        except ssl.SSLCertVerificationError as error:
            raise InputError(
                f"the certificate of {self.address} is not trusted ({one_line(error.verify_message, 100)}): name the "
                "one that signed it, ca=FILE behind the address"
            ) from error
        except (OSError, http.client.HTTPException, ValueError) as error:
            if late.is_set() or isinstance(error, TimeoutError):
                raise Broken(f"no answer within {limit_s:.0f} s") from error
            raise Broken(one_line(error, 120) or type(error).__name__) from error
        finally:
            connection.close()

    def _context(self) -> ssl.SSLContext:
        try:
            return ssl.create_default_context(cafile=self.ca)
        except (OSError, ssl.SSLError) as error:
            raise InputError(f"{self.ca} holds no certificates in PEM ({error})") from error


class Http(Remote):
    """``http://…``"""

    @classmethod
    def open(cls, settings: str, threads: int) -> Remote:
        """From what follows ``http:``. Raises InputError where the agent cannot be used."""
        return _opened("http", settings, threads)


class Https(Remote):
    """``https://…``"""

    @classmethod
    def open(cls, settings: str, threads: int) -> Remote:
        """From what follows ``https:``. Raises InputError where the agent cannot be used."""
        return _opened("https", settings, threads)


def _opened(scheme: str, settings: str, threads: int) -> Remote:
    address, *rest = f"{scheme}:{settings}".split(",")
    found: dict[str, Path] = {}
    known = ("ca", "token-file") if scheme == "https" else ("token-file",)
    for part in rest:
        key, _, value = part.partition("=")
        if key not in known or not value:
            raise InputError(f"{scheme} has no setting {part!r}: choose from {', '.join(f'{k}=FILE' for k in known)}")
        found[key] = Path(value)
    try:
        parts = urlsplit(address)
        port = parts.port
    except ValueError:
        parts, port = urlsplit(""), None
    if parts.username is not None or parts.password is not None or parts.query or parts.fragment:
        raise InputError(
            "an agent's address holds no token or password: set $SARTOR_TOKEN, or token-file=FILE behind it"
        )
    if not parts.hostname or parts.path not in ("", "/") or port == 0:
        raise InputError(f"{one_line(address)!r} is no address of an agent: write {scheme}://board:8711")
    if not isinstance(threads, int) or threads < 1:
        raise InputError(f"threads must be at least 1, not {threads!r}")
    target = Remote(address.rstrip("/"), threads, found.get("token-file"), found.get("ca"))
    _ = target.device  # before any work: a wrong address, token or version
    return target


def _groups(batches: Iterable[np.ndarray], most_bytes: int) -> Iterator[list[np.ndarray]]:
    group: list[np.ndarray] = []
    held = 0
    for batch in batches:
        array = np.asarray(batch)
        if group and held + array.nbytes + 256 > most_bytes:
            yield group
            group, held = [], 0
        group.append(array)
        held += array.nbytes + 256
    if group:
        yield group


@contextlib.contextmanager
def _deadline(sock: socket.socket, limit_s: float, late: threading.Event) -> Iterator[None]:
    def cut() -> None:
        late.set()
        with contextlib.suppress(OSError):
            sock.shutdown(socket.SHUT_RDWR)

    timer = threading.Timer(limit_s, cut)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
