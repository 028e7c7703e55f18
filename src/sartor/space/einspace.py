"""einspace: networks from fundamental operations, by a probabilistic grammar whose types are shapes of tensors.

Ericsson et al., arXiv:2405.20838 §3: a module is two in sequence, a branching with what is in its branches and an
aggregation, a routing there and back around a module, or a computation. Numbers and names of operations follow the
authors' code (github.com/linusericsson/einspace). A tensor is an image ``(c, h, h)`` or columns ``(s, d)``: ``s``
positions of ``d`` features. Without torch: :mod:`sartor.models.einspace` builds the networks.

Deviations. Images are square, so routings that permute an image and groups of rows are left out; a linear map is one of
columns, where it is a convolution between an unfolding and its folding. Every size of a tensor is one of ``sizes``
below. The aggregation is drawn before what is in the branches, because the second branch must fit the first: the
authors draw it last and backtrack. The height counts places of the derivation, operations too; the authors' depth
counts modules.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache

from sartor.errors import InputError
from sartor.space.chart import Done, Made, Part, Result, Results, Rule, Sort
from sartor.space.derivation import Derivations

Shape = tuple[int, ...]
"""``(c, h, h)`` or ``(s, d)``, without the batch."""

COMPUTATION = 0.32
"""Probability of a computation module: with less than a third of the others each, trees stay finite. The authors'."""
UNFOLDINGS = {"unfold1": (1, 1, 0), "unfold1s2": (1, 2, 0), "unfold3": (3, 1, 1), "unfold3s2": (3, 2, 1)} | {
    f"unfold{k}s{k}": (k, k, 0) for k in (4, 8, 16)
}
"""Routings from an image to columns: kernel, stride and padding."""
PLAIN = ("identity", "leaky_relu", "norm", "softmax", "position")
"""Computations that leave the shape as it is: of columns as of images."""


@dataclass(frozen=True)
class _Setting:
    widths: tuple[int, ...]
    branches: tuple[int, ...]
    computation: float
    positions: frozenset[int]
    features: frozenset[int]
    channels: frozenset[int]

    def fits(self, shape: Shape) -> bool:
        """Whether it is a type: a finite set of them, or concatenations would lead to ever new ones."""
        if len(shape) == 3:
            return shape[0] in self.channels and shape[1] == shape[2] and shape[1] ** 2 in self.positions
        s, d = shape
        return (
            (s in self.positions and (d == s or d in self.features))
            or (d in self.positions and s in self.features)
            or (s in self.widths and d in self.widths)
        )


