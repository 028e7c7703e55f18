"""Text as tokens."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from sartor.errors import InputError


def characters(file: Path) -> tuple[NDArray[np.int64], int]:
    """The text of ``file`` as tokens [n], one a byte, and how many there are of them. Raises InputError where it cannot
    be read, or is too short to learn from."""
    try:
        text = np.frombuffer(file.read_bytes(), np.uint8)
    except OSError as error:
        raise InputError(f"{file} cannot be read ({error.strerror}): name a file of text") from error
    known, tokens = np.unique(text, return_inverse=True)
    if len(known) < 2:
        raise InputError(f"{file} has {len(known)} different characters: name a file of text")
    return tokens.astype(np.int64), len(known)


def windows_of(tokens: NDArray[np.int64], prompt: int, count: int) -> NDArray[np.int64]:
    """``count`` windows [count, prompt + 1] of ``prompt`` tokens and the next, evenly spread over ``tokens``."""
    if len(tokens) <= prompt:
        raise InputError(f"{len(tokens)} tokens have no window of {prompt} and the next: take a longer text")
    starts = np.linspace(0, len(tokens) - prompt - 1, count).astype(int)
    return np.stack([tokens[start : start + prompt + 1] for start in starts])
