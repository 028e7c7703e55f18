"""Operations with types: what shape comes out is known, and who may stand for whom, before anything is built.

NeuralArTS (Wu et al., P127, arXiv:2110.08710): the type of an operation is its *dimension function*, from the shapes it
takes to those it gives. Two operations are completely equal where they are the same, *type-equivalent* where their
dimension functions are the same, and equivalent *at a shape* where these agree on that one; equivalents may stand for
each other, and so may subgraphs. A program is a tree of operations in sequence and side by side.

Shapes are ``(channels, height, width)`` or ``(features,)``. Without torch: :mod:`sartor.models.typed` builds programs.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import prod
from typing import TypeAlias

from sartor.errors import InputError
from sartor.records import Option
from sartor.space.choice import Choice
from sartor.space.space import Space

Shape = tuple[int, ...]


@dataclass(frozen=True)
class Conv:
    """A two-dimensional convolution to ``out`` channels."""

    out: int
    kernel: int
    stride: int = 1
    padding: int = 0
    dilation: int = 1
    groups: int = 1


@dataclass(frozen=True)
class Pool:
    """A maximum (``kind="max"``) or mean (``"avg"``) over windows."""

    kind: str
    kernel: int
    stride: int = 1
    padding: int = 0


@dataclass(frozen=True)
class Pointwise:
    """What leaves every shape as it is: ``relu``, ``gelu``, ``identity``, ``norm``."""

    name: str


@dataclass(frozen=True)
class Linear:
    """A linear map of features."""

    out: int


@dataclass(frozen=True)
class Flatten:
    """An image's numbers as features."""


@dataclass(frozen=True)
class Chain:
    """Programs one after the other; of none, what comes in."""

    parts: tuple[Program, ...]


@dataclass(frozen=True)
class Beside:
    """Programs that hear the same, and what they give: added (``merge="add"``), or their channels one after the other
    (``"cat"``)."""

    parts: tuple[Program, ...]
    merge: str = "add"


Operation: TypeAlias = Conv | Pool | Pointwise | Linear | Flatten
Program: TypeAlias = Operation | Chain | Beside
Place = tuple[int, ...]
"""Which part of which part: ``(1, 0)`` is the first part of the second."""

POINTWISE = ("identity", "relu", "gelu", "norm")


def type_check(program: Program, shape: Shape, at: Place = ()) -> Shape:
    """The shape that ``program`` gives for ``shape``. Raises InputError with the place and the reason where it gives
    none."""
    where = f"part {'.'.join(map(str, at))}: " if at else ""
    reason = _refused(program, shape)
    if reason:
        raise InputError(f"{where}{reason}")
    if isinstance(program, Chain):
        for i, part in enumerate(program.parts):
            shape = type_check(part, shape, (*at, i))
        return shape
    if isinstance(program, Beside):
        shapes = [type_check(part, shape, (*at, i)) for i, part in enumerate(program.parts)]
        if (program.merge == "add" and len(set(shapes)) > 1) or len({s[1:] for s in shapes}) > 1:
            raise InputError(f"{where}parts give {', '.join(map(str, shapes))}, which do not {program.merge}")
        return shapes[0] if program.merge == "add" else (sum(s[0] for s in shapes), *shapes[0][1:])
    if isinstance(program, Linear):
        return (program.out,)
    if isinstance(program, Flatten):
        return (prod(shape),)
    if isinstance(program, Pointwise):
        return shape
    out = program.out if isinstance(program, Conv) else shape[0]
    return (out, *(_sized(program, side) for side in shape[1:]))


def same_type(a: Operation, b: Operation) -> bool:
    """Whether two operations have the same dimension function: they take the same shapes, and give the same for each.

    Of a convolution, ⌊(n + 2p − d(k − 1) − 1) / s⌋ + 1 for a side n: two agree on every n where their strides and
    2p − d(k − 1) do. A group asks for channels that it divides, and so is part of the type.
    """
    return _signature(a) == _signature(b)


def equivalents(
    conv: Conv, *, kernels: Sequence[int] = (1, 3, 5, 7), dilations: Sequence[int] = (1, 2, 3)
) -> tuple[Conv, ...]:
    """The convolutions of other kernels and dilations that have the type of ``conv``, itself first: the paper's
    generation, by which a search space grows with what fits where ``conv`` does."""
    slack = 2 * conv.padding - conv.dilation * (conv.kernel - 1)
    found = [conv]
    for kernel in kernels:
        for dilation in dilations if kernel > 1 else (1,):
            padding, odd = divmod(slack + dilation * (kernel - 1), 2)
            if padding >= 0 and not odd:
                found.append(Conv(conv.out, kernel, conv.stride, padding, dilation, conv.groups))
    return tuple(dict.fromkeys(found))


def places(program: Program, at: Place = ()) -> Iterator[tuple[Place, Program]]:
    """The program and all of its parts, with their places."""
    yield at, program
    if isinstance(program, (Chain, Beside)):
        for i, part in enumerate(program.parts):
            yield from places(part, (*at, i))


def shape_at(program: Program, shape: Shape, place: Place) -> Shape:
    """The shape that the part at ``place`` hears, where ``program`` hears ``shape``."""
    if not place:
        return shape
    if not isinstance(program, (Chain, Beside)) or not 0 <= place[0] < len(program.parts):
        raise InputError(f"there is no part {place}: choose one of places(program)")
    before = program.parts[: place[0]] if isinstance(program, Chain) else ()
    return shape_at(program.parts[place[0]], type_check(Chain(before), shape), place[1:])