def einspace(
    shape: Shape = (3, 16, 16),
    *,
    height: int = 12,
    widths: Sequence[int] = (16, 32, 64),
    branches: Sequence[int] = (2, 4, 8),
    computation: float = COMPUTATION,
) -> Derivations:
    """The networks on images of ``shape``. Linear maps lead to ``widths`` features, branchings have ``branches``.

    Raises InputError for a shape that is no square image, and a probability that is none.
    """
    if len(shape) != 3 or shape[1] != shape[2] or min(shape) < 1:
        raise InputError(f"einspace takes square images (channels, side, side), not {shape}")
    if not 0 < computation < 1:
        raise InputError(f"computation={computation} is the probability of a module: give one between 0 and 1")
    if not widths or min(widths) < 1 or not branches or min(branches) < 2:
        raise InputError(f"einspace needs widths from 1 and branches from 2 on, not {widths} and {branches}")
    sides = [shape[1] // n for n in (1, 2, 4) if shape[1] % n == 0]
    patches = [columns[1] for side, columns in (unfolded(shape, name) for name in UNFOLDINGS) if side in sides]
    setting = _Setting(
        tuple(widths),
        tuple(branches),
        computation,
        positions=frozenset(side * side for side in sides),
        features=frozenset((*widths, *(9 * width for width in widths), *patches)),
        channels=frozenset((shape[0], *widths)),
    )

    def rules(sort: Sort) -> tuple[Rule, ...]:
        kind, *known = sort
        return _RULES[kind](setting, *known)

    return Derivations((), ("network", shape), rules, height)


def unfolded(shape: Shape, name: str) -> tuple[int, Shape]:
    """The side of the grid of patches that an unfolding takes from an image, 0 where there is none, and its columns:
    one a patch, of its pixels."""
    kernel, stride, padding = UNFOLDINGS[name]
    side = (shape[1] + 2 * padding - kernel) // stride + 1 if shape[1] + 2 * padding >= kernel else 0
    return side, (side * side, shape[0] * kernel * kernel)


@lru_cache(maxsize=4096)
def merged(name: str, parts: tuple[Shape, ...]) -> Shape | None:
    """The shape of an aggregation; None where these parts have none."""
    first, rest = parts[0], parts[1:]
    if any(len(part) != len(first) for part in rest):
        return None
    if name == "add":
        return first if all(part == first for part in rest) else None
    if name.startswith("cat."):
        axis = int(name[4:])
        cut = lambda part: part[:axis] + part[axis + 1 :]
        if any(cut(part) != cut(first) for part in rest):
            return None
        return (*first[:axis], sum(part[axis] for part in parts), *first[axis + 1 :])
    (second,) = rest  # a product of matrices
    if first[:-2] != second[:-2] or first[-1] != second[-2]:
        return None
    return (*first[:-1], second[-1])


def _leaf(option: str, result: Result) -> Rule:
    return Rule(option, lambda made: Done(result))


def _network(setting: _Setting, shape: Shape) -> tuple[Rule, ...]:
    """A module that is no computation: the authors begin with one."""
    others = (1 - setting.computation) / 3
    return (
        Rule("route", _route(shape), others),
        Rule("branch", _branch(setting, shape), others),
        Rule("sequence", _sequence(shape), others),
    )


def _module(setting: _Setting, shape: Shape) -> tuple[Rule, ...]:
    compute = lambda made: Done(made[0]) if made else Part("op", ("op", shape))
    return (Rule("compute", compute, setting.computation), *_network(setting, shape))


def _sequence(shape: Shape) -> Callable[[Made], Part | Done | None]:
    def after(made: Made) -> Part | Done | None:
        if len(made) == 2:
            return Done(made[1])
        return Part("second", ("module", made[0])) if made else Part("first", ("module", shape))

    return after


def _route(shape: Shape) -> Callable[[Made], Part | Done | None]:
    def after(made: Made) -> Part | Done | None:
        if not made:
            return Part("before", ("before", shape))
        (columns, side) = made[0]
        if len(made) == 1:
            return Part("inner", ("module", columns))
        return Part("after", ("after", made[1], side)) if len(made) == 2 else Done(made[2])

    return after


def _branch(setting: _Setting, shape: Shape) -> Callable[[Made], Part | Done | None]:
    """Two branches have modules of their own; more of them have one and the same, with weights of their own."""

    def after(made: Made) -> Part | Done | None:
        if not made:
            return Part("split", ("split", shape))
        (n, part) = made[0]
        if len(made) == 1:
            return Part("merge", ("merge", n, len(part)))
        if len(made) == 2:
            return Part("left" if n == 2 else "each", ("module", part))
        merge, first = str(made[1]), made[2]
        if n == 2 and len(made) == 3:
            return Part("right", ("module", part), _partners(setting, merge, first))
        found = merged(merge, made[2:] if n == 2 else (first,) * n)
        return Done(found) if found is not None and setting.fits(found) else None

    return after


@lru_cache(maxsize=4096)
def _partners(setting: _Setting, merge: str, first: Shape) -> Results:
    """What may stand on the right of ``first``."""
    if merge == "add":
        return frozenset((first,))
    axis = int(merge[4:]) if merge.startswith("cat.") else -1
    like = first if axis >= 0 else (*first[:-2], first[-1], 0)
    sizes = setting.positions | setting.features | setting.channels
    found = ((*like[:axis], size, *like[axis + 1 or len(like) :]) for size in sizes)
    return frozenset(s for s in found if (m := merged(merge, (first, s))) is not None and setting.fits(m))


def _op(setting: _Setting, shape: Shape) -> tuple[Rule, ...]:
    linear = [(f"linear{w}", (shape[0], w)) for w in setting.widths] if len(shape) == 2 else []
    return tuple(_leaf(*named) for named in [*((name, shape) for name in PLAIN), *linear])


def _before(setting: _Setting, shape: Shape) -> tuple[Rule, ...]:
    """Results are shapes with the side of the grid that a fold restores, or 0."""
    if len(shape) == 2:
        return (_leaf("identity", (shape, 0)), _leaf("transpose", (shape[::-1], 0)))
    grids = ((name, *unfolded(shape, name)) for name in UNFOLDINGS)
    some = [_leaf(name, (columns, side)) for name, side, columns in grids if side and setting.fits(columns)]
    return (_leaf("identity", (shape, 0)), *some)


def _after(setting: _Setting, shape: Shape, side: int) -> tuple[Rule, ...]:
    if len(shape) == 3:
        return (_leaf("identity", shape),)
    folded = (shape[1], side, side)
    fold = [_leaf("fold", folded)] if shape[0] == side * side and setting.fits(folded) else []
    return (_leaf("identity", shape), _leaf("transpose", shape[::-1]), *fold)


def _split(setting: _Setting, shape: Shape) -> tuple[Rule, ...]:
    """Copies, and equal groups of channels, positions or features. Results are how many, and the shape of each."""
    axes = (0,) if len(shape) == 3 else (0, 1)
    groups = [
        (f"group{n}.{axis}", (n, (*shape[:axis], shape[axis] // n, *shape[axis + 1 :])))
        for axis in axes
        for n in setting.branches
        if shape[axis] % n == 0
    ]
    kept = [_leaf(name, found) for name, found in groups if setting.fits(found[1])]
    return (*(_leaf(f"clone{n}", (n, shape)) for n in setting.branches), *kept)


def _merge(setting: _Setting, n: int, rank: int) -> tuple[Rule, ...]:
    names = ["add", "cat.0", *(["cat.1"] if rank == 2 else []), *(["dot", "scaled_dot"] if n == 2 else [])]
    return tuple(_leaf(name, name) for name in names)


_RULES: dict[str, Callable[..., tuple[Rule, ...]]] = {
    "network": _network,
    "module": _module,
    "op": _op,
    "before": _before,
    "after": _after,
    "split": _split,
    "merge": _merge,
}
