"""Pruning as a job: a model, images and a goal in; a smaller network, exported, measured and proven, out.

    sartor prune MODEL DATA --max-latency 1ms --weights model.safetensors --out DIR

Straight-line: model → groups → cut → training → export → proof. The one-shot special case of cutting a network to fit.
"""

from __future__ import annotations

import math
import re
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import nn

from sartor import disk
from sartor.compress.measured import Latencies, Tried, prune_to_latency
from sartor.compress.prune import check_protected, criterion_named, prune_in_steps, shrink
from sartor.data import open_data
from sartor.errors import BudgetError, InputError, Stopped
from sartor.export.drafts import Drafts
from sartor.export.onnx import export_onnx
from sartor.export.parity import parity
from sartor.graph import Cut, Graph, trace
from sartor.graph.saliency import Evidence
from sartor.measure.accuracy import accuracy
from sartor.measure.counts import counts
from sartor.measure.device import versions
from sartor.measure.targets.named import open_target
from sartor.measure.targets.target import Bounded, device_of, memory_of
from sartor.models.head import fitted, outputs
from sartor.models.pruned import FILE, WEIGHTS, Lineage, further, lineage
from sartor.models.weights import load_weights, to_bytes
from sartor.models.zoo import SOURCES, Opened, open_model
from sartor.recipes.bench import Bench
from sartor.recipes.prove import PARITY
from sartor.recipes.voice import Voice

TIME_S = 300.0
"""Of training where there are images and no time is given."""

MARGIN = 0.97
"""Of the latency asked for, at which the search stops: the shipped file is timed anew. A choice."""

TIMINGS = 3
"""Of a shipped file that takes too long, before it is given up: a shared machine has slow minutes."""


@dataclass(frozen=True)
class Pruned:
    """What came of it. ``before`` and ``after``: params, macs, latency_ms, latency_p95_ms, size_bytes,
    peak_memory_bytes, parity, and with data accuracy_val and accuracy_test. ``kept``: by group, entries kept of how
    many. ``without``: blocks that went whole. ``tried``: cuts that were measured. ``frozen``: operators that were not
    followed."""

    path: Path
    before: dict[str, float]
    after: dict[str, float]
    kept: dict[str, tuple[int, int]]
    without: tuple[str, ...]
    tried: list[Tried]
    frozen: list[str]

    def to_dict(self) -> dict[str, Any]:
        """JSON-able."""
        kept = {name: list(sizes) for name, sizes in self.kept.items()}
        return {**vars(self), "path": str(self.path), "kept": kept, "tried": [vars(entry) for entry in self.tried]}


