"""The process of a trial: ``python -m sartor.measure.targets.once TARGET THREADS BATCH SECONDS FILE``."""

from __future__ import annotations

import resource
import sys
from pathlib import Path

from sartor.errors import SartorError
from sartor.machine import available_bytes
from sartor.measure.targets.local import Local
from sartor.measure.targets.named import open_target


def main(target: str, threads: str, batch: str, seconds: str, file: str) -> None:
    """Load ``file`` and call it once, within limits. See ``measure.trial``."""
    _limit(resource.RLIMIT_CORE, 0)
    _limit(resource.RLIMIT_CPU, int(seconds) * int(threads))
    _limit(resource.RLIMIT_DATA, available_bytes())
    runner = open_target(target, int(threads))
    assert isinstance(runner, Local), f"{target} does not run in this process"
    with runner.running():
        runner.call(Path(file), int(batch))


def _limit(kind: int, most: int) -> None:
    """Never above what was allowed before."""
    hard = resource.getrlimit(kind)[1]
    allowed = most if hard == resource.RLIM_INFINITY else min(most, hard)
    resource.setrlimit(kind, (allowed, hard))


if __name__ == "__main__":
    try:
        main(*sys.argv[1:])
    except SartorError as error:
        print(error, file=sys.stderr)
        sys.exit(error.exit_code)
