"""The end of a fit: test accuracy, once, and everything the report tells, written into the run."""

from __future__ import annotations

import base64
import io
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from PIL import Image
from scipy.special import softmax

from sartor import disk
from sartor.machine import cores
from sartor.measure.accuracy import accuracy
from sartor.measure.targets.named import open_target
from sartor.models import resize
from sartor.recipes.curve import Curve
from sartor.recipes.explore import Explored
from sartor.recipes.probe import Probed, entrant
from sartor.recipes.prove import Proof, arrays, ship
from sartor.recipes.specialise import Made
from sartor.recipes.workshop import Workshop
from sartor.records import Record
from sartor.report.card import model_card
from sartor.report.table import write_front
from sartor.search import audit

MOST_CLASSES = 1000
"""Classes up to which a confusion matrix is kept."""

MISTAKES = 24
"""Sample mistakes shown of the picked member."""


def conclude(
    shop: Workshop,
    probed: Probed,
    explored: Explored,
    made: Sequence[Made],
    proof: Proof,
    tuned: Sequence[dict[str, Any]],
    curves: Sequence[Curve],
    times: Sequence[dict[str, Any]],
) -> list[Record]:
    """Measure the front (and the largest network, as trained) on the test images; write front, models and evidence."""
    networks = {m.name: m for m in made}
    picked = max(proof.front, key=lambda r: (r.metrics["accuracy_val"], -r.metrics["latency_ms"]))
    tested: list[Record] = []
    confusion: dict[str, Any] = {}
    mistakes: dict[str, Any] = {}
    for record in proof.front:
        right, predictions = _test(shop, record)
        tested.append(replace(record, metrics={**record.metrics, "accuracy_test": right}))
        if record.name == picked.name:
            key = f"{record.name}/{record.precision}"
            confusion[key] = _confusion(shop, predictions)
            mistakes[key] = _mistakes(shop, record, predictions)
    baselines = [
        {
            "name": f"no search: the largest network, {record.precision}",
            "accuracy_val": record.metrics["accuracy_val"],
            "accuracy_test": _test(shop, record)[0],
            "latency_ms": record.metrics["latency_ms"],
            "note": "of the same run, trained beside the others",
        }
        for record in proof.measured
        if record.name.removesuffix("-int8") == "largest" and record.precision == shop.job.precision[0]
    ]
    if probed.given is not None:
        baselines.append(_as_it_came(shop, probed.given, proof.measured))
    info = disk.read_json(shop.path / "run.json")
    for left_over in (shop.path / "models").glob("*"):  # of this run, killed here and gone on with on another machine
        if left_over.name not in {r.name for r in tested}:
            shutil.rmtree(left_over)
    for record in tested:
        ship(shop, record, networks[record.name.removesuffix("-int8")], model_card(record, info))
    held = {(c.name.rpartition(".")[2], option) for c in probed.space.choices for option in c.options}
    race = [
        {
            "what": f"operator {entrant(r['operator'], r['se'])}",
            "kept": ("op", r["operator"]) in held and (not r["se"] or ("se", True) in held),
            "why": f"validation {100 * r['accuracy']:.1f}% after {r['seconds']:.0f} s, {r['latency_ms']:.3f} ms",
        }
        for r in probed.race
    ]
    evidence = {
        "space": {"choices": probed.space.to_list(), "archs": str(probed.space.count())},
        "search": {
            "strategy": "LINAS: iterated predictors and NSGA-II",
            "evaluated": len(explored.found),
            "measured": len({r.arch for r in [*explored.found, *explored.sampled]}),
            "predicted": explored.ranked,
            "history": [_point(r, "search") for r in explored.found] + [_point(r, "random") for r in explored.sampled],
            "audit": audit.compare(explored.found, explored.sampled),
        },
        "baselines": baselines,
        "measured": [{"name": r.name, "precision": r.precision, "metrics": dict(r.metrics)} for r in proof.measured],
        "tau": _tau(explored.alone),
        "tried": [*race, *tuned, *proof.tried],
        "curves": [*(c.to_dict() for c in curves), *_trained_on(curves[-1], made)],
        "confusion": confusion,
        "mistakes": mistakes,
    }
    disk.write_json(shop.path / "evidence.json", evidence)
    write_front(shop.path, tested, proof.dropped, picked=picked.name)
    return tested


