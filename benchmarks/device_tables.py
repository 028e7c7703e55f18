"""Latencies of published device tables, predicted from few archs: ours, a line through MACs, a table, HAT's network.

    python benchmarks/device_tables.py --json OUT                       # everything, 10 seeds
    python benchmarks/device_tables.py --parts devices --tables hat --sizes 10,100
    python benchmarks/device_tables.py --parts devices,transfer --tables fbnet --seeds 3 --json OUT

``devices``: on every device, after so many archs, of 400 others: the share within 10 % and 5 % (mean over seeds, and
the worst within 10 %), rank correlation, and the share in our intervals of 80 % and 95 %; beside that the share within
10 % of a line through multiply-accumulates and of a table fitted by least squares (FBNet's and ProxylessNAS's sum).
``transfer``: each device as if it were new: ten archs of it and what other machines take after a hundred. ``mlp``:
HAT's predictor (arXiv:2005.14187 §3.3) with its code's settings and 1,600 rows, beside ours with a hundred, on the same
rows: encoder and decoder together, which is what it predicts. ``random``: 400 rows drawn; ``file``: the last 400, which
were timed last, while the first were timed on a machine that was not yet at rest.

Rows are drawn by seed, and nothing is chosen by rows that are tested on. With --json a stopped run goes on.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from sartor.disk import write_atomic
from sartor.measure.counts import counts_of
from sartor.models.buildable import Buildable, fbnet_problem, ofa_problem
from sartor.predict.judge import spearman
from sartor.predict.latency import Latency, TransferredLatency, shares_near
from sartor.records import Arch
from sartor.search.tables.known import open_known
from sartor.search.tables.latencies import LATENCIES, Latencies, open_latencies
from sartor.search.tables.lookup import fit_lookup
from sartor.space.hat import averages

Floats = np.ndarray

LEARNT, TESTED = 1600, 400
"""Rows that HAT's predictor learns from, as it does, and rows that all are tested on."""
NORM = (640, 640, 6, 6, 2048, 6, 2048, 6, 6, 2)
UNIT = {"xeon": 200, "raspberrypi": 5000}
"""What HAT's settings divide features and milliseconds by."""
ASKED, KNOWN, NEW = 100, 100, 10
"""Archs that ours learns from beside it, that known devices are learnt from, and that a new one is."""
COUNTED = 300
"""Networks that are built to count what each layer's operators multiply."""
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


def tables(held: Latencies) -> dict[str, Mapping[Arch, float]]:
    """By device; of HAT's machines also encoder and decoder together."""
    more = {machine: whole(held.devices, machine) for machine in UNIT} if held.name == "hat" else {}
    return {**held.devices, **more}


def machine(device: str) -> str:
    """A device without the batch size, or the side of the network, that it was timed with."""
    return re.sub(r"_(1|32|64|256)$|_(encoder|decoder)$", "", device)


def macs_of(name: str) -> Callable[[Sequence[Arch]], Floats]:
    """Multiply-accumulates of archs ``[n]``, to a constant factor."""
    if name == "nb201":
        known = open_known("nb201:cifar10", data_dir(), "flops_m")
        return lambda archs: np.array([known.rows[arch]["flops_m"] for arch in archs])
    if name == "hat":
        return lambda archs: np.array([hat_macs(averages(arch)) for arch in archs])
    problem: Buildable = fbnet_problem() if name == "fbnet" else ofa_problem(resolutions=(224,))
    rng = random.Random(0)
    archs = [problem.space.sample(rng) for _ in range(COUNTED)]
    counted = [counts_of(problem.build(arch), problem.inputs(arch, 1)).macs for arch in archs]
    table = fit_lookup(problem.space, archs, counted, "macs")  # exact: MACs add up over layers
    if name == "fbnet":
        return table
    return lambda archs: np.array(  # but for rounding, they go with the square of the resolution
        [table.of({**arch, "resolution": 224}) * (float(arch["resolution"]) / 224) ** 2 for arch in archs]
    )


