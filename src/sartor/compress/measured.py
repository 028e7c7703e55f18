"""Pruning to a measured latency: what does not pay on the target is not cut.

Multiply-accumulates say little about milliseconds: a runtime pads channels to its vectors, and a layer that waits for
memory is as slow with half of its weights. So every step is measured, as in NetAdapt (arXiv:1804.03230 §3.2): several
cuts are tried side by side, and the one that loses least for each millisecond it saves is kept. Ours differ in what a
cut is (a group of the graph, whatever it ties, not a layer), in how it is chosen (by a criterion over all that the
group ties, no short training of each), and in that a cut which saved less than it should is undone and tried again only
with more entries. A group is done with once all that may go of it did not pay; where nothing is left to try, all are
tried once more if cuts since the last time saved enough: what pays changes with the others' sizes, and a timing may
have been disturbed.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from torch import nn

from sartor.compress.choose import ordered, rounded
from sartor.compress.prune import check_protected, criterion_named
from sartor.errors import BudgetError, InputError
from sartor.graph import Cut, Graph
from sartor.graph.groups import protected
from sartor.graph.saliency import LOSS_UNITS, Evidence, Saliency, Scores

Latencies = Callable[[Sequence[nn.Module]], Sequence[float]]
"""Milliseconds of modules on the target, measured side by side."""

TRIED = 5
"""Cuts measured side by side in each round. A choice: an export each, which is what a round costs."""

SHARE = 0.08
"""Of the latency that one round is to save, or a third of what is left to save where that is more. A choice."""

PAYS = 0.25
"""A cut is undone that saves less than this share of what its multiply-accumulates promised."""

AGAIN = SHARE / 4
"""Of the latency: what cuts are to have saved before groups that did not pay are tried again. Less is noise."""

LARGER = 3
"""Times as many entries are tried of a group that did not pay: vectors are 8 or 16 channels long."""


@dataclass(frozen=True)
class Tried:
    """One cut that was measured: the entries of ``group`` it took, latencies before and after, whether it stayed."""

    group: str
    entries: int
    before_ms: float
    after_ms: float
    kept: bool


def prune_to_latency(
    graph: Graph,
    max_ms: float,
    latencies: Latencies,
    *,
    saliency: str | Saliency = "l2",
    evidence: Evidence | None = None,
    protect: Sequence[str] = (),
    least: float = 0.1,
    round_to: int = 1,
    margin: float = 1.0,
    on_round: Callable[[float], None] = lambda ms: None,
) -> tuple[Cut, list[Tried]]:
    """The cut of ``graph`` under which its network takes at most ``max_ms``, as ``latencies`` measures, and all that
    was tried. Nothing is trained. ``margin``: the share of ``max_ms`` to stop at.

    Raises BudgetError naming the nearest that was reached.
    """
    if not (math.isfinite(max_ms) and max_ms > 0):
        raise InputError(f"a latency is a number of milliseconds above 0, not {max_ms!r}")
    if round_to < 1 or not 0 <= least <= 1:
        raise InputError(f"round_to is at least 1 and least is a share, not {round_to}, {least}")
    evidence = evidence or Evidence()
    scores = criterion_named(saliency)(graph, evidence)
    if saliency not in LOSS_UNITS:  # groups of any size and depth are compared by what is usual in them
        scores = {name: values / values.mean().clamp(min=1e-30) for name, values in scores.items()}
    search = _Search(graph, scores, protect, least, round_to)
    tried: list[Tried] = []
    (now,) = latencies([graph.model])
    on_round(now)
    while now > margin * max_ms:
        wanted = max(SHARE, (1 - margin * max_ms / now) / 3)
        moves = search.moves(wanted) or search.once_more(wanted)
        if not moves:
            raise BudgetError(f"{max_ms:g} ms cannot be reached: {now:.3g} ms is the least that cuts of it measured")
        modules = [graph.slice(search.with_(move)) for move in (None, *moves)]  # latency asks for no statistics
        now, *after = latencies(modules)
        worth = []
        for move, ms in zip(moves, after, strict=True):
            pays = now - ms >= PAYS * move.saves * now
            if not pays:
                search.refuse(move)
            worth.append((move.loses / max(now - ms, 1e-12) if pays else math.inf, move, ms))
        price, best, ms = min(worth, key=lambda w: w[0])
        tried += [Tried(m.group, m.entries, now, t, m is best and price < math.inf) for _, m, t in worth]
        if price < math.inf:
            search.take(best, 1 - ms / now)
            now = ms
            on_round(now)
    return search.with_(None), tried


@dataclass(frozen=True)
class _Move:
    group: str
    entries: int
    loses: float
    saves: float
    """The share of the multiply-accumulates that goes."""


class _Search:
    """Where a pruning to latency stands: how many entries of each group are kept, and which groups are done with."""

    def __init__(self, graph: Graph, scores: Scores, protect: Sequence[str], least: float, round_to: int):
        self._graph = graph
        self._round_to = round_to
        groups = [group for group in graph.groups if not protected(group, protect)]
        self._order = {group.name: ordered(group, scores).tolist() for group in groups}
        self._scores = {g.name: scores[g.name][self._order[g.name]] for g in groups}
        self._least = {g.name: rounded(max(1, math.ceil(least * g.size)), g.size, round_to) for g in groups}
        check_protected(graph, protect)
        self._kept = {group.name: group.size for group in groups}
        self._times = dict.fromkeys(self._kept, 1)
        self._saved = math.inf

    def with_(self, move: _Move | None) -> Cut:
        """What is kept now, and after ``move``."""
        kept = {**self._kept, **({move.group: self._kept[move.group] - move.entries} if move else {})}
        keep = {name: sorted(order[: kept[name]]) for name, order in self._order.items() if kept[name] < len(order)}
        return self._graph.completed(keep, self._order)

    def moves(self, wanted: float) -> list[_Move]:
        """The cuts of one group each that should save a share ``wanted`` and lose least for what they save."""
        whole = self._graph.macs(self.with_(None))
        found = []
        for name, kept in self._kept.items():
            room = kept - self._least[name]
            if room <= 0 or not self._times[name]:
                continue
            over = kept % self._round_to  # the first step leaves a multiple
            one = min(room, over or self._round_to)
            saves = 1 - self._graph.macs(self.with_(_Move(name, one, 0, 0))) / whole
            steps = max(1, math.ceil(wanted * one / (saves * self._round_to))) if saves > 0 else room
            entries = min(room, one + self._round_to * (steps * self._times[name] - 1))
            saved = 1 - self._graph.macs(self.with_(_Move(name, entries, 0, 0))) / whole
            if saved > 0:
                found.append(_Move(name, entries, self._loses(name, entries), saved))
        return sorted(found, key=lambda move: move.loses / move.saves)[:TRIED]

    def once_more(self, wanted: float) -> list[_Move]:
        """All groups' cuts again: the first time, and later if those kept since saved enough."""
        if self._saved < AGAIN:
            return []
        self._saved = 0.0
        self._times = dict.fromkeys(self._times, 1)
        return self.moves(wanted)

    def refuse(self, move: _Move) -> None:
        """Try more of the group next time; where there is no more, nothing."""
        more = move.entries < self._kept[move.group] - self._least[move.group]
        self._times[move.group] = LARGER * self._times[move.group] if more else 0

    def take(self, move: _Move, saved: float) -> None:
        """Keep ``move``, which saved a share ``saved`` of the latency."""
        self._kept[move.group] -= move.entries
        self._times[move.group] = 1
        self._saved += saved

    def _loses(self, name: str, entries: int) -> float:
        """The scores of what goes."""
        return float(self._scores[name][self._kept[name] - entries : self._kept[name]].sum())
