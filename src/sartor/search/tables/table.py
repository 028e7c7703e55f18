"""A table of evaluated archs as a problem to search: what is seen, what is judged by, and what there is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from sartor.errors import InputError
from sartor.records import Arch, Record
from sartor.search.objective import Objective
from sartor.search.trace import Problem
from sartor.space import Space
from sartor.space.fidelity import Fidelities
from sartor.space.listed import Listed


@dataclass(frozen=True)
class Table:
    """``rows``: the metrics of every arch. A search sees the metrics of ``objectives``, and is judged by ``verdict``,
    which it never sees where that is another one. ``near``: how far from the best verdict is good enough, in its unit.
    ``note``: what was left out of the file, or averaged.

    Where ``space`` has fidelities, an arch is evaluated at one of them, and costs what that does."""

    name: str
    space: Space
    rows: Mapping[Arch, Mapping[str, float]]
    objectives: tuple[Objective, ...]
    verdict: Objective
    near: float = 0.0
    note: str = ""

    def evaluate(self, arch: Arch) -> dict[str, float]:
        """What a search may see of ``arch``."""
        row = self.rows[arch]
        return {o.metric: row[o.metric] for o in self.objectives}

    def judge(self, arch: Arch) -> float:
        return self.rows[arch][self.verdict.metric]

    def cost(self, arch: Arch) -> float:
        """What an evaluation of ``arch`` costs, in full ones."""
        return self.space.cost(arch) if isinstance(self.space, Fidelities) else 1.0

    def best_so_far(self, history: Sequence[Record]) -> list[float]:
        """The verdict on the best, by what the search saw first of its objectives, after each evaluation: the best of
        those at the highest fidelity that was reached, for what was seen at different ones does not compare."""
        seen, found = self.objectives[0], []
        best: Record | None = None
        for record in history:
            level = 0.0 if best is None else self.cost(record.arch) - self.cost(best.arch)
            if (
                best is None
                or level > 0
                or (level == 0 and seen.cost(record.metrics[seen.metric]) < seen.cost(best.metrics[seen.metric]))
            ):
                best = record
            found.append(self.judge(best.arch))
        return found

    @property
    def problem(self) -> Problem:
        """What is searched here, for an audit and for pictures. Raises InputError where there are fidelities: they hold
        evaluations against each other that cost the same."""
        if isinstance(self.space, Fidelities):
            raise InputError(f"{self.name} has fidelities: audit and draw the table without them")
        verdict = self.verdict if self.verdict.metric != self.objectives[0].metric else None
        return Problem(self.name, self.objectives, verdict, len(self.rows), self.best, self.near)

    @cached_property
    def best(self) -> float:
        """The best verdict there is."""
        values = [row[self.verdict.metric] for row in self.rows.values()]
        return max(values) if self.verdict.maximise else min(values)


def table_of(
    name: str,
    whole: Space,
    rows: Sequence[tuple[Mapping[str, object], Mapping[str, float]]],
    objectives: Sequence[Objective],
    verdict: Objective,
    *,
    near: float = 0.0,
    note: str = "",
) -> Table:
    """A table of ``rows``: options, of which inactive ones are ignored, and metrics. The mean of rows of one arch.

    Its space is ``whole``, or where archs of that are missing, those that are there. Raises InputError where there are
    no rows, or a row does not fit the choices.
    """
    found: dict[Arch, list[Mapping[str, float]]] = {}
    for options, metrics in rows:
        found.setdefault(whole.canonical(options), []).append(metrics)  # type: ignore[arg-type]
    if not found:
        raise InputError(f"{name} has no rows to search")
    wanted = list(dict.fromkeys([*(o.metric for o in objectives), verdict.metric]))
    held = {arch: {m: sum(r[m] for r in same) / len(same) for m in wanted} for arch, same in found.items()}
    repeated = len(rows) - len(held)
    notes = [note] if note else []
    if repeated:
        notes.append(f"{repeated:,} rows of archs that were there already are averaged with them")
    space = whole if whole.count() == len(held) else Listed(whole.choices, tuple(held))
    return Table(name, space, held, tuple(objectives), verdict, near, "; ".join(notes))