def hat_macs(x: Mapping[str, float], inner: int = 512) -> float:
    """Of a token's linear layers."""
    e, d = x["encoder_embed_dim"], x["decoder_embed_dim"]
    encoder = x["encoder_layer_num"] * (4 * e * inner + 2 * e * x["encoder_ffn_embed_dim_avg"])
    cross = 2 * d * inner + 2 * e * inner * x["decoder_arbitrary_ende_attn_avg"]
    return encoder + x["decoder_layer_num"] * (4 * d * inner + cross + 2 * d * x["decoder_ffn_embed_dim_avg"])


def line(macs: Floats, ms: Floats, others: Floats) -> Floats:
    """The line of least relative error, at ``others``."""
    shape = np.stack([np.ones(len(macs)), macs], axis=1) / ms[:, None]
    base, slope = np.linalg.lstsq(shape, np.ones(len(macs)), rcond=None)[0]
    return np.maximum(base + slope * others, 1e-6)


def one(held: Latencies, table: Mapping[Arch, float], macs: Floats, size: int, seed: int) -> dict[str, float]:
    archs, ms = list(table), np.array(list(table.values()))
    learnt, tested = splits(len(ms), seed)
    learnt = learnt[:size]
    seen, unseen = [archs[i] for i in learnt], [archs[i] for i in tested]
    true = ms[tested]
    ours = Latency(held.space).fit(seen, ms[learnt])
    said = ours.predict(unseen)[0]
    found = {**shares_near(said, true), "spearman": spearman(said, true)}
    for level in (0.8, 0.95):
        low, high = ours.interval(unseen, level)
        found[f"inside_{level:.2f}"] = float(((low <= true) & (true <= high)).mean())
    found["line"] = shares_near(line(macs[learnt], ms[learnt], macs[tested]), true)["within_10"]
    summed = np.maximum(fit_lookup(held.space, seen, ms[learnt])(unseen), 1e-6)
    found["table"] = shares_near(summed, true)["within_10"]
    return found


def devices(name: str, sizes: Sequence[int], seeds: int, done: dict[str, Any], write: Any) -> None:
    held = open_latencies(name, data_dir())
    count = None
    print(f"\n{name}: within 10 % (worst) and 5 %, rank, in 80 % and 95 % intervals | within 10 %: line, table")
    for device, table in tables(held).items():
        macs = None
        for size in sizes:
            rows = []
            for seed in range(seeds):
                key = f"device {name} {device} {size} {seed}"
                if key not in done:
                    count = count or macs_of(name)
                    macs = count(list(table)) if macs is None else macs
                    done[key] = one(held, table, macs, size, seed)
                    write()
                rows.append(done[key])
            m = {k: float(np.mean([row[k] for row in rows])) for k in rows[0]}
            worst = min(row["within_10"] for row in rows)
            ours = f"{m['within_10']:.3f} ({worst:.3f}) {m['within_5']:.3f} {m['spearman']:.3f}"
            inside = f"{m['inside_0.80']:.2f} {m['inside_0.95']:.2f}"
            print(f"  {device:22} {size:4} {ours}  {inside} | {m['line']:.3f} {m['table']:.3f}", flush=True)


