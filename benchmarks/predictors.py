"""Predictors side by side: ranks, latencies, and how fast they rank.

    python benchmarks/predictors.py                                        # everything, 5 seeds
    python benchmarks/predictors.py --seeds 1 --tables nb201:cifar10 --only ridge,graf
    python benchmarks/predictors.py --parts latency --json predictors.json

Prints as it goes, and writes the file after every line, so that it can be stopped anywhere; the file it finds is gone
on with. Three parts. ``curves``: on every table of accuracies, Kendall's tau on held-out archs after 50, 100 and 200
training archs, the median over seeds, beside ridge regression on one-hot options, with the share of true values within
the 80 % interval. ``latency``: on every table of latencies, the shares of predictions within 5 % and 10 % on each
device after 200 archs, and on each device as if it were new: after 10 archs, from the devices that are not the same one
at another batch size. ``speed``: seconds to rank 100,000 archs of the OFA space by a predictor of 100.

The tables are found through $SARTOR_DATA, else ../shared/data beside the project.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from sartor.disk import write_atomic
from sartor.predict import predictor_of, predictors
from sartor.predict.judge import learning_curve
from sartor.predict.latency import Latency, TransferredLatency, shares_near
from sartor.predict.ridge import Ridge
from sartor.records import Arch
from sartor.search.tables import NAMES, open_known
from sartor.search.tables.latencies import LATENCIES, open_latencies
from sartor.space import Space

SIZES = (50, 100, 200)
HELD_OUT = 500
MEASURED, NEW = 200, 10
"""Archs that a device is measured on, and a new one."""
RANKED = 100_000
Line = tuple[str, dict[str, Any]]
"""A line's name in the file, and what it holds."""


def data_dir() -> Path:
    return Path(os.environ.get("SARTOR_DATA") or Path(__file__).resolve().parents[2] / "shared" / "data")


def curves(table: str, names: list[str], seeds: int, done: dict[str, Any]) -> Iterator[Line]:
    """One line a table and predictor; ridge regression first, for the others stand beside it."""
    known = open_known(table, data_dir())
    metric = known.objectives[0].metric
    archs = list(known.rows)
    values = np.array([known.rows[arch][metric] for arch in archs])
    print(f"\n{table} ({metric}), tau after {', '.join(map(str, SIZES))} archs", flush=True)
    for name in dict.fromkeys(["ridge", *names]):
        key = f"curves {table} {name} {seeds}"
        if (found := done.get(key)) is None:
            start = time.perf_counter()
            found = learning_curve(
                predictor_of(name), known.space, archs, values, sizes=SIZES, seeds=range(seeds), held_out=HELD_OUT
            )
            found["seconds"] = time.perf_counter() - start
        medians = [found["median"][str(size)] for size in SIZES]
        taus = "  ".join(f"{m['tau']:6.3f}" if m["tau"] is not None else "     -" for m in medians)
        inside = "  ".join(f"{m['within_80']:4.2f}" for m in medians)
        print(f"  {name:10} {taus}   within 80 %: {inside}   {found['seconds']:6.1f} s", flush=True)
        yield key, found


def machine(device: str) -> str:
    """A device without the batch size it was timed at."""
    return re.sub(r"_(1|32|64|256)$|_(encoder|decoder)$", "", device)


