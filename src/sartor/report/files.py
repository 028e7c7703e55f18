"""The files of a run, read and checked once, for the report and for :func:`sartor.open_run`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sartor.disk import read_json
from sartor.errors import InputError
from sartor.records import Record

FORMAT = 1
"""The version of the run directory's layout. A run of another format is refused, never half understood."""

MODEL_FILES = ("model.onnx", "model.safetensors", "arch.json", "card.md")
"""What every folder under ``models/`` holds."""


@dataclass(frozen=True)
class RunFiles:
    """A run directory's JSON: ``run.json``, ``front.json``, ``evidence.json`` (the last two may not be there yet)."""

    path: Path
    info: Mapping[str, Any]
    records: tuple[Record, ...] = ()
    picked: str | None = None
    dropped: tuple[Mapping[str, Any], ...] = ()
    evidence: Mapping[str, Any] = field(default_factory=dict)

    @property
    def arguments(self) -> Mapping[str, Any]:
        return arguments(self.info)

    @property
    def picked_record(self) -> Record | None:
        """The member the run recommends; the most accurate on validation where none is named."""
        named = (record for record in self.records if record.name == self.picked)
        return next(named, max(self.records, key=lambda r: r.metrics.get("accuracy_val", 0.0), default=None))


def arguments(info: Mapping[str, Any]) -> dict[str, Any]:
    """run.json's arguments on one level: budgets may be stored together under ``budget``."""
    given = dict(info.get("arguments") or {})
    return {**(given.pop("budget", None) or {}), **given}


def _object(path: Path) -> dict[str, Any]:
    value = read_json(path)
    if not isinstance(value, dict):
        raise InputError(f"{path} is damaged: it should hold one JSON object")
    if path.name != "evidence.json" and value.get("format") != FORMAT:
        raise InputError(
            f"{path} has format {value.get('format')!r} and this Sartor reads format {FORMAT}: "
            f"use the version that wrote it ({value.get('sartor', 'unknown')}) or fit again"
        )
    return value


def read_run(path: str | Path) -> RunFiles:
    """Read a run directory. Raises InputError when it is no run, of another format, or damaged."""
    path = Path(path)
    if not path.is_dir():
        raise InputError(f"{path} is not a directory: name the folder that `sartor fit DATA --out RUN` made")
    if not (path / "run.json").is_file():
        raise InputError(f"{path} is not a run (it has no run.json): name a folder that `sartor fit` made")
    info = _object(path / "run.json")
    evidence = _object(path / "evidence.json") if (path / "evidence.json").exists() else {}
    if not (path / "front.json").exists():
        if info.get("status") == "done":
            raise InputError(f"{path} is damaged: it is done but front.json is missing; run the same fit again")
        return RunFiles(path, info, evidence=evidence)
    front = _object(path / "front.json")
    if not isinstance(front.get("front"), list):
        raise InputError(f"{path / 'front.json'} is damaged: it has no list named front; run the same fit again")
    records = tuple(Record.from_dict(value) for value in front["front"])
    records = tuple(sorted(records, key=lambda r: r.metrics.get("latency_ms", 0.0)))
    return RunFiles(path, info, records, front.get("picked"), tuple(front.get("dropped") or ()), evidence)
