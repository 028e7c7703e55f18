"""A learning curve that outlives the process: loss and learning rate by step and second of the run."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from sartor import disk
from sartor.recipes.plan import Clock
from sartor.train.loop import Training

POINTS = 300
"""Points kept; when there are twice as many, every other one goes."""

SAVE_EVERY = 50
"""Points between two writes: what a kill loses of the picture, never of the training."""


class Curve:
    """``add`` takes what the loop reports each step. What an earlier process wrote to ``path`` is gone on with."""

    def __init__(self, name: str, path: Path, clock: Clock):
        self.name, self._path, self._clock = name, path, clock
        self._held: dict[str, Any] = {"every": 1, "points": []}
        if path.exists():
            self._held = disk.read_json(path)

    def add(self, state: Training, loss: float, lr: float) -> None:
        """Note a step; steps that a resumed training repeats replace what was noted."""
        points, every = self._held["points"], self._held["every"]
        if state.step % every:
            return
        while points and points[-1]["step"] >= state.step:
            points.pop()
        seconds = round(self._clock.elapsed, 2)
        points.append({"seconds": seconds, "step": state.step, "loss": round(loss, 5), "lr": round(lr, 6)})
        if len(points) >= 2 * POINTS:
            self._held = {"every": 2 * every, "points": points[1::2]}
        if len(points) % SAVE_EVERY == 0:
            self.save()

    def save(self) -> None:
        disk.write_json(self._path, self._held)

    def to_dict(self) -> dict[str, Any]:
        return {"name": self.name, "points": self._held["points"]}
