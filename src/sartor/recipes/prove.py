"""Export every member, quantise it, and check the files: parity, accuracy, latency, size, memory, budget.

What a record says was measured on the file that is shipped. A file that fails a check is dropped with the reason.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from sartor.compress.quantize import quantize_int8
from sartor.disk import write_atomic
from sartor.errors import InputError, WriteError
from sartor.export.onnx import export_onnx
from sartor.export.parity import parity
from sartor.machine import cores
from sartor.measure.accuracy import accuracy
from sartor.measure.counts import counts
from sartor.measure.device import versions
from sartor.measure.targets.named import open_target
from sartor.measure.targets.target import device_of, memory_of
from sartor.models.weights import to_bytes
from sartor.recipes.specialise import Made
from sartor.recipes.voice import Tick
from sartor.recipes.workshop import Workshop
from sartor.records import Arch, Record
from sartor.search import pareto
from sartor.search.objective import costs

PARITY = 1e-5
"""Largest error of an fp32 file, relative to the largest eager output (promise 2)."""

AGREEMENT = 0.9
"""Least share of validation images an int8 file must label as its fp32 file does (promise 2)."""

CALIBRATION_IMAGES, CALIBRATION_PIXELS = 256, 2**18
"""Train images that set the ranges of 8-bit activations, and pixels of a batch, whose activations are in memory all at
once. Choices."""

TIMING_SHARE, LEAST_TIMING_S = 0.4, 1.0
"""Of the stage: what timing may take, and the least seconds of one file. A choice: at 72 seconds and twelve files each
has two."""


@dataclass
class Candidate:
    """An exported file on its way to the front."""

    name: str
    arch: Arch
    precision: str
    file: Path
    metrics: dict[str, float] = field(default_factory=dict)
    timing: dict[str, Any] = field(default_factory=dict)
    predictions: np.ndarray | None = None


@dataclass(frozen=True)
class Proof:
    """Every file that was measured, those on the front, and those dropped with the reasons; what was tried."""

    measured: list[Record]
    front: list[Record]
    dropped: list[dict[str, str]]
    tried: list[dict[str, Any]]
    disturbed: bool
    """Whether the machine never came to rest while some file was timed."""


def prove(shop: Workshop, made: Sequence[Made], seconds: float, tick: Tick) -> Proof:
    """Export, quantise, check and measure ``made``; keep the front in validation accuracy and measured latency.

    Timing takes ``TIMING_SHARE`` of ``seconds`` at most; checking takes what it takes.
    """
    candidates: list[Candidate] = []
    dropped: list[dict[str, str]] = []
    for index, member in enumerate(made):
        tick(0.7 * index / len(made), f"exporting {member.name}")
        candidates += _files(shop, member, dropped)
    disturbed = _time(shop, candidates, TIMING_SHARE * seconds, tick)
    records = [_record(shop, c) for c in candidates]
    passed = []
    for record in records:
        broken = shop.job.budget.violations(record.metrics)
        if broken:
            dropped.append({"name": record.name, "precision": record.precision, "reason": "; ".join(broken)})
        else:
            passed.append(record)
    front = _front(passed)
    tried = _verdicts(records, front)
    return Proof(records, front, dropped, tried, disturbed)


def _files(shop: Workshop, member: Made, dropped: list[dict[str, str]]) -> list[Candidate]:
    """The fp32 and int8 files of one member that pass parity, with accuracy measured from the file."""
    side = int(member.arch["resolution"])
    folder = shop.path / "work" / member.name
    network = member.network.cpu().float()
    file = folder / "model.onnx"
    export_onnx(network, shop.shape(member.arch), file, metadata=shop.metadata(member.name))
    error = parity(network, file, shop.shape(member.arch))
    if error > PARITY:
        reason = f"parity: the file is {error:.1e} off the network, over {PARITY:.0e}"
        dropped.append({"name": member.name, "precision": "fp32", "reason": reason})
        return []
    counted = counts(network, shop.shape(member.arch))
    base = {"macs": counted.macs, "params": counted.params}
    plain = Candidate(member.name, member.arch, "fp32", file, {**base, "parity": error})
    _judge(shop, plain, side)
    candidates = [plain] if "fp32" in shop.job.precision else []
    if "int8" in shop.job.precision:
        name = f"{member.name}-int8"
        quantised = Candidate(name, member.arch, "int8", shop.path / "work" / name / "model.onnx", dict(base))
        batches = shop.calibration(side, CALIBRATION_IMAGES, pixels=CALIBRATION_PIXELS)
        images = [x.cpu().numpy() for x in batches]
        try:
            quantize_int8(file, quantised.file, images)
            _judge(shop, quantised, side)
        except WriteError:
            raise
        except InputError as error_:
            dropped.append({"name": name, "precision": "int8", "reason": f"quantisation: {error_}"})
            return candidates
        assert plain.predictions is not None
        agreement = float(np.mean(plain.predictions == quantised.predictions))
        quantised.metrics["agreement"] = agreement
        if agreement < AGREEMENT:
            reason = f"parity: labels {100 * agreement:.1f}% of images as fp32 does, under {100 * AGREEMENT:.0f}%"
            dropped.append({"name": name, "precision": "int8", "reason": reason})
        else:
            candidates.append(quantised)
    return candidates


def _judge(shop: Workshop, candidate: Candidate, side: int) -> None:
    """Accuracy on validation, size and memory, all from the file."""
    runner = open_target(shop.job.target, cores())
    right, candidate.predictions = accuracy(runner, candidate.file, arrays(shop, shop.dataset.val, side))
    candidate.metrics |= {
        "accuracy_val": right,
        "size_bytes": candidate.file.stat().st_size,
        "peak_memory_bytes": memory_of(runner, candidate.file),
    }


def _time(shop: Workshop, candidates: Sequence[Candidate], seconds: float, tick: Tick) -> bool:
    """Latency of all files in interleaved rounds, so that the front compares what ran under the same conditions.

    Whether any was disturbed. Decided once a machine: a run that goes on elsewhere, or was given another machine's
    journal, times its files itself.
    """
    tick(0.75, "timing all files")
    if not candidates:
        return False

    def measure() -> list[dict[str, Any]]:
        files = [c.file for c in candidates]
        latencies = shop.target.latencies(files, runs=300, budget_s=max(LEAST_TIMING_S, seconds / len(files)))
        return [latency.to_dict() for latency in latencies]

    machine = hashlib.sha256(json.dumps(device_of(shop.target)).encode()).hexdigest()[:8]
    key = f"prove.latency.{machine}." + ",".join(c.name for c in candidates)
    timed = shop.journal.once(key, measure)
    for candidate, latency in zip(candidates, timed, strict=True):
        candidate.metrics |= {"latency_ms": latency["median_ms"], "latency_p95_ms": latency["p95_ms"]}
        candidate.timing = latency
    return any(latency["disturbed"] for latency in timed)


def _record(shop: Workshop, candidate: Candidate) -> Record:
    metrics = {k: float(v) for k, v in candidate.metrics.items()}
    provenance = {
        "seed": shop.job.seed,
        "device": device_of(shop.target),
        "versions": versions(),
        "target": {"name": shop.job.target, "threads": shop.job.threads},
        "timing": candidate.timing,
        "data": {"fingerprint": shop.dataset.fingerprint, "accuracy_val": "val", "accuracy_test": "test"},
        "wall_s": round(shop.clock.elapsed, 1),
    }
    return Record(candidate.name, candidate.arch, candidate.precision, metrics, provenance)


def _front(records: Sequence[Record]) -> list[Record]:
    if not records:
        return []
    kept = pareto.nondominated(costs(records))
    return sorted((r for r, keep in zip(records, kept, strict=True) if keep), key=lambda r: r.metrics["latency_ms"])


def _verdicts(records: Sequence[Record], front: Sequence[Record]) -> list[dict[str, Any]]:
    """For each int8 file: did it measure better than its fp32 twin?"""
    plain = {r.name: r for r in records if r.precision == "fp32"}
    names = {r.name for r in front}
    verdicts = []
    for record in records:
        twin = plain.get(record.name.removesuffix("-int8"))
        if record.precision != "int8" or twin is None:
            continue
        speed = twin.metrics["latency_ms"] / record.metrics["latency_ms"]
        change = 100 * (record.metrics["accuracy_val"] - twin.metrics["accuracy_val"])
        why = f"{speed:.2f} times as fast, validation accuracy {change:+.2f} points"
        verdicts.append({"what": f"8 bits for {twin.name}", "kept": record.name in names, "why": why})
    return verdicts


def arrays(shop: Workshop, images: Any, side: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """A split as the runtime takes it: contiguous float32 [n, C, H, W] and int64 [n]."""
    for batch, labels in shop.labelled(images, side):
        yield np.ascontiguousarray(batch.cpu().numpy()), labels.numpy()


def ship(shop: Workshop, record: Record, made: Made, card: str) -> None:
    """Write ``models/NAME``: the file, the weights, the arch and the card."""
    folder = shop.path / "models" / record.name
    write_atomic(folder / "model.onnx", (shop.path / "work" / record.name / "model.onnx").read_bytes())
    write_atomic(folder / "model.safetensors", to_bytes(made.network))
    arch: dict[str, Any] = {
        "arch": dict(record.arch),
        "precision": record.precision,
        "preprocessing": shop.preprocessing(record.name),
    }
    if shop.given is not None:
        arch["cut"] = shop.given.cut(record.arch)
    write_atomic(folder / "arch.json", json.dumps(arch, indent=2) + "\n")
    write_atomic(folder / "card.md", card)
