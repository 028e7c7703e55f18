"""A cut chosen in rounds: criteria judge entries one by one, as if all others stayed; what is left is judged anew."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from sartor.compress.choose import choose
from sartor.compress.statistics import recalibrated
from sartor.graph import Cut, Graph
from sartor.graph.gates import gated
from sartor.graph.saliency import Evidence, Saliency, fishers


def in_rounds(
    graph: Graph,
    criterion: Saliency,
    goals: Sequence[Mapping[str, int]],
    evidence: Evidence,
    *,
    depth: bool,
    round_to: int = 1,
    **options: Any,
) -> Iterator[Cut]:
    """The cut to each of ``goals`` (limits of ``macs`` and ``params``, ever tighter), what went for one staying away
    for the next. ``depth``: whole blocks may go, too, and entries and blocks are judged by ``fisher``. ``round_to`` is
    kept to in the last, where what then fits is put back. ``options``: those of :func:`sartor.compress.choose.choose`.

    Raises BudgetError at the first goal that cannot be reached.
    """
    held = graph.completed(Cut({}))
    for number, limits in enumerate(goals, 1):
        last = number == len(goals)
        with gated(graph, held):
            if number > 1:
                recalibrated(graph.model, evidence)
            scores, blocks = fishers(graph, evidence) if depth else (criterion(graph, evidence), {})
        held = choose(
            graph,
            scores,
            limits,
            blocks=blocks,
            held=held,
            round_to=round_to if last else 1,
            fill=last,
            **options,
        )
        yield held
