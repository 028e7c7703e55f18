"""A graph as a memory planner sees it: steps that read and write tensors of known sizes, and buffers that hold them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import accumulate

from sartor.errors import InputError


@dataclass(frozen=True)
class Step:
    """One node: the activations it reads and writes, those it may overwrite, and whether it is only a view.

    ``scratch``: bytes that it needs while it runs where it does overwrite, because it does so part by part.
    """

    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    overwrites: tuple[str, ...] = ()
    view: bool = False
    scratch: int = 0


@dataclass(frozen=True)
class Problem:
    """Steps in an order that works; ``sizes``: bytes of each tensor; ``inputs`` are there before the first step, and
    ``outputs`` live to the end. ``parts``: tensors that are written where they stand in a larger one, whose buffer is
    taken with the first of them."""

    steps: tuple[Step, ...]
    sizes: Mapping[str, int]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    parts: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        known = set(self.inputs)
        for step in self.steps:
            missing = [name for name in step.inputs if name not in known]
            if missing:
                raise InputError(f"tensor {missing[0]!r} is read before any step writes it: put the steps in order")
            again = [name for name in step.outputs if name in known]
            if again:
                raise InputError(f"tensor {again[0]!r} is written twice: give every tensor one writer")
            known.update(step.outputs)
        unsized = [name for name in known if self.sizes.get(name, -1) < 0]
        if unsized:
            raise InputError(f"tensor {unsized[0]!r} has no size: give its bytes, 0 or more")

    def whole(self, name: str) -> str:
        """The tensor in whose buffer ``name`` is written: the largest it is part of, or itself."""
        while name in self.parts:
            name = self.parts[name]
        return name


@dataclass
class Buffer:
    """Memory of ``size`` bytes that is taken from step ``first`` to step ``last``, both included, for ``tensors`` one
    after the other (what overwrites) or at once (views). Inputs are there from step -1, outputs to one past the end."""

    name: str
    size: int
    first: int
    last: int
    tensors: list[str] = field(default_factory=list)


def buffers(problem: Problem, order: Sequence[int] | None = None) -> list[Buffer]:
    """The buffers of running the steps in ``order`` (the problem's own, where none is given).

    An output takes the buffer of an input it may overwrite when that dies with this very step and is just as large.
    """
    steps = problem.steps if order is None else [problem.steps[number] for number in order]
    end = len(steps)
    last = {name: number for number, step in enumerate(steps) for name in step.inputs}
    last |= dict.fromkeys(problem.outputs, end)
    held: dict[str, Buffer] = {}
    made: list[Buffer] = []

    def new(name: str, first: int) -> Buffer:
        made.append(Buffer(name, problem.sizes[name], first, first))
        return made[-1]

    for name in problem.inputs:
        held[name] = new(name, -1)
        _hold(held[name], name, last.get(name, -1))
    for number, step in enumerate(steps):
        taken: list[Buffer] = []
        for output in step.outputs:
            whole = problem.whole(output)
            if step.view and step.inputs:
                place = held[step.inputs[0]]
            elif whole != output:
                place = held.get(whole) or new(whole, number)
                held[whole] = place
            else:
                dying = (held[name] for name in step.overwrites)
                fits = (b for b in dying if b.last == number and b.size == problem.sizes[output] and b not in taken)
                over = next(fits, None)
                place = over or new(output, number)
                if over and step.scratch:
                    made.append(Buffer(scratch_of(output), step.scratch, number, number, [scratch_of(output)]))
            taken.append(place)
            held[output] = place
            _hold(place, output, last.get(output, number))
    return made


def scratch_of(output: str) -> str:
    """The name of the buffer through which ``output`` is written over its input."""
    return f"{output}/scratch"


def _hold(buffer: Buffer, tensor: str, last: int) -> None:
    buffer.tensors.append(tensor)
    buffer.last = max(buffer.last, last)


def peak(problem: Problem, order: Sequence[int] | None = None) -> int:
    """The most bytes of buffers that are there at once."""
    return most_at_once(buffers(problem, order))


def most_at_once(made: Sequence[Buffer]) -> int:
    """Bytes of the buffers that are there at the fullest step."""
    change: dict[int, int] = defaultdict(int)
    for buffer in made:
        change[buffer.first] += buffer.size
        change[buffer.last + 1] -= buffer.size
    return max(accumulate(change[step] for step in sorted(change)), default=0)
