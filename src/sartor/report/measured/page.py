"""The page of one measured network: one HTML file that needs nothing but itself."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

from sartor import __version__
from sartor.disk import explain, write_atomic
from sartor.errors import InputError
from sartor.report.document import document
from sartor.report.measured.compared import compared
from sartor.report.measured.headline import headline
from sartor.report.measured.layers import layer_table, untold
from sartor.report.measured.made import made
from sartor.report.measured.memory import memory
from sartor.report.measured.roofline import roofline
from sartor.report.measured.sorting import SCRIPT, STYLE
from sartor.report.measured.times import times
from sartor.report.measured.told import Drawn, Told
from sartor.report.measured.waterline import waterline
from sartor.report.page import section
from sartor.report.page_script import scripts

_ONE = ("roofline", "efficiency", "time", "layers", "memory", "made")
_SEVERAL = ("totals", "time", "differences", "roofline", "efficiency", "layers", "made")


def check_place(path: Path) -> None:
    """Raises InputError or WriteError where no page can be written to ``path``: before anything is measured."""
    folder = path.parent
    if path.is_dir():
        raise InputError(f"{path} is a folder: --html takes the name of a file")
    if not folder.is_dir():
        raise InputError(f"there is no folder {folder} to write {path.name} into: make it, or choose another --html")
    try:
        tempfile.TemporaryFile(dir=folder).close()
    except OSError as error:
        raise explain(error, path, "--html") from error


def write_measured(path: Path, found: Mapping[str, Any]) -> None:
    """The page of what ``sartor measure --json`` prints, of one network or of several, in a file.

    Raises InputError as :func:`check_place`, and WriteError in one line.
    """
    check_place(path)
    write_atomic(path, measured_html(found))


def measured_html(found: Mapping[str, Any]) -> str:
    """The page as text."""
    drawn, sections = Drawn({}), _SEVERAL if "models" in found else _ONE
    if "models" in found:
        told: Sequence[Told] = [Told(entry) for entry in found["models"]]
        body = compared(told, found["ratios"], drawn)
        name = " and ".join(one.name for one in told)
    else:
        one = Told(found)
        body, name = _one(one, drawn), one.name
    code = f"{scripts(drawn.figures)}\n<script>{SCRIPT}</script>"
    return document(escape(name), body, sections, f"Measured by Sartor {escape(__version__)}.", code, STYLE)


def _one(told: Told, drawn: Drawn) -> str:
    said = "<p>In the order they run; a click on a head sorts. A layer is one kernel with what runs inside it.</p>"
    table = layer_table(told)
    parts = [
        headline(told),
        roofline(told, drawn),
        waterline(told, drawn),
        times({told.name: told}, drawn),
        section("layers", "Layers", said, table) if table else section("layers", "Layers", untold(told)),
        memory(told, drawn),
        made({told.name: told}),
    ]
    return "\n".join(part for part in parts if part)
