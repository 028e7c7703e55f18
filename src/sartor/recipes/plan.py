"""How a fit spends its time.

The shares are a first guess that the fits in docs/log.md used, not the outcome of an ablation. A stage that ends early
or late gives the difference to those after it: every stage gets its share of what is left.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

from sartor.recipes.journal import Journal

STAGES = {
    "probe": ("measure the device, size the space, race the operators", 0.06),
    "supernet": ("train one set of weights for all networks", 0.30),
    "search": ("search, beside random sampling at equal cost", 0.05),
    "specialise": ("train the front's members on, with the largest as teacher", 0.53),
    "prove": ("export, quantise, check, measure every member", 0.06),
}
"""Stage → what it does, its share of the time. The data's opening and the report come out of the last one's slack."""


@dataclass(frozen=True)
class Plan:
    """Seconds a stage, in order."""

    seconds: dict[str, float]

    def to_dict(self) -> dict[str, Any]:
        return {"stages": [{"name": n, "what": STAGES[n][0], "seconds": round(s, 1)} for n, s in self.seconds.items()]}

    def lines(self) -> list[str]:
        """The plan as people read it."""
        width = max(len(name) for name in self.seconds)
        return [f"  {name:<{width}}  {_clock(s):>7}  {STAGES[name][0]}" for name, s in self.seconds.items()]


def plan(time_s: float) -> Plan:
    """The plan of a fit of ``time_s`` seconds."""
    return Plan({name: share * time_s for name, (_, share) in STAGES.items()})


def _clock(seconds: float) -> str:
    return f"{int(seconds // 60)}m {int(seconds % 60):02d}s" if seconds >= 60 else f"{seconds:.0f}s"


class Clock:
    """Seconds of work of a run over all its processes: time it was not running does not count."""

    def __init__(self, journal: Journal):
        self._journal = journal
        self._start, self._before = time.monotonic(), 0.0

    @property
    def elapsed(self) -> float:
        return self._before + time.monotonic() - self._start

    def begin(self, stage: str, time_s: float) -> float:
        """The seconds ``stage`` may take: its share of what is left. Decided once."""
        names = list(STAGES)
        left = {n: STAGES[n][1] for n in names[names.index(stage) :]}

        def decide() -> dict[str, float]:
            return {"at": self.elapsed, "seconds": max(1.0, (time_s - self.elapsed) * left[stage] / sum(left.values()))}

        decided = self._journal.once(f"{stage}.begin", decide)
        self._start, self._before = time.monotonic(), max(self.elapsed, decided["at"])
        return float(decided["seconds"])

    def end(self, stage: str) -> float:
        """Note that ``stage`` is done; a resumed run's clock jumps to where it was. Returns the stage's seconds."""
        at = float(self._journal.once(f"{stage}.end", lambda: self.elapsed))
        if at > self.elapsed:
            self._start, self._before = time.monotonic(), at
        return at - float(self._journal.once(f"{stage}.begin", lambda: {"at": at, "seconds": 0.0})["at"])
