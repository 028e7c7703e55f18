"""How well latencies are predicted on this machine: 500 networks of the space that fit searches, 100 to learn from.

    python benchmarks/latency_prediction.py --json OUT
    python benchmarks/latency_prediction.py --networks 60 --build 30 --size 16

With ``--parts N`` the parts of N other networks are timed too, each by itself, and never those networks.

All networks are timed in turns by ONNX Runtime, and again in another order, which says how well they can be known
at all. From the first ``--build`` of them, and from each of their different parts timed by itself, the others are
predicted:

    ours        sartor.measure.units.model.LatencyModel, what ``sartor profile-device`` writes
    table       a call and the sum of the parts, each timed by itself or by others of its kind (FBNet, ProxylessNAS)
    archs       sartor.predict.latency.Latency, which sees the options of the archs and no files
    MACs        a line through multiply-accumulates

Printed: the share of the others within 5 % and 10 %, the rank correlation, and how many lie in our intervals of 95 %.
Asked: 90 % within 5 %, 99 % within 10 %, 0.99.
"""

from __future__ import annotations

import argparse
import json
import random
import tempfile
import time
from pathlib import Path

import numpy as np
from scipy.stats import spearmanr

from sartor.export.onnx import export_onnx
from sartor.measure.targets.named import open_target
from sartor.measure.targets.target import Target
from sartor.measure.units.model import LatencyModel
from sartor.measure.units.rows import DeviceProfile, NetworkRow, counted, described
from sartor.measure.units.split import units
from sartor.measure.units.table import call_ms, measured
from sartor.measure.units.times import unit_times
from sartor.models import build, input_shape
from sartor.predict.latency import Latency, shares_near
from sartor.space import conv_space

TOGETHER = 10


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--networks", type=int, default=500)
    parser.add_argument("--build", type=int, default=100)
    parser.add_argument("--parts", type=int, default=0, help="further networks, whose parts alone are timed")
    parser.add_argument("--size", type=int, default=32, help="pixels a side")
    parser.add_argument("--target", default="onnxruntime")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", type=Path)
    a = parser.parse_args()
    target, space, rng = open_target(a.target, a.threads), conv_space(a.size), random.Random(a.seed)
    drawn = list({space.sample(rng): None for _ in range(2 * (a.networks + a.parts))})
    archs, others = drawn[: a.networks], drawn[a.networks : a.networks + a.parts]
    with tempfile.TemporaryDirectory() as folder:
        files, parts = [], []
        more = []
        for place, arch in enumerate(others):
            file = Path(folder) / f"part{place}.onnx"
            network = build(arch, channels=3, classes=10, full_resolution=a.size)
            export_onnx(network, input_shape(arch, 3), file, draft=True)
            more += units(file)
        begun = time.perf_counter()
        for place, arch in enumerate(archs):
            files.append(Path(folder) / f"{place}.onnx")
            network = build(arch, channels=3, classes=10, full_resolution=a.size)
            export_onnx(network, input_shape(arch, 3), files[-1], draft=True)
            parts.append(units(files[-1]))
        written = time.perf_counter()
        ms = timed(target, files, range(len(files)))
        once = time.perf_counter()
        order = np.random.default_rng(a.seed).permutation(len(files)).tolist()
        again = timed(target, files, order)
        begun_units = time.perf_counter()
        times = measured([*(unit for network in parts[: a.build] for unit in network), *more], target)
        done = time.perf_counter()
    rows = described([*(unit for network in parts for unit in network), *more], times)
    networks = tuple(NetworkRow(counted(p), float(t)) for p, t in zip(parts, ms, strict=True))
    used = {key for network in networks[: a.build] for key in network.units} | {unit.key for unit in more}
    profile = DeviceProfile(
        target.name,
        target.threads,
        call_ms(target),
        {key: row for key, row in rows.items() if key in used},
        networks[: a.build],
    )
    said = LatencyModel(profile).of_counts([n.units for n in networks[a.build :]], rows)
    true = ms[a.build :]
    macs = np.array([sum(unit.macs for unit in network) for network in parts], dtype=float)
    curves = unit_times([row for row in profile.units.values() if row.ms is not None])
    sums = [
        profile.call_ms + float(np.dot(curves([rows[k] for k in n.units])[0], list(n.units.values()))) for n in networks
    ]
    shape = np.stack([np.ones(a.build), macs[: a.build]], axis=1) / ms[: a.build, None]  # relative errors count
    line = np.linalg.lstsq(shape, np.ones(a.build), rcond=None)[0]
    found = {
        "ours": np.array([p.ms for p in said]),
        "table": np.array(sums[a.build :]),
        "archs": Latency(space).fit(archs[: a.build], ms[: a.build]).predict(archs[a.build :])[0],
        "MACs": line[0] + line[1] * macs[a.build :],
        "timed again": again[a.build :],
    }
    print(f"{target.name}, {target.threads} thread(s): {a.networks} networks, {ms.min():.3f} to {ms.max():.3f} ms")
    print(
        f"{60 * len(files) / (written - begun + once - written):.0f} networks a minute written and timed; "
        f"{len(times)} parts in {done - begun_units:.0f} s; medians of two timings {abs_median(again, ms):.2%} apart"
    )
    known = float(np.mean([p.known for p in said]))
    print(f"{known:.0%} of the time of the {len(true)} others is in parts that were timed\n")
    print(f"{'':14}{'within 5 %':>12}{'within 10 %':>12}{'rank':>8}{'median off':>12}")
    result: dict[str, dict[str, float]] = {}
    for name, values in found.items():
        share = shares_near(np.maximum(values, 1e-6), true)
        result[name] = {
            **share,
            "spearman": float(spearmanr(values, true).statistic),
            "median": abs_median(values, true),
        }
        print(
            f"{name:14}{share['within_5']:12.1%}{share['within_10']:12.1%}{result[name]['spearman']:8.4f}{result[name]['median']:12.2%}"
        )
    inside = float(np.mean([p.low_ms <= t <= p.high_ms for p, t in zip(said, true, strict=True)]))
    width = float(np.median([(p.high_ms - p.low_ms) / 2 / p.ms for p in said]))
    print(f"\nin our intervals of 95 %: {inside:.1%}; they reach {width:.1%} either way")
    if a.json:
        a.json.write_text(json.dumps({**result, "inside": inside, "width": width, "known": known}))


def timed(target: Target, files: list[Path], order: list[int] | range) -> np.ndarray:
    """Milliseconds of each file, ten in turns, in ``order``."""
    found = np.zeros(len(files))
    for start in range(0, len(files), TOGETHER):
        places = list(order[start : start + TOGETHER])
        together = target.latencies([files[i] for i in places], runs=100, min_time_s=0.1, budget_s=0.6)
        found[places] = [latency.median_ms for latency in together]
    return found


def abs_median(said: np.ndarray, true: np.ndarray) -> float:
    return float(np.median(np.abs(said / true - 1)))


if __name__ == "__main__":
    main()
