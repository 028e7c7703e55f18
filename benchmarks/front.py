"""The front, on CIFAR-10: `sartor fit` beside what would be built by hand in the same time.

    python benchmarks/front.py --time 20m --seeds 0,1
    python benchmarks/front.py --time 60m --seeds 0 --arms resnet20,fit
    python benchmarks/front.py --time 20m --seeds 0 --cached-only --picture docs/front.svg

Arms, each given the same total time T on this machine, one at a time:
  resnet20     ResNet-20 of widths 8, 16, 24, 32, each trained alone for T/4
  random       one random arch of the same space at the latency of each ResNet-20, trained alone for T/4
  mobilenetv3  timm's mobilenetv3_small at widths 0.5, 0.75, 1.0, stem stride 1 for 32 pixels, each alone for T/3
  fit          sartor fit --time T
All use the same recipe and loop. An arm's files and accuracies are kept under --cache by (arm, seed, T, machine); an
interrupted arm goes on where it was. The accuracies of arms trained by hand are also kept beside this script, in
results/front/, and their networks, whose weights do not matter for it, exported again to be timed. In the end every
file of every arm is timed side by side in one process, and the table says at each baseline's latency how much more
accurate the front is (its network is chosen by validation), at each baseline's accuracy how much faster, and the
hypervolume (accuracy above 70 %, log latency below 2 ms) of each arm.
"""

from __future__ import annotations

import argparse
import functools
import hashlib
import json
import math
import os
import random
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from onnxruntime import InferenceSession
from torch import nn

from sartor.blocks import ConvNormAct, Residual
from sartor.data import Dataset, in_order, open_data, shuffled
from sartor.disk import read_json, write_atomic, write_json
from sartor.export.onnx import export_onnx
from sartor.measure.accuracy import accuracy
from sartor.measure.device import cores, fingerprint
from sartor.measure.targets.onnxruntime import OnnxRuntime
from sartor.models import build, resize
from sartor.models.torchvision_ops import define_missing_ops
from sartor.recipes.fit import fit
from sartor.recipes.journal import Journal
from sartor.records import Arch, Record, parse_quantity
from sartor.search.pareto import hypervolume_2d
from sartor.space import conv_space
from sartor.train.augment import Preprocess
from sartor.train.device import pick_device, place
from sartor.train.loop import Recipe, train
from sartor.train.recalibrate import recalibrate
from sartor.train.steps import Inputs, plain_step

IMPORTED = sorted((name, str(m.__file__)) for name, m in sys.modules.items() if name.partition(".")[0] == "sartor")

WIDTHS = (8, 16, 24, 32)
MOBILENETS = ("mobilenetv3_small_050", "mobilenetv3_small_075", "mobilenetv3_small_100")
FLOOR, CEILING_MS = 0.70, 2.0
SIDE = 32
KEPT = Path(__file__).parent / "results" / "front"
"""Accuracies of arms that need not be trained again on the same machine."""


def resnet20(width: int) -> nn.Module:
    """He et al., arXiv:1512.03385 §4.2, with projection shortcuts where the shape changes."""
    layers: list[nn.Module] = [ConvNormAct(3, width)]
    c_in = width
    for stage in range(3):
        c_out = width * 2**stage
        for block in range(3):
            first = stage > 0 and block == 0
            layers.append(Residual(c_in, c_out, stride=2 if first else 1, project=first))
            c_in = c_out
    return nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(c_in, 10))


def mobilenet(name: str) -> nn.Module:
    define_missing_ops()
    import timm

    model = timm.create_model(name, num_classes=10)
    model.conv_stem.stride = (1, 1)
    return model


