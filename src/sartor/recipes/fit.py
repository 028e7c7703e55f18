"""The main job: from labelled images and a budget to a front of exported, measured, proven networks.

    sartor fit DATA --max-latency 2ms --time 30m --out RUN

Straight-line: data → probe → supernet → search → specialise → prove → report. Each stage is a file beside this one.
"""

from __future__ import annotations

import shlex
import sys
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch

from sartor import disk
from sartor.data import look, open_data
from sartor.errors import BudgetError, InputError, SartorError, Stopped
from sartor.models import Supernet
from sartor.models.elastic import Elastic
from sartor.recipes.claim import about, begin, check_same_data, note, read_info, same_run
from sartor.recipes.curve import Curve
from sartor.recipes.evidence import conclude
from sartor.recipes.explore import explore, members
from sartor.recipes.given import name_of, open_given
from sartor.recipes.growth import growing
from sartor.recipes.job import Job, data_name
from sartor.recipes.journal import Journal
from sartor.recipes.plan import GIVEN, STAGES, TAUGHT, Clock, plan, provable
from sartor.recipes.probe import Probed, describe, probe, probe_given
from sartor.recipes.prove import prove
from sartor.recipes.run import Run, open_run
from sartor.recipes.specialise import HANDOVER, LONG_S, specialise
from sartor.recipes.voice import Voice
from sartor.recipes.workshop import Workshop
from sartor.records import Budget, Record
from sartor.train.device import place
from sartor.train.loop import Step, Training, train
from sartor.train.schedule import SCHEDULES, nested
from sartor.train.steps import TAUGHT_LABELS, Inputs, supernet_step

DEFAULT_SCHEDULE = "delayed_shrinking"
"""That of the best whole fits (docs/log.md). ``benchmarks/schedules.py`` has single path ahead as a supernet, but its
largest network behind, which teaches the members."""

SUPERNET_HALF_LIFE = 0.04
"""Of the averaged weights, as a share of the supernet's training: its learning rate stays high, so more is averaged.
A guess: nothing else was tried."""

MOST_TOLD = 5
"""Skipped images named in the terminal at once; run.json lists them all."""

MEMBERS, LONG_MEMBERS = 5, 7
"""Networks that the search hands on, the largest one of them: enough to cover a front, few enough to train; and how
many from an hour on, where each is trained in half as many steps."""


def fit(
    data: Any,
    *,
    model: Any = None,
    weights: str | Path | None = None,
    max_latency_ms: float | None = None,
    max_size_bytes: int | None = None,
    max_macs: int | None = None,
    max_memory_bytes: int | None = None,
    time_s: float = 1800.0,
    target: str = "onnxruntime",
    threads: int = 1,
    latency_model: str | Path | None = None,
    precision: Sequence[str] = ("fp32", "int8"),
    seed: int = 0,
    out: str | Path | None = None,
    resume: bool = False,
    dry_run: bool = False,
    schedule: str = DEFAULT_SCHEDULE,
    verbosity: int = 1,
) -> Run | None:
    """Fit networks to ``data`` (see :func:`sartor.open_data`) within a budget, in about ``time_s`` seconds of work.

    ``model``: a network to cut instead of a space to search: a name (see :func:`sartor.models.zoo.open_model`), with
    its ``weights`` in a safetensors file, or a ``torch.nn.Module``, which is copied. Its last layer is replaced where
    the data have another number of classes.

    ``latency_model``: a file of ``sartor profile-device``, by which the search predicts latencies instead of measuring
    them; what is shipped is measured.

    Returns the run; None after a dry run, which only prints how the time would be spent, and on what. The same call
    goes on where a stopped or killed run was. Raises InputError for unusable arguments or data, BudgetError naming the
    nearest miss when no network met the budget, Stopped on Ctrl-C.
    """
    if weights is not None and not isinstance(model, str):
        raise InputError("weights are for a model given by its name: add model=")
    if model is not None and schedule != DEFAULT_SCHEDULE:
        raise InputError("a network that is given has a schedule of its own: leave out schedule=")
    budget = Budget(max_latency_ms, max_size_bytes, max_macs, max_memory_bytes)
    predicts = None if latency_model is None else str(Path(latency_model).resolve())
    name = name_of(model, weights)
    job = Job(data_name(data), budget, time_s, target, threads, tuple(precision), seed, schedule, name, predicts)
    voice = Voice(verbosity, sys.stdout if dry_run else sys.stderr)
    voice.say(f"Plan for {_duration(time_s)} on {data_name(data)}:")
    for line in plan(time_s, STAGES if model is None else GIVEN).lines():
        voice.say(line)
    if dry_run:
        voice.say(f"  {look(data)}")
        return None
    path = Path(out) if out is not None else Path("runs") / (Path(job.data).stem or "run")
    if resume and not (path / "run.json").exists():
        raise InputError(f"{path} holds no run to resume: leave out --resume to begin one")
    with disk.lock(path):
        begun = same_run(path, job)
        disk.sweep(path)
        journal = Journal(path / "journal.jsonl")
        clock = Clock(journal)
        # Before anything is written: a mistyped DATA must not claim the folder, nor another set's run be returned.
        try:
            with voice.stage("data") as tick:
                dataset = open_data(data, seed=job.seed, on_progress=lambda done, total: tick(done / max(1, total), ""))
        except KeyboardInterrupt:
            raise Stopped("stopped while the data was read; the same command begins again") from None
        if begun:
            check_same_data(path, dataset)
            voice.say(f"going on with {path}")
            if read_info(path).get("status") == "done":
                voice.say(f"{path} is done already")
                _report_if_missing(path)
                return open_run(path)
        torch.manual_seed(seed)  # a fresh last layer is the same in every process of a run
        try:
            given = None if model is None else open_given(model, weights, dataset)
        except KeyboardInterrupt:
            raise Stopped("stopped while the network was traced; the same command begins again") from None
        if not begun:
            begin(path, job)
        try:
            _work(Workshop(job, dataset, path, journal, clock, voice, given))
        except KeyboardInterrupt:
            note(path, status="stopped")
            where = shlex.quote(str(path))
            raise Stopped(f"stopped; go on with the same command, or add --resume: --out {where}") from None
        except SartorError as error:
            note(path, status="failed", reason=str(error))
            raise
    return open_run(path)


