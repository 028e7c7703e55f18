"""Runtimes that are packages of their own."""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Iterator
from importlib import import_module
from typing import Any

from sartor.errors import InputError


def needed(module: str, target: str, install: str) -> Any:
    """The module of a target's runtime. Raises InputError with the command that installs it where it is not there."""
    try:
        return import_module(module)
    except Exception as error:  # a wheel of another build fails in its own ways
        missing = isinstance(error, ModuleNotFoundError)
        why = "" if missing else f" ({type(error).__name__}: {' '.join(str(error).split())[:120]})"
        raise InputError(f"--target {target} needs a package that does not load here{why}: {install}") from error


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """What native code reports of the CPU and of its progress does not reach the terminal: what fails is raised."""
    kept, level = (os.dup(1), os.dup(2)), logging.root.manager.disable
    nowhere = os.open(os.devnull, os.O_WRONLY)
    logging.disable(logging.WARNING)
    for stream in (1, 2):
        os.dup2(nowhere, stream)
    try:
        yield
    finally:
        for stream, copy in zip((1, 2), kept, strict=True):
            os.dup2(copy, stream)
            os.close(copy)
        os.close(nowhere)
        logging.disable(level)
