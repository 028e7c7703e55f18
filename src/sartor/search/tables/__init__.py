"""Tables of evaluated archs: published ones by name, and anyone's own in a .csv file."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from sartor.errors import InputError
from sartor.search.objective import Objective
from sartor.search.tables.known import NAMES, open_known
from sartor.search.tables.own import open_csv
from sartor.search.tables.table import Table

__all__ = ["NAMES", "Table", "open_csv", "open_known", "open_table"]


def open_table(
    name: str,
    *,
    columns: Sequence[str] = (),
    maximise: Sequence[str] = (),
    minimise: Sequence[str] = (),
    verdict: str | None = None,
    data: str | Path | None = None,
) -> Table:
    """A published table by its ``name``, with one column to ``minimise`` beside its accuracy where that is wanted; or
    the .csv file ``name``, whose ``columns`` are choices. ``verdict`` has the direction of the first objective.

    Raises InputError where what is asked for is not there, or does not apply.
    """
    if not name.endswith((".csv", ".csv.gz")):
        if columns or maximise or verdict or len(minimise) > 1:
            raise InputError(f"{name} has its own columns: only one to minimise may be named")
        return open_known(name, data, minimise[0] if minimise else None)
    objectives = [*(Objective(c, maximise=True) for c in maximise), *(Objective(c) for c in minimise)]
    judge = Objective(verdict, maximise=objectives[0].maximise) if verdict and objectives else None
    return open_csv(name, columns, objectives, judge)