def _work(shop: Workshop) -> None:
    job, path, clock, voice, dataset = shop.job, shop.path, shop.clock, shop.voice, shop.dataset
    dataset.write_splits(path / "splits.json")
    note(path, data=about(dataset), plan=plan(job.time_s, STAGES if shop.given is None else GIVEN).to_dict())
    voice.say(
        f"  {len(dataset.train):,} train, {len(dataset.val):,} validation, {len(dataset.test):,} test images "
        f"of {len(dataset.classes)} classes at {dataset.resolution} pixels"
    )
    told = _tell_skipped(shop, 0)

    times = [{"stage": "data", "seconds": shop.journal.once("data.end", lambda: clock.elapsed)}]
    seconds = clock.begin("probe", job.time_s)
    with voice.stage("probe", seconds) as tick:
        if shop.given is None:
            probed = probe(shop, seconds, plan(job.time_s).seconds["supernet"], tick)
        else:
            probed = probe_given(shop, seconds, tick)
    times.append({"stage": "probe", "seconds": clock.end("probe")})
    if probed.race:
        voice.say(f"  race: {describe(probed.race)}")
    if probed.given is not None:
        voice.say(f"  as it came: {100 * probed.given['accuracy']:.1f}%, {probed.given['latency_ms']:.3f} ms")
        if shop.given is not None and shop.given.fresh:
            voice.say(f"  its last layer is a fresh one of {len(dataset.classes)} outputs")
        if probed.teaches:
            clock.stages = TAUGHT
            note(path, plan=plan(job.time_s, TAUGHT).to_dict())
            voice.say("  it knows these images, and teaches: most of the time goes into the members")
        else:
            voice.say("  it does not know these images yet: it learns from their labels, not from itself as it came")
    voice.say(
        f"  images are {'mirrored at random in training' if probed.flip else 'not mirrored: it changes their class'}"
    )
    sizes = f" of width ≤ {probed.width}, depth ≤ {probed.depth}" if shop.given is None else " within it"
    voice.say(f"  space: {probed.space.count():,} networks{sizes}")

    most = LONG_MEMBERS if job.time_s >= LONG_S else MEMBERS
    if probed.export_s:
        most, clock.needs["prove"] = provable(job.time_s, probed.export_s, len(job.precision), most)
        if probed.given is not None:
            clock.needs["prove"] += _seconds_of_images(shop, probed.given["s_an_image"], most)
        limit = job.budget.max_latency_ms
        if probed.given is not None and limit is not None and probed.given["latency_ms"] > limit:
            most -= 1  # the largest, which teaches and is over the budget, is written besides
    curves: list[Curve] = []
    seconds = clock.begin("supernet", job.time_s)
    supernet = _train_supernet(shop, probed, seconds, curves)
    times.append({"stage": "supernet", "seconds": clock.end("supernet")})

    seconds = clock.begin("search", job.time_s)
    with voice.stage("search", seconds) as tick:
        explored = explore(shop, supernet, seconds, probed, tick)
        evaluated = list({r.arch: r for r in (*explored.found, *explored.sampled)}.values())  # the random ones too
        chosen = members(shop, evaluated, most, supernet.space.largest(), seconds)
    times.append({"stage": "search", "seconds": clock.end("search")})
    for record in chosen:
        voice.detail(f"  {_line(record)}")
    voice.say(f"  {len(evaluated)} networks measured, {explored.ranked:,} ranked; {len(chosen)} go on")

    seconds = clock.begin("specialise", job.time_s)
    curve = Curve("specialise, mean of those trained in a step", shop.checkpoints / "curve-specialise.json", clock)
    with voice.stage("specialise", seconds) as tick:
        made, tuned = specialise(shop, supernet, chosen, seconds, probed, tick, curve.add)
    curve.save()
    curves.append(curve)
    for entry in tuned:
        voice.detail(f"  {entry['what']}: {entry['why']}")
    times.append({"stage": "specialise", "seconds": clock.end("specialise")})

    seconds = clock.begin("prove", job.time_s)
    with voice.stage("prove", seconds) as tick:
        proof = prove(shop, made, seconds, tick)
        if not proof.front:
            raise BudgetError(_nearest(shop, proof.measured, proof.dropped))
        for record in proof.measured:
            voice.detail(f"  {_line(record)}")
        for entry in proof.dropped:
            voice.detail(f"  dropped {entry['name']} ({entry['precision']}): {entry['reason']}")
        tick(0.8, "test images, once")
        conclude(shop, probed, explored, made, proof, tuned, curves, times)
    times.append({"stage": "prove", "seconds": clock.end("prove")})
    if proof.disturbed:
        voice.say("  the machine was busy while the files were timed: their latencies may be high")
    _tell_skipped(shop, told)
    note(
        path,
        status="done",
        data=about(dataset),
        times=times,
        seconds=round(clock.elapsed, 1),
        disturbed=proof.disturbed,
    )
    _report_if_missing(path)


