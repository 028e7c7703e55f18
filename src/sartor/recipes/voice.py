"""What a fit says while it works: the plan, a progress bar with ETA a stage, one line a result."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

Tick = Callable[[float, str], None]
"""``tick(share, note)``: how much of the stage is done, in [0, 1], and a few words."""


class Voice:
    """``verbosity`` 0 says nothing, 1 results and bars (bars on a terminal only), 2 details too. Speaks on stderr, so
    that stdout stays for what a program reads."""

    def __init__(self, verbosity: int = 1):
        self.verbosity = verbosity
        self._console = Console(file=sys.stderr, highlight=False, soft_wrap=True)

    def say(self, text: str) -> None:
        if self.verbosity >= 1:
            self._console.print(text, markup=False)

    def detail(self, text: str) -> None:
        if self.verbosity >= 2:
            self._console.print(text, markup=False, style="dim")

    @contextlib.contextmanager
    def stage(self, title: str) -> Iterator[Tick]:
        """A bar for one stage. Without a terminal it is one line at the start."""
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
            TimeRemainingColumn(elapsed_when_finished=False),
            TextColumn("{task.fields[note]}", style="dim"),
        )
        with Progress(*columns, console=self._console, refresh_per_second=4) as bars:
            task = bars.add_task(title, total=1.0, note="")
            yield lambda share, note: bars.update(task, completed=share, note=note)
            bars.update(task, completed=1.0)
