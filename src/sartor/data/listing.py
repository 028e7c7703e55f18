"""What a source holds before any pixel is decoded: the splits it came with, labels, ids, and where the images are."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np

from sartor.errors import InputError

SPLITS = ("train", "val", "test")
SPLIT_NAMES = {
    "train": "train",
    "training": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "test": "test",
    "testing": "test",
}
"""How folders and files name the splits, in lower case."""

SMALL_BYTES = 256 * 2**20
"""Sets up to this size are fingerprinted by every byte, larger ones by their files' names and sizes."""

Place = str | tuple[int, int, int]
"""Where a decoding process finds an image: a path, or (open file descriptor, offset, length)."""


class Encoded(Protocol):
    """Images as files or bytes, in a fixed order."""

    def __len__(self) -> int: ...

    def sample(self, n: int) -> list[str | bytes]:
        """About ``n`` images spread evenly over all."""
        ...

    def chunks(self, size: int) -> Iterator[list[str | bytes]]:
        """All images once, in order, at most ``size`` at a time."""
        ...

    def places(self) -> Sequence[Place]:
        """The same images for decoding processes, any of them in constant time."""
        ...


@dataclass(frozen=True)
class Pixels:
    """Images already decoded: uint8 ``[n, height, width]`` or ``[n, height, width, 1 or 3]``."""

    array: np.ndarray


@dataclass(frozen=True)
class Part:
    """One split as it came, or everything where there were no splits. ``labels`` are int64 ``[n]``."""

    labels: np.ndarray
    ids: Sequence[str]
    content: Encoded | Pixels


@dataclass(frozen=True)
class Listing:
    """``parts`` maps ``train``, ``val`` and ``test`` to what is there; a source without splits is all ``train``.

    ``open_files`` are kept open as long as the data set lives: files without a name, gone when their last reader is.
    """

    name: str
    classes: tuple[str, ...]
    parts: dict[str, Part]
    fingerprint: str
    open_files: list[int] = field(default_factory=list)


class Strings(Sequence[str]):
    """Many strings in one block of bytes: 200,000 paths take about 10 MB, a third of what a list of str takes."""

    def __init__(self, strings: Iterable[str], prefix: str = ""):
        block, ends = bytearray(), [0]
        for text in strings:
            block += text.encode("utf-8", "surrogateescape")
            ends.append(len(block))
        self._prefix, self._block, self._ends = prefix, bytes(block), np.asarray(ends, dtype=np.int64)

    def __len__(self) -> int:
        return len(self._ends) - 1

    def __getitem__(self, index):  # type: ignore[no-untyped-def]
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        if not -len(self) <= index < len(self):
            raise IndexError(index)
        index = int(index) % len(self)
        raw = self._block[self._ends[index] : self._ends[index + 1]]
        return self._prefix + raw.decode("utf-8", "surrogateescape")


class Numbered(Sequence[str]):
    """``prefix0``, ``prefix1``, …: the ids of rows, made when asked for."""

    def __init__(self, prefix: str, n: int):
        self._prefix, self._n = prefix, n

    def __len__(self) -> int:
        return self._n

    def __getitem__(self, index):  # type: ignore[no-untyped-def]
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(self._n))]
        if not -self._n <= index < self._n:
            raise IndexError(index)
        return f"{self._prefix}{int(index) % self._n}"


def fingerprint(files: Iterable[tuple[str, int, Callable[[], Iterator[bytes]]]]) -> str:
    """The identity of a set of files given as (name, size in bytes, function that reads it in blocks).

    Up to ``SMALL_BYTES`` in all: ``bytes-sha256:`` and the hash of names, sizes and contents. Above:
    ``sizes-sha256:`` and the hash of names and sizes alone, since reading everything once more could take an hour.
    Times of change and the folder's own place never count.
    """
    listed = sorted(files, key=lambda item: item[0])
    small = sum(size for _, size, _ in listed) <= SMALL_BYTES
    digest = hashlib.sha256()
    for name, size, read in listed:
        digest.update(f"{name}\0{size}\0".encode("utf-8", "surrogateescape"))
        if small:
            for block in read():
                digest.update(block)
    return f"{'bytes' if small else 'sizes'}-sha256:{digest.hexdigest()}"


def blocks(path: str) -> Iterator[bytes]:
    """The contents of a file, 1 MiB at a time. Raises InputError where it cannot be read."""
    try:
        with open(path, "rb") as file:
            while block := file.read(2**20):
                yield block
    except OSError as error:
        raise InputError(f"cannot read {path}: {(error.strerror or str(error)).lower()}") from error


def readable_blocks(path: str) -> Iterator[bytes]:
    """As :func:`blocks`, but nothing of a file that cannot be read: decoding skips and lists it."""
    with contextlib.suppress(InputError):
        yield from blocks(path)


def class_order(names: Iterable[str]) -> tuple[str, ...]:
    """Class names in order: by number where all are whole numbers (0, 1, …, 10), else by text."""
    listed = set(names)
    if all(name.isascii() and name.isdigit() for name in listed):
        return tuple(sorted(listed, key=lambda name: (int(name), name)))
    return tuple(sorted(listed))
