"""What matters in a network that was given: the order of its entries by the images, and archs that pruning would leave.

Judged once, after the network proved to know the images, and written to the journal: all that follows is a function of
it, and another machine's sums may differ in what is nearly equal.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

import torch

from sartor.compress.rounds import in_rounds
from sartor.errors import BudgetError
from sartor.graph.saliency import Evidence, fisher
from sartor.models.elastic import Elastic
from sartor.recipes.bench import EVIDENCE_IMAGES, Bench
from sartor.recipes.voice import Tick
from sartor.recipes.workshop import Workshop
from sartor.records import Arch

LIKELY = (0.8, 0.65, 0.5, 0.4, 0.3, 0.2)
"""Of the multiply-accumulates: what the archs keep that the search begins with."""

PASSES = 4 * (1 + len(LIKELY))
"""Forward passes that judging takes, for each image: a gradient is two more, a recalibration one."""

JUDGING_SHARE, LEAST_IMAGES = 0.5, 64
"""Of the probe's time; and images, with fewer of which norms of weights say as much. Choices."""


def judge_worth(shop: Workshop, seconds: float, seconds_an_image: float, tick: Tick) -> tuple[Arch, ...]:
    """Put the entries of the given network's groups into the order of their worth, in about a part of ``seconds``;
    archs that pruning would choose, the largest first. Without the time, the order stays by norms, and there are none.

    ``seconds_an_image``: what the network takes to judge one.
    """
    assert shop.given is not None
    elastic = shop.given.elastic
    n = min(EVIDENCE_IMAGES, int(JUDGING_SHARE * seconds / (PASSES * max(1e-9, seconds_an_image))))
    n = int(shop.journal.once("given.images", lambda: n))
    if n < LEAST_IMAGES:
        return ()

    def decide() -> dict[str, Any]:
        side, seed = elastic.largest["resolution"], shop.job.seed
        shape = (shop.dataset.channels, int(side), int(side))
        bench = Bench(shape, shop.dataset, shop.preprocess.mean, shop.preprocess.std, seed, n)
        evidence = Evidence(bench.batches, seed=seed)
        tick(0.2, "judging what matters in it")
        scores = fisher(elastic.graph, evidence)
        orders = {
            name: torch.sort(values, descending=True, stable=True).indices.tolist() for name, values in scores.items()
        }
        likely = []
        for arch in _likely(elastic, evidence):
            if dict(arch) not in likely:
                likely.append(dict(arch))
            tick(0.2 + 0.8 * len(likely) / len(LIKELY), "judging what matters in it")
        return {"orders": orders, "likely": likely}

    decided = shop.journal.once("given.worth", decide)
    elastic.reorder(decided["orders"])
    return tuple(Arch(options) for options in decided["likely"])


def _likely(elastic: Elastic, evidence: Evidence) -> Iterator[Arch]:
    """The archs nearest to what pruning would leave, as far as that goes."""
    space, graph = elastic.space, elastic.graph
    whole = graph.macs()
    kept = [choice for choice in space.choices if choice.name.endswith(".keep")]
    widths = {choice.name.removesuffix(".keep"): [int(n) for n in choice.options] for choice in kept}
    blocks = {choice.name for choice in space.choices if choice.name.endswith(".depth")}
    floors = {name: sizes[0] for name, sizes in widths.items()}
    goals = [{"macs": round(share * whole)} for share in LIKELY]
    try:
        for cut in in_rounds(graph, fisher, goals, evidence, depth=bool(blocks), ranking="cost", floors=floors):
            sizes = {name: len(cut.keep.get(name, range(options[-1]))) for name, options in widths.items()}
            nearest = {n: min(options, key=partial(_apart, sizes[n])) for n, options in widths.items()}
            gone = {name: 0 for name in blocks if name.removesuffix(".depth") in cut.without}
            yield space.canonical({**space.largest(), **{f"{n}.keep": size for n, size in nearest.items()}, **gone})
    except BudgetError:
        return


def _apart(size: int, option: int) -> int:
    return abs(size - option)
