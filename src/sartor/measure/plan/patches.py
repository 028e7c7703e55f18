"""Which stretches of a network to run patch by patch, so that it fits a limit at the least work done twice.

Where a network holds the most, some stretch around that node begins and ends at small tensors: those and one patch's
tensors are then all that is held (MCUNetV2, arXiv 2110.15352, section 3.1, of the first stage, where images are large).
Every such stretch and grid is estimated, the one of least overhead that goes below the limit is planned in full, and
where something else is over the limit then, that is cut as well: a transformer's perceptrons, block after block.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate
from math import prod
from pathlib import Path

import numpy as np
import onnx

from sartor.disk import write_atomic
from sartor.measure.graph_counts import node_macs
from sartor.measure.plan.kernels import WHOLE_TENSORS, Kernels
from sartor.measure.plan.onnx_file import problem_from, reordered
from sartor.measure.plan.plan import Plan, make_plan
from sartor.measure.plan.regions import cut_axes
from sartor.measure.plan.steps import Buffer, Problem, buffers, most_at_once
from sartor.measure.plan.unroll import Cut, Graph, Unrolled, unrolled
from sartor.measure.runnable import load, tensors

GRIDS = (2, 3, 4, 5, 6, 8, 12, 16)
"""Parts along an axis that are tried: finer ones repeat more and spare little."""
_TRIED = 6
"""Estimates that are planned in full before a stretch is given up."""
_LOWERED = 4
"""Times that the aim is set lower because the arena has gaps."""


@dataclass(frozen=True)
class Schedule:
    """``proto``: the nodes in the order in which they run, ``plan``: where what they make lives. ``cuts``: what runs
    patch by patch, in names of the file that was given. ``macs``, ``whole_macs``: with and without patches."""

    cuts: tuple[Cut, ...]
    proto: onnx.ModelProto
    plan: Plan
    macs: int
    whole_macs: int

    @property
    def overhead(self) -> float:
        """The share of multiply-accumulates that is done again."""
        return self.macs / self.whole_macs - 1 if self.whole_macs else 0.0


def schedule(
    proto: onnx.ModelProto,
    file: Path,
    *,
    limit: int | None = None,
    kernels: Kernels = WHOLE_TENSORS,
    source: Graph | None = None,
) -> Schedule:
    """Plan ``proto`` in its best order, and patch by patch where it does not fit ``limit`` bytes without.

    Where no patches make it fit, those that come nearest; none where its input alone does not. ``source``: the graph
    that ``proto`` was fused from, where stretches are to be cuts of that one too; without ``limit`` nothing is cut.
    ``file`` names it in errors. Raises InputError.
    """
    return _Search(proto, tensors(proto, file), limit, kernels, source).best()


def write_patched(file: Path, target: Path, cuts: Sequence[Cut]) -> None:
    """Write ``file`` to ``target`` with its ``cuts`` patch by patch, the same outputs. Raises InputError."""
    proto = load(file)
    write_atomic(target, unrolled(proto, cuts, tensors(proto, file)).proto.SerializeToString())


@dataclass(frozen=True)
class _Option:
    cut: Cut
    inside: frozenset[int]
    peak_bytes: int
    more_macs: int


class _Search:
    def __init__(
        self,
        proto: onnx.ModelProto,
        values: Mapping[str, np.ndarray],
        limit: int | None,
        kernels: Kernels,
        source: Graph | None,
    ) -> None:
        # Order first, with concatenations as copies: what is written into its place has its schedule's order.
        copying = replace(kernels, windows=False)
        self.full = reordered(proto, make_plan(problem_from(proto, values, kernels=copying)).order)
        self.kernels, self.limit = kernels, limit
        self.proto = _without_numbers(self.full)
        self.values = dict(values)
        self.graph = Graph(self.proto, values)
        self.problem = problem_from(self.proto, values, kernels=copying)
        self.source = source
        self.macs = [node_macs(node, self.graph.shapes) for node in self.graph.nodes]
        self.numbers = {name: number for number, node in enumerate(self.graph.nodes) for name in node.output if name}
        self.buffers = buffers(self.problem)

    def best(self) -> Schedule:
        cuts: tuple[_Option, ...] = ()
        best = self._schedule(cuts)
        limit = self.limit
        fed = sum(self.problem.sizes[name] for name in self.problem.inputs)
        if limit is None or best.plan.arena_bytes <= limit or fed > limit:
            return best
        now = self._planned(cuts)
        for _ in range(_LOWERED):
            while (found := self._better(cuts, now)) is not None:
                cuts, now = found
            best = min(best, self._schedule(cuts), key=lambda made: made.plan.arena_bytes)
            gaps, most, aim = best.plan.arena_bytes - limit, max(now.values()), self.limit or 0
            if gaps <= 0 or (most > aim and not cuts):
                break
            self.limit = min(aim - gaps, most - 1)  # what is there at once fits, and leaves gaps: aim lower
        return best

    def _schedule(self, options: Sequence[_Option]) -> Schedule:
        cuts = tuple(option.cut for option in options)
        whole = sum(self.macs)
        if not cuts:
            plans = [make_plan(self.problem, search=False)]
            if self.kernels.windows:
                problem = problem_from(self.proto, self.values, kernels=self.kernels)
                plans.append(make_plan(problem, search=False))
            return Schedule((), self.full, min(plans, key=lambda plan: plan.arena_bytes), whole, whole)
        made = unrolled(self.full, cuts, self.values)
        problem = problem_from(made.proto, made.values, kernels=self.kernels)
        more = sum(option.more_macs for option in options)
        return Schedule(cuts, made.proto, make_plan(problem, search=False), whole + more, whole)

    def _planned(self, options: Sequence[_Option]) -> dict[int, int]:
        """The most bytes that are there while a node, or any patch of it, runs: by the node's number."""
        made = Unrolled(self.proto, self.values, {}, frozenset())
        if options:
            made = unrolled(self.proto, [option.cut for option in options], self.values)
        problem = problem_from(made.proto, made.values, kernels=self.kernels)
        held = _held(problem)
        most: dict[int, int] = {}
        for step, there in zip(problem.steps, held, strict=True):
            name = step.outputs[0]
            number = self.numbers.get(made.origin.get(name, name), -1)  # none's: a window of the file's input
            most[number] = max(most.get(number, 0), there)
        return most

    def _better(
        self, cuts: Sequence[_Option], now: Mapping[int, int]
    ) -> tuple[tuple[_Option, ...], dict[int, int]] | None:
        """One more stretch in patches, or one in others, so that less is over the limit; None where nothing helps."""
        assert self.limit is not None
        over = {number: there for number, there in now.items() if there > self.limit}
        if not over:
            return None
        hottest = max(over, key=lambda number: over[number])
        for option in self._options(hottest, now[hottest])[:_TRIED]:
            new = (*(cut for cut in cuts if not cut.inside & option.inside), option)
            then = self._planned(new)
            if self._excess(then) < self._excess(now):
                return new, then
        return None

    def _excess(self, held: Mapping[int, int]) -> int:
        return sum(max(0, there - (self.limit or 0)) for there in held.values())

    def _options(self, number: int, peak: int) -> list[_Option]:
        """Stretches and grids that hold node ``number``: those below the limit by overhead, then others by peak."""
        assert self.limit is not None
        ends = {
            (entry, exit): (inside, beside)
            for exit in self.numbers
            for entry, inside in self.graph.stretches(exit)
            if number in inside and (beside := self._beside(inside, entry, exit)) < peak and self._there(entry, exit)
        }
        limit, found = self.limit, list[_Option]()
        for enough in (True, False):  # those whose ends leave no room for a patch only where nothing else is left
            if not any(option.peak_bytes <= limit for option in found):
                for (entry, exit), (inside, beside) in ends.items():
                    if (beside < limit) == enough:
                        found += self._gridded(entry, exit, inside, beside, peak)
        return sorted(
            found, key=lambda o: (o.peak_bytes > limit, o.more_macs if o.peak_bytes <= limit else o.peak_bytes)
        )

    def _there(self, entry: str, exit: str) -> bool:
        """Whether the source has this stretch: what fusing took away, a padding say, may end it there."""
        if self.source is None:
            return True
        same = all(self.source.shapes.get(name) == self.graph.shapes[name] for name in (entry, exit))
        return same and any(entry == other for other, _ in self.source.stretches(exit))

    def _beside(self, inside: frozenset[int], entry: str, exit: str) -> int:
        """What is there all along: the stretch's ends, and what others left for others."""
        first, last = min(inside), max(inside)
        own = {name for number in inside for name in self.graph.nodes[number].output}
        rest = [b for b in self.buffers if entry not in b.tensors and not own.intersection(b.tensors)]
        there = [Buffer(b.name, b.size, 0, 0) for b in rest if b.first <= last and b.last >= first]
        return self.problem.sizes[entry] + self.problem.sizes[exit] + most_at_once(there)

    def _gridded(self, entry: str, exit: str, inside: frozenset[int], beside: int, peak: int) -> list[_Option]:
        assert self.limit is not None
        shape = self.graph.shapes[exit]
        sides = [shape[axis] for axis in cut_axes(shape)]
        found = []
        for strips in (True, False) if len(sides) > 1 else (True,):
            for count in GRIDS:
                grid = (count, *([1] * (len(sides) - 1))) if strips else (count,) * len(sides)
                if any(n > side for n, side in zip(grid, sides, strict=True)):
                    break
                option = self._estimated(Cut(entry, exit, grid), inside, beside)
                if option.peak_bytes < peak:
                    found.append(option)
                if option.peak_bytes <= self.limit:
                    break  # a finer grid does more work again
        return found

    def _estimated(self, cut: Cut, inside: frozenset[int], beside: int) -> _Option:
        """The peak of the largest patch, and all patches' work: axes are cut independently of each other."""
        order = sorted(inside)
        parts = self.graph.parts(cut)
        longest: dict[str, list[int]] = {}
        total: dict[str, list[int]] = {}
        steps = max(cut.grid)
        for place in range(steps):
            index = [min(place, count - 1) for count in cut.grid]
            boxes, _ = self.graph.reach(order, cut.exit, parts[int(np.ravel_multi_index(index, cut.grid))])
            for name, box in boxes.items():
                lengths = [last - first for first, last in box]
                longest[name] = [max(a, b) for a, b in zip(longest.get(name, lengths), lengths, strict=True)]
                fresh = [n if place < count else 0 for n, count in zip(lengths, cut.grid, strict=True)]
                total[name] = [a + b for a, b in zip(total.get(name, [0] * len(fresh)), fresh, strict=True)]
        sizes = {cut.entry: 0, cut.exit: 0}
        sizes |= {n: self._scaled(self.problem.sizes[n], n, longest[n]) for n in longest if n not in sizes}
        kept = [self.problem.steps[number] for number in order]
        steps_ = tuple(replace(step, scratch=min(step.scratch, sizes.get(step.outputs[0], 0))) for step in kept)
        sizes |= {name: 0 for step in kept for name in (*step.inputs, *step.outputs) if name not in sizes}
        patch = Problem(steps_, sizes, (cut.entry,), (cut.exit,))
        work = sum(
            self._scaled(
                self.macs[number], self.graph.nodes[number].output[0], total[self.graph.nodes[number].output[0]]
            )
            for number in order
            if self.macs[number] and self.graph.nodes[number].output[0] in total
        )
        whole = sum(self.macs[number] for number in order)
        return _Option(cut, inside, beside + most_at_once(buffers(patch)), work - whole)

    def _scaled(self, number: int, name: str, lengths: Sequence[int]) -> int:
        shape = self.graph.shapes[name]
        return number * prod(lengths) // max(1, prod(shape[axis] for axis in cut_axes(shape)))


def _held(problem: Problem) -> list[int]:
    """Bytes that are there while each step runs."""
    change = [0] * (len(problem.steps) + 2)
    for buffer in buffers(problem):
        change[max(0, buffer.first)] += buffer.size
        change[min(buffer.last + 1, len(change) - 1)] -= buffer.size
    return list(accumulate(change))[: len(problem.steps)]


def _without_numbers(proto: onnx.ModelProto) -> onnx.ModelProto:
    """``proto`` with its weights' names and shapes alone: what a thousand candidates are made of."""
    copy = onnx.ModelProto(ir_version=proto.ir_version, opset_import=proto.opset_import)
    graph = copy.graph
    graph.node.extend(proto.graph.node)
    graph.input.extend(proto.graph.input)
    graph.output.extend(proto.graph.output)
    graph.initializer.extend(
        onnx.TensorProto(name=tensor.name, dims=tensor.dims, data_type=tensor.data_type)
        for tensor in proto.graph.initializer
    )
    return copy
