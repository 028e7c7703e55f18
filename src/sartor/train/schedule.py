"""Arch schedules: which archs a training step visits, as plain functions.

A schedule is called once a step with the space, a seeded generator and the progress in [0, 1], and returns the
*turns* of that step. The trainer runs them in order and adds up their gradients. A turn that distils learns from the
soft outputs of the step's largest arch, which comes first (in-place distillation); others learn from the labels.
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from sartor.records import Arch
from sartor.space import Space


@dataclass(frozen=True)
class Turn:
    """One forward and backward pass of ``arch``.

    ``rows`` is the part of the batch it sees, as fractions: [(0.0, 0.5)] is the first half. ``scale`` multiplies its
    gradient.
    """

    arch: Arch
    distil: bool = False
    scale: float = 1.0
    rows: tuple[float, float] = (0.0, 1.0)


Schedule = Callable[[Space, random.Random, float], list[Turn]]
Score = Callable[[Arch], float]


def largest_only(space: Space, rng: random.Random, progress: float) -> list[Turn]:
    """Ordinary training of the largest arch."""
    return [Turn(space.largest())]


def uniform_single_path(space: Space, rng: random.Random, progress: float) -> list[Turn]:
    """One arch a step, drawn uniformly, trained on the labels. SPOS (P243, arXiv:1904.00420 §3.2)."""
    return [Turn(space.sample(rng))]


def sandwich(space: Space, rng: random.Random, progress: float, *, middle: int = 1) -> list[Turn]:
    """The largest arch on the labels; the smallest and ``middle`` random ones distilled from it in place.

    BigNAS (P030, arXiv:2003.11142 §3.2). Deviation: 1 random arch a step by default where BigNAS takes 2, which buys
    more steps in short runs.
    """
    draws = [space.sample(rng) for _ in range(middle)]
    return [Turn(space.largest()), *(Turn(a, distil=True) for a in (space.smallest(), *draws))]


_FULL_UNTIL = 0.3
_SHRINKING = ((("kernel",), 0.2), (("depth",), 0.2), (("width", "expand", "op", "se", "heads"), 0.3))
"""Once-for-all's stages: what is opened, and its share of the time after ``_FULL_UNTIL``."""


def progressive_shrinking(space: Space, rng: random.Random, progress: float, *, middle: int = 1) -> list[Turn]:
    """Elastic resolution from the start; then kernels, depths and widths are opened one after the other.

    Once-for-all (P058, arXiv:1908.09791 §3.3): the full network first, then ever smaller ones, distilled from it, with
    what was opened staying open. Where a space has all of them, they are opened at 30, 50 and 70 % of training (OFA
    trains the full network first for 30 %); what a space has no choice of takes no time, and the others share it.
    Within a stage the archs are drawn uniformly.
    Deviations: the teacher is the current largest arch, not a frozen copy of it, which costs no second network; the
    subnets learn from it alone, where OFA adds the labels; and narrower layers are the first channels, not the most
    important ones by their L1 norm, so that extraction stays a slice; and one descent of the learning rate for all
    stages, where OFA begins a new one with each, so that what is opened late learns little in a short training.
    """
    elastic = {c.name.rsplit(".", 1)[-1] for c in space.choices if len(c.options) > 1}
    shares = {kinds: share for kinds, share in _SHRINKING if elastic & set(kinds)}
    free, start = {"resolution"}, _FULL_UNTIL
    for kinds, share in shares.items():
        if progress >= start:
            free |= set(kinds)
        start += (1 - _FULL_UNTIL) * share / sum(shares.values())
    largest = space.largest()
    closed = {c.name: (c.options[-1],) for c in space.choices if c.name.rsplit(".", 1)[-1] not in free}
    stage = space.restrict(closed)
    return [Turn(largest), *(Turn(stage.sample(rng), distil=True) for _ in range(middle))]


def multi_arch(space: Space, rng: random.Random, progress: float, *, archs: int = 4) -> list[Turn]:
    """``archs`` random archs share one step, each on its own part of the batch, trained on the labels.

    ViT-ResNAS's multi-architectural sampling (P067, arXiv:2109.00642 §3.3): the step's gradient is the sum of the
    parts', each weighted by its share of the batch.
    """
    edges = [i / archs for i in range(archs + 1)]
    return [Turn(space.sample(rng), scale=1 / archs, rows=rows) for rows in itertools.pairwise(edges)]


def attentive(
    space: Space,
    rng: random.Random,
    progress: float,
    *,
    score: Score,
    cost: Score,
    best: bool = True,
    candidates: int = 8,
    middle: int = 1,
) -> list[Turn]:
    """Sandwich training whose middle archs are picked, not drawn blindly: BestUp or WorstUp.

    AttentiveNAS (P199, arXiv:2011.09011 §3.3): draw a target cost (here: that of a random arch), draw ``candidates``
    archs nearest to it, and train the one with the best (or worst) ``score``, a cheap estimate of accuracy, higher
    being better. ``cost`` is any cost model, such as predicted latency.
    """
    picked = []
    for _ in range(middle):
        target = cost(space.sample(rng))
        draws = sorted((space.sample(rng) for _ in range(4 * candidates)), key=lambda a: abs(cost(a) - target))
        picked.append((max if best else min)(draws[:candidates], key=score))
    return [Turn(space.largest()), *(Turn(a, distil=True) for a in (space.smallest(), *picked))]


