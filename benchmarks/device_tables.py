"""Latencies of published device tables, predicted from few archs.

    python benchmarks/device_tables.py --parts mlp --json OUT
"""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from sartor.disk import write_atomic
from sartor.predict.latency import shares_near
from sartor.records import Arch
from sartor.search.tables.latencies import open_latencies
from sartor.space.hat import averages

Floats = np.ndarray

LEARNT, TESTED = 1600, 400
"""Rows that HAT's predictor learns from, as it does, and rows that all are tested on."""
NORM = (640, 640, 6, 6, 2048, 6, 2048, 6, 6, 2)
UNIT = {"xeon": 200, "raspberrypi": 5000}
"""What HAT's settings divide features and milliseconds by."""
STEPS, BATCH, RATE, HIDDEN, DEPTH = 5000, 128, 1e-5, 400, 3


def data_dir() -> Path:
    return Path(os.environ.get("SARTOR_DATA") or Path(__file__).resolve().parents[2] / "shared" / "data")


def hat_mlp(seen: Floats, ms: Floats, unseen: Floats, unit: float, seed: int) -> Floats:
    """What HAT's own predictor (arXiv:2005.14187 §3.3, and the settings of its code) says of ``unseen`` [n, 10]."""
    rng = np.random.default_rng(seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        layers: list[nn.Module] = [nn.Linear(len(NORM), HIDDEN), nn.ReLU()]
        for _ in range(DEPTH):
            layers += [nn.Linear(HIDDEN, HIDDEN), nn.ReLU()]
        net = nn.Sequential(*layers, nn.Linear(HIDDEN, 1))
    optimiser = torch.optim.Adam(net.parameters(), lr=RATE)
    x, y = (torch.tensor(a, dtype=torch.float32) for a in (seen / np.array(NORM), ms / unit))
    for _ in range(STEPS):
        rows = torch.from_numpy(rng.choice(len(x), BATCH, replace=False))
        optimiser.zero_grad()
        nn.functional.mse_loss(net(x[rows]).squeeze(1), y[rows]).backward()
        optimiser.step()
    with torch.no_grad():
        return net(torch.tensor(unseen / np.array(NORM), dtype=torch.float32)).squeeze(1).double().numpy() * unit


def whole(devices: Mapping[str, Mapping[Arch, float]], machine: str) -> dict[Arch, float]:
    """Milliseconds of encoder and decoder together, which is what HAT predicts."""
    encoder, decoder = devices[f"{machine}_encoder"], devices[f"{machine}_decoder"]
    return {arch: encoder[arch] + decoder[arch] for arch in encoder if arch in decoder}


def splits(count: int, seed: int, order: str = "random") -> tuple[Floats, Floats]:
    """Rows to learn from, first ones first, and rows to test on."""
    rng = np.random.default_rng(seed)
    if order == "file":  # the last rows of the file, which were timed last
        return rng.permutation(LEARNT), np.arange(count - TESTED, count)
    drawn = rng.permutation(count)
    return drawn[: count - TESTED], drawn[count - TESTED :]


def mlp(seeds: int, done: dict[str, Any], write: Any) -> None:
    held = open_latencies("hat", data_dir())
    for machine in UNIT:
        table = whole(held.devices, machine)
        archs, ms = list(table), np.array(list(table.values()))
        seen = np.array([list(averages(arch).values()) for arch in archs])
        for order, count in (("random", seeds), ("file", 1)):
            for seed in range(count):
                key = f"mlp {machine} {order} {seed}"
                if key not in done:
                    learnt, tested = splits(len(ms), seed, order)
                    learnt = learnt[:LEARNT]
                    said = hat_mlp(seen[learnt], ms[learnt], seen[tested], UNIT[machine], seed)
                    done[key] = shares_near(np.maximum(said, 1e-6), ms[tested])
                    write()
                print(key, done[key], flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--parts", default="mlp")
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    done: dict[str, Any] = json.loads(given.json.read_text()) if given.json and given.json.exists() else {}

    def write() -> None:
        if given.json:
            write_atomic(given.json, json.dumps(done, indent=1).encode())

    torch.set_num_threads(1)
    mlp(given.seeds, done, write)


if __name__ == "__main__":
    main()