def _seconds_of_images(shop: Workshop, s_an_image: float, members: int) -> float:
    """What the proof's images take: the network as it came and the largest see all of them, members work half as much
    on average."""
    images = len(shop.dataset.val) + len(shop.dataset.test)
    return s_an_image * images * (2 + 0.5 * members) * len(shop.job.precision)


def _tell_skipped(shop: Workshop, told: int) -> int:
    """Say which images could not be read since the first ``told``. Streamed sets find them on the way."""
    skipped = shop.dataset.skipped
    for line in skipped[told : told + MOST_TOLD]:
        shop.voice.say(f"  skipped {line}")
    if len(skipped) > told + MOST_TOLD:
        shop.voice.say(f"  and {len(skipped) - told - MOST_TOLD} more: run.json lists them")
    return len(skipped)


def _report_if_missing(path: Path) -> None:
    """A kill between a run's end and its report leaves a run without one: the same command writes it."""
    from sartor.report.html import write_report

    if not (path / "report.html").exists():
        write_report(path)


def _train_supernet(shop: Workshop, probed: Probed, seconds: float, curves: list[Curve]) -> Supernet | Elastic:
    torch.manual_seed(shop.job.seed)
    supernet = place(Supernet(probed.space, shop.builder) if shop.given is None else shop.given.elastic, shop.device)
    curve = Curve("supernet, the first network of each step", shop.checkpoints / "curve-supernet.json", shop.clock)
    curves.append(curve)
    if shop.saved("supernet"):
        supernet.load_state_dict(shop.load("supernet"))
        return supernet.eval()
    inputs = shop.inputs("supernet", flip=probed.flip)
    with shop.voice.stage("supernet", seconds) as tick:

        def progress(state: Training, loss: float, lr: float) -> None:
            curve.add(state, loss, lr)
            tick(state.progress, f"loss {loss:.3f}")

        train(
            supernet,
            _supernet_step(shop, supernet, probed, inputs),
            shop.batches,
            replace(shop.recipe, last_lr_share=0.0 if probed.teaches else HANDOVER, ema_half_life=SUPERNET_HALF_LIFE),
            seconds=seconds,
            name="supernet",
            decide=shop.journal.once,
            checkpoint=shop.checkpoints / "supernet-training.safetensors",
            on_progress=progress,
        )
    curve.save()
    shop.save("supernet", supernet.state_dict())
    return supernet


def _supernet_step(shop: Workshop, supernet: Supernet | Elastic, probed: Probed, inputs: Inputs) -> Step:
    """A supernet from scratch under the job's schedule, images small first; a given one under the sandwich rule, taught
    by itself as it came where it knows these images."""
    if shop.given is None:
        return supernet_step(supernet, growing(SCHEDULES[shop.job.schedule]), inputs, shop.recipe)
    teacher = shop.given.original if probed.teaches else None
    schedule = partial(nested, likely=probed.likely)
    return supernet_step(supernet, schedule, inputs, shop.recipe, teacher=teacher, labels_share=TAUGHT_LABELS)


def _nearest(shop: Workshop, records: Sequence[Any], dropped: Sequence[dict[str, str]]) -> str:
    if not records:
        return f"no network could be shipped: {dropped[0]['reason'] if dropped else 'none was exported'}"
    nearest = min(records, key=lambda r: shop.job.budget.excess(r.metrics))
    broken = "; ".join(shop.job.budget.violations(nearest.metrics))
    return f"no network met the budget; the nearest is {nearest.name} ({nearest.precision}): {broken}"


def _line(record: Record) -> str:
    """A network as ``--verbose`` names it."""
    metrics = record.metrics
    return f"{record.name} ({record.precision}): {100 * metrics['accuracy_val']:.1f}%, {metrics['latency_ms']:.3f} ms"


def _duration(seconds: float) -> str:
    return f"{seconds / 60:.0f} minutes" if seconds >= 120 else f"{seconds:.0f} seconds"
