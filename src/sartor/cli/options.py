"""What the verbs' options share: parsers of units, shares and lists, whose errors name the option; and the options that
several verbs have."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated

import typer

from sartor.errors import InputError
from sartor.records import parse_quantity


def quantity(kind: str) -> Callable[[str], float]:
    """A parser for an option with a unit, whose errors name the option. What is counted (bytes, MACs) is whole."""

    def parse(text: str) -> float:
        try:
            value = parse_quantity(text, kind)
        except InputError as error:
            raise typer.BadParameter(str(error)) from error
        return round(value) if kind in ("size", "count") else value

    return parse


def fraction(text: str) -> float:
    """``90%`` or ``0.9`` → 0.9."""
    try:
        value = float(text.removesuffix("%")) / (100 if text.endswith("%") else 1)
    except ValueError:
        value = -1.0
    if not 0 <= value <= 1:
        raise typer.BadParameter(f"{text!r} is not an accuracy: write a share such as 90% or 0.9")
    return value


def share_or_count(text: str) -> float:
    """``50%`` or ``0.5`` → 0.5, a share; ``20M`` → 20 million."""
    try:
        value = float(text[:-1]) / 100 if text.endswith("%") else float(parse_quantity(text, "count"))
    except (InputError, ValueError):
        value = -1.0
    if not 0 < value < float("inf") or (text.endswith("%") and value > 1):
        raise typer.BadParameter(f"{text!r} is neither a share such as 50% nor a number such as 20M")
    return value


def names(text: str | None) -> list[str]:
    """``a, b`` → a and b; none where nothing is given."""
    return [part.strip() for part in (text or "").split(",") if part.strip()]


def counts(text: str | None) -> list[int]:
    """``1, 3`` → 1 and 3; none where nothing is given."""
    found = names(text)
    if any(not part.isdecimal() or int(part) < 1 for part in found):
        raise InputError(f"{text!r} are no counts: write whole numbers such as 1,3")
    return [int(part) for part in found]


RunDir = Annotated[Path, typer.Argument(metavar="RUN", help="The folder a fit wrote.")]
MaxLatency = Annotated[
    float | None,
    typer.Option("--max-latency", metavar="2ms", parser=quantity("latency"), help="Median time of one image."),
]
MaxSize = Annotated[
    int | None, typer.Option("--max-size", metavar="1MB", parser=quantity("size"), help="Size of the exported file.")
]
MaxMacs = Annotated[
    int | None, typer.Option("--max-macs", metavar="20M", parser=quantity("count"), help="Multiply-accumulates.")
]
MaxMemory = Annotated[
    int | None,
    typer.Option("--max-memory", metavar="512KB", parser=quantity("size"), help="Peak memory of activations."),
]
LatencyModelFile = Annotated[
    Path | None,
    typer.Option("--latency-model", metavar="FILE", help="Predict latencies by what sartor profile-device wrote."),
]
Plot = Annotated[
    Path | None,
    typer.Option("--plot", metavar="OUT.svg|.html", help="Draw the best so far: median and quartiles over seeds."),
]
Threads = Annotated[int, typer.Option(min=1, metavar="N", help="Threads the runtime may use while it is timed.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON, for programs.")]


def apart(outputs: Sequence[Path | None], inputs: Sequence[Path]) -> None:
    """Raises InputError where a file to write is one that is read, or is to be written twice."""
    held = {place.resolve() for place in inputs}
    for place in outputs:
        if place is not None and place.resolve() in held:
            raise InputError(f"{place} is read here, or written already: give the output another name")
        if place is not None:
            held.add(place.resolve())