def random_archs(folder: Path, seed: int) -> dict[str, dict[str, Any]]:
    """For each ResNet-20's latency, the first random arch of the space within 10 % of it, timed beside it."""
    target = OnnxRuntime(1)
    space = conv_space(SIDE, width=64, depth=2)
    rng = random.Random(seed)
    builder = partial(build, channels=3, classes=10, full_resolution=SIDE)
    goals, draft = {width: folder / f"goal{width}.onnx" for width in WIDTHS}, folder / "draft.onnx"
    for width, file in goals.items():
        export_onnx(resnet20(width), (3, SIDE, SIDE), file, draft=True)
    first = target.latencies(list(goals.values()), runs=300)
    roughly = {width: latency.median_ms for width, latency in zip(WIDTHS, first, strict=True)}
    found: dict[str, dict[str, Any]] = {}
    for _ in range(2000):
        arch = space.sample(rng)
        side = int(arch["resolution"])
        export_onnx(builder(arch), (3, side, side), draft, draft=True)
        ms = target.latency_ms(draft, runs=100, min_time_s=0.05, budget_s=0.5).median_ms
        near = [w for w in WIDTHS if f"random{w}" not in found and abs(ms / roughly[w] - 1) < 0.25]
        for width in near:
            mine, goal = target.latencies([draft, goals[width]], runs=300)
            if abs(mine.median_ms / goal.median_ms - 1) < 0.1:
                found[f"random{width}"] = dict(arch)
                break
        if len(found) == len(WIDTHS):
            return found
    raise SystemExit(f"random archs near only {', '.join(found)} in 2,000 draws")


def _with_side(builder: Any, arch: Any) -> nn.Module:
    model = builder(arch)
    model.side, model.arch = int(arch["resolution"]), arch
    return model


def networks(arm: str, folder: Path, seed: int, journal: Journal) -> dict[str, Callable[[], nn.Module]]:
    if arm == "resnet20":
        return {f"resnet20-w{w}": partial(resnet20, w) for w in WIDTHS}
    if arm == "mobilenetv3":
        return {name: partial(mobilenet, name) for name in MOBILENETS}
    archs = journal.once("archs", lambda: random_archs(folder, seed))
    builder = partial(build, channels=3, classes=10, full_resolution=SIDE)
    return {name: partial(_with_side, builder, Arch(archs[name])) for name in sorted(archs)}


def named(point: dict[str, Any]) -> nn.Module:
    """The network of a point, with fresh weights."""
    if "arch" in point:
        return _with_side(partial(build, channels=3, classes=10, full_resolution=SIDE), Arch(point["arch"]))
    name = point["name"]
    return resnet20(int(name.rpartition("w")[2])) if name.startswith("resnet20") else mobilenet(name)


def by_hand(arm: str, seed: int, time_s: float, folder: Path, data: Dataset) -> list[dict[str, Any]]:
    """Train each network of an arm alone for its share of the time; export it; test it once."""
    device, preprocess = pick_device(), Preprocess(data.mean, data.std)
    recipe = Recipe()
    journal = Journal(folder / "journal.jsonl")
    made = networks(arm, folder, seed, journal)
    points = []
    for name, make in made.items():
        torch.manual_seed(seed)
        model = make()
        side = getattr(model, "side", SIDE)
        model = place(model, device)

        def batches(start: int) -> Iterator[Any]:
            return shuffled(data.train, recipe.batch_size, seed=seed, start=start)

        def finish(model: nn.Module = model, name: str = name, side: int = side) -> dict[str, Any]:
            inputs = Inputs(preprocess, device, seed=seed, shift=2, flip=True)
            train(
                model,
                plain_step(model, inputs, recipe, side=side),
                batches,
                recipe,
                seconds=time_s / len(made),
                name=name,
                decide=journal.once,
                checkpoint=folder / f"{name}.safetensors",
            )
            images = data.train.take(np.arange(2000)).split(250)
            recalibrate(model, [resize(preprocess(x.to(device)), side) for x in images])
            file = folder / f"{name}.onnx"
            export_onnx(model.cpu().float(), (3, side, side), file)
            right, _ = accuracy(OnnxRuntime(cores()), file, test_arrays(data, preprocess, side))
            point = {"name": name, "precision": "fp32", "accuracy_test": right, "file": file.name}
            return {**point, "arch": dict(model.arch)} if hasattr(model, "arch") else point

        points.append(journal.once(f"done.{name}", finish))
        print(f"  {name}: {100 * points[-1]['accuracy_test']:.2f}%", flush=True)
    return points


