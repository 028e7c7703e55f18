"""The images of a split, in memory or streamed from disk, by index."""

from __future__ import annotations

import threading
import warnings
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from sartor.data.decode import hush_pillow
from sartor.data.decoders import Decoded, Decoders
from sartor.data.listing import Encoded, Place
from sartor.data.worker import decode_into
from sartor.errors import InputError

if TYPE_CHECKING:
    from collections.abc import Callable

    import torch

BAD_SHARE = 0.01
"""Up to this share of the images may be unreadable: they are passed over and listed. Above it nothing goes on."""


NAMED = 20
"""Unreadable images that an error lists: one line is read, not scrolled."""


class Images(Protocol):
    """Images of one split. ``labels`` int64 ``[n]``; ``shape`` is (channels, side, side)."""

    labels: np.ndarray
    shape: tuple[int, int, int]
    in_memory: bool

    def __len__(self) -> int: ...

    def take(self, indices: np.ndarray) -> torch.Tensor:
        """The images at ``indices`` as uint8 ``[n, c, r, r]``, a copy."""
        ...


class InMemory:
    """Rows of an array uint8 ``[N, c, r, r]``, which several splits may share; it may also be a memory-mapped file."""

    def __init__(self, pixels: np.ndarray, rows: np.ndarray, labels: np.ndarray):
        self._pixels, self._rows = pixels, rows
        self.labels = labels
        self.shape: tuple[int, int, int] = (pixels.shape[1], pixels.shape[2], pixels.shape[3])
        self.in_memory = not _is_mapped(pixels)

    def __len__(self) -> int:
        return len(self._rows)

    def take(self, indices: np.ndarray) -> torch.Tensor:
        import torch

        return torch.from_numpy(np.ascontiguousarray(self._pixels[self._rows[indices]]))


class Streamed:
    """Images decoded when used, by processes that run ahead.

    An image that turns out unreadable is replaced by the next readable one of its class, always the same, and noted
    in ``bad``; more than BAD_SHARE of all images raise InputError. Rejected: decoding everything once at the start to
    find them, which is hours for millions of photos.
    """

    in_memory = False

    def __init__(
        self,
        places: Sequence[Place],
        ids: Sequence[str],
        rows: np.ndarray,
        labels: np.ndarray,
        decoders: Decoders,
        bad: Bad,
    ):
        self._places, self._ids, self._rows, self.labels = places, ids, rows, labels
        self._decoders, self._bad = decoders, bad
        self._instead: dict[int, int] = {}
        self.shape: tuple[int, int, int] = (decoders.channels, decoders.resolution, decoders.resolution)

    def __len__(self) -> int:
        return len(self._rows)

    def take(self, indices: np.ndarray) -> torch.Tensor:
        indices = np.asarray(indices)
        return self._whole(indices, self._submit(indices).result())

    def ahead(self, batches: Iterable[np.ndarray]) -> Iterator[torch.Tensor]:
        """``take`` of each of ``batches``, two a process begun before they are asked for."""
        waiting: deque[tuple[np.ndarray, Future[Decoded]]] = deque()
        left = iter(batches)
        try:
            while True:
                while len(waiting) < 2 * self._decoders.n and (indices := next(left, None)) is not None:
                    waiting.append((indices, self._submit(indices)))
                if not waiting:
                    return
                indices, future = waiting.popleft()
                yield self._whole(indices, future.result())
        finally:
            for _, future in waiting:
                future.cancel()

    def _submit(self, indices: np.ndarray) -> Future[Decoded]:
        return self._decoders.submit([self._places[self._rows[self._instead.get(i, i)]] for i in indices.tolist()])

    def _whole(self, indices: np.ndarray, decoded: Decoded) -> torch.Tensor:
        import torch

        pixels, errors = decoded
        for position, reason in errors.items():
            index = int(indices[position])
            self._bad.note(self._ids[self._rows[self._instead.get(index, index)]], reason)
            pixels[position] = self._replacement(index)
        return torch.from_numpy(pixels)

    def _replacement(self, index: int) -> np.ndarray:
        same = np.flatnonzero(self.labels == self.labels[index])
        at = int(np.searchsorted(same, index))
        for other in np.roll(same, -at - 1)[:-1].tolist():
            pixels, errors = self._decoders.submit([self._places[self._rows[other]]]).result()
            if not errors:
                self._instead[index] = other
                return pixels[0]
            self._bad.note(self._ids[self._rows[other]], errors[0])
        raise InputError(f"no image of the class of {self._ids[self._rows[index]]} can be read: repair them")


class Bad:
    """The unreadable images found so far, of ``n`` in all."""

    def __init__(self, n: int):
        self.n = n
        self.reasons: dict[str, str] = {}
        self._lock = threading.Lock()

    def note(self, name: str, reason: str) -> None:
        """Add one. Raises InputError, with the first of them, when they are too many."""
        with self._lock:
            self.reasons[name] = reason
            self.check()

    def check(self, n_seen: int | None = None, share: float = BAD_SHARE) -> None:
        """Raise InputError when they are more than ``share`` of the ``n_seen`` images looked at (all of them)."""
        found, n = len(self.reasons), self.n if n_seen is None else n_seen
        if found > share * n:
            listed = "; ".join(f"{name} ({reason})" for name, reason in list(self.reasons.items())[:NAMED])
            more = f"; and {found - NAMED} more" if found > NAMED else ""
            many = f"{found} of {n} images cannot be read, more than {BAD_SHARE:.0%}"
            raise InputError(f"{many}: repair or remove them: {listed}{more}")

    def listed(self) -> tuple[str, ...]:
        return tuple(f"{name}: {reason}" for name, reason in sorted(self.reasons.items()))


def decode_all(
    images: Encoded, channels: int, resolution: int, threads: int, on_chunk: Callable[[int], Any]
) -> tuple[np.ndarray, dict[int, str]]:
    """Decode everything into one array uint8 ``[n, c, r, r]``; the reasons of unreadable images by row (zeros there).

    In threads: Pillow lets go of the interpreter while it decodes and resizes. ``on_chunk`` gets the images done.
    """
    pixels = np.empty((len(images), channels, resolution, resolution), dtype=np.uint8)
    errors: dict[int, str] = {}
    waiting: deque[tuple[int, int, Future[dict[int, str]]]] = deque()

    def finish() -> None:
        start, n, future = waiting.popleft()
        errors.update({start + i: reason for i, reason in future.result().items()})
        on_chunk(n)

    start = 0
    with warnings.catch_warnings(), ThreadPoolExecutor(threads) if threads > 1 else nullcontext() as pool:
        hush_pillow()
        for chunk in images.chunks(256):
            out = pixels[start : start + len(chunk)]
            if pool is None:
                future: Future[dict[int, str]] = Future()
                future.set_result(decode_into(chunk, out))
            else:
                future = pool.submit(decode_into, chunk, out)
            waiting.append((start, len(chunk), future))
            start += len(chunk)
            while len(waiting) > 2 * threads or (pool is None and waiting):
                finish()
        while waiting:
            finish()
    return pixels, errors


def _is_mapped(array: Any) -> bool:
    while isinstance(array, np.ndarray):
        if isinstance(array, np.memmap):
            return True
        array = array.base
    return False
