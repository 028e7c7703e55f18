"""A graph as a memory planner sees it: steps that read and write tensors of known sizes, and buffers that hold them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import accumulate

from sartor.errors import InputError


@dataclass(frozen=True)
class Step:
    """One node: the activations it reads and writes, those it may overwrite, and whether it is only a view."""

    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    overwrites: tuple[str, ...] = ()
    view: bool = False


@dataclass(frozen=True)
class Problem:
    """Steps in an order that works; ``sizes``: bytes of each tensor; ``inputs`` are there before the first step, and
    ``outputs`` live to the end."""

    steps: tuple[Step, ...]
    sizes: Mapping[str, int]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]

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
            if step.view and step.inputs:
                place = held[step.inputs[0]]
            else:
                dying = (held[name] for name in step.overwrites)
                fits = (b for b in dying if b.last == number and b.size == problem.sizes[output] and b not in taken)
                place = next(fits, None) or new(output, number)
            taken.append(place)
            held[output] = place
            _hold(place, output, last.get(output, number))
    return made


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
