"""From a listing to images: at which size, in memory or streamed, and with which mean and deviation."""

from __future__ import annotations

import math
import os
import tempfile
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from PIL import Image

from sartor.data.decode import Unreadable, probe, square
from sartor.data.decoders import Decoders
from sartor.data.images import BAD_SHARE, Bad, Images, InMemory, Streamed, decode_all
from sartor.data.listing import Listing, Part, Pixels
from sartor.errors import InputError
from sartor.machine import cores

MAX_RESOLUTION = 224
"""The largest working resolution taken by default; ``resolution=`` may ask for more."""

PROBED_IMAGES = 1000
"""Headers read to find the size and the number of channels."""

SAMPLED_IMAGES = 4096
"""Train images a streamed set's mean and deviation come from, and its share of unreadable images is judged by."""

Progress = Callable[[int, int], Any]
Rows = Mapping[str, tuple[str, np.ndarray]]
"""For each split, the part it comes from and its rows there."""


def working_shape(listing: Listing, resolution: int | None) -> tuple[int, int]:
    """(channels, side): 1 channel when all sampled images are grey; the side they share, else the median shorter one.

    Raises InputError when none of the sampled images can be read.
    """
    content = listing.parts["train"].content
    if isinstance(content, Pixels):
        height, width = content.array.shape[1:3]
        channels = content.array.shape[3] if content.array.ndim == 4 else 1
        return channels, resolution or min(height, width, MAX_RESOLUTION)
    headers, reasons = [], []
    for source in content.sample(PROBED_IMAGES):
        try:
            headers.append(probe(source))
        except Unreadable as error:
            reasons.append(str(error))
    if not headers:
        raise InputError(f"no image of {listing.name} can be read; the first: {reasons[0]}")
    channels = 1 if all(header.grey for header in headers) else 3
    # Of images that agree, the median shorter side is the common one: both rules are this line.
    side = int(np.median([min(header.width, header.height) for header in headers]))
    return channels, resolution or min(side, MAX_RESOLUTION)


def open_images(
    listing: Listing,
    rows: Rows,
    channels: int,
    side: int,
    *,
    budget_bytes: float,
    workers: int | None,
    bad: Bad,
    on_progress: Progress | None,
) -> dict[str, tuple[Images, np.ndarray]]:
    """The images of each split, and its rows less the unreadable ones.

    All decoded to uint8 when that takes at most ``budget_bytes``, else streamed. Unreadable ones are noted in ``bad``.
    """
    held: dict[str, np.ndarray] = {}
    lost: dict[str, list[int]] = {}
    stream = bad.n * channels * side * side > budget_bytes
    done = 0

    def advance(n: int) -> None:
        nonlocal done
        done += n
        if on_progress is not None:
            on_progress(done, bad.n)

    for name, part in listing.parts.items():
        if isinstance(part.content, Pixels):
            held[name] = _fitted(part.content.array, side, stream)
        elif not stream:
            held[name], errors = decode_all(part.content, channels, side, workers or cores(), advance)
            lost[name] = list(errors)
            bad.reasons.update({part.ids[row]: reason for row, reason in errors.items()})
    bad.check()
    if held:
        return {split: _from_memory(listing.parts[p], held[p], r, lost.get(p, [])) for split, (p, r) in rows.items()}
    places = {
        name: part.content.places() for name, part in listing.parts.items() if not isinstance(part.content, Pixels)
    }
    # Half the processors: the other half trains. More in flight only waits in line.
    decoders = Decoders(workers or max(1, cores() // 2), channels, side, listing.open_files)
    return {
        split: (Streamed(places[p], listing.parts[p].ids, r, listing.parts[p].labels[r], decoders, bad), r)
        for split, (p, r) in rows.items()
    }


def mean_std(train: Images, bad: Bad) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and deviation of each channel in [0, 1], exact over all images held, over a sample of streamed ones.

    Raises InputError when more than twice the allowed share of the sample is unreadable (a sample can mislead; the
    share itself is held to while streaming).
    """
    n = min(len(train), SAMPLED_IMAGES) if isinstance(train, Streamed) else len(train)
    size = 64 if isinstance(train, Streamed) else 1024
    chunks = [np.arange(start, min(start + size, n)) for start in range(0, n, size)]
    counts = np.zeros((train.shape[0], 256), dtype=np.int64)
    for batch in train.ahead(chunks) if isinstance(train, Streamed) else map(train.take, chunks):
        pixels = batch.numpy()
        for channel in range(len(counts)):
            counts[channel] += np.bincount(pixels[:, channel].ravel(), minlength=256)
    if isinstance(train, Streamed):
        bad.check(n, share=2 * BAD_SHARE)
    weights, values = counts / counts.sum(axis=1, keepdims=True), np.arange(256) / 255
    mean = weights @ values
    deviation = np.sqrt((weights * (values - mean[:, None]) ** 2).sum(axis=1))
    # Images of one colour have none; one grey level keeps what divides by it finite.
    return tuple(mean.tolist()), tuple(np.maximum(deviation, 1 / 255).tolist())


def _from_memory(part: Part, pixels: np.ndarray, rows: np.ndarray, lost: list[int]) -> tuple[Images, np.ndarray]:
    rows = rows[~np.isin(rows, lost)]
    return InMemory(pixels, rows, part.labels[rows]), rows


def _fitted(array: np.ndarray, side: int, on_disk: bool) -> np.ndarray:
    """Arrays as uint8 ``[n, c, side, side]``: a view when they fit, else resized (``on_disk``: to a nameless file)."""
    channels = array.shape[3] if array.ndim == 4 else 1
    if array.shape[1:3] == (side, side):
        return array[:, None] if array.ndim == 3 else np.moveaxis(array, 3, 1)
    shape = (len(array), channels, side, side)
    if on_disk:
        with tempfile.TemporaryFile(prefix="sartor-") as file:
            try:
                os.posix_fallocate(file.fileno(), 0, math.prod(shape))  # a full disk would kill a mapped write
            except OSError as error:
                raise InputError(
                    f"cannot write {math.prod(shape) / 1e9:.1f} GB to {tempfile.gettempdir()} ({error.strerror}): "
                    "set TMPDIR to a larger place"
                ) from error
            fitted: np.ndarray = np.memmap(file, dtype=np.uint8, mode="w+", shape=shape)
    else:
        fitted = np.empty(shape, dtype=np.uint8)
    for row, pixels in enumerate(array):
        fitted[row] = square(
            Image.fromarray(pixels[..., 0] if pixels.ndim == 3 and channels == 1 else pixels), channels, side
        )
    return fitted
