"""Before training: race the operators at near-equal latency, see whether images may be mirrored, size the space.

The space of a fit is not fixed: what a device runs fast and what this machine can train in the time given are measured
first. Operators race by successive halving (arXiv:1502.07943): one network of each, at nearly equal measured latency,
trained alone for the same few seconds. Depthwise networks have the better accuracy per MAC and lose here when
their milliseconds or their training time say so.
"""

from __future__ import annotations

import math
import random
import statistics
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch

from sartor.errors import Diverged
from sartor.export.onnx import export_onnx
from sartor.recipes.feasible import feasible, may_fit
from sartor.recipes.plan import STAGES, TAUGHT, plan
from sartor.recipes.voice import Tick
from sartor.recipes.workshop import Workshop
from sartor.recipes.worth import judge_worth
from sartor.records import Arch
from sartor.space import OPERATORS, Space, conv_space
from sartor.train.augment import mirror
from sartor.train.device import place
from sartor.train.loop import seconds_a_step, train
from sartor.train.recalibrate import accuracy
from sartor.train.steps import plain_step

MARGIN = 0.01
"""Operators within this accuracy of the race's winner stay, when there is time to train more than one. A guess: about
the standard error of two accuracies on 5,000 images."""

TIME_FOR_TWO_S = 3600.0
"""From an hour on, a second operator that is close to the winner stays in the space, and squeeze-excite races; in less
they only dilute."""

MIRROR_RATIO, LEARNT = 0.9, 0.2
"""Mirroring is used when mirrored images, unseen in training, keep at least this share of the accuracy beyond chance;
and never when the race's winner is so near to chance that this says nothing. Choices: pictures keep 0.95 and more,
digits lose most of it."""

SIZES = (
    (16, 1),
    (16, 2),
    (32, 1),
    (32, 2),
    (48, 1),
    (64, 1),
    (64, 2),
    (96, 1),
    (128, 1),
    (96, 2),
    (128, 2),
    (192, 2),
    (192, 3),
)
"""(width, depth) of the space's largest arch, about by the cost of a training step; of two that cost the same the wider
comes last, and so is taken: it leaves more widths to cut to. A choice, not the outcome of a measurement."""

MIRRORED_IMAGES = 1000
"""Of those that a given network is judged by: its standard error of a point decides no ratio of nine tenths."""

RUNGS = 2
"""Of the race: all operators for half of its time, the better half of them for the other half."""

TIMED_STEPS = 5

NEVER = 1e9
"""Seconds: of a step that cannot be made."""

STEPS_NEEDED, EPOCHS_NEEDED, IN_SECONDS = 850, 12, 360.0
"""A larger space is taken only when its largest network alone could be trained for this many steps in ``IN_SECONDS``
(more time goes into steps and size alike: their number grows with its root), or epochs where those are fewer, in the
supernet's time. Steps at full size: the small images of the first ones make them a quarter more. Chosen between
twenty-minute fits whose networks were too large and too small (docs/log.md)."""


PASSES_A_STEP = 7
"""Forward passes that a supernet's step takes, for each image, at most: a gradient is two more; the largest arch and
two or three of middling size, and the teacher."""

STEPS_FOR_A_SUPERNET, SMALLEST_BATCH = 30, 16
"""Of a given network, that its batch is made small enough for; and images that it has at least, for batch norms. Not
more: small batches are slower by the image (docs/log.md)."""

GIVEN_BATCH = 128
"""Of a given network's training, where there is time: cuts that are trained for a minute or two get more steps so. A
choice."""

JUDGED_SHARE, JUDGED_PASSES, LEAST_JUDGED = 0.05, 12, 500
"""Of a fit's time: what judging members before and after their training may take; forward passes of the whole network
for each image of it, as six of half its size are recalibrated and judged twice; and images that they are judged by, and
recalibrated on, at least. Choices."""


@dataclass(frozen=True)
class Probed:
    """What the probe found: the space to train, and what it tried. Of a network that was given: how good it is,
    whether it ``teaches``, how long its export takes, and ``likely`` archs."""

    space: Space
    flip: bool
    race: list[dict[str, Any]]
    width: int
    depth: int
    teaches: bool = False
    given: dict[str, Any] | None = None
    export_s: float = 0.0
    likely: tuple[Arch, ...] = ()


