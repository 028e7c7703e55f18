"""Any constructor argument can be a choice: calls that are not made yet, and choices anywhere inside them.

PyGlove (Peng et al., arXiv:2101.08809 §3): a program is a tree of symbols, some of which are *hyper values*; the tree
is a space, and an arch makes the program. Nothing here knows of networks: any callable will do.

    net = symbolic(nn.Conv2d, 3, 16, oneof([3, 5]))     # was: nn.Conv2d(3, 16, 3)
    space = space_of(net)                               # one choice, "2"
    materialise(net, space.sample(rng))                 # the convolution

The names of choices are their places: positions and keywords of arguments, keys and indices, joined by points; what is
inside the i-th candidate of a choice has its place and ``/i`` before. Deviations from PyGlove: classes are not wrapped,
a call is written ``symbolic(function, ...)``, and what is no call, such as a module made already, is the same object
for every arch; floats have a finite number of values, for a space is finite.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations, combinations_with_replacement, permutations
from math import comb, perm
from typing import Any

from sartor.errors import InputError
from sartor.records import Arch, Option
from sartor.space.choice import Choice
from sartor.space.space import Space

MOST_OPTIONS = 10_000
"""Options that one choice of several candidates may have: each subset is an option."""

When = tuple[str, tuple[Option, ...]] | None


@dataclass(frozen=True)
class Call:
    """``function(*args, **kwargs)``, to be called when the choices inside it are made."""

    function: Callable[..., Any]
    args: tuple[Any, ...] = ()
    kwargs: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class OneOf:
    """One of ``candidates``; everywhere under the same ``name`` the same one."""

    candidates: tuple[Any, ...]
    name: str | None = None

    @property
    def options(self) -> tuple[Option, ...]:
        """The candidates where they are different texts, numbers or booleans, else their numbers."""
        plain = all(isinstance(c, (str, int, float, bool)) for c in self.candidates)
        if plain and len(set(self.candidates)) == len(self.candidates):
            return self.candidates
        return tuple(range(len(self.candidates)))


@dataclass(frozen=True)
class ManyOf:
    """A list of ``k`` of the candidates: all different where ``distinct``, in their order where ``ordered``."""

    k: int
    candidates: tuple[Any, ...]
    distinct: bool = True
    ordered: bool = False

    def picks(self) -> list[tuple[int, ...]]:
        """Every list, as numbers of candidates."""
        n = len(self.candidates)
        if not self.distinct:
            count = comb(n + self.k - 1, self.k)
        else:
            count = comb(n, self.k) if self.ordered else perm(n, self.k)
        if count > MOST_OPTIONS:
            raise InputError(
                f"manyof({self.k}) of {n} has {count:,} options, over {MOST_OPTIONS:,}: choose among fewer"
            )
        if not self.distinct:
            return list(combinations_with_replacement(range(n), self.k))
        return list((combinations if self.ordered else permutations)(range(n), self.k))


@dataclass(frozen=True)
class Repeated:
    """A list of one of ``times`` copies of ``item``, each with choices of its own."""

    item: Any
    times: tuple[int, ...]


def symbolic(function: Callable[..., Any], *args: Any, **kwargs: Any) -> Call:
    """A call of ``function`` whose arguments may hold choices, at any depth."""
    if not callable(function):
        raise InputError(f"symbolic takes what can be called, not {function!r}")
    return Call(function, args, kwargs)


def oneof(candidates: Sequence[Any], *, name: str | None = None) -> OneOf:
    """A choice of one of the candidates, which may hold choices themselves. Those of one ``name`` are one choice:
    ``oneof([8, 16], name="width")`` as what one layer gives and the next takes."""
    if isinstance(candidates, str) or not candidates:
        raise InputError(f"oneof takes a list of candidates, not {candidates!r}")
    return OneOf(tuple(candidates), name)


def manyof(k: int, candidates: Sequence[Any], *, distinct: bool = True, ordered: bool = False) -> ManyOf | list[OneOf]:
    """A list of ``k`` of the candidates. Where they may repeat in any order these are ``k`` choices, else one."""
    if isinstance(candidates, str) or not candidates:
        raise InputError(f"manyof takes a list of candidates, not {candidates!r}")
    if not 1 <= k <= (len(candidates) if distinct else k):
        raise InputError(f"cannot choose {k} of {len(candidates)} candidates: choose fewer, or distinct=False")
    if not distinct and not ordered:
        return [oneof(candidates) for _ in range(k)]
    return ManyOf(k, tuple(candidates), distinct, ordered)


def stepped(low: float, high: float, n: int, *, log: bool = False, name: str | None = None) -> OneOf:
    """A choice among ``n`` floats from ``low`` to ``high``, at equal steps or, with ``log``, equal ratios."""
    if n < 2 or not low < high or (log and low <= 0):
        raise InputError(f"stepped needs low < high, two steps at least and with log low > 0, not {low}, {high}, {n}")
    at = [i / (n - 1) for i in range(n)]
    return oneof([low * (high / low) ** t if log else low + (high - low) * t for t in at], name=name)


def repeated(item: Any, times: Sequence[int]) -> Repeated:
    """A list of as many copies of ``item`` as one of ``times`` says, with choices of their own."""
    if not times or min(times) < 0 or len(set(times)) != len(times):
        raise InputError(f"repeated takes different numbers of times, not {times}")
    return Repeated(item, tuple(times))


def space_of(value: Any) -> Space:
    """The space of all choices in ``value``, in the order in which they are read: a candidate's after its choice.

    Raises InputError where choices of one name differ, or the first is not there where another one is.
    """
    choices: dict[str, Choice] = {}

    def add(choice: Choice) -> None:
        held = choices.setdefault(choice.name, choice)
        if held.options != choice.options:
            raise InputError(f"two choices are named {choice.name!r}, and have other options: name them apart")
        if not _follows(choice.when, held.when, choices):
            raise InputError(f"choice {choice.name!r} is used where its first place may not be there: use it before")

    def read(value: Any, place: str, when: When) -> None:
        if isinstance(value, OneOf):
            name = value.name or place or "value"
            add(Choice(name, value.options, when))
            for i, (candidate, option) in enumerate(zip(value.candidates, value.options, strict=True)):
                read(candidate, f"{name}/{i}", (name, (option,)))
        elif isinstance(value, ManyOf):
            name, picks = place or "value", value.picks()
            add(Choice(name, tuple(_text(pick) for pick in picks), when))
            for slot in range(value.k):
                for i, candidate in enumerate(value.candidates):
                    if held := tuple(_text(pick) for pick in picks if pick[slot] == i):
                        read(candidate, f"{name}/{slot}/{i}", (name, held))
        elif isinstance(value, Repeated):
            name = place or "value"
            add(Choice(name, value.times, when))
            for copy in range(max(value.times)):
                read(value.item, f"{name}/{copy}", (name, tuple(t for t in value.times if t > copy)))
        else:
            for key, inside in _inside(value):
                read(inside, f"{place}.{key}" if place else key, when)

    read(value, "", None)
    return Space(tuple(choices.values()))


Decide = Callable[[str, OneOf, Sequence[Callable[[], Any]]], Any]
"""``(name, choice, candidates made when called) -> value``."""


def materialise(value: Any, arch: Mapping[str, Option], *, decide: Decide | None = None) -> Any:
    """What ``value`` is when its choices are those of ``arch``: calls are made, inside first. ``value`` stays as it is.

    ``decide`` may make something else of a ``oneof`` than one of its candidates, such as a mixture of them all. Raises
    InputError where ``arch`` lacks a choice or has no such option.
    """

    def held(name: str, options: tuple[Option, ...]) -> int:
        for i, option in enumerate(options):
            if arch.get(name) == option and type(arch[name]) is type(option):
                return i
        raise InputError(f"{name} must be one of {options}, not {arch.get(name, 'absent')!r}")

    def make(value: Any, place: str) -> Any:
        if isinstance(value, OneOf):
            name = value.name or place or "value"
            each = [lambda c=c, i=i: make(c, f"{name}/{i}") for i, c in enumerate(value.candidates)]
            return decide(name, value, each) if decide is not None else each[held(name, value.options)]()
        if isinstance(value, ManyOf):
            name, picks = place or "value", value.picks()
            pick = picks[held(name, tuple(_text(p) for p in picks))]
            return [make(value.candidates[i], f"{name}/{slot}/{i}") for slot, i in enumerate(pick)]
        if isinstance(value, Repeated):
            name = place or "value"
            times = value.times[held(name, value.times)]
            return [make(value.item, f"{name}/{copy}") for copy in range(times)]
        made = {key: make(inside, f"{place}.{key}" if place else key) for key, inside in _inside(value)}
        return _remade(value, made)

    return make(value, "")


def _inside(value: Any) -> Iterator[tuple[str, Any]]:
    """What a value holds, by name."""
    if isinstance(value, Call):
        yield from ((str(i), argument) for i, argument in enumerate(value.args))
        yield from value.kwargs.items()
    elif isinstance(value, Mapping) and not isinstance(value, Arch):
        yield from ((str(key), item) for key, item in value.items())
    elif isinstance(value, (list, tuple)):
        yield from ((str(i), item) for i, item in enumerate(value))
    elif dataclasses.is_dataclass(value) and not isinstance(value, type):
        yield from ((f.name, getattr(value, f.name)) for f in dataclasses.fields(value) if f.init)


def _remade(value: Any, made: Mapping[str, Any]) -> Any:
    """A value of the same kind that holds what was made of its parts; itself where nothing was."""
    if isinstance(value, Call):
        args = [made[str(i)] for i in range(len(value.args))]
        return value.function(*args, **{key: made[key] for key in value.kwargs})
    if all(made[key] is inside for key, inside in _inside(value)):
        return value
    if isinstance(value, Mapping):
        return {key: made[str(key)] for key in value}
    if isinstance(value, (list, tuple)):
        items = [made[str(i)] for i in range(len(value))]
        return type(value)(*items) if hasattr(value, "_fields") else type(value)(items)
    return dataclasses.replace(value, **made)


def _text(pick: tuple[int, ...]) -> str:
    return ",".join(map(str, pick))


def _follows(when: When, held: When, choices: Mapping[str, Choice]) -> bool:
    """Whether what is there under ``when`` is there only where ``held`` holds."""
    while when is not None and held is not None:
        if when[0] == held[0] and set(when[1]) <= set(held[1]):
            return True
        when = choices[when[0]].when
    return held is None
