"""Runtimes that are packages of their own."""

from __future__ import annotations

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
