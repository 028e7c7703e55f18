"""A finished run in Python: its front, the pick within limits, predictions.

run = sartor.open_run("run")
member = run.pick(max_latency_ms=1.0, out="model")
member.predict(["cat.jpg"])[0].class_name
"""

from __future__ import annotations

import math
import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sartor.disk import is_part, make_dir, write_atomic
from sartor.errors import BudgetError, InputError
from sartor.records import Budget, Record
from sartor.report import units
from sartor.report.files import MODEL_FILES, RunFiles, read_run
from sartor.report.table import front_csv

if TYPE_CHECKING:
    import numpy as np
    import pandas

    from sartor.serve.predict import Classifier, Prediction


@dataclass(frozen=True)
class Member:
    """One network of a front: its record, and the folder with model.onnx, model.safetensors, arch.json, card.md."""

    record: Record
    path: Path

    @cached_property
    def classifier(self) -> Classifier:
        from sartor.serve.predict import Classifier

        return Classifier(self.path)

    def predict(self, images: np.ndarray | Sequence[str | Path] | str | Path) -> list[Prediction]:
        """One prediction an image, of arrays, files or folders: see :meth:`sartor.serve.predict.Classifier.predict`."""
        return self.classifier.predict(images)


@dataclass(frozen=True)
class Run:
    """A run directory. ``front`` is fastest first, empty while the run has not come that far; ``info`` is run.json."""

    path: Path
    files: RunFiles

    @property
    def front(self) -> list[Record]:
        return list(self.files.records)

    @property
    def info(self) -> dict[str, Any]:
        return dict(self.files.info)

    @property
    def picked(self) -> Member:
        """The member the run recommends. Raises InputError while there is no front."""
        record = self.files.picked_record
        if record is None:
            raise self._unfinished()
        return self._member(record)

    def front_frame(self) -> pandas.DataFrame:
        """front.csv as a pandas frame. Raises InputError when pandas is not installed."""
        import io

        try:
            import pandas
        except ImportError as error:
            raise InputError("front_frame needs pandas: pip install pandas") from error
        # Names stay text: a network called "3" or "nan" is neither a number nor missing.
        text = {"name": str, "precision": str, "arch": str}
        return pandas.read_csv(
            io.StringIO(front_csv(self.files.records)), dtype=text, keep_default_na=False, na_values=""
        )

    def pick(
        self,
        max_latency_ms: float | None = None,
        max_size_bytes: int | None = None,
        max_macs: int | None = None,
        max_memory_bytes: int | None = None,
        min_accuracy: float | None = None,
        out: str | Path | None = None,
    ) -> Member:
        """The best member within limits, copied to ``out`` where given.

        Best is the most accurate on the validation images (test images choose nothing), of equals the fastest. With
        ``min_accuracy`` (a fraction of the validation images) and no other limit it is the fastest that reaches it.
        Raises BudgetError naming the nearest miss; InputError for senseless limits, a damaged run or a used ``out``.
        """
        budget = Budget(max_latency_ms, max_size_bytes, max_macs, max_memory_bytes)
        if min_accuracy is not None and not 0 <= min_accuracy <= 1:
            raise InputError(f"min_accuracy is a fraction, such as 0.9 for 90%, not {min_accuracy!r}")
        if not self.front:
            raise self._unfinished()
        fitting = [r for r in self.front if _excess(r, budget, min_accuracy) == 0]
        if not fitting:
            raise BudgetError(_nearest_miss(self, budget, min_accuracy))
        cheapest_first = min_accuracy is not None and budget == Budget()
        best = min(fitting, key=_by_latency if cheapest_first else _by_accuracy)
        member = self._member(best)
        return member if out is None else _copy(member, Path(out))

    def _member(self, record: Record) -> Member:
        folder = self.path / "models" / record.name
        if folder.parent != self.path / "models" or record.name in ("", ".", ".."):
            raise InputError(f"{self.path} is damaged: {record.name!r} is no name of a model; run the same fit again")
        if not (folder / "model.onnx").is_file():
            raise InputError(f"{self.path} is damaged: {folder / 'model.onnx'} is missing; run the same fit again")
        return Member(record, folder)

    def _unfinished(self) -> InputError:
        status = self.files.info.get("status", "unknown")
        if reason := self.files.info.get("reason"):
            return InputError(f"{self.path} has no front (it is {status}): {reason}")
        how = f"sartor fit … --out {shlex.quote(str(self.path))} --resume"
        return InputError(f"{self.path} has no front yet (it is {status}): finish it with `{how}`")


def open_run(path: str | Path) -> Run:
    """Open the folder that ``fit`` made. Raises InputError when it is no run, of another format, or damaged."""
    return Run(Path(path), read_run(path))


def _by_accuracy(record: Record) -> tuple[float, float]:
    return -record.metrics.get("accuracy_val", 0.0), record.metrics.get("latency_ms", math.inf)


def _by_latency(record: Record) -> tuple[float, float]:
    return record.metrics.get("latency_ms", math.inf), -record.metrics.get("accuracy_val", 0.0)


def _excess(record: Record, budget: Budget, min_accuracy: float | None) -> float:
    """How far the worst limit is missed, 0 within all. What was not measured does not fit: infinitely far."""
    limits = budget.to_dict()
    for metric, argument in units.BUDGETS.items():
        if limits[argument] is not None and metric not in record.metrics:
            return math.inf
    short = 0.0
    if min_accuracy is not None:
        # The shortfall as a share of what was asked, like a cost's excess, so that the two can be compared.
        short = max(0.0, 1 - record.metrics.get("accuracy_val", 0.0) / min_accuracy) if min_accuracy > 0 else 0.0
    return max(budget.excess(record.metrics), short)


def _nearest_miss(run: Run, budget: Budget, min_accuracy: float | None) -> str:
    nearest = min(run.front, key=lambda r: (_excess(r, budget, min_accuracy), _by_accuracy(r)))
    limits = budget.to_dict()
    reasons = []
    for metric, argument in units.BUDGETS.items():
        limit, value = limits[argument], nearest.metrics.get(metric)
        if limit is not None and value is None:
            reasons.append(f"its {units.METRICS[metric][0]} was not measured")
        elif limit is not None and value is not None and value > limit:
            over = f"{100 * (value / limit - 1):.1f}% over {units.write(metric, limit)}"
            reasons.append(f"{units.METRICS[metric][0]} {units.write(metric, value)}, {over}")
    accuracy = nearest.metrics.get("accuracy_val", 0.0)
    if min_accuracy is not None and accuracy < min_accuracy:
        reasons.append(f"validation accuracy {units.percent(accuracy)}, below {units.percent(min_accuracy)}")
    return f"no network of {run.path} is within the limits; the nearest is {nearest.name}: {'; '.join(reasons)}"


def _copy(member: Member, out: Path) -> Member:
    """Copy a member's files. A folder with anything else in it is refused, an earlier pick is replaced."""
    if out.exists() and out.resolve() == member.path.resolve():
        return member
    if out.is_dir():
        strangers = sorted(p.name for p in out.iterdir() if p.name not in MODEL_FILES and not is_part(p))
        if strangers:
            raise InputError(f"{out} holds other files ({strangers[0]}, …): choose an empty or a new folder")
    make_dir(out)
    sources = {name: member.path / name for name in MODEL_FILES}
    for name, source in sources.items():
        if source.is_file():
            write_atomic(out / name, source.read_bytes())
        else:  # what an earlier pick left must not pass for this one's
            (out / name).unlink(missing_ok=True)
    return Member(member.record, out)
