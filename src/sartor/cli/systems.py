"""The published systems that are covered."""

from __future__ import annotations

from typing import Annotated

import typer

from sartor import terminal
from sartor.cli.app import Debug, app
from sartor.cli.options import Json


@app.command()
def systems(
    missing: Annotated[bool, typer.Option("--missing", help="Only what is still open.")] = False,
    kind: Annotated[str | None, typer.Option(metavar="KIND", help="Only one kind, such as pruning.")] = None,
    as_json: Json = False,
    debug: Debug = False,
) -> None:
    """List the published systems covered here: where each lives, which test shows it.

    \b
    Examples:
      sartor systems
      sartor systems --missing --kind pruning
    """
    from sartor.systems import select

    terminal.print_systems(select(missing=missing, kind=kind), as_json)
