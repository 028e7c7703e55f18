"""The ``sartor`` command: one command line, its exit code, and errors as one line.

Errors are one line on stderr and an exit code (see ``errors.py``); ``--debug`` shows the traceback.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from typing import Any

import typer

from sartor import terminal

# isort: off
from sartor.cli import runs, prune, measure, search, systems  # noqa: F401 (they register, in the order of the help)

# isort: on
from sartor.cli.app import app, debugging
from sartor.errors import SartorError

# What a wrong option raises. Click's class, which newer Typers carry inside and older ones import: this names both.
_UsageError: type[Exception] = typer.BadParameter.__mro__[1]


def _run(arguments: list[str] | None) -> int:
    """The exit code of one command line. Raises what went wrong when --debug was given."""
    try:
        with contextlib.suppress(ValueError):  # only the main thread may
            signal.signal(signal.SIGTERM, signal.default_int_handler)  # a polite kill stops as Ctrl-C does
        # Not Typer's own error boxes: one line, the same for a wrong option, a broken file and a bug.
        code = app(arguments, prog_name="sartor", standalone_mode=False)
        sys.stdout.flush()
    except _UsageError as usage:
        error: Any = usage  # Click's attributes, which the base class above does not tell mypy
        terminal.fail(f"{error.format_message()} (see: {error.ctx.command_path if error.ctx else 'sartor'} --help)")
        return 2
    except SartorError as wrong:
        if debugging():
            raise
        terminal.fail(str(wrong))
        return wrong.exit_code
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # or Python complains once more at exit
        return 1
    except (KeyboardInterrupt, typer.Abort):
        code = 130
    except Exception as bug:
        if debugging():
            raise
        terminal.fail(f"{type(bug).__name__}: {bug} (a bug: run again with --debug and report the traceback)")
        return 1
    if code == 130:
        terminal.fail("stopped")
    return code if isinstance(code, int) else 0


def main() -> None:
    """The ``sartor`` command."""
    sys.exit(_run(None))
