"""Sizes of a network beside the steps of a target's kernels, and others near by that measured faster.

The Case for Co-Designing Model Architectures with Hardware (P203, arXiv:2401.14489 §6): hidden sizes, heads,
feed-forward widths and vocabularies at multiples of what a GPU's products come in. Ours differs in that the multiples
are measured on the target (``lint.sweep``), that it does so for any network whose groups are known (``sartor.graph``
tells what must change together), and in that nothing is suggested before a network with the new sizes was built and
timed in turns with the old one.

A size is moved to the nearest on either side at which most of the work that it takes part in is on a step. A smaller
network is faster anyway: a size pays only where time goes down by more than multiply-accumulates do.
"""

from __future__ import annotations

import itertools
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from sartor.errors import InputError
from sartor.graph import Graph, Group, trace
from sartor.graph.capture import evaluating
from sartor.graph.cut import Cut
from sartor.graph.grow import enlarge
from sartor.measure.file_of import exported
from sartor.measure.graph_counts import graph_counts
from sartor.measure.lint.products import Axis, Product, axes_of, products
from sartor.measure.lint.sweep import Step, sweep
from sartor.measure.targets.target import Target
from sartor.measure.timing import Latency

MOST = 6
"""Groups that are looked at closer, those that lose most: each is two networks to export and to time."""
MATTERS = 0.02
"""Of the multiply-accumulates: kinds of products that are less are not swept."""
RUNS, MIN_TIME_S, BUDGET_S = 100, 0.2, 2.0
TRIED = 3
"""Combinations of moves that are built and timed."""


@dataclass(frozen=True)
class Tried:
    """A network with other sizes, timed in turns with the old one. ``sizes``: of groups, the new ones. ``pays``: its
    median is lower, beyond both intervals, by more than its share of multiply-accumulates."""

    sizes: Mapping[str, int]
    params: int
    macs: int
    latency_ms: float
    before_ms: float
    pays: bool

    def to_dict(self) -> dict[str, Any]:
        return {**asdict(self), "sizes": dict(self.sizes)}


@dataclass(frozen=True)
class Misfit:
    """A group of which the channels are on no step. ``step``: of most of the work that it takes part in; ``channels``
    of one product; ``lost``: the share of the network's multiply-accumulates that is beside a step by it, times what
    is lost there. ``tried``: the nearest sizes below and above that are on one, measured."""

    group: str
    size: int
    channels: int
    step: int
    lost: float
    layers: tuple[str, ...]
    tried: tuple[Tried, ...]

    def to_dict(self) -> dict[str, Any]:
        return {**asdict(self), "layers": list(self.layers), "tried": [t.to_dict() for t in self.tried]}


@dataclass(frozen=True)
class Shapes:
    """``steps``: of the target. ``misfits``: the worst first. ``suggestion``: sizes with at most ``within`` more or
    fewer parameters that measured faster; None where none did."""

    steps: tuple[Step, ...]
    params: int
    within: float
    misfits: tuple[Misfit, ...]
    suggestion: Tried | None

    def to_dict(self) -> dict[str, Any]:
        steps = [{"kind": s.kind, "side": s.axis, "step": s.size, "lost": s.lost} for s in self.steps]
        return {
            "steps": steps,
            "params": self.params,
            "within": self.within,
            "misfits": [misfit.to_dict() for misfit in self.misfits],
            "suggestion": None if self.suggestion is None else self.suggestion.to_dict(),
        }


def lint_shapes(
    model: nn.Module, shape: tuple[int, int, int], target: Target, *, within: float = 0.02, most: int = MOST
) -> Shapes:
    """Sizes of ``model``, for images of ``shape`` (C, H, W), that sit badly on ``target``, and better ones near by.

    ``within``: by what share parameters may change in the suggestion. Nothing of ``model`` is changed; the networks
    that are timed have its classes, and no weights worth keeping. Raises InputError where the model cannot be traced or
    exported, or the target cannot run it.
    """
    if not 0 <= within < 1 or most < 1:
        raise InputError(f"within is a share from 0 to 1 and most at least 1, not {within!r} and {most!r}")
    with evaluating(model):
        graph = trace(model, torch.zeros(1, *shape))
    known = products(graph)
    axes = axes_of(graph, known)
    steps = _steps(known, target)
    found = sorted(_misfits(graph, known, axes, steps), key=lambda m: -m.lost)[:most]
    bench = _Bench(graph, shape, target)
    moves = {misfit.group: _moves(graph.group(misfit.group), axes, known, steps) for misfit in found}
    alone = bench.timed([{name: size} for name, sizes in moves.items() for size in sizes])
    misfits = tuple(
        Misfit(**{**vars(m), "tried": tuple(t for t in alone if list(t.sizes) == [m.group])}) for m in found
    )
    best = _combined(bench, misfits, within)
    return Shapes(tuple(steps.values()), graph.params(), within, misfits, best)


def _steps(known: Mapping[str, Product], target: Target) -> dict[tuple[str, Axis], Step]:
    """Of every kind and side of a product that does enough of the work: swept as its largest product is."""
    total = sum(product.macs for product in known.values())
    kinds: dict[str, list[Product]] = {}
    for product in known.values():
        kinds.setdefault(product.kind, []).append(product)
    found: dict[tuple[str, Axis], Step] = {}
    for kind, members in kinds.items():
        largest = max(members, key=lambda p: p.macs)
        if sum(p.macs for p in members) < MATTERS * total and not largest.depthwise:
            continue  # depthwise layers take far more of the time than of the work
        axes: tuple[Axis, ...] = ("out",) if largest.depthwise else ("in", "out")
        found |= {(kind, axis): sweep(largest, axis, target) for axis in axes}
    return found


