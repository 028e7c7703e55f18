"""Pruning on CIFAR-10: Sartor beside Torch-Pruning, cut to shares of the multiply-accumulates and trained on.

    pip install torch-pruning
    python benchmarks/pruning_pays.py [--net resnet56] [--train 20m] [--tune 3m] [--try 45s] [--seeds 0,1,2]
        [--ratios 0.5,0.25]

One network is trained for ``--train``. Each tool's criteria cut it once to each share, recalibrated and trained on for
``--try``; the best by validation is the tool's, and is cut and trained on for ``--tune`` with each seed, by the same
recipe, loop and seed for all; ``sartor-depth`` may take whole blocks, too. In the end the table: validation and test
accuracy, means over seeds, and of the exported files, timed in turns with the whole network's, how much of the latency
goes for how much of the multiply-accumulates. Everything is kept under --cache, and an interrupted benchmark goes on
where it was.
"""

from __future__ import annotations

import argparse
import copy
import warnings
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import product
from pathlib import Path
from statistics import mean
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from nets import NETS, SHAPE
from safetensors.torch import load_file
from torch import Tensor, nn

from sartor.compress.prune import prune
from sartor.data import Dataset, in_order, open_data, shuffled
from sartor.disk import read_json, write_atomic, write_json
from sartor.errors import SartorError
from sartor.export.onnx import export_onnx
from sartor.measure.counts import counts
from sartor.measure.targets.onnxruntime import OnnxRuntime
from sartor.models.weights import to_bytes
from sartor.recipes.bench import recipe_for
from sartor.records import parse_quantity
from sartor.train.augment import Preprocess
from sartor.train.loop import Recipe, train
from sartor.train.recalibrate import accuracy, recalibrate
from sartor.train.steps import TAUGHT_LABELS, Inputs, family_step, plain_step

SARTOR = ("fisher", "l2")
TORCH_PRUNING = ("taylor", "magnitude", "lamp", "bn_scale", "hessian")
ROUND_TO = 8
"""Channels stay in multiples of it, for both tools: what runtimes' layouts pad to."""
EVIDENCE = 512
"""Train images that criteria see and statistics are recalibrated on."""
LEAST = 0.1
"""Share of a group that stays, for both tools."""


class Bench:
    """CIFAR-10 and the one way in which everything here is trained and judged."""

    def __init__(self, source: Path):
        self.data: Dataset = open_data(source)
        self.preprocess = Preprocess(self.data.mean, self.data.std)

    def train(
        self, model: nn.Module, recipe: Recipe, seconds: float, seed: int, *, teacher: nn.Module | None = None
    ) -> None:
        """By the labels, or where there is a ``teacher`` by what it says, too, as members of a fit are."""
        inputs = Inputs(self.preprocess, torch.device("cpu"), seed=seed, shift=2, flip=True)

        def batches(start: int) -> Iterator[Any]:
            return shuffled(self.data.train, recipe.batch_size, seed=seed, start=start)

        step = plain_step(model, inputs, recipe, side=SHAPE[1])
        if teacher is not None:
            side, share = [SHAPE[1]], TAUGHT_LABELS
            step = family_step([model], side, inputs, recipe, teacher=teacher, leads=False, labels_share=share)
        train(model.train(), step, batches, recipe, seconds=seconds)
        self.recalibrate(model)

    def recalibrate(self, model: nn.Module) -> None:
        recalibrate(model, [images for images, _ in self.evidence(seed=0)])
        model.eval()

    def evidence(self, seed: int) -> list[tuple[Tensor, Tensor]]:
        rows = np.sort(np.random.default_rng(seed).permutation(len(self.data.train))[:EVIDENCE])
        labels = torch.from_numpy(self.data.train.labels[rows])
        images = self.preprocess(self.data.train.take(rows))
        return list(zip(images.split(64), labels.split(64), strict=True))

    def judge(self, model: nn.Module, split: str) -> float:
        batches = ((self.preprocess(x), y) for x, y in in_order(getattr(self.data, split), 500))
        return accuracy(model.eval(), batches)


def with_sartor(
    model: nn.Module, criterion: str, ratio: float, evidence: Sequence[tuple[Tensor, Tensor]], *, depth: bool = False
) -> nn.Module:
    return prune(
        model,
        torch.zeros(2, *SHAPE),
        macs=ratio,
        saliency=criterion,
        depth=depth,
        batches=evidence,
        least=LEAST,
        round_to=ROUND_TO,
    )


