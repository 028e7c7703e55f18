"""A process that decodes images: ``python -m sartor.data.worker`` reads requests and writes pixels.

A request is one line of JSON: ``{"places": [...], "channels": c, "resolution": r}``, a place being a path or
``[file descriptor, offset, length]``. The answer is one line ``{"errors": {"3": "reason"}}`` and then
n * c * r * r bytes. It ends when its input does, so it never outlives the process that started it, however that ended.

Rejected: multiprocessing. Forked workers hold the run's lock after a kill -9 and inherit torch's threads in an
unknown state; spawned ones run the user's script again unless it is guarded.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sys
from collections.abc import Sequence

import numpy as np

from sartor.data.decode import Unreadable, decode, hush_pillow
from sartor.data.listing import Place


def read_place(place: Place | Sequence[int]) -> str | bytes:
    """The path, or the bytes that lie at (file descriptor, offset, length)."""
    if isinstance(place, str):
        return place
    descriptor, offset, length = place
    return os.pread(int(descriptor), int(length), int(offset))


def decode_into(sources: Sequence[str | bytes], out: np.ndarray) -> dict[int, str]:
    """Decode ``sources`` into ``out`` (uint8 ``[n, c, r, r]``); the reasons of those that cannot be, by position."""
    errors = {}
    for i, source in enumerate(sources):
        try:
            out[i] = decode(source, out.shape[1], out.shape[2])
        except Unreadable as error:
            out[i] = 0
            errors[i] = error.reason
    return errors


def main() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the parent decides what ends
    hush_pillow()
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "wb")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # a library that prints must not print into the pixels
    for line in sys.stdin.buffer:
        request = json.loads(line)
        places, c, r = request["places"], request["channels"], request["resolution"]
        pixels = np.empty((len(places), c, r, r), dtype=np.uint8)
        errors = decode_into([read_place(place) for place in places], pixels)
        answers.write(json.dumps({"errors": errors}).encode() + b"\n")
        answers.write(pixels.data)
        answers.flush()


if __name__ == "__main__":
    with contextlib.suppress(BrokenPipeError):
        main()