def _misfits(
    graph: Graph,
    known: Mapping[str, Product],
    axes: Mapping[str, Sequence[tuple[str, Axis, int]]],
    steps: Mapping[tuple[str, Axis], Step],
) -> Iterator[Misfit]:
    total = sum(product.macs for product in known.values()) or 1
    for group in graph.groups:
        beside = [
            (product.macs * step.lost / total, path, step, _channels(product, axis))
            for path, axis, _ in axes.get(group.name, ())
            if (step := steps.get(((product := known[path]).kind, axis))) is not None
            and _channels(product, axis) % step.size
        ]
        if beside:
            worst = max(beside, key=lambda row: row[0])
            paths = tuple(dict.fromkeys(path for _, path, _, _ in beside))
            lost = sum(row[0] for row in beside)
            yield Misfit(group.name, group.size, worst[3], worst[2].size, lost, paths, ())


def _channels(product: Product, axis: Axis) -> int:
    return product.inputs if axis == "in" else product.outputs


def _moves(
    group: Group,
    axes: Mapping[str, Sequence[tuple[str, Axis, int]]],
    known: Mapping[str, Product],
    steps: Mapping[tuple[str, Axis], Step],
) -> list[int]:
    """The nearest sizes of ``group`` below and above at which the least is lost of all within reach."""
    members = [
        (known[path], axis, entries, step)
        for path, axis, entries in axes[group.name]
        if (step := steps.get((known[path].kind, axis))) is not None
    ]

    def lost(size: int) -> float:
        more = [(_channels(p, axis) + (size - group.size) * entries) % step.size for p, axis, entries, step in members]
        return sum(p.macs * step.lost for (p, _, _, step), left in zip(members, more, strict=True) if left)

    reach = max(step.size for *_, step in members)
    now = lost(group.size)
    near = lambda size: (lost(size), abs(size - group.size))
    below, above = range(max(1, group.size - reach), group.size), range(group.size + 1, group.size + reach + 1)
    nearest = [min(sizes, key=near) for sizes in (below, above) if sizes]
    return [size for size in nearest if lost(size) < now]


class _Bench:
    """Builds networks with other sizes, and times them in turns with the old one."""

    def __init__(self, graph: Graph, shape: tuple[int, int, int], target: Target):
        self.graph, self.shape, self.target = graph, shape, target

    def timed(self, wanted: Sequence[Mapping[str, int]]) -> list[Tried]:
        """Those of ``wanted`` that could be built and exported."""
        with tempfile.TemporaryDirectory() as folder:
            first = exported(self.graph.model, self.shape, Path(folder) / "before.onnx")
            built: list[tuple[Mapping[str, int], int, int, Path]] = []
            for place, sizes in enumerate(wanted):
                try:
                    module = self.resized(sizes)
                    file = exported(module, self.shape, Path(folder) / f"{place}.onnx")
                except InputError:
                    continue  # the model's code holds a number: this size is not for it
                built.append((sizes, sum(p.numel() for p in module.parameters()), graph_counts(file).macs, file))
            if not built:
                return []
            before, *after = self.target.latencies(
                [first, *(file for *_, file in built)], runs=RUNS, min_time_s=MIN_TIME_S, budget_s=BUDGET_S
            )
            whole = graph_counts(first).macs
        return [
            Tried(sizes, params, macs, late.median_ms, before.median_ms, _pays(before, late, macs / whole))
            for (sizes, params, macs, _), late in zip(built, after, strict=True)
        ]

    def resized(self, sizes: Mapping[str, int]) -> nn.Module:
        """The network with groups of other ``sizes``. Raises InputError where its code holds one of them."""
        up = {name: size for name, size in sizes.items() if size > self.graph.group(name).size}
        down = {name: range(size) for name, size in sizes.items() if name not in up}
        graph = trace(enlarge(self.graph, up).eval(), self.graph.inputs[0]) if up else self.graph
        if any(name not in {group.name for group in graph.groups} for name in down):
            raise InputError("a larger network has other groups")
        return graph.slice(graph.completed(Cut.of(graph.groups, down))) if down else graph.model


def _pays(before: Latency, after: Latency, share: float) -> bool:
    low, high = before.ci_ms[0], after.ci_ms[1]
    return high < low and after.median_ms < min(1.0, share) * before.median_ms


def _combined(bench: _Bench, misfits: Sequence[Misfit], within: float) -> Tried | None:
    """The fastest that was measured of a few combinations of moves with nearly as many parameters."""
    whole = bench.graph.params()
    options = [[None, *misfit.tried] for misfit in misfits]
    if not any(len(some) > 1 for some in options):
        return None
    ways: list[tuple[float, int, dict[str, int]]] = []
    for choice in itertools.product(*options):
        moves = [move for move in choice if move is not None]
        params = sum(move.params - whole for move in moves)
        if moves and abs(params) <= within * whole:
            saved = sum(move.before_ms - move.latency_ms for move in moves)
            ways.append((saved, len(moves), {name: size for move in moves for name, size in move.sizes.items()}))
    # The most that moves saved alone; and the most moves at once: one side of a product on a step may be worth nothing
    # before the other is.
    by_saved = sorted(ways, key=lambda way: -way[0])[:TRIED]
    by_count = sorted(ways, key=lambda way: (-way[1], -way[0]))[:TRIED]
    wanted = list({tuple(sorted(sizes.items())): sizes for _, _, sizes in (*by_saved, *by_count)}.values())
    timed = [t for t in bench.timed(wanted) if t.pays and abs(t.params - whole) <= within * whole]
    return min(timed, key=lambda t: t.latency_ms, default=None)
