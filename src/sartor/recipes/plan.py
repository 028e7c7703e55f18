"""How a fit spends its time.

The shares are a choice between the fits in docs/log.md, not the outcome of an ablation. A stage that ends early
or late gives the difference to those after it: every stage gets its share of what is left.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from sartor.recipes.journal import Journal


@dataclass(frozen=True)
class Stage:
    """What a stage does, its share of the time, and the seconds it takes however little time there is."""

    what: str
    share: float
    least_s: float = 0.0


STAGES = {
    "probe": Stage("measure the device, size the space, race the operators", 0.08),
    "supernet": Stage("train one set of weights for all networks", 0.27),
    "search": Stage("search, beside random sampling at equal cost", 0.07, least_s=10.0),
    "specialise": Stage("train the front's members on, with the largest as teacher", 0.52),
    "prove": Stage("export, quantise, check, measure every member", 0.06, least_s=12.0),
}
"""In order. The data's opening and the report come out of the last one's slack."""

GIVEN = STAGES | {"probe": replace(STAGES["probe"], what="judge the network as it came, and what matters in it")}
"""Of a network that was given."""

TAUGHT = GIVEN | {
    "supernet": replace(STAGES["supernet"], share=0.15),
    "specialise": Stage("train the front's members on, taught by the network as it came", 0.64),
}
"""Of one that knows the images: its cuts start near to where they end, and a supernet's step costs as much as those of
three or four of them. A choice between the fits in docs/log.md."""

MOST_FOR_LEAST = 0.5
"""Of the time: what the stages' least seconds may claim of a very short fit."""

MOST_TO_PROVE = 0.2
"""Of the time: what writing the members' files may take before there are fewer of them. Small networks' take little; a
large one's take seconds each. A choice."""


def split(
    seconds: float,
    names: Sequence[str],
    needs: Mapping[str, float] | None = None,
    stages: Mapping[str, Stage] = STAGES,
) -> dict[str, float]:
    """``seconds`` among the stages ``names`` by their shares; a stage whose share is too little gets its least, or what
    this run ``needs`` there."""
    least = {n: max(stages[n].least_s, (needs or {}).get(n, 0.0)) for n in names}
    claimed = sum(least.values())
    scale = min(1.0, MOST_FOR_LEAST * seconds / claimed) if claimed else 1.0
    least = {n: needed * scale for n, needed in least.items()}
    fixed: dict[str, float] = {}
    while True:
        free = [n for n in names if n not in fixed]
        rest, shares = seconds - sum(fixed.values()), sum(stages[n].share for n in free)
        short = {n: least[n] for n in free if rest * stages[n].share / shares < least[n]}
        if not short:
            return {n: fixed[n] if n in fixed else rest * stages[n].share / shares for n in names}
        fixed |= short


@dataclass(frozen=True)
class Plan:
    """Seconds a stage, in order."""

    seconds: dict[str, float]
    stages: Mapping[str, Stage]

    def to_dict(self) -> dict[str, Any]:
        return {
            "stages": [
                {"name": n, "what": self.stages[n].what, "seconds": round(s, 1)} for n, s in self.seconds.items()
            ]
        }

    def lines(self) -> list[str]:
        """The plan as people read it."""
        width = max(len(name) for name in self.seconds)
        return [f"  {name:<{width}}  {_clock(s):>7}  {self.stages[name].what}" for name, s in self.seconds.items()]


def plan(time_s: float, stages: Mapping[str, Stage] = STAGES) -> Plan:
    """The plan of a fit of ``time_s`` seconds."""
    return Plan(split(time_s, list(stages), stages=stages), stages)


def provable(time_s: float, seconds_a_file: float, files: int, most: int) -> tuple[int, float]:
    """How many members, ``files`` of each, ``most`` at most and two at least, can be written within ``MOST_TO_PROVE``
    of the time, where one file takes ``seconds_a_file``; and the seconds that takes."""
    each = max(1e-9, seconds_a_file * files)
    n = max(2, min(most, int(MOST_TO_PROVE * time_s / each)))
    return n, n * each


def _clock(seconds: float) -> str:
    return f"{int(seconds // 60)}m {int(seconds % 60):02d}s" if seconds >= 60 else f"{seconds:.0f}s"


class Clock:
    """Seconds of work of a run over all its processes: time it was not running does not count, nor does what a killed
    process did after its last decision. Stamps the journal's decisions. ``needs``: seconds that stages take at least,
    as far as this run knows; ``stages``: and their shares."""

    def __init__(self, journal: Journal):
        self._journal = journal
        self._start, self._before = time.monotonic(), journal.worked
        self.needs: dict[str, float] = {}
        self.stages: Mapping[str, Stage] = STAGES
        journal.stamp = lambda: self.elapsed

    @property
    def elapsed(self) -> float:
        return self._before + time.monotonic() - self._start

    def begin(self, stage: str, time_s: float) -> float:
        """The seconds ``stage`` may take: its share of what is left. Decided once."""
        names = list(self.stages)
        left = names[names.index(stage) :]

        def decide() -> dict[str, float]:
            return {
                "at": self.elapsed,
                "seconds": max(1.0, split(max(0.0, time_s - self.elapsed), left, self.needs, self.stages)[stage]),
            }

        decided = self._journal.once(f"{stage}.begin", decide)
        self._start, self._before = time.monotonic(), max(self.elapsed, decided["at"])
        return float(decided["seconds"])

    def end(self, stage: str) -> float:
        """Note that ``stage`` is done; a resumed run's clock jumps to where it was. Returns the stage's seconds."""
        at = float(self._journal.once(f"{stage}.end", lambda: self.elapsed))
        if at > self.elapsed:
            self._start, self._before = time.monotonic(), at
        return at - float(self._journal.once(f"{stage}.begin", lambda: {"at": at, "seconds": 0.0})["at"])