def substitute(program: Program, shape: Shape, place: Place, new: Program) -> Program:
    """``program`` with ``new`` at ``place``. Raises InputError where ``new`` does not give there what was given before:
    the program that comes out has the type of ``program``."""
    here = shape_at(program, shape, place)
    old = dict(places(program))[place]
    was, now = type_check(old, here, place), type_check(new, here, place)
    if was != now:
        raise InputError(f"part {'.'.join(map(str, place))}: gives {now} for {here}, and {was} is needed")
    return _replaced(program, place, new)


def substitutions(program: Program, shape: Shape, candidates: Sequence[Program] = ()) -> Space:
    """The space of ``program`` with each operation, or one of its equivalents, or one of ``candidates`` that gives the
    same for what is heard there: ``place`` → the number of the :func:`alternatives`. Every arch has the program's type.
    Raises InputError where the program itself does not type-check."""
    type_check(program, shape)
    choices = []
    for place, part in places(program):
        if not isinstance(part, (Chain, Beside)):
            count = len(alternatives(program, shape, place, candidates))
            choices.append(Choice(".".join(map(str, place)) or "whole", tuple(range(count))))
    return Space(tuple(choices))


def alternatives(
    program: Program, shape: Shape, place: Place, candidates: Sequence[Program] = ()
) -> tuple[Program, ...]:
    """What may stand at ``place``, fewest weights first: what does, equivalents, ``candidates`` that give the same."""
    old, here = dict(places(program))[place], shape_at(program, shape, place)
    more = equivalents(old) if isinstance(old, Conv) else ()
    wanted = type_check(old, here)
    found = dict.fromkeys((old, *(new for new in (*more, *candidates) if _gives(new, here) == wanted)))
    return tuple(sorted(found, key=lambda program: weights(program, here)))


def weights(program: Program, shape: Shape) -> int:
    """How many weights and biases ``program`` has for inputs of ``shape``."""
    if isinstance(program, (Chain, Beside)):
        return sum(weights(part, shape_at(program, shape, (i,))) for i, part in enumerate(program.parts))
    if isinstance(program, Conv):
        return program.out * (shape[0] // program.groups * program.kernel**2 + 1)
    if isinstance(program, Linear):
        return program.out * (shape[0] + 1)
    return 2 * shape[0] if program == Pointwise("norm") else 0


def substituted(
    program: Program, shape: Shape, arch: Mapping[str, Option], candidates: Sequence[Program] = ()
) -> Program:
    """The program of an arch of :func:`substitutions`. Every substitution is checked again. Raises InputError where the
    arch lacks a place."""
    arch = substitutions(program, shape, candidates).canonical(arch)
    found = program
    for name, number in arch.items():
        place = () if name == "whole" else tuple(map(int, name.split(".")))
        found = substitute(found, shape, place, alternatives(program, shape, place, candidates)[int(number)])
    return found


def _gives(program: Program, shape: Shape) -> Shape | None:
    try:
        return type_check(program, shape)
    except InputError:
        return None


def _sized(op: Conv | Pool, side: int) -> int:
    dilation = op.dilation if isinstance(op, Conv) else 1
    return (side + 2 * op.padding - dilation * (op.kernel - 1) - 1) // op.stride + 1


def _signature(op: Operation) -> tuple[object, ...]:
    if isinstance(op, Conv):
        return ("image", op.out, op.stride, 2 * op.padding - op.dilation * (op.kernel - 1), op.groups)
    if isinstance(op, Pool):
        return ("image", "same", op.stride, 2 * op.padding - (op.kernel - 1), 1)
    return ("any",) if isinstance(op, Pointwise) else (type(op).__name__, getattr(op, "out", None))


def _refused(program: Program, shape: Shape) -> str:
    """Why an operation does not take a shape; empty where it does."""
    if not shape or min(shape) < 1:
        return f"{shape} is no shape"
    if isinstance(program, Beside):
        if not program.parts or program.merge not in ("add", "cat"):
            return f"{len(program.parts)} parts are not merged by {program.merge!r}: give parts, and add or cat"
    elif isinstance(program, Pointwise):
        if program.name not in POINTWISE:
            return f"{program.name!r} is none of {', '.join(POINTWISE)}"
    elif isinstance(program, Linear):
        if len(shape) != 1 or program.out < 1:
            return f"{program} takes features, not {shape}"
    elif isinstance(program, (Conv, Pool)):
        if len(shape) != 3:
            return f"{program} takes an image (channels, height, width), not {shape}"
        if min(program.kernel, program.stride) < 1 or program.padding < 0:
            return f"{program} has no such kernel, stride or padding"
        if isinstance(program, Conv):
            if min(program.out, program.dilation, program.groups) < 1:
                return f"{program} needs at least one output channel, dilation and group"
            if shape[0] % program.groups or program.out % program.groups:
                return f"{program}: {program.groups} groups do not divide {shape[0]} and {program.out} channels"
        elif program.kind not in ("max", "avg") or 2 * program.padding > program.kernel:
            return f"{program} is no pooling: max or avg, padded by half of the kernel at most"
        if any(_sized(program, side) < 1 for side in shape[1:]):
            return f"{program} is wider than an image of {shape[1:]}"
    return ""


def _replaced(program: Program, place: Place, new: Program) -> Program:
    if not place:
        return new
    assert isinstance(program, (Chain, Beside))
    parts = list(program.parts)
    parts[place[0]] = _replaced(parts[place[0]], place[1:], new)
    return Chain(tuple(parts)) if isinstance(program, Chain) else Beside(tuple(parts), program.merge)
