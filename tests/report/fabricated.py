"""A realistic run directory without a fit: every file of a finished run, with a real (tiny) ONNX network in each model.

The network averages each colour channel and answers with the strongest, so what it should predict is known without it:
a reddish image is class 0. The numbers of the front are invented; nothing here is evidence of anything.
"""

from __future__ import annotations

import base64
import csv
import io
import json
import math
import random
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from PIL import Image

from sartor.disk import write_json
from sartor.records import Arch, Record
from sartor.report.card import model_card
from sartor.report.table import write_front

CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
COLOURS = ("red", "green", "blue")
MEAN, STD = (0.4914, 0.4822, 0.4465), (0.247, 0.2435, 0.2616)

FRONT = (
    # name, precision, test, val, latency, MACs, params, bytes, memory
    ("m1-int8", "int8", 0.801, 0.806, 0.071, 4.1e6, 61_000, 91_000, 21_000),
    ("m1", "fp32", 0.804, 0.809, 0.118, 4.1e6, 61_000, 262_000, 82_000),
    ("m2-int8", "int8", 0.846, 0.848, 0.124, 12.2e6, 148_000, 181_000, 41_000),
    ("m3-int8", "int8", 0.879, 0.881, 0.198, 27.8e6, 312_000, 349_000, 57_000),
    ("m2", "fp32", 0.851, 0.853, 0.233, 12.2e6, 148_000, 611_000, 163_000),
    ("m3", "fp32", 0.883, 0.886, 0.402, 27.8e6, 312_000, 1_270_000, 229_000),
    ("m4-int8", "int8", 0.901, 0.903, 0.411, 61.4e6, 702_000, 752_000, 98_000),
    ("m4", "fp32", 0.904, 0.907, 0.968, 61.4e6, 702_000, 2_840_000, 393_000),
)


def colour_network(path: Path, *, channels: int = 3, side: int = 8, metadata: dict[str, str] | None = None) -> Path:
    """Images [n, C, side, side] → logits: each output is ten times the mean of one channel."""
    weight = numpy_helper.from_array(10 * np.eye(channels, max(channels, 2), dtype=np.float32), "weight")
    nodes = [
        helper.make_node("GlobalAveragePool", ["images"], ["pooled"]),
        helper.make_node("Flatten", ["pooled"], ["flat"]),
        helper.make_node("Gemm", ["flat", "weight"], ["logits"]),
    ]
    entry = helper.make_tensor_value_info("images", TensorProto.FLOAT, ["n", channels, side, side])
    out = helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["n", max(channels, 2)])
    graph = helper.make_graph(nodes, "colours", [entry], [out], [weight])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    for key, value in (metadata or {}).items():
        model.metadata_props.add(key=key, value=value)
    onnx.checker.check_model(model)
    path.parent.mkdir(parents=True, exist_ok=True)
    onnx.save(model, str(path))
    return path


def colour_metadata(*, side: int = 8, **changed: Any) -> dict[str, str]:
    value = {"format": 1, "classes": list(COLOURS), "channels": 3, "resolution": side}
    return {"sartor": json.dumps({**value, "mean": list(MEAN), "std": list(STD), "name": "colours", **changed})}


def png(rng: np.random.Generator, side: int = 32) -> str:
    """A little image with some structure, as base64."""
    small = rng.integers(0, 256, (5, 5, 3), dtype=np.uint8)
    file = io.BytesIO()
    Image.fromarray(small).resize((side, side), Image.Resampling.BICUBIC).save(file, "PNG")
    return base64.b64encode(file.getvalue()).decode()


