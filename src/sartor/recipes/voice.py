"""What a fit says while it works: the plan, a progress bar with ETA a stage, one line a result."""

from __future__ import annotations

import contextlib
import sys
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import IO

from rich.console import Console
from rich.progress import BarColumn, Progress, ProgressColumn, Task, TextColumn, TimeElapsedColumn
from rich.text import Text

Tick = Callable[[float, str], None]
"""``tick(share, note)``: how much of the stage is done, in [0, 1], and a few words."""


SURE = 0.1
"""The share of a stage after which its own pace tells what is left of it; before, the plan does."""


class Left(ProgressColumn):
    """Time left in a stage. Counts down between ticks, which may be a minute apart: Rich's own column stands still
    there, or forgets them."""

    def render(self, task: Task) -> Text:
        return Text(_clock(left(task.completed, task.fields["at"], task.fields["planned"], task.elapsed or 0.0)))


def left(share: float, at: float, planned: float | None, elapsed: float) -> float | None:
    """Seconds left of a stage that had done ``share`` at ``at`` seconds and was planned to take ``planned``; None where
    nothing tells."""
    total = at / share if share >= SURE else planned
    return None if total is None else max(0.0, total - elapsed)


def _clock(seconds: float | None) -> str:
    return "-:--:--" if seconds is None else str(timedelta(seconds=round(seconds)))


class Voice:
    """``verbosity`` 0 says nothing, 1 results and bars (bars on a terminal only), 2 details too. Speaks on stderr, so
    that stdout stays for what a program reads, unless told otherwise."""

    def __init__(self, verbosity: int = 1, file: IO[str] | None = None, *, terminal: bool | None = None):
        self.verbosity = verbosity
        self._console = Console(file=file or sys.stderr, highlight=False, soft_wrap=True, force_terminal=terminal)

    def say(self, text: str) -> None:
        if self.verbosity >= 1:
            self._console.print(text, markup=False)

    def detail(self, text: str) -> None:
        if self.verbosity >= 2:
            self._console.print(text, markup=False, style="dim")

    @contextlib.contextmanager
    def stage(self, title: str, seconds: float | None = None) -> Iterator[Tick]:
        """A bar for one stage, planned to take ``seconds``. Without a terminal it is one line at the start."""
        if self.verbosity < 1 or not self._console.is_terminal:
            self.say(f"· {title}")
            yield lambda share, note: None
            return
        columns = (
            TextColumn("{task.description}"),
            BarColumn(bar_width=28),
            TextColumn("{task.percentage:>3.0f}%"),
            TimeElapsedColumn(),
            TextColumn("left"),
            Left(),
            TextColumn("{task.fields[note]}", style="dim"),
        )
        with Progress(*columns, console=self._console, refresh_per_second=4) as bars:
            task = bars.add_task(title, total=1.0, note="", at=0.0, planned=seconds)
            begin = time.monotonic()

            def tick(share: float, note: str) -> None:
                bars.update(task, completed=share, note=note, at=time.monotonic() - begin)

            yield tick
            tick(1.0, "")