def delayed_shrinking(
    space: Space, rng: random.Random, progress: float, *, start: float = 0.5, ramp: float = 0.2, middle: int = 1
) -> list[Turn]:
    """The largest arch alone until ``start`` of training; from then on the sandwich, with the subnets' gradients
    rising from a tenth to their full size over ``ramp`` of training.

    DεpS (P450, arXiv:2407.06167 §4.2-4.3): shrinking a network that is half trained costs less and distils from a
    better teacher. Deviation: the paper raises the subnets' learning rates; we scale their gradients, which adds no
    optimisers. For plain SGD that is the same while the gradient is not clipped; Muon, whose steps have one length,
    turns towards the subnets instead.
    """
    if progress < start:
        return largest_only(space, rng, progress)
    scale = min(1.0, 0.1 + 0.9 * (progress - start) / ramp) if ramp > 0 else 1.0
    first, *rest = sandwich(space, rng, progress, middle=middle)
    return [first, *(Turn(t.arch, distil=True, scale=scale) for t in rest)]


def alike(space: Space, rng: random.Random) -> Arch:
    """A random arch of one share: its options are all about as far up in their lists, one place more or less.

    Drawn choice by choice, archs of many choices are all of middling size. Blocks that may go are there with odds that
    grow with the share; kernels are mostly whole.
    """
    share = rng.random()
    options: dict[str, Any] = {}
    for choice in space.choices:
        kind = choice.name.rpartition(".")[2]
        if kind == "depth":
            options[choice.name] = choice.options[-1] if rng.random() < 0.5 + share / 2 else rng.choice(choice.options)
        elif kind == "kernel":
            options[choice.name] = choice.options[-1] if rng.random() < 0.5 else rng.choice(choice.options)
        elif kind == "resolution":
            options[choice.name] = rng.choice(choice.options)
        else:
            place = round(share * (len(choice.options) - 1) + rng.gauss(0, 1))
            options[choice.name] = choice.options[min(len(choice.options) - 1, max(0, place))]
    return space.canonical(options)


def nested(space: Space, rng: random.Random, progress: float, *, likely: Sequence[Arch] = ()) -> list[Turn]:
    """The sandwich rule (arXiv:1903.05134 §3) on a network whose groups are many: the largest, the smallest, and two
    whose groups mostly keep the same share.

    ``likely``: archs that are worth more, where a network that is not trained teaches. Then two archs between
    neighbours of these and one of one share, and only in every fourth step the largest, which costs as much as they do,
    and teaches nobody; not the smallest, which is far below all of them.
    """
    if not likely:
        drawn = (space.smallest(), alike(space, rng), alike(space, rng))
        return [Turn(space.largest()), *(Turn(arch, distil=True) for arch in drawn)]
    chain = (space.largest(), *likely)
    archs = [between(space, chain, rng), between(space, chain, rng), alike(space, rng)]
    if rng.random() < 0.25:
        archs.insert(0, space.largest())
    return [Turn(arch, distil=True) for arch in archs]


def between(space: Space, archs: Sequence[Arch], rng: random.Random) -> Arch:
    """A random arch between two neighbours of ``archs``: each option is one's or the other's, at drawn odds."""
    place = rng.randrange(len(archs) - 1)
    share = rng.random()
    return space.canonical({c.name: archs[place + (rng.random() < share)][c.name] for c in space.choices})


def level(space: Space, share: float) -> Arch:
    """The arch of one ``share`` in [0, 1]: every option as far up in its list."""
    return space.canonical({c.name: c.options[round(share * (len(c.options) - 1))] for c in space.choices})


def sorted_nets(space: Space, rng: random.Random, progress: float, *, archs: int = 2) -> list[Turn]:
    """``archs`` random ones of a chain of nested networks, whose choices all keep the same share, from the largest to
    the smallest, trained on the labels; their gradients are averaged. SortedNet (P238, arXiv:2309.00255 §3).

    With one arch a step this is MatFormer's training (P437, arXiv:2310.07707 §3.2), whose granularities are the chain.
    """
    places = max(len(choice.options) for choice in space.choices)
    drawn = sorted((rng.randrange(places) for _ in range(archs)), reverse=True)
    return [Turn(level(space, place / max(1, places - 1)), scale=1 / archs) for place in drawn]


SCHEDULES: dict[str, Schedule] = {
    "largest": largest_only,
    "sandwich": sandwich,
    "single_path": uniform_single_path,
    "progressive_shrinking": progressive_shrinking,
    "multi_arch": multi_arch,
    "delayed_shrinking": delayed_shrinking,
    "early_shrinking": partial(delayed_shrinking, start=0.2),
    "sorted": sorted_nets,
}
"""Schedules by name; ``attentive`` needs a score and a cost and is made with functools.partial."""
