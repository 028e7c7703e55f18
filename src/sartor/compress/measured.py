"""Pruning to a measured latency: what does not pay on the target is not cut.

Multiply-accumulates say little about milliseconds: a runtime pads channels to its vectors, and a layer that waits for
memory is as slow with half of its weights. So every step is measured, as in NetAdapt (arXiv:1804.03230 §3.2): several
cuts are tried side by side, and the one that loses least for each millisecond it saves is kept. Ours differ in what a
cut is (a group of the graph, whatever it ties, not a layer; or a whole block), in how it is chosen (by a criterion over
all that the group ties, no short training of each), and in that a cut which saved less than it should is undone and
tried again only with more entries; of the last cut only as much goes as is needed. A group is done with once all that
may go of it did not pay; where nothing is left to try, all are tried once more if cuts since the last time saved
enough: what pays changes with the others' sizes, and a timing may have been disturbed. Criteria that see data judge
again what is left, each time that enough went.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import torch

from sartor.compress.choose import BLOCKS, free_blocks, inside, ordered, rounded
from sartor.compress.prune import check_protected, criterion_for
from sartor.compress.statistics import recalibrated
from sartor.errors import BudgetError, InputError
from sartor.graph import Cut, Graph
from sartor.graph.gates import gated
from sartor.graph.groups import protected
from sartor.graph.saliency import LOSS_UNITS, SEE_DATA, Evidence, Saliency, Scores, fishers

Latencies = Callable[[Sequence[Cut]], Sequence[float]]
"""Milliseconds that the graph's network takes on the target after each of these cuts, measured side by side. Cuts, not
the networks they leave: files are made of them in milliseconds (:class:`sartor.export.drafts.Drafts`)."""

TRIED = 5
"""Cuts measured side by side in each round. A choice: up to a second of the target's time each is what it costs."""

SHARE = 0.08
"""Of the latency that one round is to save, or a third of what is left to save where that is more. A choice."""

PAYS = 0.25
"""A cut is undone that saves less than this share of what its multiply-accumulates promised."""

AGAIN = SHARE / 4
"""Of the latency: what cuts are to have saved before groups that did not pay are tried again. Less is noise."""

JUDGED_AGAIN = 0.15
"""Of the latency: what cuts are to have saved before criteria that see data are asked again. A choice: half of the
latency goes in about as many judgements as rounds of :func:`sartor.compress.prune.prune`."""

SPARE = 0.95
"""Of the latency asked for: a cut that leaves less is made smaller. Closer is what a timing is sure of. A choice."""

LARGER = 3
"""Times as many entries are tried of a group that did not pay: vectors are 8 or 16 channels long."""


