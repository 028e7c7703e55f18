"""Processes that decode ahead of use, and the threads that talk to them."""

from __future__ import annotations

import contextlib
import json
import os
import queue
import subprocess
import sys
import weakref
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import numpy as np

from sartor.data.listing import Place
from sartor.errors import InputError

Decoded = tuple[np.ndarray, dict[int, str]]
"""Pixels uint8 ``[n, c, r, r]``, and by position the reasons of the images that could not be decoded (zeros there)."""


class Worker:
    """One decoding process, started when first asked and again when it died."""

    def __init__(self, open_files: Sequence[int]):
        self._open_files = tuple(open_files)
        self._process: subprocess.Popen[bytes] | None = None

    def decode(self, places: Sequence[Place], channels: int, resolution: int) -> Decoded:
        request = json.dumps({"places": places, "channels": channels, "resolution": resolution}).encode() + b"\n"
        for _ in range(2):
            try:
                return self._ask(request, (len(places), channels, resolution, resolution))
            except (OSError, EOFError, ValueError):
                self.close()
        raise InputError(
            f"a decoding process died twice on the {len(places)} images from {places[0]} on: free some memory, or "
            "look at these images"
        )

    def _ask(self, request: bytes, shape: tuple[int, ...]) -> Decoded:
        process = self._process = self._process or _start(self._open_files)
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(request)
        process.stdin.flush()
        errors = json.loads(process.stdout.readline())["errors"]
        pixels = np.empty(shape, dtype=np.uint8)
        left = memoryview(pixels.data).cast("B")
        while len(left):
            n = process.stdout.readinto(left)  # type: ignore[attr-defined]
            if not n:
                raise EOFError
            left = left[n:]
        return pixels, {int(i): reason for i, reason in errors.items()}

    def close(self) -> None:
        """End the process. The next request starts another."""
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            for pipe in (process.stdin, process.stdout):
                with contextlib.suppress(OSError):
                    pipe.close()  # type: ignore[union-attr]
            process.wait()


def _start(open_files: tuple[int, ...]) -> subprocess.Popen[bytes]:
    home = str(Path(__file__).resolve().parents[2])
    path = os.pathsep.join([home, *filter(None, [os.environ.get("PYTHONPATH")])])
    return subprocess.Popen(
        [sys.executable, "-m", "sartor.data.worker"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        pass_fds=open_files,
        env={**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"},
    )


class Decoders:
    """``n`` processes that share one queue of batches. A thread waits for each, since pipes block at both ends.

    Owns ``open_files``, which the processes inherit, and closes them when it is closed or forgotten.
    """

    def __init__(self, n: int, channels: int, resolution: int, open_files: Sequence[int] = ()):
        self.n, self.channels, self.resolution = n, channels, resolution
        self._free: queue.SimpleQueue[Worker] = queue.SimpleQueue()
        workers = [Worker(open_files) for _ in range(n)]
        for worker in workers:
            self._free.put(worker)
        self._threads = ThreadPoolExecutor(n, thread_name_prefix="sartor-decode")
        self.close = weakref.finalize(self, _close, self._threads, workers, tuple(open_files))

    def submit(self, places: Sequence[Place]) -> Future[Decoded]:
        """Decode one batch in one process, as soon as one is free."""
        return self._threads.submit(_decode, self._free, places, self.channels, self.resolution)


def _decode(free: queue.SimpleQueue[Worker], places: Sequence[Place], channels: int, resolution: int) -> Decoded:
    worker = free.get()
    try:
        return worker.decode(places, channels, resolution)
    finally:
        free.put(worker)


def _close(threads: ThreadPoolExecutor, workers: list[Worker], open_files: tuple[int, ...]) -> None:
    threads.shutdown(wait=True, cancel_futures=True)
    for worker in workers:
        worker.close()
    for descriptor in open_files:
        os.close(descriptor)
