"""A table of the user's own: a .csv file, which columns are choices, which are objectives and in which direction."""

from __future__ import annotations

import csv
import gzip
import math
import zlib
from collections.abc import Sequence
from itertools import zip_longest
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
    usable = [row for row in rows if all(_number(row[m]) is not None for m in metrics) and all(map(row.get, columns))]
    usable = [row for row in usable if not any(_lost(row[c]) for c in columns)]
    left = len(rows) - len(usable)
    note = f"{left:,} of {len(rows):,} rows lack an option or a number, and are left out" if left else ""
    if not usable:
        raise InputError(f"{path} has no rows to search" + (f": {note}" if note else ""))
    options = {name: _options([row[name] for row in usable]) for name in columns}
    parsed = [
        ({c: options[c][row[c]] for c in columns}, {m: _number(row[m]) or 0.0 for m in metrics}) for row in usable
    ]
    choices = [Choice(name, tuple(dict.fromkeys(options[name].values()))) for name in columns]
    return table_of(path.name, choices, parsed, objectives, verdict, note=note)


def _read(path: Path) -> list[dict[str, str]]:
    """The rows by the header's names. Raises InputError for what is no table, with the line."""
    opened = gzip.open if path.suffix.lower() == ".gz" else open
    try:
        with opened(path, "rt", newline="", encoding="utf-8-sig") as held:
            reader = csv.reader(held, skipinitialspace=True)
            names = [name.strip() for name in next(reader, [])]
            twice = sorted({name for name in names if names.count(name) > 1})
            if twice:
                raise InputError(f"{path} has the column {', '.join(twice)} more than once")
            rows = []
            for row in reader:
                if len(row) > len(names):
                    raise InputError(f"{path}, line {reader.line_num}: {len(row)} fields for {len(names)} columns")
                if row:
                    rows.append(dict(zip_longest(names, (text.strip() for text in row), fillvalue="")))
            return rows
    except (OSError, EOFError, zlib.error, UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"cannot read {path} ({error}): give a .csv file with a header") from error


def _number(text: str) -> float | None:
    """A finite number, or None."""
    try:
        value = float(text)
    except ValueError:
        return None
    return value if math.isfinite(value) else None


def _lost(text: str) -> bool:
    """What programs write where there is no number."""
    return text.lower() in ("", "nan", "inf", "-inf", "na", "n/a", "null")


def _options(texts: Sequence[str]) -> dict[str, Option]:
    """What stands in a column, as numbers where all of it is, and no two mean the same; numbers first, in order."""
    found = sorted(set(texts), key=lambda text: (_number(text) is None, _number(text) or 0.0, text))
    for kind in (int, float):
        try:
            numbers = {text: kind(text) for text in found}
        except ValueError:
            continue
        if len(set(numbers.values())) == len(found) and "_" not in "".join(found):
            return dict(numbers)
    return {text: text for text in found}