@dataclass(frozen=True)
class Tried:
    """One cut that was measured: how many entries of ``group`` it took, latencies before and after, whether it stayed.
    Of a whole block ``group`` is the path, and there are no ``entries``."""

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
    saliency: str | Saliency | None = None,
    depth: bool = False,
    evidence: Evidence | None = None,
    protect: Sequence[str] = (),
    least: float = 0.1,
    round_to: int = 1,
    margin: float = 1.0,
    on_round: Callable[[float], None] = lambda ms: None,
) -> tuple[Cut, list[Tried]]:
    """The cut of ``graph`` under which its network takes at most ``max_ms``, as ``latencies`` measures, and all that
    was tried. Nothing is trained. ``saliency``: as for :func:`sartor.compress.prune.prune`. ``depth``: whole blocks
    may go, too (those of ``Graph.blocks``; by ``fisher``). ``margin``: the share of ``max_ms`` to stop at.

    Raises BudgetError naming the nearest that was reached.
    """
    if not (math.isfinite(max_ms) and max_ms > 0):
        raise InputError(f"a latency is a number of milliseconds above 0, not {max_ms!r}")
    if round_to < 1 or not 0 <= least <= 1:
        raise InputError(f"round_to is at least 1 and least is a share, not {round_to}, {least}")
    evidence = evidence or Evidence()
    name, criterion = criterion_for(saliency, evidence, depth=depth)
    if depth and name != "fisher":
        raise InputError("with depth, entries and blocks compare by fisher: leave the saliency out")

    def judge(cut: Cut) -> tuple[Scores, Mapping[str, float]]:
        with gated(graph, cut):
            if cut.keep or cut.without:
                recalibrated(graph.model, evidence)
            scores, blocks = fishers(graph, evidence) if depth else (criterion(graph, evidence), {})
        if name not in LOSS_UNITS:  # groups of any size and depth are compared by what is usual in them
            usual = {group: values[list(cut.keep.get(group, range(len(values))))] for group, values in scores.items()}
            scores = {group: values / usual[group].mean().clamp(min=1e-30) for group, values in scores.items()}
        return scores, blocks

    search = _Search(graph, judge, protect, least, round_to)
    tried: list[Tried] = []
    (now,) = latencies([Cut({})])
    on_round(now)
    while now > margin * max_ms:
        needed = 1 - margin * max_ms / now
        moves = search.moves(needed) or search.once_more(needed)
        if not moves:
            raise BudgetError(f"{max_ms:g} ms cannot be reached: {now:.3g} ms is the least that cuts of it measured")
        now, *after = latencies([search.with_(move) for move in (None, *moves)])
        worth = []
        for move, ms in zip(moves, after, strict=True):
            pays = now - ms >= PAYS * move.saves * now
            if not pays:
                search.refuse(move)
            saved = min(now - ms, needed * now)  # more than is needed is of no use
            worth.append((move.loses / max(saved, 1e-12) if pays else math.inf, move, ms))
        price, best, ms = min(worth, key=lambda w: w[0])
        measured = [(move, after) for _, move, after in worth]
        too_few = 0 if price < math.inf and ms < SPARE * margin * max_ms else best.entries
        while parts := search.parts(best, too_few):
            took = list(zip(parts, latencies([search.with_(part) for part in parts]), strict=True))
            measured += took
            for part, t in reversed(took):  # from the largest
                if t > margin * max_ms:
                    too_few = part.entries
                    break
                best, ms = part, t
        tried += [Tried(m.name, m.entries, now, t, m is best and price < math.inf) for m, t in measured]
        if price < math.inf:
            search.take(best, 1 - ms / now)
            now = ms
            if name in SEE_DATA and now > margin * max_ms:
                search.judge_again()
            on_round(now)
    return search.with_(None), tried


@dataclass(frozen=True)
class _Move:
    """``entries`` of a group; or all of a block, whose path is the ``name``. ``saves``: the share of the
    multiply-accumulates that goes."""

    name: str
    entries: int
    loses: float = 0.0
    saves: float = 0.0
    block: bool = False