def latencies(table: str, seeds: int, done: dict[str, Any]) -> Iterator[Line]:
    """One line a device: shares within 5 % / 10 %, means over seeds."""
    held = open_latencies(table, data_dir())
    print(f"\n{table}: latencies within 5 % / 10 %, after {MEASURED} archs and, from other devices, after {NEW}")
    print(f"  {'device':22} {'own':>12} {'ridge':>12} {f'transfer {NEW}':>12} {f'alone {NEW}':>12}", flush=True)
    splits: dict[tuple[str, int], tuple[list[Arch], np.ndarray, list[Arch], np.ndarray]] = {}
    fitted: dict[tuple[str, int], Latency] = {}

    def known(device: str, seed: int) -> Latency:
        if (device, seed) not in fitted:
            archs = list(held.devices[device])
            ms = np.array([held.devices[device][arch] for arch in archs])
            order = np.random.default_rng(seed).permutation(len(archs))
            own, other = order[:MEASURED], order[MEASURED : MEASURED + HELD_OUT]
            splits[device, seed] = [archs[i] for i in own], ms[own], [archs[i] for i in other], ms[other]
            fitted[device, seed] = Latency(held.space).fit(*splits[device, seed][:2])
        return fitted[device, seed]

    for device in held.devices:
        key = f"latency {table} {device} {seeds}"
        if (found := done.get(key)) is None:
            rows: list[dict[str, dict[str, float]]] = []
            for seed in range(seeds):
                others = {d: known(d, seed) for d in held.devices if machine(d) != machine(device)}
                own = known(device, seed)
                archs, ms, tested, true = splits[device, seed]
                made = {
                    "own": own,
                    "ridge": Ridge(held.space).fit(archs, ms),
                    "transfer": TransferredLatency(held.space, others).fit(archs[:NEW], ms[:NEW]),
                    "alone": Latency(held.space).fit(archs[:NEW], ms[:NEW]),
                }
                rows.append({name: shares_near(p.predict(tested)[0], true) for name, p in made.items()})
            found = {
                name: {share: float(np.mean([row[name][share] for row in rows])) for share in rows[0][name]}
                for name in rows[0]
            }
        shares = "  ".join(f"{row['within_5']:5.2f}/{row['within_10']:5.2f}" for row in found.values())
        print(f"  {device:22} {shares}", flush=True)
        yield key, found


def speeds(names: list[str], count: int, done: dict[str, Any]) -> Iterator[Line]:
    """One line a predictor."""
    known = open_known("ofa:imagenet", data_dir())
    archs = list(known.rows)[:100]
    values = [known.rows[arch]["top1"] for arch in archs]
    space, rng = Space(known.space.choices), random.Random(0)
    pool: list[Arch] = []
    print(f"\nranking {count:,} archs of the OFA space", flush=True)
    for name in names:
        key = f"speed {name} {count}"
        if (found := done.get(key)) is None:
            pool = pool or [space.sample(rng) for _ in range(count)]
            start = time.perf_counter()
            predictor = predictor_of(name)(space, 0).fit(archs, values)
            fitted, busy = time.perf_counter(), time.process_time()
            np.argsort(predictor.predict(pool)[0])
            found = {
                "fit_seconds": fitted - start,
                "seconds": time.perf_counter() - fitted,
                "cpu_seconds": time.process_time() - busy,
            }
        print(f"  {name:10} {found['seconds']:7.2f} s ({found['cpu_seconds']:.2f} of a core)", flush=True)
        yield key, found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--parts", default="curves,latency,speed")
    parser.add_argument("--tables", default=",".join([*NAMES, *LATENCIES]))
    parser.add_argument("--only", default=",".join(predictors), help="predictors")
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--ranked", type=int, default=RANKED, help="archs to rank")
    parser.add_argument("--json", type=Path)
    given = parser.parse_args()
    names, tables, parts = given.only.split(","), given.tables.split(","), given.parts.split(",")
    unknown = [p for p in parts if p not in ("curves", "latency", "speed")]
    unknown += [t for t in tables if t not in (*NAMES, *LATENCIES)] + [n for n in names if n not in predictors]
    if unknown:
        parser.error(f"unknown: {', '.join(unknown)}")
    done: dict[str, Any] = json.loads(given.json.read_text()) if given.json and given.json.exists() else {}
    work: list[Iterator[Line]] = []  # generators: nothing runs before its turn
    if "curves" in parts:
        work += [curves(t, names, given.seeds, done) for t in tables if t in NAMES]
    if "latency" in parts:
        work += [latencies(t, given.seeds, done) for t in tables if t in LATENCIES]
    if "speed" in parts:
        work.append(speeds(names, given.ranked, done))
    for lines in work:
        for key, found in lines:
            done[key] = found
            if given.json:
                write_atomic(given.json, json.dumps(done, indent=1).encode())


if __name__ == "__main__":
    main()
