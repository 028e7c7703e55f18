"""The front as a table: in the terminal (Rich), as front.csv and as front.json."""

from __future__ import annotations

import csv
import io
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sartor.disk import write_atomic, write_json
from sartor.records import FRONT_COLUMNS, Record, column
from sartor.report import units
from sartor.report.files import FORMAT

if TYPE_CHECKING:
    from rich.table import Table

_HEADINGS = {
    "name": "name",
    "precision": "precision",
    "accuracy_test": "test",
    "accuracy_val": "val",
    "latency_ms": "latency",
    "latency_p95_ms": "p95",
    "macs": "MACs",
    "params": "params",
    "size_bytes": "size",
    "peak_memory_bytes": "memory",
}


def front_table(records: Sequence[Record], *, picked: str | None = None, title: str | None = None) -> Table:
    """The front as a Rich table, in the order given; the picked member is bold and marked, unmeasured is ``–``."""
    from rich import box
    from rich.table import Table

    table = Table(title=title, box=box.SIMPLE_HEAD, title_justify="left", pad_edge=False)
    for name in FRONT_COLUMNS:
        table.add_column(_HEADINGS[name], justify="left" if name in ("name", "precision") else "right", no_wrap=True)
    for record in records:
        mark = " ←" if record.name == picked else ""
        cells = [units.write(name, record.metrics.get(name)) for name in FRONT_COLUMNS[2:]]
        table.add_row(record.name + mark, record.precision, *cells, style="bold" if mark else None)
    return table


def _cell(value: float | str) -> str | float | int:
    """Whole numbers without ``.0`` (bytes and MACs are counts), nothing where nothing was measured."""
    if isinstance(value, str):
        return value
    if not math.isfinite(value):
        return ""
    return int(value) if float(value).is_integer() and abs(value) > 1 else value


def front_csv(records: Sequence[Record]) -> str:
    """The text of front.csv: FRONT_COLUMNS, then the arch's key, then every other metric any record has."""
    extra = sorted({name for record in records for name in record.metrics} - set(FRONT_COLUMNS))
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([*FRONT_COLUMNS, "arch", *extra])
    columns = [column(records, name) for name in FRONT_COLUMNS]
    columns += [[record.arch.key for record in records]]
    columns += [column(records, name) for name in extra]
    for row in zip(*columns, strict=True):
        writer.writerow([_cell(value) for value in row])
    return text.getvalue()


def write_front(
    run_dir: Path,
    records: Sequence[Record],
    dropped: Sequence[Mapping[str, Any]] = (),
    *,
    picked: str | None = None,
) -> None:
    """Write front.csv and front.json, fastest first. ``dropped``: {name, precision, reason} of what was not shipped.

    front.json is written last: it is the file whose presence says that the front is whole.
    """
    ordered = sorted(records, key=lambda r: r.metrics.get("latency_ms", math.inf))
    write_atomic(run_dir / "front.csv", front_csv(ordered))
    front = [record.to_dict() for record in ordered]
    for value in front:
        value["metrics"] = {name: x for name, x in value["metrics"].items() if math.isfinite(x)}
    write_json(
        run_dir / "front.json",
        {"format": FORMAT, "picked": picked, "front": front, "dropped": [dict(entry) for entry in dropped]},
    )
