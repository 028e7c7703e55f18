"""A workshop on the digits, as a fit opens it."""

from __future__ import annotations

from pathlib import Path

from sartor.data import open_data
from sartor.recipes.given import Given
from sartor.recipes.job import Job
from sartor.recipes.journal import Journal
from sartor.recipes.plan import Clock
from sartor.recipes.voice import Voice
from sartor.recipes.workshop import Workshop
from sartor.records import Budget


def workshop(
    path: Path, budget: Budget, precision: tuple[str, ...] = ("fp32", "int8"), given: Given | None = None
) -> Workshop:
    journal = Journal(path / "journal.jsonl")
    job = Job("digits", budget, 60.0, "onnxruntime", 1, precision, 0, "sandwich")
    return Workshop(job, open_data("digits"), path, journal, Clock(journal), Voice(0), given)
