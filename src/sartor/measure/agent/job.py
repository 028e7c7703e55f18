"""One job of the agent in a process of its own, which can be killed: ``python -m sartor.measure.agent.job``.

Reads a JSON line from stdin and writes ``result`` (JSON) or ``outputs`` (arrays) into the folder named there.
"""

from __future__ import annotations

import contextlib
import json
import os
import resource
import sys
from pathlib import Path
from typing import Any

from sartor.errors import InputError, SartorError
from sartor.machine import available_bytes, end_with_parent
from sartor.measure.agent.wire import one_line, read_arrays, write_arrays
from sartor.measure.targets.named import open_target
from sartor.measure.untrusted import elsewhere

_STARTING_S = 3.0
"""Of the time of a job, what starting this process and loading the files may take."""


def main() -> None:
    """Do the job that stdin tells."""
    job: dict[str, Any] = json.loads(sys.stdin.readline())
    _bound()
    if os.getppid() != job["agent"]:  # it died before it could take this process along
        return
    folder, files = Path(job["folder"]), [Path(file) for file in job["files"]]
    try:
        for file in files:
            if elsewhere(file):
                raise InputError(f"{file} keeps weights in other files: save it as one, an agent opens no others")
        target = open_target(job["target"], job["threads"])
        if job["do"] == "run":
            (folder / "outputs").write_bytes(
                write_arrays(target.run(files[0], read_arrays((folder / "in").read_bytes())))
            )
            result: dict[str, Any] = {}
        else:
            each = max(0.01, 0.8 * (job["max_time_s"] - _STARTING_S) / len(files))
            budget_s = each if job["budget_s"] is None else min(each, job["budget_s"])
            latencies = target.latencies(
                files, runs=job["runs"], min_time_s=job["min_time_s"], budget_s=budget_s, batch=job["batch"]
            )
            result = {"latencies": [latency.to_dict() for latency in latencies]}
    except SartorError as error:
        result = {"error": _without_folder(str(error), files)}
    except MemoryError:
        result = {"error": "there is not enough memory for it"}
    except Exception as error:  # a runtime's own: one file's trouble is told, and the next job is another process
        result = {"error": _without_folder(f"{type(error).__name__}: {error}", files)}
    (folder / "result").write_text(json.dumps(result, allow_nan=False))


def _bound() -> None:
    """This process ends with its agent, and takes no more memory than there is: shapes are the sender's."""
    end_with_parent()
    with contextlib.suppress(OSError, ValueError):
        resource.setrlimit(resource.RLIMIT_DATA, (available_bytes(), resource.RLIM_INFINITY))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def _without_folder(text: str, files: list[Path]) -> str:
    """Files by their hash, as the sender knows them, and nothing of this machine's paths."""
    for file in files:
        text = text.replace(str(file), file.stem)
    return one_line(text)


if __name__ == "__main__":
    main()
