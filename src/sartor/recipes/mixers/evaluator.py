"""An evaluator of sources: each in a process of its own, which has an end."""

from __future__ import annotations

import contextlib
import json
import math
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from sartor.errors import InputError
from sartor.recipes.mixers.reading import read
from sartor.records import Arch
from sartor.search.loop import NotMeasured


@dataclass(frozen=True)
class TrainedMixer:
    """What a small language model with the layers of an arch of :class:`sartor.space.sources.Sources` comes to, learnt
    from the characters of the file ``text``.

    The model is ``depth`` layers of ``width``, trained for ``steps`` batches of ``rows`` windows of ``context``
    characters of the first eight tenths. ``loss`` (nats a character) and ``accuracy`` (of the next one) are of
    ``windows`` windows in the ninth tenth, or, ``split="test"``, the last, which a search must not see.

    Refused, with NotMeasured: what :func:`~sartor.recipes.mixers.reading.read` and
    :func:`~sartor.recipes.mixers.checks.check` refuse, before and after the training; what has more than
    ``most_params`` parameters; whose cost grows with more than the power ``growth`` of its tokens; and what takes more
    than ``seconds``, or ``memory_bytes``. The process has no network, other process or file; that is no security
    boundary (see the package).
    """

    text: Path | str
    width: int = 64
    depth: int = 2
    context: int = 128
    steps: int = 300
    rows: int = 16
    lr: float = 3e-3
    windows: int = 64
    seed: int = 0
    split: str = "validation"
    most_params: int | None = None
    growth: float = 1.3
    seconds: float = 900.0
    memory_bytes: int = 4 * 2**30
    threads: int = 1

    def __post_init__(self) -> None:
        sizes = (self.width, self.depth, self.context, self.steps, self.rows, self.windows, self.threads)
        if min(sizes) < 1 or not (math.isfinite(self.seconds) and self.seconds > 0) or self.memory_bytes < 2**28:
            raise InputError("sizes, steps and seconds must be positive, and memory_bytes at least 2**28")
        if not (math.isfinite(self.lr) and self.lr > 0 and self.growth > 0):
            raise InputError(f"lr and growth must be positive, not {self.lr} and {self.growth}")
        if self.split not in ("validation", "test"):
            raise InputError(f"split must be validation or test, not {self.split!r}")
        if not Path(self.text).is_file():
            raise InputError(f"{self.text} is missing: name a file of text")

    def __call__(self, arch: Arch) -> Mapping[str, float]:
        """The metrics. Raises NotMeasured with the reason where the source is refused."""
        source = str(arch["source"])
        try:
            read(source)
        except InputError as error:
            raise NotMeasured(str(error)) from error
        cpu_s = math.ceil(self.seconds * self.threads) + 1
        own = {"text": str(Path(self.text).resolve()), "source": source, "cpu_s": cpu_s, "parent": os.getpid()}
        job = {**asdict(self), **own}
        with tempfile.TemporaryDirectory(prefix="sartor-mixer-") as scratch:
            answer = self._answer(json.dumps(job), Path(scratch))
        if "refused" in answer:
            raise NotMeasured(str(answer["refused"]))
        metrics: dict[str, float] = answer["metrics"]
        return metrics

    def _answer(self, job: str, scratch: Path) -> dict[str, dict[str, float]]:
        """What the process said. Nothing of this process's environment is its own but where Python is."""
        environment = {
            "PATH": os.environ.get("PATH", ""),
            "PYTHONPATH": os.pathsep.join(filter(None, map(os.path.abspath, filter(None, sys.path)))),
            "PYTHONDONTWRITEBYTECODE": "1",
            "OMP_NUM_THREADS": str(self.threads),
            "HOME": str(scratch),
            "TMPDIR": str(scratch),
        }
        process = subprocess.Popen(
            [sys.executable, "-m", "sartor.recipes.mixers.job"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env=environment,
            cwd=scratch,
            start_new_session=True,
            text=True,
        )
        try:
            said, _ = process.communicate(job + "\n", timeout=self.seconds)
        except subprocess.TimeoutExpired as error:
            raise NotMeasured(f"it was not done after {self.seconds:g} s") from error
        finally:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        if process.returncode == -signal.SIGXCPU:
            raise NotMeasured(f"it was not done after {self.seconds:g} s of the processor")
        try:
            answer: dict[str, dict[str, float]] = json.loads(said)
        except ValueError as error:
            how = f"signal {-process.returncode}" if process.returncode < 0 else f"exit code {process.returncode}"
            raise NotMeasured(f"its process ended with {how} and no answer: it may need too much memory") from error
        return answer