def probe(shop: Workshop, seconds: float, supernet_seconds: float, tick: Tick) -> Probed:
    """Race the operators for two thirds of ``seconds`` and size the space so that ``supernet_seconds`` can train it."""
    race = _race(shop, 0.65 * seconds, tick)
    winner = race[0]
    near = [r["operator"] for r in race if r["accuracy"] >= winner["accuracy"] - MARGIN]
    kept = list(dict.fromkeys(near))[: 2 if _long(shop) else 1]
    operators = tuple(reversed(kept))  # the last is the largest arch's, which is trained the most
    flip = may_mirror(winner["accuracy"], winner["mirrored"], len(shop.dataset.classes))
    space_of = partial(_space, shop, operators=operators, se=bool(winner["se"]))
    size = shop.journal.once("size", lambda: _size(shop, space_of, flip, supernet_seconds, 0.3 * seconds))
    width, depth = int(size[0]), int(size[1])
    tick(1.0, f"{'+'.join(kept)}, width {width}, depth {depth}")
    return Probed(space_of(width, depth), flip, race, width, depth)


def probe_given(shop: Workshop, seconds: float, tick: Tick) -> Probed:
    """The network that was given is the space. Whether images may be mirrored, and whether it knows these images
    already and so can teach, its accuracy tells; where it does, they tell what matters in it, too."""
    assert shop.given is not None
    side, elastic = shop.given.side, shop.given.elastic
    # Before the training: what cannot be shipped, or meet the budget.

    def export() -> float:
        with tempfile.TemporaryDirectory() as folder:  # the first export of a process loads the exporter
            export_onnx(torch.nn.Flatten(), (shop.dataset.channels, side, side), Path(folder) / "first.onnx")
        begin = time.monotonic()
        export_onnx(shop.given.original, (shop.dataset.channels, side, side), shop.as_it_came)  # type: ignore[union-attr]
        return round(time.monotonic() - begin, 1)

    export_s = shop.export_s = float(shop.journal.once("given.export_s", export))
    if not shop.as_it_came.exists():
        export()
    feasible(shop, {"given": elastic.space.smallest()})
    original = place(shop.given.original, shop.device).eval()

    def judge() -> dict[str, Any]:
        images, begin = shop.validation_images, time.monotonic()
        right = accuracy(original, shop.validation(side))
        an_image = (time.monotonic() - begin) / images
        mirrored = accuracy(original, ((mirror(x), y) for x, y in shop.validation(side, MIRRORED_IMAGES)))
        latency = shop.draft_latency_ms(elastic.largest)
        return {
            "operator": "given",
            "se": False,
            "accuracy": right,
            "mirrored": mirrored,
            "latency_ms": latency,
            "s_an_image": an_image,
        }

    def batch(teaches: bool) -> int:
        a_step = PASSES_A_STEP * held["s_an_image"]
        supernet_s = plan(shop.job.time_s, TAUGHT if teaches else STAGES).seconds["supernet"]
        most = supernet_s / (STEPS_FOR_A_SUPERNET * max(1e-9, a_step))
        return int(min(GIVEN_BATCH, max(SMALLEST_BATCH, 2 ** int(math.log2(max(1.0, most))))))

    tick(0.1, "judging the network as it came")
    held = dict(shop.journal.once("given", judge))
    classes = len(shop.dataset.classes)
    flip = may_mirror(held["accuracy"], held["mirrored"], classes)
    teaches = knows(held["accuracy"], classes)
    judged = int(JUDGED_SHARE * shop.job.time_s / (JUDGED_PASSES * max(1e-9, held["s_an_image"])))
    shop.know(teaches, max(LEAST_JUDGED, judged), int(shop.journal.once("given.batch", partial(batch, teaches))))
    likely = judge_worth(shop, seconds, held["s_an_image"], tick) if teaches else ()
    return Probed(elastic.space, flip, [], 0, 0, teaches=teaches, given=held, export_s=export_s, likely=likely)


def knows(accuracy: float, classes: int) -> bool:
    """Whether a network is far enough from chance to teach others."""
    return accuracy - 1 / classes >= LEARNT * (1 - 1 / classes)


def _long(shop: Workshop) -> bool:
    return shop.job.time_s >= TIME_FOR_TWO_S


def may_mirror(accuracy: float, mirrored: float, classes: int) -> bool:
    """Whether a network that saw no mirrored image knows them nearly as well as the others."""
    chance = 1 / classes
    learnt = accuracy - chance
    return learnt >= LEARNT * (1 - chance) and mirrored - chance >= MIRROR_RATIO * learnt


def _space(shop: Workshop, width: int, depth: int, operators: tuple[str, ...], se: bool = False) -> Space:
    """The space to train. Squeeze-excite is a choice where it won the race; short runs leave out large kernels and
    expansions, which multiply the archs; untested."""
    space = conv_space(shop.dataset.resolution, width=width, depth=depth, operators=operators)
    cut: dict[str, tuple[Any, ...]] = {}
    for choice in space.choices:
        if choice.name.endswith(".se") and not se:
            cut[choice.name] = (False,)
        elif choice.name.endswith(".kernel") and not _long(shop):
            cut[choice.name] = (3,)
        elif choice.name.endswith(".expand") and not _long(shop):
            cut[choice.name] = (1, 2)
    return space.restrict(cut)


