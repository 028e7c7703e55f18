"""One image file, or its bytes, to a square uint8 array: the same rules for training, streaming and predicting.

No torch here: the processes that decode ahead of training import this module and little else.
"""

from __future__ import annotations

import functools
import io
import os
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, UnidentifiedImageError

from sartor.errors import InputError

MAX_PIXELS = 89_478_485
"""Larger images are refused as decompression bombs. Pillow only warns from here on, and refuses at twice as many."""

# EPS runs a PostScript interpreter on untrusted input; the others are stubs that need plug-ins or a Windows library.
_REFUSED_FORMATS = {"EPS", "WMF", "BUFR", "GRIB", "HDF5", "MPEG", "FPX", "MIC"}
_EXIF_ORIENTATION = 0x0112
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


class Unreadable(InputError):
    """An image that cannot be decoded. ``reason`` is the message without the file's name."""

    def __init__(self, reason: str, name: str | None = None):
        super().__init__(f"{name}: {reason}" if name else reason)
        self.reason = reason


@dataclass(frozen=True)
class Header:
    """What an image's header tells: width and height as stored, and whether it has no colours."""

    width: int
    height: int
    grey: bool


@functools.cache
def formats() -> tuple[str, ...]:
    """The formats read, the usual ones first because Pillow tries them in order."""
    Image.init()
    usual = ("JPEG", "PNG", "BMP", "GIF", "TIFF", "WEBP")
    rest = sorted(set(Image.OPEN) - _REFUSED_FORMATS - set(usual))
    return (*(name for name in usual if name in Image.OPEN), *rest)


@functools.cache
def suffixes() -> frozenset[str]:
    """Lower-case file suffixes of the formats read, with the dot."""
    known = set(formats())
    return frozenset(suffix for suffix, name in Image.registered_extensions().items() if name in known)


def decode(source: str | Path | bytes, channels: int, resolution: int) -> np.ndarray:
    """The image as uint8 ``[channels, resolution, resolution]``: shorter side resized to ``resolution``, centre crop.

    Upright after EXIF, transparency over white, palettes expanded, 16 bits scaled to 8, the first frame of an
    animation; ``channels`` is 1 (luma) or 3 (RGB). Raises Unreadable naming the file and the reason.
    """
    name = None if isinstance(source, bytes) else os.fspath(source)
    try:
        with _open(source) as image:
            if image.format == "JPEG":
                # Decodes at 1/2, 1/4 or 1/8 of the size where that is plenty. Twice the resolution, as Pillow's
                # thumbnail() does: asking for no more than is needed leaves the visible ringing of the small DCT.
                image.draft("L" if channels == 1 else None, (2 * resolution, 2 * resolution))
            orientation = _orientation(image)
            return square(image, channels, resolution, _UPRIGHT.get(orientation))
    except Exception as error:  # Pillow's plug-ins raise nearly every class there is on damaged files
        raise Unreadable(_reason(error), name) from error


def probe(source: str | Path | bytes) -> Header:
    """Size and kind from the header alone, no pixels decoded. Raises Unreadable."""
    name = None if isinstance(source, bytes) else os.fspath(source)
    try:
        with _open(source) as image:
            return Header(image.width, image.height, _is_grey(image))
    except Exception as error:
        raise Unreadable(_reason(error), name) from error


def square(image: Image.Image, channels: int, resolution: int, turn: Image.Transpose | None = None) -> np.ndarray:
    """A Pillow image as uint8 ``[channels, resolution, resolution]``; ``turn`` is applied before the crop."""
    image = _flat(_eight_bit(image), "L" if channels == 1 else "RGB")
    if turn is not None:
        image = image.transpose(turn)
    if image.size != (resolution, resolution):
        # A fractional source box: one pass does the resize and the exactly centred crop, and touches no other pixel.
        side = min(image.size)
        left, top = (image.width - side) / 2, (image.height - side) / 2
        box = (left, top, left + side, top + side)
        image = image.resize((resolution, resolution), Image.Resampling.BILINEAR, box=box)
    pixels = np.asarray(image)
    return pixels[None].copy() if channels == 1 else np.ascontiguousarray(pixels.transpose(2, 0, 1))


def hush_pillow() -> None:
    """Silence Pillow's warnings: of damaged metadata, and of sizes above ``MAX_PIXELS``, which are refused here."""
    warnings.filterwarnings("ignore", module="PIL")


def _open(source: str | Path | bytes) -> Image.Image:
    image = Image.open(io.BytesIO(source) if isinstance(source, bytes) else source, formats=formats())
    if image.width * image.height > MAX_PIXELS:
        image.close()
        raise Image.DecompressionBombError
    return image


def _reason(error: Exception) -> str:
    if isinstance(error, UnidentifiedImageError):
        return "not an image, or damaged at its start"
    if isinstance(error, Image.DecompressionBombError):
        return f"more than {MAX_PIXELS // 10**6} million pixels (a decompression bomb?)"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror.lower()
    return " ".join(str(error).split())[:120] or type(error).__name__


def _orientation(image: Image.Image) -> int:
    try:
        return int(image.getexif().get(_EXIF_ORIENTATION, 1))
    except Exception:  # damaged EXIF beside good pixels: take the pixels as they are
        return 1


def _is_grey(image: Image.Image) -> bool:
    if image.mode == "P":
        palette = np.asarray(image.getpalette("RGB") or [], dtype=np.uint8).reshape(-1, 3)
        return bool((palette == palette[:, :1]).all())
    return image.mode in ("1", "L", "LA", "La", "I", "F") or image.mode.startswith("I;16")


def _eight_bit(image: Image.Image) -> Image.Image:
    """Grey images of more than 8 bits, scaled by what their type can hold, never by what one image happens to hold."""
    values: np.ndarray[Any, Any]
    if image.mode.startswith("I;16"):
        values = (np.asarray(image).astype(np.uint32) + 128) // 257
    elif image.mode == "I":
        # 16-bit PNGs come as 32-bit integers from some versions of Pillow.
        pixels = np.asarray(image).astype(np.int64).clip(0)
        top = 2**16 - 1 if pixels.max() < 2**16 else 2**31 - 1
        values = (pixels * 255 + top // 2) // top
    elif image.mode == "F":
        floats = np.asarray(image)
        if not np.isfinite(floats).all():
            raise ValueError("pixels that are NaN or infinite")
        values = np.rint(floats * 255 if floats.min() >= 0 and floats.max() <= 1 else floats).clip(0, 255)
    else:
        return image
    return Image.fromarray(values.astype(np.uint8))


def _flat(image: Image.Image, mode: str) -> Image.Image:
    """``image`` in ``mode`` (L or RGB), what is transparent over white."""
    if image.mode in ("RGBA", "LA", "PA", "La", "RGBa") or "transparency" in image.info:
        white = Image.new("RGBA", image.size, "white")
        white.alpha_composite(image if image.mode == "RGBA" else image.convert("RGBA"))
        image = white
    if image.mode != mode:
        return image.convert(mode)
    image.load()
    return image
