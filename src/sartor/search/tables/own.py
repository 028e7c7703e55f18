"""A table of the user's own: a .csv file, which columns are choices, which are objectives and in which direction."""

from __future__ import annotations

import csv
import gzip
import math
from collections.abc import Sequence
from pathlib import Path

from sartor.errors import InputError
from sartor.records import Option
from sartor.search.objective import Objective
from sartor.search.tables.table import Table, table_of
from sartor.space import Choice


def open_csv(
    file: str | Path,
    columns: Sequence[str],
    objectives: Sequence[Objective],
    verdict: Objective | None = None,
) -> Table:
    """The table in ``file`` (.csv, or .csv.gz): ``columns`` are the choices, whose options are what stands in them, in
    order; ``verdict``, where it is not the first of ``objectives``, is what the search never sees.

    Rows without a finite number in an objective or the verdict are left out, and counted in the table's note; so are
    rows without an option. Raises InputError where the file cannot be read, or columns are not in it.
    """
    path = Path(file)
    if not columns or not objectives:
        raise InputError("name the columns that are choices (--columns) and one, at least, to maximise or minimise")
    verdict = verdict or objectives[0]
    rows = _read(path)
    there = list(rows[0]) if rows else []
    metrics = list(dict.fromkeys([*(o.metric for o in objectives), verdict.metric]))
    missing = [name for name in [*columns, *metrics] if name not in there]
    if missing:
        raise InputError(f"{path} has no column {', '.join(missing)}: it has {', '.join(map(str, there)) or 'no rows'}")
    if both := sorted(set(columns) & set(metrics)):
        raise InputError(f"{', '.join(both)} cannot be a choice and an objective")
    usable = [row for row in rows if all(_number(row[m]) is not None for m in metrics) and all(row[c] for c in columns)]
    options = {name: _options([row[name] for row in usable]) for name in columns}
    parsed = [
        ({c: options[c][row[c]] for c in columns}, {m: _number(row[m]) or 0.0 for m in metrics}) for row in usable
    ]
    choices = [Choice(name, tuple(dict.fromkeys(options[name].values()))) for name in columns if options[name]]
    left = len(rows) - len(usable)
    note = f"{left:,} of {len(rows):,} rows lack an option or a number, and are left out" if left else ""
    return table_of(path.name, choices, parsed, objectives, verdict, note=note)


def _read(path: Path) -> list[dict[str, str]]:
    try:
        with (gzip.open if path.suffix == ".gz" else open)(path, "rt", newline="") as held:
            return list(csv.DictReader(held))
    except (OSError, EOFError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"cannot read {path} ({error}): give a .csv file with a header") from error


def _number(text: str | None) -> float | None:
    try:
        value = float(text or "nan")
    except ValueError:
        return None
    return value if math.isfinite(value) else None


def _options(texts: Sequence[str]) -> dict[str, Option]:
    """What stands in a column, as numbers where all of it is, in order."""
    found = sorted(set(texts))
    numbers = {text: _number(text) for text in found}
    if any(value is None for value in numbers.values()):
        return {text: text for text in found}
    whole = all(float(value or 0).is_integer() for value in numbers.values())
    ordered = sorted(found, key=lambda text: numbers[text] or 0.0)
    return {text: int(numbers[text] or 0) if whole else float(numbers[text] or 0.0) for text in ordered}