def by_sartor(seed: int, time_s: float, folder: Path, source: Path, data: Dataset) -> list[dict[str, Any]]:
    """The front that fit ships, and the front of its fp32 files alone: those that int8 files beat are tested here."""
    run = fit(source, time_s=time_s, seed=seed, out=folder / "run", max_latency_ms=CEILING_MS)
    assert run is not None
    points = [
        {
            "name": r.name,
            "precision": r.precision,
            "accuracy_test": r.metrics["accuracy_test"],
            "accuracy_val": r.metrics["accuracy_val"],
            "file": f"run/models/{r.name}/model.onnx",
        }
        for r in run.front
    ]
    measured = read_json(run.path / "evidence.json")["measured"]
    plain = [m for m in measured if m["precision"] == "fp32"]
    preprocess = Preprocess(data.mean, data.std)
    for member in plain:
        beaten = any(
            other["metrics"]["accuracy_val"] >= member["metrics"]["accuracy_val"]
            and other["metrics"]["latency_ms"] < member["metrics"]["latency_ms"]
            for other in plain
        )
        if beaten or member["name"] in {p["name"] for p in points}:
            continue
        name = f"run/work/{member['name']}/model.onnx"
        side = InferenceSession(folder / name).get_inputs()[0].shape[-1]
        right, _ = accuracy(OnnxRuntime(cores()), folder / name, test_arrays(data, preprocess, side))
        point = {"name": member["name"], "precision": "fp32", "accuracy_test": right, "file": name}
        points.append({**point, "accuracy_val": member["metrics"]["accuracy_val"]})
    return points


