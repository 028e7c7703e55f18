"""Five subnets from one `fit --model`, beside five cuts of the same network trained on one by one, in the same time.

    python benchmarks/elastic_beats_separate.py [--net resnet56] [--train 20m] [--time 20m]

The network is that of ``pruning_pays.py``, trained for ``--train`` and kept. ``fit --model`` gets ``--time``, in which
it opens the data, trains, exports and measures. Then, to the multiply-accumulates of each of its fp32 networks, the
same network is pruned once (by ``sartor.prune``, whole blocks too), trained on and exported, each in its part of the
time that the fit took and 1 % more; the network itself, which is not cut, is trained at half of the learning rate. With
``--taught`` the network as it came teaches these, too, as it does in the fit. On either side a training that lost on
validation images is undone. The table has both files' test accuracies side by side.
"""

from __future__ import annotations

import argparse
import copy
import hashlib
import time
from pathlib import Path

import numpy as np
import torch
from nets import NETS, SHAPE
from pruning_pays import Bench, base

import sartor
from sartor.compress.prune import prune
from sartor.data import in_order
from sartor.disk import read_json
from sartor.export.onnx import export_onnx
from sartor.measure.accuracy import accuracy
from sartor.measure.counts import counts
from sartor.measure.device import cores
from sartor.measure.targets.onnxruntime import OnnxRuntime
from sartor.recipes.bench import recipe_for
from sartor.recipes.fit import fit
from sartor.records import parse_quantity


def of_the_sources() -> str:
    """A hash of the library's code: what other code fitted is not gone on with."""
    digest = hashlib.sha256()
    for file in sorted(Path(sartor.__file__).parent.rglob("*.py")):
        digest.update(file.read_bytes())
    return digest.hexdigest()[:8]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--net", default="resnet56", choices=list(NETS))
    parser.add_argument("--train", default="20m")
    parser.add_argument("--time", default="20m")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--taught", action="store_true")
    parser.add_argument("--data", type=Path, default=Path(__file__).parents[2] / "shared" / "data" / "cifar10")
    parser.add_argument("--cache", type=Path, default=Path.home() / ".cache" / "sartor" / "pruning_pays")
    options = parser.parse_args()
    seconds, given_s = parse_quantity(options.train, "time"), parse_quantity(options.time, "time")
    torch.set_num_threads(2)
    bench = Bench(options.data)
    model = base(bench, options.net, seconds, options.cache)

    def tested(file: Path) -> float:
        images = (
            (np.ascontiguousarray(bench.preprocess(x).numpy()), y.numpy()) for x, y in in_order(bench.data.test, 250)
        )
        return accuracy(OnnxRuntime(cores()), file, images)[0]

    weights = options.cache / f"{options.net}-{round(seconds)}.safetensors"
    name = f"elastic-{options.net}-{round(seconds)}-{round(given_s)}-{options.seed}-{of_the_sources()}"
    folder = options.cache / name
    run = fit(
        options.data,
        model=f"{Path(__file__).parent / 'nets.py'}:{options.net}",
        weights=weights,
        time_s=given_s,
        seed=options.seed,
        precision=("fp32",),
        out=folder / "run",
    )
    assert run is not None
    wall = float(run.info["seconds"])
    measured = read_json(run.path / "evidence.json")["measured"]
    members = sorted((m for m in measured if m["precision"] == "fp32"), key=lambda m: m["metrics"]["macs"])
    whole = counts(model, SHAPE).macs
    came = 100 * bench.judge(model, "test")
    print(f"fit --model: {len(members)} networks in {wall:.0f} s; the network as it came {came:.2f}%")
    worst = 0.0
    for member in members:
        share = member["metrics"]["macs"] / whole
        file = folder / f"separate-{member['name']}.onnx"
        begin = time.monotonic()
        small = (
            copy.deepcopy(model)
            if share >= 1
            else prune(model, torch.zeros(2, *SHAPE), macs=share, depth=True, batches=bench.evidence(options.seed))
        )
        export_onnx(small, SHAPE, file)
        seconds = 1.01 * wall / len(members) - (time.monotonic() - begin)
        untouched, before = copy.deepcopy(small), bench.judge(small, "val")
        recipe = recipe_for(small, 128, cut=share < 1)
        bench.train(small, recipe, seconds, options.seed, teacher=model if options.taught and share < 1 else None)
        small = small if bench.judge(small, "val") >= before else untouched
        export_onnx(small, SHAPE, file)
        ours, theirs = tested(run.path / "work" / member["name"] / "model.onnx"), tested(file)
        worst = min(worst, ours - theirs)
        print(
            f"{share:6.1%} of the multiply-accumulates: fit --model {100 * ours:.2f}%, separate {100 * theirs:.2f}% "
            f"({counts(small, SHAPE).macs / whole:.1%}), {100 * (ours - theirs):+.2f} points",
            flush=True,
        )
    print(f"worst: {100 * worst:+.2f} points")


if __name__ == "__main__":
    main()
