"""What each operator of a space takes at each place on a device, by whole networks, and the space without the worst.

Networks drawn from a space are timed whole, and a regression on which option stands where gives what each option adds
(``search.shrinking.effects``). That is what a block costs where it will run: behind and before others, with what they
left in the caches. Beside it stands the same from parts timed one by one (``units.table``), which says how far single
blocks can be trusted on the device. Options go that give least for their time.

Source: Mills et al., Profiling Neural Blocks and Design Spaces for Mobile Neural Architecture Search (P134,
arXiv:2109.12426 §4). Deviation: where no accuracy is given, an option is judged by the multiply-accumulates that it
does in its time, which is the paper's device friendliness alone; and what goes is decided by a rule, not by hand.
"""

from __future__ import annotations

import math
import random
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy.stats import spearmanr

from sartor.errors import InputError
from sartor.measure.file_of import exported
from sartor.measure.targets.target import Target
from sartor.measure.units.split import Unit, units
from sartor.measure.units.table import measured
from sartor.models.buildable import Buildable
from sartor.records import Arch, Option, Record
from sartor.search.objective import Objective
from sartor.search.shrinking.effects import effects, traded
from sartor.search.strategy import fresh
from sartor.space.space import Space

Effects = Mapping[str, Mapping[Option, float]]
"""Choice → option → milliseconds beside the mean of the choice's options."""

LATENCY = Objective("latency_ms")
ACCURACY = Objective("accuracy_val", maximise=True)
WORK = Objective("macs", maximise=True)
TOGETHER = 10
"""Networks that are timed in turns."""
RUNS, MIN_TIME_S, BUDGET_S = 60, 0.1, 0.8
CONTEXTS = 20
"""Networks of those drawn that are asked whether they could have another option at a place."""
RIDGE = 0.01
"""On squared effects: enough to determine them. A shared shrinkage changes no ranks."""


@dataclass(frozen=True)
class BlockProfile:
    """``networks``: those that were timed whole, with latency_ms and macs. ``effects``: what each option adds, by
    regression; ``alone``: the same by parts that were timed by themselves. Options that were never drawn are absent."""

    space: Space
    target: str
    networks: tuple[Record, ...]
    effects: Effects
    alone: Effects

    @property
    def rank(self) -> float:
        """Spearman's correlation of ``effects`` with ``alone``, over all places and options; NaN for fewer than 3."""
        both = [
            (e, self.alone[c][o]) for c, held in self.effects.items() for o, e in held.items() if o in self.alone[c]
        ]
        return float(spearmanr(*np.array(both).T).statistic) if len(both) > 2 else float("nan")

    def shrunk(self, share: float = 0.25, accuracy: Callable[[Arch], float] | None = None) -> Space:
        """The space without the ``share`` of its options that give least for their time
        (:func:`sartor.search.shrinking.traded`): ``accuracy`` of the networks that were timed, higher is better, or
        without one multiply-accumulates. A choice keeps one option at least.

        Raises InputError for a share that is not in [0, 1).
        """
        quality, known = WORK, list(self.networks)
        if accuracy is not None:
            quality = ACCURACY
            known = [replace(r, metrics={**r.metrics, ACCURACY.metric: accuracy(r.arch)}) for r in known]
        return traded(share, RIDGE)(self.space, known, [quality, LATENCY])

    def to_dict(self) -> dict[str, Any]:
        table = lambda found: {name: {str(o): ms for o, ms in held.items()} for name, held in found.items()}
        rows = [{"arch": dict(r.arch), **r.metrics} for r in self.networks]
        return {
            "target": self.target,
            "effects": table(self.effects),
            "alone": table(self.alone),
            "rank": self.rank if math.isfinite(self.rank) else None,
            "networks": rows,
        }


def block_profile(
    problem: Buildable, target: Target, *, networks: int = 200, seed: int = 0, ridge: float = RIDGE
) -> BlockProfile:
    """Times ``networks`` random networks of ``problem`` on ``target``, and the parts of one network for each option.

    Raises InputError for spaces with fewer networks, for those that take something else than images, and for what the
    target cannot run.
    """
    if networks < 2:
        raise InputError(f"a profile of blocks needs at least 2 networks, not {networks}")
    space, rng = problem.space, random.Random(f"blocks {seed}")
    if space.count() < networks:
        raise InputError(f"the space has {space.count():,} networks, not {networks:,}: profile fewer")
    archs = fresh(space, lambda: space.sample(rng), rng, networks, ())
    torch.manual_seed(seed)
    records: list[Record] = []
    with tempfile.TemporaryDirectory() as folder:
        for start in range(0, networks, TOGETHER):
            part = archs[start : start + TOGETHER]
            files = [_file(problem, arch, Path(folder) / f"{place}.onnx") for place, arch in enumerate(part)]
            times = target.latencies(files, runs=RUNS, min_time_s=MIN_TIME_S, budget_s=BUDGET_S)
            for arch, file, latency in zip(part, files, times, strict=True):
                macs = float(sum(unit.macs for unit in units(file)))
                metrics = {LATENCY.metric: latency.median_ms, WORK.metric: macs}
                records.append(Record(f"n{len(records)}", arch, metrics=metrics))
        alone = _alone(problem, archs, target, Path(folder))
    found = effects(space, records, [LATENCY], ridge)
    told = {name: _centred({o: float(value[0]) for o, value in held.items()}) for name, held in found.items()}
    return BlockProfile(space, target.name, tuple(records), told, alone)


def _alone(problem: Buildable, archs: Sequence[Arch], target: Target, folder: Path) -> dict[str, dict[Option, float]]:
    """By choice and option: the sum of a network's parts, each timed by itself, beside that of its other options."""
    parts: dict[str, dict[Option, tuple[Unit, ...]]] = {}
    for choice in problem.space.choices:
        swaps = [
            {o: other for o in choice.options if problem.space.contains(other := Arch({**arch, choice.name: o}))}
            for arch in archs[:CONTEXTS]
            if choice.name in arch
        ]
        # A choice on which others hang cannot be swapped by itself: as many of its options as one network can have.
        best = max(swaps, key=len, default={})
        best = best if len(best) > 1 else {}
        parts[choice.name] = {o: units(_file(problem, arch, folder / "alone.onnx")) for o, arch in best.items()}
    times = measured([unit for held in parts.values() for some in held.values() for unit in some], target)
    return {
        name: _centred({o: sum(times.get(unit.key, 0.0) for unit in some) for o, some in held.items()})
        for name, held in parts.items()
    }


def _centred(values: Mapping[Option, float]) -> dict[Option, float]:
    mean = sum(values.values()) / max(1, len(values))
    return {option: value - mean for option, value in values.items()}


def _file(problem: Buildable, arch: Arch, file: Path) -> Path:
    images = problem.inputs(arch, 1)
    if len(images) != 1 or images[0].dim() != 4:
        raise InputError("blocks are profiled in networks that take images")
    channels, height, width = (int(size) for size in images[0].shape[1:])
    return exported(problem.build(arch).eval(), (channels, height, width), file)