def test_arrays(data: Dataset, preprocess: Preprocess, side: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    for images, labels in in_order(data.test, 250):
        yield np.ascontiguousarray(resize(preprocess(images), side).numpy()), labels.numpy()


def code(arm: str) -> dict[str, str]:
    """What decides an arm's accuracies beside its arguments: the code that trains it, and torch.

    That is what is imported with the whole fit, or what trains a single network; not what reports, serves and talks.
    """
    parts = ("sartor.blocks", "sartor.models", "sartor.train") if arm != "fit" else ("sartor",)
    left_out = ("sartor.models.supernet", "sartor.train.distill", "sartor.train.schedule") if arm != "fit" else ()
    used = [file for name, file in IMPORTED if name.startswith(parts) and name not in left_out]
    digest = hashlib.sha256(b"".join(Path(file).read_bytes() for file in used)).hexdigest()[:12]
    return {"source": digest, "torch": torch.__version__}


def arm_points(arm: str, seed: int, time_s: float, cache: Path, data: Callable[[], Dataset], source: Path) -> Any:
    folder = cache / f"{arm}-{seed}-{round(time_s)}"
    results, kept = folder / "results.json", KEPT / cache.name / f"{folder.name}.json"
    if kept.exists() and not results.exists():
        folder.mkdir(parents=True, exist_ok=True)
        for point in read_json(kept)["points"]:
            model = named(point)
            side = getattr(model, "side", SIDE)
            export_onnx(model, (3, side, side), folder / point["file"])
        write_json(results, read_json(kept))
    if not results.exists():
        folder.mkdir(parents=True, exist_ok=True)
        print(f"{arm}, seed {seed}, {time_s / 60:.0f} minutes", flush=True)
        begin = time.monotonic()
        if arm == "fit":
            points = by_sartor(seed, time_s, folder, source, data())
        else:
            points = by_hand(arm, seed, time_s, folder, data())
        found = {"points": points, "wall_s": round(time.monotonic() - begin, 1), "code": code(arm)}
        write_json(results, found)
        if arm != "fit":
            write_json(kept, found)
    found = read_json(results)
    if found.get("code") != code(arm):
        print(f"WARNING: {folder.name} was made by other code or torch: remove {folder} and {kept} to run it again")
    print(f"{folder.name}: {found['wall_s']:.0f} s")
    return [{**p, "arm": arm, "path": folder / p["file"]} for p in found["points"]]


def hypervolume(points: list[dict[str, Any]]) -> float:
    costs = [[-p["accuracy_test"], math.log(p["latency_ms"])] for p in points]
    return hypervolume_2d(np.array(costs), (-FLOOR, math.log(CEILING_MS)))


def best_at(points: list[dict[str, Any]], latency_ms: float) -> float:
    """Test accuracy of the network that a user would take: the best on validation that is fast enough."""
    fast = [p for p in points if p["latency_ms"] <= latency_ms]
    return float(max(fast, key=lambda p: p["accuracy_val"])["accuracy_test"]) if fast else math.nan


def fastest_at(points: list[dict[str, Any]], right: float) -> float:
    return min((p["latency_ms"] for p in points if p["accuracy_test"] >= right), default=math.nan)


def table(points: list[dict[str, Any]]) -> None:
    """Every network, and at each baseline's latency and accuracy what the front does."""
    ours = [p for p in points if p["arm"] == "fit"]
    plain = [p for p in ours if p["precision"] == "fp32"]
    print(f"{'network':28} {'precision':9} {'latency ms':>10} {'test %':>7}  fit fp32, any  time ratio")
    for p in sorted(points, key=lambda p: (p["arm"], p["latency_ms"])):
        line = f"{p['name']:28} {p['precision']:9} {p['latency_ms']:10.4f} {100 * p['accuracy_test']:7.2f}"
        if p["arm"] != "fit" and ours:
            # A file as fast within the repeatability of the measurement counts as "at the latency of".
            gains = [100 * (best_at(group, p["latency_ms"] * 1.02) - p["accuracy_test"]) for group in (plain, ours)]
            line += (
                f"  {gains[0]:+5.2f} {gains[1]:+5.2f}   {fastest_at(ours, p['accuracy_test']) / p['latency_ms']:.2f}"
            )
        print(line)
    volumes = {arm: hypervolume([p for p in points if p["arm"] == arm]) for arm in {p["arm"] for p in points}}
    best = max((v for arm, v in volumes.items() if arm != "fit"), default=math.nan)
    for arm, volume in sorted(volumes.items()):
        print(
            f"hypervolume {arm:12} {volume:.4f}"
            + (f"  {volume / best:.2f} of the best baseline" if arm == "fit" else "")
        )


def picture(points: list[dict[str, Any]], title: str, file: Path) -> None:
    """Every network in one picture: the fit's by precision, the baselines as crosses."""
    from sartor.report.figure import front_svg  # here, because what an arm is made by does not hang on it

    ours = [
        Record(p["name"], Arch({}), p["precision"], {k: p[k] for k in ("accuracy_test", "latency_ms")})
        for p in points
        if p["arm"] == "fit"
    ]
    write_atomic(file, front_svg(ours, [p for p in points if p["arm"] != "fit"], title=title))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--time", default="20m")
    parser.add_argument("--seeds", default="0")
    parser.add_argument("--arms", default="resnet20,random,mobilenetv3,fit")
    parser.add_argument("--cache", type=Path, default=Path.home() / ".cache" / "sartor" / "front")
    parser.add_argument("--data", type=Path)
    parser.add_argument("--cached-only", action="store_true", help="print the table of what is there; train nothing")
    parser.add_argument("--picture", type=Path, metavar="FILE.svg", help="draw the networks of the last seed")
    options = parser.parse_args()
    source = options.data or Path(os.environ.get("SARTOR_DATA", "../shared/data")) / "cifar10"
    if not source.exists():
        sys.exit(f"{source} is missing: set SARTOR_DATA or give --data")
    device = fingerprint()
    machine = hashlib.sha256(json.dumps([device["cpu"], device["isa"], device["cores"]]).encode()).hexdigest()[:8]
    cache = options.cache / machine
    time_s = parse_quantity(options.time, "time")
    for seed in map(int, options.seeds.split(",")):
        data = functools.cache(partial(open_data, source, seed=seed))  # the split of the same seed as fit's
        points = []
        for arm in options.arms.split(","):
            name = f"{arm}-{seed}-{round(time_s)}"
            held = (cache / name / "results.json", KEPT / machine / f"{name}.json")
            if options.cached_only and not any(file.exists() for file in held):
                continue
            points += arm_points(arm, seed, time_s, cache, data, source)
        latencies = OnnxRuntime(1).latencies([p["path"] for p in points], runs=500, min_time_s=1.0)
        for point, latency in zip(points, latencies, strict=True):
            point["latency_ms"] = latency.median_ms
        print(
            f"\nseed {seed}, {time_s / 60:.0f} min an arm: {device['cpu']}, {device['cores']} cores, 1 thread, batch 1"
        )
        table(points)
        if options.picture:
            title = f"CIFAR-10, {time_s / 60:.0f} minutes a method on {device['cores']} cores: sartor fit and baselines"
            picture(points, title, options.picture)


if __name__ == "__main__":
    main()