def prune_model(
    model: str,
    data: Any = None,
    *,
    weights: str | Path | None = None,
    macs: float | None = None,
    params: float | None = None,
    max_latency_ms: float | None = None,
    saliency: str | None = None,
    ranking: str | None = None,
    rounds: int | None = None,
    depth: bool = False,
    steps: int | None = None,
    schedule: str | None = None,
    protect: Sequence[str] = (),
    least: float = 0.1,
    round_to: int = 1,
    time_s: float | None = None,
    target: str = "onnxruntime",
    threads: int = 1,
    seed: int = 0,
    out: str | Path | None = None,
    verbosity: int = 1,
) -> Pruned:
    """Prune ``model`` (see :func:`sartor.models.zoo.open_model`) with ``weights`` to shares or numbers of ``macs`` and
    ``params``, or to a measured ``max_latency_ms``; train it for ``time_s`` seconds on ``data`` (5 minutes, where there
    are data); write ``model.onnx``, ``model.safetensors``, ``cut.json`` and ``pruned.json`` to ``out``.

    The last layer is replaced where the data have another number of classes. Images are normalised as the model says,
    or by the data's own mean and deviation where it says nothing. Without data nothing is trained, batch norms keep
    their old statistics, and accuracy is not known. All of it runs on the CPU.

    Raises InputError for what cannot be used, BudgetError where the goal cannot be reached, Stopped on Ctrl-C.
    """
    arguments = {k: str(v) if isinstance(v, Path) else v for k, v in locals().items() if k not in ("data", "verbosity")}
    if macs is None and params is None and max_latency_ms is None:
        raise InputError("say what may be left: macs, params or max_latency")
    if max_latency_ms is not None:
        odd = {
            "macs": macs,
            "params": params,
            "ranking": ranking,
            "rounds": rounds,
            "steps": steps,
            "schedule": schedule,
        }
        wrong = [name for name, value in odd.items() if value is not None]
        if wrong:
            raise InputError(f"a latency is searched for by measuring single cuts: leave out {', '.join(wrong)}")
    if schedule is not None and (steps or 1) == 1:
        raise InputError("a schedule is for several steps: add steps, or leave it out")
    if data is None and time_s:
        raise InputError("training takes images: give DATA, or leave out the time")
    if data is None and depth:
        raise InputError("whole blocks are judged by images: give DATA, or leave out depth")
    criterion = saliency or ("l2" if data is None else "fisher")
    criterion_named(criterion)
    time_s = (0.0 if data is None else TIME_S) if time_s is None else time_s
    voice = Voice(verbosity, sys.stderr)
    runner = open_target(target, threads)
    path = Path(out) if out is not None else Path("pruned") / re.sub(r"\W+", "_", model.rpartition(":")[2])
    with disk.lock(path):
        strangers = sorted(p.name for p in path.iterdir() if p.name != ".lock" and not disk.is_part(p))
        if strangers:
            raise InputError(f"{path} holds other files ({strangers[0]}, …): choose an empty or a new --out")
        try:
            torch.manual_seed(seed)
            opened, made = _opened(model, weights, voice)
            bench, made = _bench(opened, made, data, weights, seed, voice)
            network = opened.module
            example = torch.randn(1, *bench.shape, generator=torch.Generator().manual_seed(seed))
            graph = trace(network, example)
            check_protected(graph, protect)
            for frozen in graph.frozen:
                voice.detail(f"  not cut: {frozen}")
            evidence = Evidence(bench.batches, seed=seed)
            common: dict[str, Any] = {"protect": protect, "least": least, "round_to": round_to, "evidence": evidence}
            tried: list[Tried] = []
            if max_latency_ms is None:
                small, cut, cuts = prune_in_steps(
                    network,
                    example,
                    macs=macs,
                    params=params,
                    saliency=criterion,
                    ranking=ranking,  # type: ignore[arg-type]  # checked there
                    rounds=rounds,
                    depth=depth,
                    steps=steps or 1,
                    schedule=schedule or "linear",
                    tune=lambda module: bench.tune(module, time_s / (steps or 1), voice),
                    **common,
                )
            else:
                measure = _timer(runner, bench.shape, graph, voice)
                cut, tried = _to_latency(
                    graph, max_latency_ms, measure, voice, saliency=criterion, depth=depth, **common
                )
                cuts = (cut,)
                small = shrink(graph, cut, evidence)
                bench.tune(small, time_s, voice)
            made = further(made, *cuts)
            with voice.stage("proof") as tick:
                before, after = _proof(bench, runner, network, small, made, path, max_latency_ms, tick)
        except KeyboardInterrupt:
            raise Stopped("stopped; nothing was written, and the same command begins again") from None
        sizes = {group.name: group.size for group in graph.groups}
        kept = {name: (len(entries), sizes[name]) for name, entries in cut.keep.items()}
        pruned = Pruned(path, before, after, kept, cut.without, tried, [str(frozen) for frozen in graph.frozen])
        provenance: dict[str, Any] = {"arguments": arguments, "device": device_of(runner), "versions": versions()}
        if bench.dataset is not None:
            provenance["data"] = {"name": bench.dataset.name, "fingerprint": bench.dataset.fingerprint}
        disk.write_json(path / "pruned.json", {**pruned.to_dict(), **provenance})
        return pruned


def _opened(model: str, weights: str | Path | None, voice: Voice) -> tuple[Opened, Lineage]:
    opened, made = open_model(model), lineage(model)
    opened.module.eval().float().cpu()
    if weights is None and model.partition(":")[0] in SOURCES:
        voice.say(f"  {model} has fresh weights: give --weights to cut a trained network")
    return opened, made


def _bench(
    opened: Opened, made: Lineage, data: Any, weights: str | Path | None, seed: int, voice: Voice
) -> tuple[Bench, Lineage]:
    """The images, and the network with weights and a last layer that fit them."""
    network, shape = opened.module, opened.image_shape
    dataset = None if data is None else open_data(data, seed=seed)
    if dataset is None:
        if weights is not None:
            load_weights(network, weights)
        outputs(network, torch.zeros(2, *shape))
    else:
        for line in dataset.skipped:
            voice.say(f"  skipped {line}")
        if shape[0] == dataset.channels:  # else the check below says so
            head = fitted(network, torch.zeros(2, *shape), len(dataset.classes), weights)
            if head == "fresh":
                voice.say(f"  its last layer is a fresh one of {len(dataset.classes)} outputs")
            made = made if head == "own" else _with(made, classes=len(dataset.classes))
    channels = shape[0]
    known = opened.mean is not None and opened.std is not None and len(opened.mean) == len(opened.std) == channels
    if known:
        mean, std = opened.mean, opened.std
    else:
        mean, std = (dataset.mean, dataset.std) if dataset is not None else ((0.0,) * channels, (1.0,) * channels)
    assert mean is not None
    assert std is not None
    bench = Bench(shape, dataset, tuple(mean), tuple(std), seed)
    bench.check(network)
    return bench, _with(made, mean=tuple(mean), std=tuple(std)) if dataset is not None or known else made


def _with(made: Lineage, **changes: Any) -> Lineage:
    """``made`` with other fields."""
    return replace(made, **changes)