def front_records() -> list[Record]:
    columns = ("accuracy_test", "accuracy_val", "latency_ms", "macs", "params", "size_bytes", "peak_memory_bytes")
    records = []
    for i, (name, precision, *values) in enumerate(FRONT):
        metrics = dict(zip(columns, map(float, values), strict=True))
        metrics["latency_p95_ms"] = round(metrics["latency_ms"] * 1.07, 4)
        arch = Arch({"resolution": 32, "s0.width": 16 + 8 * i, "s0.depth": 1 + i // 2, "s0.op": "residual"})
        records.append(Record(name, arch, precision, metrics, {"seed": 0}))
    return records


def run_info(**changed: Any) -> dict[str, Any]:
    splits = {
        "train": {"n": 45_000, "sha256": "ab" * 32, "made": False},
        "val": {"n": 5_000, "sha256": "cd" * 32, "made": True},
        "test": {"n": 10_000, "sha256": "ef" * 32, "made": False},
    }
    stages = [("read the data", 8), ("supernet training", 640), ("search", 170), ("specialise", 330), ("export", 52)]
    return {
        "format": 1,
        "sartor": "0.1.0",
        "status": "done",
        "arguments": {
            "data": "cifar10",
            "budget": {"max_latency_ms": 0.5, "max_size_bytes": 1_000_000, "max_macs": None, "max_memory_bytes": None},
            "time_s": 1200.0,
            "target": "onnxruntime",
            "threads": 1,
            "precision": ["fp32", "int8"],
            "seed": 0,
        },
        "versions": {"sartor": "0.1.0", "torch": "2.13.0", "onnxruntime": "1.31.1", "numpy": "2.4.6"},
        "device": {
            "cpu": "An ordinary processor",
            "cores": 2,
            "isa": ["avx2", "avx512_vnni"],
            "memory_bytes": 25 * 10**9,
        },
        "seed": 0,
        "data": {
            "name": "cifar10",
            "classes": list(CLASSES),
            "channels": 3,
            "resolution": 32,
            "mean": list(MEAN),
            "std": list(STD),
            "fingerprint": "sha256:" + "12" * 32,
            "splits": splits,
        },
        "plan": {"stages": [{"name": n, "what": f"what {n} is for", "seconds": s} for n, s in stages]},
        "times": [{"stage": name, "seconds": seconds * (0.9 + 0.04 * i)} for i, (name, seconds) in enumerate(stages)],
        **changed,
    }


def _curve(name: str, start: float, seconds: float, rng: random.Random) -> dict[str, Any]:
    points = []
    for step in range(240):
        done = step / 239
        loss = 0.55 + 1.7 * math.exp(-5 * done) + rng.gauss(0, 0.08) * (1 - 0.6 * done)
        point = {"seconds": start + seconds * done, "step": 10 * step, "loss": loss, "lr": 0.1 * (1 - done)}
        if step % 40 == 39:
            point["accuracy_val"] = 0.9 - 0.45 * math.exp(-4 * done)
        points.append(point)
    return {"name": name, "points": points}


def evidence(picked: str = "m4-int8", precision: str = "int8") -> dict[str, Any]:
    rng, noise = random.Random(0), np.random.default_rng(0)
    history = []
    for i in range(120):
        latency = math.exp(rng.uniform(math.log(0.09), math.log(1.5)))
        kind = "random" if i % 3 == 0 else "search"
        loss = abs(rng.gauss(0, 0.045)) if kind == "random" else abs(rng.gauss(0, 0.018))
        accuracy = 0.80 + 0.055 * math.log(latency / 0.09) - loss
        history.append({"accuracy_val": accuracy, "latency_ms": latency, "kind": kind})
    matrix = [[0] * 10 for _ in range(10)]
    for i in range(10):
        for j in range(10):
            matrix[i][j] = 880 + 7 * i if i == j else int(noise.poisson(9))
    matrix[3][5], matrix[5][3], matrix[0][8] = 96, 81, 34
    for i in range(10):
        matrix[i][i] += 1_000 - sum(matrix[i])
    key = f"{picked}/{precision}"
    wrong = [
        (3, 5, 0.91),
        (5, 3, 0.83),
        (0, 8, 0.77),
        (9, 1, 0.69),
        (4, 7, 0.66),
        (2, 0, 0.58),
        (6, 3, 0.52),
        (8, 0, 0.49),
    ]
    return {
        "space": {
            "choices": [
                {"name": "resolution", "options": [24, 28, 32]},
                {"name": "s0.op", "options": ["residual", "fused", "mbconv"]},
                {"name": "s0.width", "options": [16, 24, 32]},
                {"name": "s0.depth", "options": [1, 2, 3]},
            ],
            "archs": "1.2e9",
        },
        "search": {
            "strategy": "linas",
            "evaluated": 420,
            "measured": 120,
            "predicted": 18_000,
            "history": history,
            "audit": {"gain_at_equal_cost": 0.031, "hypervolume": {"ratio": 1.18}, "dominated_share": 0.8},
        },
        "baselines": [
            {
                "name": "random A",
                "accuracy_val": 0.838,
                "accuracy_test": 0.834,
                "latency_ms": 0.21,
                "note": "equal cost",
            },
            {
                "name": "random B",
                "accuracy_val": 0.871,
                "accuracy_test": 0.866,
                "latency_ms": 0.44,
                "note": "equal cost",
            },
            {
                "name": "random C",
                "accuracy_val": 0.884,
                "accuracy_test": 0.880,
                "latency_ms": 0.95,
                "note": "equal cost",
            },
            {
                "name": "do nothing",
                "accuracy_val": 0.897,
                "accuracy_test": 0.894,
                "latency_ms": 1.46,
                "note": "the largest subnet as trained",
            },
        ],
        "tau": {"value": 0.71, "n": 8, "low": 0.29, "high": 0.93, "note": "trained apart for 60 s each"},
        "tried": [
            {"what": "exponential moving average of the weights", "kept": True, "why": "+0.4 points on validation"},
            {"what": "fine-tuning m2 after extraction", "kept": True, "why": "+0.9 points"},
            {"what": "int8 of the depthwise stage", "kept": False, "why": "12% slower than fp32 on this processor"},
            {"what": "resolution 24 for m4", "kept": False, "why": "1.7 points lost for 0.05 ms"},
        ],
        "curves": [
            _curve("supernet, largest", 0, 640, rng),
            _curve("supernet, smallest", 0, 640, rng),
            _curve("m4", 820, 160, rng),
        ],
        "confusion": {key: matrix},
        "mistakes": {
            key: [{"png_base64": png(noise), "true": t, "predicted": p, "probability": q} for t, p, q in wrong]
        },
    }


def fabricate_run(path: Path, *, picked: str | None = "m4-int8", **changed: Any) -> Path:
    """Write a whole run directory; ``changed`` replaces parts of run.json. Returns ``path``."""
    info, records = run_info(**changed), front_records()
    path.mkdir(parents=True, exist_ok=True)
    write_json(path / "run.json", info)
    dropped = [{"name": "m5", "precision": "fp32", "reason": "size_bytes 5.1e+06 over 1e+06 by 410.0%"}]
    write_front(path, records, dropped, picked=picked)
    write_json(path / "evidence.json", evidence())
    write_json(path / "splits.json", {"val": ["0"], "test": ["1"]})
    for record in records:
        folder = path / "models" / record.name
        colour_network(folder / "model.onnx", metadata=colour_metadata())
        (folder / "model.safetensors").write_bytes(b"\x02\x00\x00\x00\x00\x00\x00\x00{}")
        (folder / "arch.json").write_text(record.arch.to_json())
        (folder / "card.md").write_text(model_card(record, info))
    return path


def read_csv(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text)))