def with_torch_pruning(
    model: nn.Module, criterion: str, ratio: float, evidence: Sequence[tuple[Tensor, Tensor]]
) -> nn.Module:
    """Its global pruning at the least channel ratio whose multiply-accumulates are within ``ratio``; in smaller
    multiples of channels where that cannot be reached in those of ``ROUND_TO``. Whole heads go; where it would leave a
    layer without any, parts of heads."""
    whole = counts(model, SHAPE).macs
    seen = _gradients(model, criterion, evidence)
    for multiple, whole_heads in product((ROUND_TO, ROUND_TO // 2, 1), (True, False)):
        low, high = 0.0, 0.95
        best: nn.Module | None = None
        for _ in range(7):
            middle = (low + high) / 2
            found = _torch_pruned(model, criterion, middle, multiple, whole_heads, seen)
            if found is None:  # a layer without heads
                high = middle
                continue
            if counts(found, SHAPE).macs <= ratio * whole:
                best, high = found, middle
            elif best is None and middle > 0.9:
                break
            else:
                low = middle
        if best is not None:
            return best
    raise RuntimeError(f"Torch-Pruning leaves more than {ratio:.0%}")


def _gradients(model: nn.Module, criterion: str, evidence: Sequence[tuple[Tensor, Tensor]]) -> dict[str, Tensor]:
    """What its criterion reads, by parameter, once for all ratios that are tried: the loss's gradients, or the mean of
    their squares over single images. (Its own ``accumulate_grad`` forgets all images but the last.)"""
    model = copy.deepcopy(model).eval()
    if criterion == "taylor":
        for images, labels in evidence:
            F.cross_entropy(model(images), labels).backward()
        return {name: p.grad for name, p in model.named_parameters() if p.grad is not None}
    squares: dict[str, Tensor] = {}
    for images, labels in evidence[:2] if criterion == "hessian" else ():
        for loss in F.cross_entropy(model(images), labels, reduction="none"):
            model.zero_grad()
            loss.backward(retain_graph=True)
            for name, p in model.named_parameters():
                if p.grad is not None:
                    squares[name] = squares.get(name, 0) + p.grad**2 / (2 * len(images))
    return squares


def _torch_pruned(
    model: nn.Module, criterion: str, channels: float, multiple: int, whole_heads: bool, seen: dict[str, Tensor]
) -> nn.Module | None:
    import torch_pruning as tp

    importances = {
        "taylor": tp.importance.GroupTaylorImportance,
        "magnitude": tp.importance.GroupMagnitudeImportance,
        "lamp": tp.importance.LAMPImportance,
        "bn_scale": tp.importance.BNScaleImportance,
        "hessian": tp.importance.GroupHessianImportance,
    }
    model = copy.deepcopy(model).eval()
    importance = importances[criterion]()
    heads = {m.qkv: m.num_heads for m in model.modules() if hasattr(m, "qkv") and hasattr(m, "num_heads")}
    last = [m for m in model.modules() if isinstance(m, nn.Linear)][-1]
    pruner = tp.pruner.BasePruner(
        model,
        torch.zeros(2, *SHAPE),
        importance=importance,
        global_pruning=True,
        pruning_ratio=channels,
        max_pruning_ratio=1 - LEAST,
        ignored_layers=[last],
        round_to=multiple,
        num_heads=heads,
        prune_num_heads=bool(heads) and whole_heads,
        head_pruning_ratio=channels,
    )
    for name, p in model.named_parameters():
        p.grad = seen[name].clone() if name in seen else None
    if criterion == "hessian":
        importance._accu_grad = {p: p.grad for p in model.parameters() if p.grad is not None}
        importance._counter = dict.fromkeys(importance._accu_grad, 1)
    pruner.step()
    for m in model.modules():  # as their example puts heads right, by hand
        if hasattr(m, "qkv") and hasattr(m, "num_heads") and m.qkv in pruner.num_heads:
            m.num_heads = pruner.num_heads[m.qkv]
            if not m.num_heads:
                return None
            m.head_dim = m.qkv.out_features // (3 * m.num_heads)
            m.attn_dim = m.num_heads * m.head_dim
    model.zero_grad(set_to_none=True)
    return model


TOOLS: dict[str, tuple[Callable[..., nn.Module], tuple[str, ...]]] = {
    "sartor": (with_sartor, SARTOR),
    "sartor-depth": (partial(with_sartor, depth=True), ("fisher",)),
    "torch-pruning": (with_torch_pruning, TORCH_PRUNING),
}


def base(bench: Bench, net: str, seconds: float, cache: Path) -> nn.Module:
    torch.manual_seed(0)
    model, _ = NETS[net]()
    file = cache / f"{net}-{round(seconds)}.safetensors"
    if not file.exists():
        normed = any(isinstance(m, nn.BatchNorm2d) for m in model.modules())
        recipe = Recipe(batch_size=128) if normed else Recipe(batch_size=128, optimiser="adamw", peak_lr=1e-3)
        bench.train(model, recipe, seconds, seed=0)
        file.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(file, to_bytes(model))
    model.load_state_dict(load_file(file))
    return model.eval()


def arm(
    bench: Bench, model: nn.Module, how: tuple[str, str, float], seconds: float, seed: int | None, file: Path
) -> dict[str, Any]:
    """One cut, ``how`` (tool, criterion, ratio), trained on; its file and accuracies. Without a seed it is a try, which
    sees no test images."""
    tool, criterion, ratio = how
    if file.with_suffix(".json").exists():
        return dict(read_json(file.with_suffix(".json")))
    torch.manual_seed(seed or 0)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            small = TOOLS[tool][0](model, criterion, ratio, bench.evidence(seed or 0))
        bench.recalibrate(small)
        found: dict[str, Any] = {"cut": bench.judge(small, "val")} if seed is not None else {}
        bench.train(small, recipe_for(small, 128), seconds, seed or 0)
        found["val"] = bench.judge(small, "val")
        found["macs"] = counts(small, SHAPE).macs / counts(model, SHAPE).macs
        if seed is not None:
            found["test"] = bench.judge(small, "test")
            export_onnx(small, SHAPE, file)
    except (SartorError, RuntimeError, ValueError, AttributeError, AssertionError) as error:
        return {"failed": f"{type(error).__name__}: {error}".splitlines()[0]}
    write_json(file.with_suffix(".json"), found)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--net", default="resnet56", choices=list(NETS))
    parser.add_argument("--train", default="20m")
    parser.add_argument("--tune", default="3m")
    parser.add_argument("--try", dest="tried", default="45s")
    parser.add_argument("--seeds", default="0,1,2")
    parser.add_argument("--ratios", default="0.5,0.25")
    parser.add_argument("--data", type=Path, default=Path(__file__).parents[2] / "shared" / "data" / "cifar10")
    parser.add_argument("--cache", type=Path, default=Path.home() / ".cache" / "sartor" / "pruning_pays")
    options = parser.parse_args()
    seconds, tuned, tried = (parse_quantity(t, "time") for t in (options.train, options.tune, options.tried))
    seeds, ratios = [int(s) for s in options.seeds.split(",")], [float(r) for r in options.ratios.split(",")]
    torch.set_num_threads(2)
    bench = Bench(options.data)
    model = base(bench, options.net, seconds, options.cache)
    came = {split: 100 * bench.judge(model, split) for split in ("val", "test")}
    print(f"{options.net}: validation {came['val']:.2f}%, test {came['test']:.2f}%")
    folder = options.cache / f"{options.net}-{round(seconds)}"
    folder.mkdir(parents=True, exist_ok=True)
    whole = folder / "whole.onnx"
    export_onnx(model, SHAPE, whole)
    for ratio in ratios:
        best = {}
        for tool, (_, criteria) in TOOLS.items():
            found = {}
            for criterion in criteria:
                file = folder / f"{tool}-{criterion}-{ratio}-try-{round(tried)}.onnx"
                found[criterion] = arm(bench, model, (tool, criterion, ratio), tried, None, file)
                said = found[criterion]
                line = said.get("failed") or f"{100 * said['val']:.2f}%"
                print(f"  {ratio:.0%} {tool} {criterion}: validation {line}", flush=True)
            best[tool] = max(found, key=lambda c: found[c].get("val", 0.0))
        rows: dict[str, list[dict[str, Any]]] = {tool: [] for tool in TOOLS}
        for seed in seeds:
            for tool, criterion in best.items():
                file = folder / f"{tool}-{criterion}-{ratio}-{seed}-{round(tuned)}.onnx"
                found = arm(bench, model, (tool, criterion, ratio), tuned, seed, file)
                if "failed" not in found:
                    rows[tool].append({**found, "file": file})
        for tool, row in rows.items():
            if not row:
                print(f"{ratio:.0%} {tool}: nothing was made")
                continue
            files = [whole, *(r["file"] for r in row)]
            first, *others = OnnxRuntime(1).latencies(files, runs=300)
            saved = [(1 - t.median_ms / first.median_ms) / (1 - r["macs"]) for t, r in zip(others, row, strict=True)]
            means = {key: mean(r[key] for r in row) for key in ("cut", "val", "test", "macs")}
            each = ", ".join(f"{100 * r['test']:.2f}" for r in row)
            print(
                f"{ratio:.0%} {tool:14} {best[tool]:10} test {100 * means['test']:.2f}% ({each}), "
                f"validation {100 * means['val']:.2f}%, after the cut {100 * means['cut']:.2f}%, "
                f"macs {means['macs']:.3f}, latency saved over macs saved {mean(saved):.2f}",
                flush=True,
            )


if __name__ == "__main__":
    main()
