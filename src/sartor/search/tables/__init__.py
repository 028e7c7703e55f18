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
    the .csv file ``name``, whose ``columns`` are choices. The first objective is the first that is maximised, or where
    nothing is, the first that is minimised. ``verdict``: one of these, or ``max:NAME`` or ``min:NAME``.

    Raises InputError where what is asked for is not there, or does not apply.
    """
    if not name.lower().endswith((".csv", ".csv.gz")):
        if columns or maximise or verdict or len(minimise) > 1:
            raise InputError(f"{name} has its own columns: only one to minimise may be named")
        return open_known(name, data, minimise[0] if minimise else None)
    objectives = [*(Objective(c, maximise=True) for c in maximise), *(Objective(c) for c in minimise)]
    if len({o.metric for o in objectives}) < len(objectives):
        raise InputError("a column is an objective once, to maximise or to minimise")
    return open_csv(name, columns, objectives, None if verdict is None else _verdict(verdict, objectives))


def _verdict(text: str, objectives: Sequence[Objective]) -> Objective:
    direction, colon, name = text.partition(":")
    if colon and direction in ("max", "min"):
        return Objective(name, maximise=direction == "max")
    for objective in objectives:
        if objective.metric == text:
            return objective
    raise InputError(f"is more of {text} better, or less? Write --verdict max:{text} or min:{text}")