def _to_latency(
    graph: Graph, max_ms: float, measure: Latencies, voice: Voice, **options: Any
) -> tuple[Cut, list[Tried]]:
    """Cut to a latency, and say how far it is on the way."""
    with voice.stage(f"cutting to {max_ms:.3g} ms") as tick:
        first: list[float] = []

        def on_round(ms: float) -> None:
            first.append(ms)
            way = math.log(first[0] / max_ms)
            tick(min(1.0, math.log(first[0] / ms) / way) if way > 0 else 1.0, f"{ms:.3g} ms")

        return prune_to_latency(graph, max_ms, measure, margin=MARGIN, on_round=on_round, **options)


def _timer(runner: Any, shape: tuple[int, int, int], graph: Graph, voice: Voice) -> Latencies:
    """Medians of cuts' drafts, timed in turns; times as much as the file that is shipped takes longer than its draft,
    for the network as it is."""
    drafts = Drafts(graph, shape, say=voice.detail)

    def timed(cuts: Sequence[Cut], shipped: Sequence[nn.Module] = ()) -> list[float]:
        with tempfile.TemporaryDirectory() as folder:
            files = [Path(folder) / f"{index}.onnx" for index in range(len(cuts) + len(shipped))]
            for cut, file in zip(cuts, files, strict=False):
                drafts.write(cut, file)
            for module, file in zip(shipped, files[len(cuts) :], strict=True):
                export_onnx(module, shape, file)
            return [float(latency.median_ms) for latency in runner.latencies(files, runs=100, budget_s=1.0)]

    with voice.stage("timing the network as it is"):
        draft, shipped = timed([Cut({})], [graph.model])
    return lambda cuts: [ms * shipped / draft for ms in timed(cuts)]


def _proof(
    bench: Bench,
    runner: Any,
    network: nn.Module,
    small: nn.Module,
    made: Lineage,
    path: Path,
    max_ms: float | None,
    tick: Callable[[float, str], None],
) -> tuple[dict[str, float], dict[str, float]]:
    """Both networks' files, checked, counted and timed side by side; then, within the budget, the smaller one's is
    shipped and both are tested. Over it, the weights stay and no file is shipped."""
    with tempfile.TemporaryDirectory() as folder:
        files = [Path(folder) / "before.onnx", Path(folder) / "after.onnx"]
        found = [
            _counted(bench, runner, module, file, partial(tick, share, "exporting"))
            for share, module, file in zip((0.1, 0.4), (network, small), files, strict=True)
        ]
        disk.write_atomic(path / WEIGHTS, to_bytes(small))
        disk.write_atomic(path / FILE, made.to_json())
        tick(0.7, "timing")
        for _ in range(TIMINGS):
            for metrics, latency in zip(found, runner.latencies(files, runs=300, budget_s=5.0), strict=True):
                metrics |= {"latency_ms": latency.median_ms, "latency_p95_ms": latency.p95_ms}
            if max_ms is None or found[1]["latency_ms"] <= max_ms:
                break
        else:
            raise BudgetError(
                f"the file takes {found[1]['latency_ms']:.3g} ms, over {max_ms:g} ms: no file is shipped, the network "
                f"is in {path}; cut it further with: sartor prune {path} …"
            )
        misfits = runner.misfits(files[1]) if isinstance(runner, Bounded) else []
        if misfits:
            raise BudgetError(
                f"the file does not fit {runner.name} ({'; '.join(misfits)}): no file is shipped, the network is in "
                f"{path}; cut it further with: sartor prune {path} …"
            )
        tick(0.9, "test images, once")
        for metrics, file in zip(found, files, strict=True):
            _judged(bench, runner, file, "test", metrics)
        disk.write_atomic(path / "model.onnx", files[1].read_bytes())
    return found[0], found[1]


def _counted(bench: Bench, runner: Any, module: nn.Module, file: Path, tick: Callable[[], None]) -> dict[str, float]:
    tick()
    export_onnx(module, bench.shape, file, metadata=bench.metadata("pruned"))
    error = parity(module, file, bench.shape)
    if error > PARITY:
        raise InputError(f"parity: the file is {error:.1e} off the network, over {PARITY:.0e}")
    counted = counts(module, bench.shape)
    metrics = {"params": float(counted.params), "macs": float(counted.macs), "parity": error}
    metrics |= {"size_bytes": float(file.stat().st_size), "peak_memory_bytes": float(memory_of(runner, file))}
    _judged(bench, runner, file, "val", metrics)
    return metrics


def _judged(bench: Bench, runner: Any, file: Path, split: str, metrics: dict[str, float]) -> None:
    """Add the file's accuracy on a split; nothing without data."""
    if bench.dataset is not None:
        metrics[f"accuracy_{split}"], _ = accuracy(runner, file, bench.labelled(getattr(bench.dataset, split)))