def transfer(name: str, seeds: int, done: dict[str, Any], write: Any) -> None:
    held = open_latencies(name, data_dir())
    every = tables(held)
    print(f"\n{name}: within 10 % (worst) after ten archs of a new device, alone | in its 95 % intervals")
    fitted: dict[tuple[str, int], Latency] = {}

    def known(device: str, seed: int) -> Latency:
        if (device, seed) not in fitted:
            archs, ms = list(every[device]), np.array(list(every[device].values()))
            learnt = splits(len(ms), seed)[0][:KNOWN]
            fitted[device, seed] = Latency(held.space).fit([archs[i] for i in learnt], ms[learnt])
        return fitted[device, seed]

    for device, table in every.items():
        archs, ms = list(table), np.array(list(table.values()))
        rows = []
        for seed in range(seeds):
            key = f"transfer {name} {device} {seed}"
            if key not in done:
                learnt, tested = splits(len(ms), seed)
                few, unseen = [archs[i] for i in learnt[:NEW]], [archs[i] for i in tested]
                others = {d: known(d, seed) for d in every if machine(d) != machine(device)}
                moved = TransferredLatency(held.space, others).fit(few, ms[learnt[:NEW]])
                low, high = moved.interval(unseen)
                alone = Latency(held.space).fit(few, ms[learnt[:NEW]])
                done[key] = {
                    "moved": shares_near(moved.predict(unseen)[0], ms[tested])["within_10"],
                    "alone": shares_near(alone.predict(unseen)[0], ms[tested])["within_10"],
                    "inside": float(((low <= ms[tested]) & (ms[tested] <= high)).mean()),
                }
                write()
            rows.append(done[key])
        m = {k: float(np.mean([row[k] for row in rows])) for k in rows[0]}
        worst = min(row["moved"] for row in rows)
        print(f"  {device:22} {m['moved']:.3f} ({worst:.3f}) {m['alone']:.3f} | {m['inside']:.2f}", flush=True)


def mlp(seeds: int, done: dict[str, Any], write: Any) -> None:
    held = open_latencies("hat", data_dir())
    print(
        f"\nhat, within 10 % (worst): its predictor after {LEARNT}, ours after {ASKED}, both on the same {TESTED} rows"
    )
    for device in UNIT:
        table = whole(held.devices, device)
        archs, ms = list(table), np.array(list(table.values()))
        seen = np.array([list(averages(arch).values()) for arch in archs])
        for order, count in (("random", seeds), ("file", 1)):
            theirs, ours = [], []
            for seed in range(seeds):
                learnt, tested = splits(len(ms), seed, order)
                key = f"mlp {device} {order} {seed}"
                if key not in done and seed < count:
                    said = hat_mlp(seen[learnt[:LEARNT]], ms[learnt[:LEARNT]], seen[tested], UNIT[device], seed)
                    done[key] = shares_near(np.maximum(said, 1e-6), ms[tested])
                    write()
                theirs += [done[key]["within_10"]] if key in done else []
                key = f"ours {device} {order} {seed}"
                if key not in done:
                    few = learnt[:ASKED]
                    made = Latency(held.space).fit([archs[i] for i in few], ms[few])
                    done[key] = shares_near(made.predict([archs[i] for i in tested])[0], ms[tested])
                    write()
                ours.append(done[key]["within_10"])
            told = [f"{np.mean(x):.3f} ({min(x):.3f}, {len(x)} seeds)" for x in (theirs, ours)]
            print(f"  {device:12} {order:7} {told[0]}  {told[1]}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--parts", default="devices,transfer,mlp")
    parser.add_argument("--tables", default=",".join(LATENCIES))
    parser.add_argument("--sizes", default="10,50,100,200")
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    names, parts, sizes = given.tables.split(","), given.parts.split(","), [int(n) for n in given.sizes.split(",")]
    if unknown := [p for p in parts if p not in ("devices", "transfer", "mlp")] + [
        t for t in names if t not in LATENCIES
    ]:
        parser.error(f"unknown: {', '.join(unknown)}")
    done: dict[str, Any] = json.loads(given.json.read_text()) if given.json and given.json.exists() else {}

    def write() -> None:
        if given.json:
            write_atomic(given.json, json.dumps(done, indent=1).encode())

    torch.set_num_threads(1)
    for name in names:
        if "devices" in parts:
            devices(name, sizes, given.seeds, done, write)
        if "transfer" in parts:
            transfer(name, given.seeds, done, write)
    if "mlp" in parts:
        mlp(given.seeds, done, write)


if __name__ == "__main__":
    main()
