"""``sartor agent``: start the server, say where it is, and go on until it is stopped."""

from __future__ import annotations

import ssl
from collections.abc import Callable
from pathlib import Path

from sartor.errors import InputError
from sartor.measure.agent.cache import Cache
from sartor.measure.agent.server import Agent, Server
from sartor.measure.agent.token import own_token
from sartor.measure.caches import cache_folder
from sartor.measure.targets.local import Local
from sartor.measure.targets.named import open_target

CACHED_FILES = 8
"""Of the largest size: what the cache may hold. A choice."""


def serve(
    *,
    host: str = "127.0.0.1",
    port: int = 8711,
    token_file: Path | None = None,
    target: str = "onnxruntime",
    max_size_bytes: int = 200_000_000,
    max_time_s: float = 60.0,
    tls_cert: Path | None = None,
    tls_key: Path | None = None,
    cache: Path | None = None,
    say: Callable[[str], None] = print,
) -> None:
    """Run and time files for whoever has the token, until Ctrl-C. ``say`` prints what its user must know.

    The token is in ``token_file`` or $SARTOR_TOKEN; without either one is made and said. Raises InputError for
    settings that cannot be.
    """
    if max_size_bytes < 1 or not 5 <= max_time_s <= 3600:
        raise InputError("an agent takes files of a byte at least, and gives a job from 5 seconds to an hour")
    if (tls_cert is None) != (tls_key is None):
        raise InputError("TLS takes a certificate and its key: give both --tls-cert and --tls-key")
    if not isinstance(open_target(target), Local):
        raise InputError(f"{target} does not run files on this machine: choose a target that does, such as onnxruntime")
    token, made = own_token(token_file)
    folder = cache or cache_folder("agent")
    agent = Agent(token, Cache(folder, CACHED_FILES * max_size_bytes), target, max_size_bytes, max_time_s)
    with Server((host, port), agent, None if tls_cert is None else _context(tls_cert, tls_key)) as server:
        scheme = "http" if tls_cert is None else "https"
        name = f"[{host}]" if ":" in host else host
        if made:
            say(f"token: {token}")
        say(f"listening on {scheme}://{name}:{server.server_address[1]}")
        server.serve_forever()


def _context(certificate: Path, key: Path | None) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        context.load_cert_chain(certificate, key, password=lambda: "")  # never ask: nobody may be there
    except (OSError, ssl.SSLError) as error:
        raise InputError(f"{certificate} and {key} are no certificate and its key in PEM ({error})") from error
    return context