def _race(shop: Workshop, seconds: float, tick: Tick) -> list[dict[str, Any]]:
    """One network of each operator that can meet the budget, trained alone for equal time; the better half again, from
    the start, for longer."""
    limit = shop.job.budget.max_latency_ms
    smallest = {operator: _space(shop, *SIZES[0], (operator,)).smallest() for operator in OPERATORS}
    operators = feasible(shop, smallest)
    entrants = {}
    for operator in operators:
        entrants[operator, False] = _entrant(shop, operator, limit)
        tick(0.3 * len(entrants) / len(operators), f"measuring {operator}")
    results: list[dict[str, Any]] = []
    for rung in range(RUNGS):
        if rung > 0 and len(entrants) == 1 and not _long(shop):
            break  # nobody to race against
        if rung > 0 and _long(shop):
            best = results[0]["operator"]
            entrants[best, True] = _entrant(shop, best, limit, se=True)
        share = seconds / RUNGS / len(entrants)
        runs = {}
        for done, ((operator, se), arch) in enumerate(entrants.items()):
            name = entrant(operator, se)
            tick(0.3 + 0.5 * (rung + done / len(entrants)) / RUNGS, f"racing {name}")
            runs[operator, se] = shop.journal.once(
                f"race.{name}.{rung}", partial(_run_one, shop, operator, se, arch, share)
            )
        ranked = sorted(runs.values(), key=lambda r: -r["accuracy"])
        results = [*ranked, *(r for r in results if (r["operator"], r["se"]) not in runs)]
        left = [(r["operator"], r["se"]) for r in ranked[: max(1, len(ranked) // 2)]]
        entrants = {who: entrants[who] for who in left}
    return results


def _entrant(shop: Workshop, operator: str, limit_ms: float | None, *, se: bool = False) -> Arch:
    """The arch of ``operator`` whose measured latency is nearest to that of a plain residual network of width 32, or
    to ``limit_ms`` where that is less; of ten widths, so a few tens of per cent may remain between operators.

    Small networks race: in a few seconds large ones learn too little to tell operators apart (docs/log.md).
    """
    plain_ms = shop.draft_latency_ms(_uniform(shop, "residual", 32))
    target_ms = plain_ms if limit_ms is None else min(limit_ms, plain_ms)
    archs = [_uniform(shop, operator, width, se=se) for width in (16, 20, 24, 28, 32, 40, 48, 64, 96, 128)]
    low, high = 0, len(archs) - 1  # wider is slower: bisect for the first that is over, its neighbour may be nearer
    while low < high:
        middle = (low + high) // 2
        if shop.draft_latency_ms(archs[middle]) < target_ms:
            low = middle + 1
        else:
            high = middle
    return min(archs[max(0, low - 1) : low + 1], key=lambda a: abs(math.log(shop.draft_latency_ms(a) / target_ms)))


def _uniform(shop: Workshop, operator: str, width: int, *, se: bool = False) -> Arch:
    """A hand-made network: one operator, one block a stage, kernel 3, expansion 2 or 4 as its paper has it; each stage
    twice as wide as the one before, in multiples of 16."""
    space = conv_space(shop.dataset.resolution, width=max(16, width // 16 * 16), depth=1, operators=(operator,))
    options: dict[str, Any] = dict(space.largest())
    for name in list(options):
        stage, _, kind = name.rpartition(".")
        if kind == "se":
            options[name] = se
        elif kind == "kernel":
            options[name] = 3
        elif kind == "expand":
            options[name] = 4 if operator == "mbconv" else 2
        elif kind == "width" and stage != "stem":
            options[name] = max(16, width * 2 ** int(stage[1:]) // 16 * 16)
    return Arch(options)


def _run_one(shop: Workshop, operator: str, se: bool, arch: Arch, seconds: float) -> dict[str, Any]:
    torch.manual_seed(shop.job.seed)
    side = int(arch["resolution"])
    network = place(shop.build(arch), shop.device)
    step = plain_step(network, shop.inputs(f"race {operator}", flip=False), shop.recipe, side=side)
    name = f"race.{entrant(operator, se)}.{seconds:.3f}"
    seconds_a_step(network, step, shop.batches, limit_s=0.0)  # new shapes and cold code at no operator's expense
    try:
        train(network, step, shop.batches, shop.recipe, seconds=seconds, name=name, decide=shop.journal.once)
        right = shop.validate(network, side)
        mirrored = accuracy(network, ((mirror(x), y) for x, y in shop.validation(side)))
    except Diverged:  # it loses the race; where all do, the supernet's training says what to check
        right = mirrored = 0.0
    return {
        "operator": operator,
        "se": se,
        "accuracy": right,
        "mirrored": mirrored,
        "latency_ms": shop.draft_latency_ms(arch),
        "seconds": seconds,
        "arch": dict(arch),
    }


def _size(
    shop: Workshop, space_of: Callable[[int, int], Space], flip: bool, supernet_seconds: float, limit_s: float
) -> tuple[int, int]:
    """The costliest (width, depth) whose largest arch can be trained for enough steps and is near the latency budget.

    Looking takes ``limit_s``, and two steps more at most. The largest arch is the teacher, so it may be up to twice
    over the budget; the search keeps to it.
    """
    limit = shop.job.budget.max_latency_ms

    def fits(width: int, depth: int) -> bool:
        space = space_of(width, depth)
        if limit is not None and shop.draft_latency_ms(space.largest()) > 2 * limit:
            return False
        # A wider space has wider smallest networks: most of its archs would only be measured to be dropped.
        if not may_fit(shop, space.smallest()) or not may_fit(shop, _middle(space)):
            return False
        left = limit_s - (time.monotonic() - begin)
        rate = shop.journal.once(f"size.{width}.{depth}", lambda: _seconds_a_step(shop, space, flip, left))
        epoch = len(shop.dataset.train) / shop.recipe.batch_size
        steps = STEPS_NEEDED * math.sqrt(supernet_seconds / IN_SECONDS)
        return supernet_seconds / float(rate) >= min(steps, EPOCHS_NEEDED * epoch)

    chosen, failures, begin = SIZES[0], 0, time.monotonic()
    for size in SIZES[1:]:
        if time.monotonic() - begin > limit_s:
            break
        if fits(*size):
            chosen = size
        else:
            failures += 1  # one may be dearer than the next: wide networks run at a higher rate than deep ones
            if failures == 2:
                break
    return chosen


def _middle(space: Space) -> Arch:
    """The middle option of every choice, the lower of two; the largest arch's operators."""
    largest = space.largest()
    middle = {c.name: c.options[(len(c.options) - 1) // 2] for c in space.choices if not c.name.endswith(".op")}
    return largest.replace(**{name: option for name, option in middle.items() if name in largest})


def _seconds_a_step(shop: Workshop, space: Space, flip: bool, limit_s: float) -> float:
    """Seconds a step of the largest arch alone, median. The first steps only warm up: they touch fresh memory.

    Of fewer steps once ``limit_s`` is over. What does not fit into the device's memory takes ``NEVER``.
    """
    try:
        return _timed_steps(shop, space, flip, limit_s)
    except torch.OutOfMemoryError:
        return NEVER


def _timed_steps(shop: Workshop, space: Space, flip: bool, limit_s: float) -> float:
    largest = space.largest()
    network = place(shop.build(largest), shop.device)
    step = plain_step(network, shop.inputs("size", flip=flip), shop.recipe, side=int(largest["resolution"]))
    stream, taken, start = shop.batches(0), [], time.monotonic()
    for index in range(2 * TIMED_STEPS):
        images, labels = next(stream)
        begin = time.monotonic()
        step(images, labels, 0.5, index)
        taken.append(time.monotonic() - begin)
        if index and time.monotonic() - start > limit_s:
            break
    return statistics.median(taken[min(TIMED_STEPS, len(taken) // 2) :])


def entrant(operator: str, se: bool) -> str:
    """What raced: ``pooled``, ``pooled+se``."""
    return f"{operator}{'+se' if se else ''}"


def describe(race: Sequence[Mapping[str, Any]]) -> str:
    """The race in a line: ``pooled 61.2% after 16 s, mbconv 31.4% after 8 s, at 0.21 to 0.25 ms``."""
    latencies = [r["latency_ms"] for r in race]
    names = ", ".join(
        f"{entrant(r['operator'], r['se'])} {100 * r['accuracy']:.1f}% after {r['seconds']:.0f} s" for r in race
    )
    return f"{names}, at {min(latencies):.3f} to {max(latencies):.3f} ms"


def random_archs(space: Space, n: int, seed: int) -> list[Arch]:
    """Distinct archs drawn uniformly; fewer when the space is smaller."""
    rng = random.Random(seed)
    archs: dict[Arch, None] = {}
    for _ in range(20 * n):
        if len(archs) < n:
            archs[space.sample(rng)] = None
    return list(archs)
