"""Every published system this project covers: where it lives and which test shows it.

The table is ``systems.tsv`` beside this file: one row a paper; a row that works names an import path (``module:name``)
and a pytest node id, and a test holds it to both. An open row names neither.
"""

from __future__ import annotations

import csv
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

from sartor.errors import InputError


@dataclass(frozen=True)
class System:
    """One published system. ``status`` is ``works`` or ``open``; ``where`` and ``test`` are empty while it is open."""

    id: str
    title: str
    kind: str
    status: str
    where: str
    test: str

    @property
    def works(self) -> bool:
        return self.status == "works"


@cache
def systems() -> tuple[System, ...]:
    """All rows, in the order of their ids."""
    text = files("sartor").joinpath("systems.tsv").read_text(encoding="utf-8")
    # QUOTE_NONE: titles hold quotation marks, and a tab-separated table needs none.
    return tuple(System(**row) for row in csv.DictReader(text.splitlines(), delimiter="\t", quoting=csv.QUOTE_NONE))


def select(*, missing: bool = False, kind: str | None = None) -> list[System]:
    """The systems that are still open (``missing``) and of one ``kind``. Raises InputError for an unknown kind."""
    kinds = sorted({system.kind for system in systems()})
    if kind is not None and kind not in kinds:
        raise InputError(f"no system is of kind {kind!r}: choose one of {', '.join(kinds)}")
    return [s for s in systems() if (kind is None or s.kind == kind) and not (missing and s.works)]
