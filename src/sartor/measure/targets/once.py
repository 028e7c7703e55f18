"""The process of a trial: ``python -m sartor.measure.targets.once TARGET THREADS BATCH SECONDS FILE...``.

Prints what memory it held at most, in bytes, before it loaded the files and in all.
"""

from __future__ import annotations

import contextlib
import resource
import sys
from pathlib import Path

from sartor.errors import SartorError
from sartor.machine import available_bytes, bound
from sartor.measure.targets.local import Local
from sartor.measure.targets.named import open_target


def main(target: str, threads: str, batch: str, seconds: str, *files: str) -> None:
    """Load ``files`` and call each once, within limits. See ``measure.trial``."""
    bound(resource.RLIMIT_CORE, 0)
    bound(resource.RLIMIT_CPU, int(seconds) * int(threads))
    bound(resource.RLIMIT_DATA, available_bytes())
    runner = open_target(target, int(threads))
    assert isinstance(runner, Local), f"{target} does not run in this process"
    before = peak_rss_bytes()
    with runner.running():
        calls = [runner.call(Path(file), int(batch)) for file in files]
    print(before, peak_rss_bytes())
    del calls  # until here they were all loaded


def peak_rss_bytes() -> int:
    """The most memory that this process had at once. Not ``ru_maxrss`` where it can be helped: on Linux that begins at
    what the process had that started this one."""
    with contextlib.suppress(OSError, ValueError, IndexError, StopIteration):
        lines = Path("/proc/self/status").read_text().splitlines()
        return int(next(line for line in lines if line.startswith("VmHWM:")).split()[1]) * 1024
    most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most if sys.platform == "darwin" else most * 1024


if __name__ == "__main__":
    try:
        main(*sys.argv[1:])
    except SartorError as error:
        print(error, file=sys.stderr)
        sys.exit(error.exit_code)
