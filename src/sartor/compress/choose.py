"""Which entries stay: the best by their scores, as many as a budget of multiply-accumulates or parameters allows."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Literal

import torch
from torch import Tensor

from sartor.errors import BudgetError, InputError
from sartor.graph import Cut, Graph, Group
from sartor.graph.groups import matches, protected
from sartor.graph.saliency import Scores

Ranking = Literal["global", "layer", "cost"]
RANKINGS: tuple[Ranking, ...] = ("global", "layer", "cost")

BLOCKS = 0.5
"""What a block's score counts beside entries': the first order overrates what goes as a whole. A choice, made in a
trial that no command repeats, among 0.1, 0.25, 0.5, 1 and 2 on one ResNet."""


def choose(
    graph: Graph,
    scores: Scores,
    limits: Mapping[str, int],
    *,
    ranking: Ranking = "global",
    protect: Sequence[str] = (),
    floors: Mapping[str, int] | None = None,
    round_to: int = 1,
    blocks: Mapping[str, float] | None = None,
    held: Cut | None = None,
    fill: bool = True,
) -> Cut:
    """The cut that keeps the most, the best by ``scores``, within ``limits`` (``macs``, ``params``).

    ``ranking``: ``global`` compares entries of all groups by their score over their group's mean, ``cost`` by their
    score over what they cost, ``layer`` takes the same share of each group. Entries stay or go in multiples of
    ``round_to``, by the mean of each; where ``fill``, entries that then fit are put back. ``floors``: entries of a
    group that stay, by its name; one where it is not named. ``blocks``: scores of blocks that may go, for ``cost``.
    ``held``: what is cut already; its entries come last, its blocks stay away.

    Raises BudgetError where even the most that may be cut leaves too much.
    """
    held = held or Cut({})
    groups = [group for group in graph.groups if not protected(group, protect)]
    scores = {name: values.detach().double().cpu() for name, values in scores.items()}
    worth, orders = _worth(graph, groups, scores, limits, ranking, held)
    chunks = {group.name: _chunks(worth[group.name][orders[group.name]], round_to) for group in groups}
    order = {name: entries.tolist() for name, entries in orders.items()}
    prices = _block_prices(graph, blocks or {}, limits, held, protect)
    count = {"macs": graph.macs, "params": graph.params}

    def fits(cut: Cut) -> bool:
        return all(count[name](cut) <= limit for name, limit in limits.items())

    def cut_of(sizes: Mapping[str, int], without: Sequence[str]) -> Cut:
        away = inside(groups, without)
        keep = {name: tuple(sorted(order[name][:n])) for name, n in sizes.items() if name not in away}
        return graph.completed(Cut(keep, tuple(without)), order)

    def sizes_at(level: float) -> dict[str, int]:
        sizes = {}
        for group in groups:
            if ranking == "layer":
                n = math.ceil((1 - level) * group.size - 1e-9)
            else:
                n = int((chunks[group.name] >= levels[round(level)]).sum())
            sizes[group.name] = rounded(max(n, (floors or {}).get(group.name, 1)), group.size, round_to)
        return sizes

    def without_at(level: float) -> tuple[str, ...]:
        gone = [] if ranking == "layer" else [path for path, price in prices.items() if price < levels[round(level)]]
        return (*held.without, *gone)

    kept: Callable[[float], Cut] = lambda level: cut_of(sizes_at(level), without_at(level))
    prized = [torch.tensor(list(prices.values()), dtype=torch.float64)] if prices else []
    above = torch.tensor([math.inf], dtype=torch.float64)  # the level at which only floors stay
    levels = torch.cat([*chunks.values(), *prized, above]).unique()
    top = 1.0 if ranking == "layer" else float(len(levels) - 1)
    if not fits(kept(top)):
        reached = {name: count[name](kept(top)) for name in limits}
        raise BudgetError(
            "; ".join(f"{limits[name]:,} {name} cannot be reached: {reached[name]:,} is the least" for name in limits)
            + f", with a least share of every group left, in multiples of {round_to}, and these layers protected"
        )
    low, high = 0.0, top  # the goal is met at high
    if fits(kept(low)):
        return kept(low)
    while high - low > (1e-4 if ranking == "layer" else 1):
        middle = (low + high) / 2 if ranking == "layer" else (low + high) // 2
        low, high = (low, middle) if fits(kept(middle)) else (middle, high)
    sizes, without = sizes_at(high), without_at(high)
    if fill and ranking != "layer":
        away = inside(groups, without)
        room = {name: values for name, values in chunks.items() if name not in away}
        _put_back(sizes, room, round_to, lambda sizes: fits(cut_of(sizes, without)))
    return cut_of(sizes, without)


def inside(groups: Sequence[Group], without: Sequence[str]) -> set[str]:
    """Names of the groups that go with the blocks ``without``: there is nothing left to cut of them."""
    gone = tuple(f"{path}." for path in without)
    return {group.name for group in groups if gone and all(tie.tensor.startswith(gone) for tie in group.ties)}


def _worth(
    graph: Graph, groups: Sequence[Group], scores: Scores, limits: Mapping[str, int], ranking: Ranking, held: Cut
) -> tuple[Scores, dict[str, Tensor]]:
    """What entries count, nothing for those that are cut already; and their order, the best first."""
    worth, orders = {}, {}
    for group in groups:
        stays = torch.zeros(group.size, dtype=torch.bool)
        stays[list(held.keep.get(group.name, range(group.size)))] = True
        order = ordered(group, scores)
        values = scores[group.name] * stays
        if ranking == "global":
            values = values / scores[group.name][stays].mean().clamp(min=1e-30)
        elif ranking == "cost":
            values = values / _price(graph, group.name, list(stays.nonzero()[:, 0]), limits, held)
        worth[group.name] = values
        orders[group.name] = order[torch.sort((~stays[order]).to(torch.int8), stable=True).indices]
    return worth, orders


def _price(graph: Graph, name: str, stays: list[Tensor], limits: Mapping[str, int], held: Cut) -> float:
    """What one entry of a group costs, as a share of what is left of what is limited."""
    less = {**held.keep, name: tuple(int(i) for i in stays[:-1])}
    return 1e-12 if len(stays) < 2 else _saved(graph, limits, held, Cut(less, held.without))


def _saved(graph: Graph, limits: Mapping[str, int], held: Cut, less: Cut) -> float:
    found = 1e-12  # what saves nothing is worth keeping
    for limit in limits:
        count = graph.macs if limit == "macs" else graph.params
        now = count(held)
        found += max(0, now - count(graph.completed(less))) / max(1, now)
    return found


def free_blocks(graph: Graph, blocks: Iterable[str], protect: Sequence[str]) -> list[str]:
    """Those of ``blocks`` in which nothing is protected."""
    names = [*(name for name, _ in graph.model.named_modules()), *graph.tensors]
    kept = [f"{name}." for name in names if matches(name, protect)]
    return [path for path in blocks if not any(name.startswith(f"{path}.") for name in kept)]


def _block_prices(
    graph: Graph, blocks: Mapping[str, float], limits: Mapping[str, int], held: Cut, protect: Sequence[str]
) -> dict[str, float]:
    free = [path for path in free_blocks(graph, blocks, protect) if path not in held.without]
    gone = {path: Cut(held.keep, (*held.without, path)) for path in free}
    return {path: BLOCKS * blocks[path] / _saved(graph, limits, held, gone[path]) for path in free}


def _chunks(values: Tensor, size: int) -> Tensor:
    """Each value replaced by the mean of its chunk of ``size``: entries that go together count together."""
    if size == 1:
        return values
    return torch.cat([chunk.mean().expand(len(chunk)) for chunk in values.split(size)])


def _put_back(
    sizes: dict[str, int], chunks: Mapping[str, Tensor], size: int, fits: Callable[[Mapping[str, int]], bool]
) -> None:
    """Grow groups by a chunk, the best first, as long as all fits: a threshold that many chunks share leaves room."""
    full: set[str] = set()
    while True:
        rooms = [(float(chunks[n][sizes[n]]), n) for n in chunks if sizes[n] < len(chunks[n])]
        open_ = [room for room in rooms if room[1] not in full]
        if not open_:
            return
        _, name = max(open_)
        larger = {**sizes, name: min(len(chunks[name]), sizes[name] + size)}
        if fits(larger):
            sizes.update(larger)
        else:
            full.add(name)


def ordered(group: Group, scores: Scores) -> Tensor:
    """Entries from the best to the worst; of equals, the first."""
    if group.name not in scores or scores[group.name].shape != (group.size,):
        raise InputError(f"the criterion gives no {group.size} scores for group {group.name!r}")
    if not bool(scores[group.name].isfinite().all()):
        raise InputError(f"the criterion gives scores of {group.name!r} that are not finite: check weights and data")
    return torch.sort(scores[group.name], descending=True, stable=True).indices


def rounded(n: int, size: int, multiple: int) -> int:
    """``n`` of ``size`` entries in multiples, where there are as many."""
    return min(size, math.ceil(n / multiple) * multiple) if size >= multiple else size