def _as_it_came(shop: Workshop, given: Mapping[str, Any], measured: Sequence[Record]) -> dict[str, Any]:
    """The network that was given, untouched, from its file."""
    assert shop.given is not None
    side = shop.given.side
    right, _ = accuracy(open_target(shop.job.target, cores()), shop.as_it_came, arrays(shop, shop.dataset.test, side))
    # The largest has the same operators and sizes, and was timed beside the front.
    latency = next((r.metrics["latency_ms"] for r in measured if r.name == "largest"), given["latency_ms"])
    return {
        "name": "the network as it came",
        "accuracy_val": given["accuracy"],
        "accuracy_test": right,
        "latency_ms": latency,
        "note": "nothing trained or cut",
    }


def _tau(alone: Sequence[dict[str, Any]]) -> dict[str, Any]:
    if not alone:
        note = "there was no time to train networks alone"
        return {"value": None, "n": 0, "low": None, "high": None, "note": note}
    note = f"{len(alone)} networks trained alone for {alone[0]['steps']} steps each"
    return audit.kendall_tau([a["supernet"] for a in alone], [a["alone"] for a in alone], note=note)


def _trained_on(curve: Curve, made: Sequence[Made]) -> list[dict[str, Any]]:
    """Validation accuracy of each member where its training on began and ended: what ``curve`` shows the loss of."""
    points = curve.to_dict()["points"]
    if not points:
        return []
    ends = points[0]["seconds"], points[-1]["seconds"]
    return [
        {
            "name": m.name,
            "points": [{"seconds": s, "accuracy_val": a} for s, a in zip(ends, (m.before, m.after), strict=True)],
        }
        for m in made
    ]


def _test(shop: Workshop, record: Record) -> tuple[float, np.ndarray]:
    file = shop.path / "work" / record.name / "model.onnx"
    runner = open_target(shop.job.target, cores())
    return accuracy(runner, file, arrays(shop, shop.dataset.test, int(record.arch["resolution"])))


def _point(record: Record, kind: str) -> dict[str, Any]:
    return {
        "accuracy_val": record.metrics["accuracy_val"],
        "latency_ms": record.metrics["latency_ms"],
        "kind": kind,
    }


def _confusion(shop: Workshop, predictions: np.ndarray) -> list[list[int]]:
    """Rows: true classes, columns: predicted ones. Empty where a picture of it would be a gigabyte."""
    k = len(shop.dataset.classes)
    if k > MOST_CLASSES:
        return []
    matrix = np.zeros((k, k), np.int64)
    np.add.at(matrix, (shop.dataset.test.labels, predictions), 1)
    return [[int(v) for v in row] for row in matrix]


def _mistakes(shop: Workshop, record: Record, predictions: np.ndarray) -> list[dict[str, Any]]:
    """A seeded sample of what was classified wrongly, as small PNGs."""
    test, classes = shop.dataset.test, shop.dataset.classes
    wrong = np.flatnonzero(predictions != test.labels)
    rows = np.sort(np.random.default_rng(shop.job.seed).permutation(wrong)[:MISTAKES])
    if not len(rows):
        return []
    images = test.take(rows)
    side = int(record.arch["resolution"])
    batch = np.ascontiguousarray(resize(shop.preprocess(images.to(shop.device)), side).cpu().numpy())
    file = shop.path / "work" / record.name / "model.onnx"
    sure = softmax(next(shop.target.run(file, [batch])), axis=1).max(axis=1)
    samples = []
    for row, pixels, probability in zip(rows, images.numpy(), sure, strict=True):
        image = Image.fromarray(pixels[0] if len(pixels) == 1 else pixels.transpose(1, 2, 0))
        image.thumbnail((96, 96))
        stream = io.BytesIO()
        image.save(stream, "PNG")
        samples.append(
            {
                "png_base64": base64.b64encode(stream.getvalue()).decode(),
                "true": classes[int(test.labels[row])],
                "predicted": classes[int(predictions[row])],
                "probability": float(probability),
            }
        )
    return samples