class _Search:
    """Where a pruning to latency stands: how many entries of each group are kept, which blocks are gone, and which of
    both are done with. ``judge``: what the entries and blocks that are left count."""

    def __init__(
        self,
        graph: Graph,
        judge: Callable[[Cut], tuple[Scores, Mapping[str, float]]],
        protect: Sequence[str],
        least: float,
        round_to: int,
    ):
        check_protected(graph, protect)
        self._graph = graph
        self._judge = judge
        self._round_to = round_to
        self._groups = [group for group in graph.groups if not protected(group, protect)]
        self._least = {g.name: rounded(max(1, math.ceil(least * g.size)), g.size, round_to) for g in self._groups}
        self._kept = {group.name: group.size for group in self._groups}
        self._without: tuple[str, ...] = ()
        scores, blocks = judge(Cut({}))
        self._order = {group.name: ordered(group, scores).tolist() for group in self._groups}
        self._scores = {g.name: scores[g.name][self._order[g.name]] for g in self._groups}
        self._blocks = {path: BLOCKS * blocks[path] for path in free_blocks(graph, blocks, protect)}
        self._times = dict.fromkeys(self._kept, 1)
        self._refused: set[str] = set()
        self._saved = math.inf
        self._unjudged = 0.0

    def with_(self, move: _Move | None) -> Cut:
        """What is kept now, and after ``move``."""
        kept, without = self._kept, self._without
        if move is not None and move.block:
            without = (*without, move.name)
        elif move is not None:
            kept = {**kept, move.name: kept[move.name] - move.entries}
        away = inside(self._groups, without)
        keep = {n: tuple(sorted(order[: kept[n]])) for n, order in self._order.items() if kept[n] < len(order)}
        return self._graph.completed(Cut({n: k for n, k in keep.items() if n not in away}, without), self._order)

    def moves(self, needed: float) -> list[_Move]:
        """The cuts of one group or block each that should save a part of the share ``needed`` and lose least for what
        they save of it."""
        wanted = max(SHARE, needed / 3)
        whole = self._graph.macs(self.with_(None))
        saving = lambda move: 1 - self._graph.macs(self.with_(move)) / whole
        away = inside(self._groups, self._without)
        found = []
        for name, kept in self._kept.items():
            room = kept - self._least[name]
            if room <= 0 or not self._times[name] or name in away:
                continue
            over = kept % self._round_to  # the first step leaves a multiple
            one = min(room, over or self._round_to)
            saves = saving(_Move(name, one))
            steps = max(1, math.ceil(wanted * one / (saves * self._round_to))) if saves > 0 else room
            entries = min(room, one + self._round_to * (steps * self._times[name] - 1))
            found.append(_Move(name, entries, self._loses(name, entries), saving(_Move(name, entries))))
        for path, loses in self._blocks.items():
            if path not in self._without and path not in self._refused:
                found.append(_Move(path, 0, loses, saving(_Move(path, 0, block=True)), block=True))
        price = lambda move: move.loses / min(move.saves, needed)
        return sorted((move for move in found if move.saves > 0), key=price)[:TRIED]

    def parts(self, move: _Move, too_few: int) -> list[_Move]:
        """Smaller cuts of the same group, of more than ``too_few`` entries, in even steps; none of a whole block."""
        steps = max(0, (move.entries - too_few - 1) // self._round_to)  # what is left stays a multiple
        taken = {math.ceil(steps * part / TRIED) for part in range(1, TRIED + 1)} - {0}
        return [replace(move, entries=move.entries - self._round_to * step) for step in sorted(taken, reverse=True)]

    def once_more(self, needed: float) -> list[_Move]:
        """All groups' and blocks' cuts again: the first time, and later if those kept since saved enough."""
        if self._saved < AGAIN:
            return []
        self._saved = 0.0
        self._times = dict.fromkeys(self._times, 1)
        self._refused.clear()
        return self.moves(needed)

    def refuse(self, move: _Move) -> None:
        """Try more of the group next time; where there is no more, nothing."""
        if move.block:
            self._refused.add(move.name)
            return
        more = move.entries < self._kept[move.name] - self._least[move.name]
        self._times[move.name] = LARGER * self._times[move.name] if more else 0

    def take(self, move: _Move, saved: float) -> None:
        """Keep ``move``, which saved a share ``saved`` of the latency."""
        if move.block:
            self._without = (*self._without, move.name)
        else:
            self._kept[move.name] -= move.entries
            self._times[move.name] = 1
        self._saved += saved
        self._unjudged += saved

    def judge_again(self) -> None:
        """Ask what is left for its worth, where enough went since the last time; what is gone stays so."""
        if self._unjudged < JUDGED_AGAIN:
            return
        self._unjudged = 0.0
        scores, blocks = self._judge(self.with_(None))
        for group in self._groups:
            kept = self._kept[group.name]
            stays = torch.zeros(group.size, dtype=torch.bool)
            stays[self._order[group.name][:kept]] = True
            best = ordered(group, scores)
            order = torch.cat([best[stays[best]], torch.tensor(self._order[group.name][kept:], dtype=best.dtype)])
            self._order[group.name], self._scores[group.name] = order.tolist(), scores[group.name][order]
        self._blocks |= {path: BLOCKS * value for path, value in blocks.items() if path in self._blocks}

    def _loses(self, name: str, entries: int) -> float:
        """The scores of what goes."""
        return float(self._scores[name][self._kept[name] - entries : self._kept[name]].sum())
