"""The rows of a .csv file, strictly: what would be read wrongly is refused."""

from __future__ import annotations

import csv
import gzip
import zlib
from itertools import zip_longest
from pathlib import Path

from sartor.errors import InputError


def read_rows(path: Path, fix: str) -> list[dict[str, str]]:
    """The rows of ``path`` (.csv, or .csv.gz) by the header's names; a row that ends early has empty fields.

    Raises InputError, with ``fix``, where it cannot be read; with the line where a row has too many fields; and where
    two columns have one name.
    """
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
        raise InputError(f"cannot read {path} ({error}): {fix}") from error
