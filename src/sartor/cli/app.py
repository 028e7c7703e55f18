"""The application that the verbs register with, and what all of them take.

Nothing here imports torch or Rich before a verb asks for it: ``sartor --help`` stays under 0.3 s.
"""

from __future__ import annotations

from typing import Annotated

import typer

from sartor import __version__

app = typer.Typer(
    name="sartor",
    rich_markup_mode=None,  # plain help: twice as fast as Rich's, and it can be copied
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)

_debug = False


def debugging() -> bool:
    """Whether --debug was given: an error shows its traceback then."""
    return _debug


def _set_debug(value: bool) -> bool:
    global _debug
    _debug = _debug or value
    return value


def _print_version(value: bool) -> None:
    if value:
        print(f"sartor {__version__}")
        raise typer.Exit


Debug = Annotated[
    bool, typer.Option("--debug", callback=_set_debug, is_eager=True, help="Show the traceback of an error.")
]


@app.callback(invoke_without_command=True)
def root(
    context: typer.Context,
    version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version.")
    ] = False,
    debug: Debug = False,
) -> None:
    """Cut neural networks to fit: from your images and a budget to a measured front of exported networks.

    \b
    Start here:
      sartor fit photos/ --max-latency 2ms --time 30m --out run
      sartor pick run --max-latency 1ms -o model
      sartor predict model new-photos/
    """
    if context.invoked_subcommand is None:
        print(context.get_help())
