"""The secret that an agent and those who may use it share. It is never in an address, a file's name or a message."""

from __future__ import annotations

import os
import secrets
from pathlib import Path

from sartor.errors import InputError

TOKEN_BYTES = 24
LEAST_TOKEN = 16


def own_token(file: Path | None) -> tuple[str, bool]:
    """The token that ``file`` or $SARTOR_TOKEN holds, and whether it was made now. Raises InputError."""
    if file is None and not os.environ.get("SARTOR_TOKEN"):
        return secrets.token_urlsafe(TOKEN_BYTES), True
    return read_token(file), False


def read_token(file: Path | None) -> str:
    """The token in ``file``, else in $SARTOR_TOKEN. Raises InputError for none, and for one that is no token."""
    where = "$SARTOR_TOKEN" if file is None else str(file)
    try:
        token = os.environ.get("SARTOR_TOKEN", "") if file is None else file.read_text()
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"the token file {file} cannot be read ({error})") from error
    token = token.strip()
    if not token:
        raise InputError("an agent wants its token: set $SARTOR_TOKEN, or name a file of it")
    if len(token) < LEAST_TOKEN or not token.isascii() or not token.isprintable() or " " in token:
        raise InputError(f"{where} holds no token: {LEAST_TOKEN} letters and digits at least, without spaces")
    return token
